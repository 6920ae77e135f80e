"""Makes `tables.npz`: exports of scikit-learn, XGBoost and LightGBM, and what onnxruntime answers."""
import sys

import lightgbm as lgb
import numpy as np
import onnx
import onnxmltools
import pandas as pd
import xgboost as xgb
from onnxmltools.convert.common.data_types import FloatTensorType as MFloat
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import *
from sklearn.feature_selection import SelectKBest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import *
from sklearn.mixture import GaussianMixture
from sklearn.multiclass import OneVsRestClassifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.naive_bayes import BernoulliNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import *
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR, NuSVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier

from gen_ml import Archive

rng = np.random.default_rng(3)
X = rng.normal(size=(200, 5)).astype(np.float32)
W = rng.normal(size=(5, 3))
Y3 = np.argmax(X @ W + 0.3 * rng.normal(size=(200, 3)), 1)
Y2 = (Y3 == 1).astype(np.int64)
YS = np.array(["ant", "bee", "cat"])[Y3]
R = (X @ W[:, 0] + np.sin(X[:, 1]) + 0.1 * rng.normal(size=200)).astype(np.float32)
R2 = np.stack([R, -R + X[:, 2]], 1)
P = X[:8] + rng.normal(size=(8, 5)).astype(np.float32) * 0.01
XN = X.copy()
XN[rng.random(X.shape) < 0.15] = np.nan
PN = P.copy()
PN[rng.random(P.shape) < 0.3] = np.nan
# onnxruntime reads names of operator sets up to this one without complaint.
OPSET = {"": 17, "ai.onnx.ml": 3}


