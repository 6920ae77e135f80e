"""Writes refit.npz: tree ensembles as ONNX files, labelled rows, and what the libraries' own refits
make of them.

    python3 -m venv /tmp/v && /tmp/v/bin/pip install lightgbm==4.7.0 xgboost==3.2.0 scikit-learn==1.9.1 \
        skl2onnx==1.20.0 onnxmltools==1.16.0 onnxruntime==1.31.1
    /tmp/v/bin/python gen_refit.py

For each case: CASE.old and CASE.new are files (bytes), CASE.y the scores that onnxruntime gives for
`test` from the new file. Rows to refit on are `x` with the labels `r` (values), `b` (two classes) and
`m` (three), and the weights `w`. scikit-learn has no refit: there `new` is `old`, and a refit without
decay on the rows that the trees were grown from must give them back.
"""

import warnings

import lightgbm as lgb
import numpy as np
import onnx
import onnxruntime as ort
import xgboost as xgb
from onnxmltools import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from skl2onnx import to_onnx
from sklearn import ensemble, tree

warnings.filterwarnings("ignore")
OPSET = 15
ROUNDS = 6


def data(rng, rows, drift):
    x = rng.normal(size=(rows, 4)).astype(np.float32) + np.float32(drift * 0.3)
    r = (2 * x[:, 0] * (1 - drift) + np.sin(2 * x[:, 1]) + drift * x[:, 2] + 3).astype(np.float32)
    noise = rng.normal(size=rows) * 0.5
    return x, r, (r + noise > 3).astype(np.uint32), np.digitize(r + noise, [2, 4]).astype(np.uint32)


def scores(file, rows):
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    made = session.run(None, {session.get_inputs()[0].name: rows})[-1]
    if isinstance(made, list):
        made = np.array([[row[key] for key in sorted(row)] for row in made])
    return np.asarray(made, np.float32).reshape(len(rows), -1)


rng = np.random.default_rng(20)
old_x, old_r, old_b, old_m = data(rng, 240, 0.0)
x, r, b, m = data(rng, 160, 0.7)
w = rng.uniform(0.2, 3.0, len(x)).astype(np.float32)
test, _, _, _ = data(rng, 40, 0.5)
out = {"x": x, "r": r, "b": b, "m": m, "w": w, "test": test}
out |= {"old_x": old_x, "old_r": old_r, "old_b": old_b, "old_m": old_m}


def keep(name, old, new):
    for file in (old, new):
        onnx.helper.set_model_props(file, {"note": "kept"})
    old, new = old.SerializeToString(), new.SerializeToString()
    out[f"{name}.old"] = np.frombuffer(old, np.uint8)
    if new != old:
        out[f"{name}.new"] = np.frombuffer(new, np.uint8)
    out[f"{name}.y"] = scores(new, test)


def of_lightgbm(booster):
    # The converter reads the objective from the model's text.
    kind = [("features", FloatTensorType([None, 4]))]
    return convert_lightgbm(booster, initial_types=kind, target_opset=OPSET)


def lightgbm_case(name, objective, old_y, y, decay, weight=None, **extra):
    fixed = {"objective": objective, "num_leaves": 7, "min_data_in_leaf": 4, "learning_rate": 0.2}
    settings = fixed | {"verbose": -1, "deterministic": True, "num_threads": 1} | extra
    booster = lgb.train(settings, lgb.Dataset(old_x, old_y), ROUNDS)
    refitted = booster.refit(x, y, decay_rate=decay, weight=weight)
    keep(name, of_lightgbm(booster), of_lightgbm(refitted))


def xgboost_case(name, make, objective, old_y, y, weight=None, **extra):
    settings = {"max_depth": 3, "learning_rate": 0.3, "reg_lambda": 1.5, "min_child_weight": 0.0}
    model = make(n_estimators=ROUNDS, objective=objective, **settings, **extra).fit(old_x, old_y)
    params = {"process_type": "update", "updater": "refresh", "refresh_leaf": True, "objective": objective}
    params |= {"eta": 0.3, "lambda": 1.5, "min_child_weight": 0.0, "max_depth": 3}
    if objective.startswith("multi"):
        params["num_class"] = 3
    kind = [("features", FloatTensorType([None, 4]))]
    old = convert_xgboost(model, initial_types=kind, target_opset=OPSET)
    rows = xgb.DMatrix(x, y, weight=weight)
    model._Booster = xgb.train(params, rows, ROUNDS, xgb_model=model.get_booster())
    keep(name, old, convert_xgboost(model, initial_types=kind, target_opset=OPSET))


def sklearn_case(name, model, y, **options):
    model = model.fit(old_x, y)
    file = to_onnx(model, old_x[:1], target_opset=OPSET, options={id(model): options} if options else None)
    keep(name, file, file)


lightgbm_case("lgb_values", "regression", old_r, r, 0.9, boost_from_average=False)
lightgbm_case("lgb_average", "regression", old_r, r, 0.5, w, boost_from_average=True, lambda_l2=1.5)
lightgbm_case("lgb_two", "binary", old_b, b, 0.7, boost_from_average=False)
lightgbm_case("lgb_two_average", "binary", old_b, b, 0.25, w, boost_from_average=True)
lightgbm_case("lgb_three", "multiclass", old_m, m, 0.6, w, num_class=3, boost_from_average=False)
lightgbm_case("lgb_three_average", "multiclass", old_m, m, 0.3, num_class=3, lambda_l2=0.5)
xgboost_case("xgb_values", xgb.XGBRegressor, "reg:squarederror", old_r, r, w)
xgboost_case("xgb_two", xgb.XGBClassifier, "binary:logistic", old_b, b)
xgboost_case("xgb_three", xgb.XGBClassifier, "multi:softprob", old_m, m, w)
boosted = {"n_estimators": ROUNDS, "max_depth": 2, "learning_rate": 0.2, "random_state": 1}
sklearn_case("skl_values", ensemble.GradientBoostingRegressor(**boosted), old_r)
sklearn_case("skl_two", ensemble.GradientBoostingClassifier(**boosted), old_b)
sklearn_case("skl_three", ensemble.GradientBoostingClassifier(**boosted), old_m, zipmap=False)
forest = {"n_estimators": ROUNDS, "max_depth": 3, "bootstrap": False, "random_state": 1}
sklearn_case("forest_values", ensemble.ExtraTreesRegressor(**forest), old_r)
sklearn_case("forest_two", ensemble.RandomForestClassifier(max_features=2, **forest), old_b)
sklearn_case("forest_three", ensemble.ExtraTreesClassifier(**forest), old_m)
sklearn_case("tree_three", tree.DecisionTreeClassifier(max_depth=3, random_state=1), old_m, zipmap=False)
np.savez_compressed("refit.npz", **out)