def main(z):
    def skl(case, m, x=None, **kw):
        x = P if x is None else x
        opts = kw.pop("options", None)
        opset = kw.pop("opset", OPSET)
        feeds = kw.pop("feeds", None)
        initial = kw.pop("initial", None) or [("X", {"f": FloatTensorType, "d": DoubleTensorType, "i": Int64TensorType}["i" if x.dtype.kind == "i" else "d" if x.dtype == np.float64 else "f"]([None, x.shape[1]]))]
        try:
            o = to_onnx(m, initial_types=initial, options=opts, target_opset=opset)
        except Exception as e:
            z.skipped.append((case, "export: " + str(e)[:120].replace("\n", " ")))
            return
        z.add(case, o, feeds or {"X": x})

    classifiers = {
        "logreg": make_pipeline(StandardScaler(), LogisticRegression()), "ridgec": RidgeClassifier(), "sgdc": SGDClassifier(loss="log_loss"), "perceptron": Perceptron(),
        "svc": SVC(), "svc_poly": SVC(kernel="poly"), "svc_lin": SVC(kernel="linear"), "svc_sig": SVC(kernel="sigmoid"), "svc_proba": SVC(probability=True, random_state=0), "nusvc": NuSVC(probability=True, random_state=0),
        "linsvc": LinearSVC(), "knn": KNeighborsClassifier(3), "knn_w": KNeighborsClassifier(5, weights="distance"), "knn_m": KNeighborsClassifier(3, metric="manhattan"), "gnb": GaussianNB(), "bnb": BernoulliNB(), "lda": LinearDiscriminantAnalysis(), "qda": QuadraticDiscriminantAnalysis(),
        "tree": DecisionTreeClassifier(max_depth=5), "extratree": ExtraTreeClassifier(max_depth=5), "rf": RandomForestClassifier(12, max_depth=5), "et": ExtraTreesClassifier(8, max_depth=4), "gbc": GradientBoostingClassifier(n_estimators=12), "hgb": HistGradientBoostingClassifier(max_iter=10), "ada": AdaBoostClassifier(n_estimators=5), "bag": BaggingClassifier(n_estimators=4),
        "vote": VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], voting="soft"), "stack": StackingClassifier([("a", LogisticRegression()), ("b", DecisionTreeClassifier(max_depth=3))]),
        "mlp": MLPClassifier(hidden_layer_sizes=(8,), max_iter=60), "ovr": OneVsRestClassifier(LogisticRegression()), "calib": CalibratedClassifierCV(LinearSVC(), cv=2), "dummy_scale": make_pipeline(MinMaxScaler(), PCA(3), LogisticRegression()),
    }
    for name, m in classifiers.items():
        for tag, y in (("2", Y2), ("3", Y3), ("s", YS)):
            if name == "perceptron" and tag == "s":
                continue
            try:
                m.fit(X, y)
            except Exception as e:
                z.skipped.append((name, str(e)[:80])); continue
            scores = {id(m): {"zipmap": False}}
            skl(f"{name}.{tag}", m, options=scores)
            if tag == "s" and name in ("logreg", "rf", "gbc", "svc_proba", "knn", "mlp"):
                skl(f"{name}.zipmap", m)
            if tag == "2" and name in ("logreg", "rf"):
                skl(f"{name}.zipmap2", m)
            if tag == "3" and name in ("logreg", "rf", "gbc", "hgb", "gnb", "mlp", "svc", "knn"):
                skl(f"{name}.double", m, x=P.astype(np.float64), options=scores)
                skl(f"{name}.old", m, options=scores, opset={"": 11, "ai.onnx.ml": 1})
                skl(f"{name}.new", m, options=scores, opset={"": 21, "ai.onnx.ml": 5})
            if tag == "3" and name in ("logreg", "svc", "linsvc", "gbc", "mlp"):
                skl(f"{name}.raw", m, options={id(m): {"zipmap": False, "raw_scores": True}})
    hg = HistGradientBoostingClassifier(max_iter=8).fit(XN, Y3)
    skl("hgb_nan", hg, x=PN, options={id(hg): {"zipmap": False}})
    regressors = {
        "linreg": LinearRegression(), "ridge": make_pipeline(StandardScaler(), Ridge()), "lasso": Lasso(0.01), "bayes": BayesianRidge(), "huber": HuberRegressor(), "poisson": None, "svr": SVR(), "svr_poly": SVR(kernel="poly"), "linsvr": LinearSVR(),
        "knnr": KNeighborsRegressor(4), "knnr_w": KNeighborsRegressor(4, weights="distance"), "dtr": DecisionTreeRegressor(max_depth=5), "rfr": RandomForestRegressor(10, max_depth=5), "etr": ExtraTreesRegressor(8, max_depth=4), "gbr": GradientBoostingRegressor(n_estimators=12), "hgbr": HistGradientBoostingRegressor(max_iter=10), "adar": AdaBoostRegressor(n_estimators=4), "bagr": BaggingRegressor(n_estimators=4),
        "mlpr": MLPRegressor(hidden_layer_sizes=(8,), max_iter=60), "poly": make_pipeline(PolynomialFeatures(2), LinearRegression()), "voter": VotingRegressor([("a", LinearRegression()), ("b", Ridge())]),
        "robust": make_pipeline(RobustScaler(), LinearRegression()), "maxabs": make_pipeline(MaxAbsScaler(), LinearRegression()), "kbins": make_pipeline(KBinsDiscretizer(4), LinearRegression()), "power": make_pipeline(PowerTransformer(), LinearRegression()), "quant": make_pipeline(QuantileTransformer(n_quantiles=20), LinearRegression()),
    }
    for name, m in regressors.items():
        if m is None:
            continue
        m.fit(X, R)
        skl(f"{name}.r", m)
        if name in ("linreg", "rfr", "gbr", "svr", "mlpr", "hgbr"):
            skl(f"{name}.double", m, x=P.astype(np.float64))
        if name in ("rfr", "gbr", "linreg", "svr"):
            skl(f"{name}.old", m, opset={"": 9, "ai.onnx.ml": 1})
    for name in ("linreg", "rfr", "mlpr", "knnr", "dtr"):
        skl(f"{name}.multi", regressors[name].fit(X, R2))
    for name, m in {"kmeans": KMeans(3, n_init=2, random_state=0), "pca": PCA(2), "svd": TruncatedSVD(2), "gmm": GaussianMixture(2, random_state=0), "iforest": IsolationForest(n_estimators=8, random_state=0), "ocsvm": OneClassSVM(), "normalizer": Normalizer(norm="l1"), "binarizer": Binarizer(threshold=0.1), "kbest": SelectKBest(k=2)}.items():
        m.fit(X, Y3) if name == "kbest" else m.fit(X)
        skl(name, m)
        skl(name + ".new", m, opset={"": 21, "ai.onnx.ml": 5})
    skl("imputer", make_pipeline(SimpleImputer(), StandardScaler(), LinearRegression()).fit(XN, R), x=PN)
    n = 120
    df = pd.DataFrame({"age": rng.normal(40, 10, n).astype(np.float32), "pay": rng.normal(3, 1, n).astype(np.float32), "city": rng.choice(["ulm", "bonn", "jena"], n), "kind": rng.integers(0, 4, n)})
    df.loc[rng.random(n) < 0.1, "age"] = np.nan
    y = (df["pay"] + (df["city"] == "ulm") > 3.2).astype(int)
    pre = ColumnTransformer([("num", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["age", "pay"]), ("cat", OneHotEncoder(handle_unknown="ignore"), ["city"]), ("ord", OneHotEncoder(handle_unknown="ignore"), ["kind"])])
    types = [("age", FloatTensorType([None, 1])), ("pay", FloatTensorType([None, 1])), ("city", StringTensorType([None, 1])), ("kind", Int64TensorType([None, 1]))]
    feeds = {"age": df[["age"]].values[:7], "pay": df[["pay"]].values[:7], "city": df[["city"]].values[:7].astype(object), "kind": df[["kind"]].values[:7]}
    feeds["city"][3, 0] = "unknown"
    for name, m in {"columns_lr": LogisticRegression(), "columns_rf": RandomForestClassifier(8, max_depth=4), "columns_gb": GradientBoostingClassifier(n_estimators=5)}.items():
        p = Pipeline([("pre", pre), ("m", m)]).fit(df, y)
        skl(name, p, initial=types, feeds=feeds, options={id(m): {"zipmap": False}})
        skl(name + ".zipmap", p, initial=types, feeds=feeds)
    op = Pipeline([("o", ColumnTransformer([("c", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["city"]), ("p", "passthrough", ["pay"])])), ("m", DecisionTreeClassifier(max_depth=3))]).fit(df, y)
    skl("ordinal", op, initial=[types[2], types[1]], feeds={"city": feeds["city"], "pay": feeds["pay"]}, options={id(op): {"zipmap": False}})

    def boosted(case, convert, m, x, **kw):
        try:
            o = convert(m, initial_types=[("X", MFloat([None, x.shape[1]]))], **kw)
        except Exception as e:
            z.skipped.append((case, "export: " + str(e)[:120])); return
        z.add(case, o, {"X": x})
    cx = onnxmltools.convert_xgboost
    cl = onnxmltools.convert_lightgbm
    k = dict(n_estimators=10, max_depth=4)
    for tag, y in (("2", Y2), ("3", Y3)):
        boosted(f"xgbc.{tag}", cx, xgb.XGBClassifier(**k).fit(XN, y), PN)
        boosted(f"xgbrf.{tag}", cx, xgb.XGBRFClassifier(n_estimators=6, max_depth=4).fit(XN, y), PN)
        m = lgb.LGBMClassifier(n_estimators=10, verbose=-1).fit(XN, y)
        boosted(f"lgbc.{tag}", cl, m, PN, zipmap=False)
        boosted(f"lgbc.{tag}.zipmap", cl, m, PN)
    for obj in ("reg:squarederror", "count:poisson", "reg:logistic", "reg:tweedie", "reg:gamma", "reg:absoluteerror"):
        yy = 1 / (1 + np.exp(-R)) if "logistic" in obj else np.exp(R / 3)
        boosted("xgbr." + obj[4:].replace(":", ""), cx, xgb.XGBRegressor(objective=obj, **k).fit(XN, yy), PN)
    for obj in ("regression", "poisson", "regression_l1", "gamma", "tweedie", "cross_entropy"):
        yy = 1 / (1 + np.exp(-R)) if obj == "cross_entropy" else np.exp(R / 3)
        boosted("lgbr." + obj, cl, lgb.LGBMRegressor(n_estimators=10, objective=obj, verbose=-1).fit(XN, yy), PN)
    for kind in ("rf", "dart"):
        boosted("lgb." + kind, cl, lgb.LGBMRegressor(n_estimators=10, boosting_type=kind, bagging_freq=1, bagging_fraction=0.7, verbose=-1).fit(XN, R), PN)
    XC = XN.copy()
    XC[:, 0] = rng.integers(0, 9, 200)
    PC = PN.copy()
    PC[:, 0] = [0, 3, 8, 11, 2, 5, 1, 7]
    boosted("lgb.categories", cl, lgb.LGBMClassifier(n_estimators=10, verbose=-1, min_data_per_group=5).fit(XC, Y2, categorical_feature=[0]), PC, zipmap=False)
    boosted("lgb.split", cl, lgb.LGBMRegressor(n_estimators=12, verbose=-1).fit(XN, R), PN, split=4)
    boosted("xgbc.old", cx, xgb.XGBClassifier(**k).fit(XN, Y3), PN, target_opset=9)


if __name__ == "__main__":
    z = Archive()
    main(z)
    z.save(sys.path[0] + "/tables.npz")
