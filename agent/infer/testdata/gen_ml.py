"""Makes `ml.npz` and `tables.npz`: models with ai.onnx.ml operators and what onnxruntime answers.

    python gen_ml.py      (numpy, onnx, onnxruntime, scikit-learn, skl2onnx, xgboost, lightgbm, onnxmltools, pandas)

An archive holds for each case `CASE|onnx` (the file), `CASE|in|NAME` and `CASE|out|NAME`; text is
`...|text` (joined by newlines) beside `...|shape`.
"""
import sys
import warnings

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T, helper as h, numpy_helper as nh

warnings.filterwarnings("ignore")
rng = np.random.default_rng(7)
DT = {np.dtype("float32"): T.FLOAT, np.dtype("float64"): T.DOUBLE, np.dtype("int64"): T.INT64, np.dtype("int32"): T.INT32,
      np.dtype("bool"): T.BOOL, np.dtype("float16"): T.FLOAT16, np.dtype("uint8"): T.UINT8, np.dtype("int8"): T.INT8}


class Archive:
    def __init__(self):
        self.arrays, self.skipped, self.cases = {}, [], 0

    def put(self, key, a):
        if isinstance(a, list) and a and isinstance(a[0], dict):
            a = np.array([list(d.values()) for d in a], np.float32)
        a = np.asarray(a)
        if a.dtype.kind in "OUS":
            self.arrays[key + "|text"] = np.frombuffer("\n".join(map(str, a.ravel())).encode(), np.uint8)
            self.arrays[key + "|shape"] = np.array(a.shape, np.int64)
        else:
            self.arrays[key] = np.array(a, order="C")

    def add(self, case, model, feeds):
        data = model if isinstance(model, bytes) else model.SerializeToString()
        so = ort.SessionOptions()
        so.log_severity_level = 4
        try:
            s = ort.InferenceSession(data, so, providers=["CPUExecutionProvider"])
            out = s.run(None, feeds)
        except Exception as e:
            self.skipped.append((case, str(e)[:150]))
            return
        assert case + "|onnx" not in self.arrays, case
        self.arrays[case + "|onnx"] = np.frombuffer(data, np.uint8)
        for k, v in feeds.items():
            self.put(f"{case}|in|{k}", v)
        for o, v in zip(s.get_outputs(), out):
            self.put(f"{case}|out|{o.name}", v)
        self.cases += 1

    def save(self, path):
        np.savez_compressed(path, **self.arrays)
        print(path, self.cases, "cases")
        for s in self.skipped:
            print("  skipped", s)


def model(op, inputs, outputs, domain="ai.onnx.ml", opset=18, ml=3, dims=None, ir=8, **attrs):
    """One node; `inputs` is {name: array}, the first axis of each is open."""
    node = h.make_node(op, list(inputs), [o[0] for o in outputs], domain=domain, **attrs)
    def vi(name, a):
        a = np.asarray(a)
        t = T.STRING if a.dtype.kind in "OUS" else DT[a.dtype]
        shape = list(a.shape) if dims is None else dims
        if shape and dims is None:
            shape[0] = "N"
        return h.make_tensor_value_info(name, t, shape)
    g = h.make_graph([node], "g", [vi(k, v) for k, v in inputs.items()],
                     [h.make_tensor_value_info(n, t, None) for n, t in outputs])
    imports = [h.make_opsetid("", opset), h.make_opsetid("ai.onnx.ml", ml)]
    return h.make_model(g, opset_imports=imports, ir_version=ir)


def table(n=9, w=4, nan=False, dtype=np.float32):
    x = rng.normal(size=(n, w)).round(2).astype(dtype)
    if nan:
        x[rng.random(x.shape) < 0.3] = np.nan
    return x


def trees(n_trees, width, depth, modes, outs, all_outs, classes, missing, positive):
    """Random trees as attributes of opset 1."""
    a = {k: [] for k in "treeids nodeids featureids modes values truenodeids falsenodeids missing_value_tracks_true hitrates".split()}
    w = {k: [] for k in ("treeids", "nodeids", "ids", "weights")}
    for t in range(n_trees):
        count = 0
        todo = [(0, depth)]
        count = 1
        while todo:
            me, d = todo.pop(0)
            leaf = d == 0 or (d < depth and rng.random() < 0.3)
            a["treeids"].append(t); a["nodeids"].append(me); a["hitrates"].append(1.0)
            a["missing_value_tracks_true"].append(int(missing and rng.random() < 0.5))
            if leaf:
                a["featureids"].append(0); a["modes"].append("LEAF"); a["values"].append(0.0)
                a["truenodeids"].append(0); a["falsenodeids"].append(0)
                for o in (range(outs) if all_outs else [int(rng.integers(outs)) if classes == "any" else t % outs]):
                    w["treeids"].append(t); w["nodeids"].append(me); w["ids"].append(o if classes != "one" else 1)
                    v = rng.normal() if not positive else rng.random() / n_trees
                    w["weights"].append(float(np.float32(v)))
            else:
                a["featureids"].append(int(rng.integers(width)))
                a["modes"].append(str(rng.choice(modes)))
                a["values"].append(float(np.float32(round(rng.normal(), 2))))
                a["truenodeids"].append(count); a["falsenodeids"].append(count + 1)
                todo += [(count, d - 1), (count + 1, d - 1)]
                count += 2
    return {f"nodes_{k}": v for k, v in a.items()}, w


ALL = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
POST = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]


def as_double(attrs, names):
    """Opset 3: the `_as_tensor` settings."""
    for n in names:
        if n in attrs:
            v = attrs.pop(n)
            attrs[n + "_as_tensor"] = h.make_tensor(n, T.DOUBLE, [len(v)], v)


def tree_ops(z):
    n = 0
    def regressor(tag, targets, modes=ALL, post="NONE", agg="SUM", base=None, nan=False, x=None, double=False, depth=3, trees_=5):
        nonlocal n
        nodes, w = trees(trees_, 4, depth, modes, targets, False, "any" if targets > 1 else "tree", nan, False)
        at = dict(nodes, **{f"target_{k}": v for k, v in w.items()})
        at.update(n_targets=targets, post_transform=post, aggregate_function=agg)
        if base is not None:
            at["base_values"] = base
        x = table(nan=nan, n=19) if x is None else x
        if double:
            as_double(at, ["nodes_values", "nodes_hitrates", "target_weights", "base_values"])
            x = x.astype(np.float64)
        z.add(f"reg{n}.{tag}", model("TreeEnsembleRegressor", {"x": x}, [("y", T.FLOAT)], **at), {"x": x})
        n += 1
    for m in ALL:
        regressor(m, 1, [m])
        regressor(m + "_nan", 1, [m], nan=True)
    for agg in ["SUM", "AVERAGE", "MIN", "MAX"]:
        for targets in (1, 3):
            for base in (None, [0.5] * targets):
                regressor(agg, targets, agg=agg, base=base, nan=True)
    for p in POST:
        regressor(p, 1, post=p, base=[0.3])
        regressor(p, 2, post=p, base=[0.3, 0.2])
    regressor("double", 1, double=True, base=[0.1])
    regressor("double2", 3, double=True, nan=True)
    regressor("f64in", 1, x=table(dtype=np.float64, n=40))
    regressor("i64in", 1, x=rng.integers(-2, 3, (20, 4)))
    regressor("deep", 1, ["BRANCH_LEQ"], depth=8, x=table(n=150), trees_=20)
    regressor("stump", 1, ["BRANCH_LEQ"], depth=0)
    k = 0
    for classes, all_outs, which in [(2, False, "one"), (2, False, "zero"), (2, True, "any"), (3, False, "tree"), (3, True, "any"), (3, False, "any")]:
        for positive in (False, True):
            for post in POST:
                for base in (None, "all"):
                    if which in ("one", "zero") and post == "PROBIT" and not base:
                        continue  # onnxruntime leaves the second score unwritten
                    if base and post in ("SOFTMAX_ZERO",) and classes != 2:
                        continue
                    outs = 1 if which in ("one", "zero") else classes
                    nodes, w = trees(5, 4, 3, ALL, outs, all_outs, which, True, positive)
                    at = dict(nodes, **{f"class_{q}": v for q, v in w.items()})
                    if rng.random() < 0.5:
                        at["classlabels_int64s"] = ([0, 1] if which == "any" and classes == 2 else [3, 7, -2])[:classes]
                    else:
                        at["classlabels_strings"] = ["cat", "dog", "eel"][:classes]
                    if base:
                        at["base_values"] = [0.25, -0.5, 0.125][:classes]
                    at["post_transform"] = post
                    lt = T.STRING if "classlabels_strings" in at else T.INT64
                    x = table(nan=True, n=11)
                    if k % 9 == 4:
                        as_double(at, ["nodes_values", "nodes_hitrates", "class_weights", "base_values"])
                        x = x.astype(np.float64)
                    z.add(f"cls{k}.{classes}{which}{'P' if positive else ''}{'D' if x.dtype == np.float64 else ''}.{post}{'.base' if base else ''}",
                          model("TreeEnsembleClassifier", {"x": x}, [("label", lt), ("scores", T.FLOAT)], **at), {"x": x})
                    k += 1
    # opset 5
    def tree5(tag, dt, targets=1, agg=1, post=0, modes=(0, 1, 2, 3, 4, 5), sets=None):
        f = lambda name, v: h.make_tensor(name, T.FLOAT if dt == np.float32 else T.DOUBLE, [len(v)], v)
        feats, md, sp, t, fl, tl, ff, lt, lw, roots, miss = [], [], [], [], [], [], [], [], [], [], []
        for _ in range(4):
            base = len(feats)
            roots.append(base)
            for i in range(3):
                feats.append(int(rng.integers(4))); md.append(int(rng.choice(modes))); miss.append(int(rng.random() < 0.5))
                sp.append(float(dt(round(rng.normal(), 1))))
            def leaf():
                lt.append(int(rng.integers(targets))); lw.append(float(dt(rng.normal())))
                return len(lt) - 1
            t += [base + 1, leaf(), leaf()]; tl += [0, 1, 1]
            fl += [base + 2, leaf(), leaf()]; ff += [0, 1, 1]
        at = dict(tree_roots=roots, nodes_featureids=feats, nodes_modes=h.make_tensor("m", T.UINT8, [len(md)], md), nodes_splits=f("s", sp),
                  nodes_truenodeids=t, nodes_falsenodeids=fl, nodes_trueleafs=tl, nodes_falseleafs=ff, leaf_targetids=lt, leaf_weights=f("w", lw),
                  nodes_missing_value_tracks_true=miss, n_targets=targets, aggregate_function=agg, post_transform=post)
        if sets:
            at["membership_values"] = f("mv", [v for m in md if m == 6 for v in (*sets, float("nan"))])
        x = (rng.integers(-2, 4, (21, 4)) if sets else table(n=21, nan=True)).astype(dt)
        z.add("t5." + tag, model("TreeEnsemble", {"x": x}, [("y", T.FLOAT if dt == np.float32 else T.DOUBLE)], opset=20, ml=5, ir=10, **at), {"x": x})
    for dt in (np.float32, np.float64):
        tree5(f"{dt.__name__}", dt)
        tree5(f"{dt.__name__}.3", dt, 3, post=1)
        for agg in (0, 2, 3):
            tree5(f"{dt.__name__}.agg{agg}", dt, 2, agg=agg)
        tree5(f"{dt.__name__}.member", dt, 2, modes=(0, 6), sets=(-1.0, 1.0, 3.0))


def simple_ops(z):
    x, xi, xd = table(), rng.integers(-3, 4, (6, 4)), table(dtype=np.float64)
    for tag, v in [("f", x), ("i64", xi), ("i32", xi.astype(np.int32)), ("d", xd)]:
        z.add(f"scaler.{tag}", model("Scaler", {"x": v}, [("y", T.FLOAT)], offset=[1., 2., 3., 4.], scale=[.5, 2., .1, 3.]), {"x": v})
        z.add(f"scaler1.{tag}", model("Scaler", {"x": v}, [("y", T.FLOAT)], offset=[1.], scale=[.5]), {"x": v})
        for norm in ("MAX", "L1", "L2"):
            w = v.copy(); w[1] = 0
            z.add(f"norm.{norm}.{tag}", model("Normalizer", {"x": w}, [("y", T.FLOAT)], norm=norm), {"x": w})
    for tag, v in [("f", x), ("d", xd), ("i64", xi), ("i32", xi.astype(np.int32))]:
        z.add(f"binarizer.{tag}", model("Binarizer", {"x": v}, [("y", DT[v.dtype])], threshold=0.25), {"x": v})
    xn, xdn = table(nan=True), table(nan=True, dtype=np.float64)
    for tag, v in [("f", xn), ("d", xdn)]:
        t = DT[v.dtype]
        z.add(f"imputer.{tag}", model("Imputer", {"x": v}, [("y", t)], imputed_value_floats=[1., 2., 3., 4.], replaced_value_float=float("nan")), {"x": v})
        z.add(f"imputer1.{tag}", model("Imputer", {"x": v}, [("y", t)], imputed_value_floats=[9.], replaced_value_float=float("nan")), {"x": v})
    z.add("imputer.i", model("Imputer", {"x": xi}, [("y", T.INT64)], imputed_value_int64s=[10, 20, 30, 40], replaced_value_int64=1), {"x": xi})
    xs = np.array([["a", "b"], ["c", "zz"], ["a", "a"]], object)
    z.add("onehot.s", model("OneHotEncoder", {"x": xs}, [("y", T.FLOAT)], cats_strings=["a", "b", "c"], zeros=1), {"x": xs})
    for tag, v in [("i64", xi), ("f", x * 3), ("i32", xi.astype(np.int32)), ("d", xd * 3)]:
        z.add(f"onehot.{tag}", model("OneHotEncoder", {"x": v}, [("y", T.FLOAT)], cats_int64s=[-1, 0, 2], zeros=1), {"x": v})
    z.add("onehot.all", model("OneHotEncoder", {"x": xi}, [("y", T.FLOAT)], cats_int64s=list(range(-3, 4)), zeros=0), {"x": xi})
    for tag, v in [("f", x), ("i64", xi), ("s", np.array([["a", "b", "c", "d"], ["e", "f", "g", "h"]], object)), ("d", xd), ("r1", x[0])]:
        t = T.STRING if v.dtype == object else DT[v.dtype]
        m = model("ArrayFeatureExtractor", {"x": v, "i": np.array([2, 0])}, [("y", t)], dims=list(v.shape) if v.ndim == 1 else None)
        init = nh.from_array(np.array([2, 0, 3], np.int64), "i")
        del m.graph.input[1]; m.graph.initializer.append(init)
        z.add(f"afe.{tag}", m, {"x": v})
    z.add("featvec", model("FeatureVectorizer", {"a": x, "b": table(9, 2)}, [("y", T.FLOAT)], inputdimensions=[4, 2]), {"a": x, "b": table(9, 2)})
    z.add("catmap.s", model("CategoryMapper", {"x": xs}, [("y", T.INT64)], cats_strings=["a", "b", "c"], cats_int64s=[5, 6, 7], default_int64=-9), {"x": xs})
    z.add("catmap.i", model("CategoryMapper", {"x": xi}, [("y", T.STRING)], cats_strings=["a", "b", "c"], cats_int64s=[-1, 0, 1], default_string="no"), {"x": xi})
    vals = {"int64s": ([5, 6, 7], T.INT64, xi), "floats": ([.5, 1.5, 2.5], T.FLOAT, None), "strings": (["x", "y", "z"], T.STRING, xs)}
    keys = {"int64s": ([-1, 0, 1], xi), "floats": ([0.0, float("nan"), 1.5], np.array([[0.0, np.nan], [1.5, 2.0]], np.float32)), "strings": (["a", "b", "c"], xs)}
    for k, (kv, xin) in keys.items():
        for v, (vv, vt, _) in vals.items():
            z.add(f"label.{k}.{v}", model("LabelEncoder", {"x": xin}, [("y", vt)], ml=4 if k == "floats" else 2, **{f"keys_{k}": kv, f"values_{v}": vv, "default_int64": -7, "default_float": -.5, "default_string": "dunno"}), {"x": xin})
    td = lambda n, t, v: h.make_tensor(n, t, [len(v)], v)
    xdd = np.array([[1.0, 2.5], [np.nan, 4.0]])
    for tag, kt, kv, vt, vv, d, xin in [
        ("d.d", T.DOUBLE, [1.0, 2.5], T.DOUBLE, [.1, .2], -1.0, xdd), ("s.i16", T.STRING, [b"a", b"c"], T.INT16, [1, 2], -1, xs),
        ("i.d", T.INT64, [1, 2], T.DOUBLE, [.25, .5], 9., xi), ("d.s", T.DOUBLE, [1.0, 2.5], T.STRING, [b"p", b"q"], b"r", xdd), ("s.f", T.STRING, [b"a", b"c"], T.FLOAT, [1.5, 2.5], -1.5, xs)]:
        z.add(f"label4.{tag}", model("LabelEncoder", {"x": xin}, [("y", vt)], ml=4, keys_tensor=td("k", kt, kv), values_tensor=td("v", vt, vv), default_tensor=td("d", vt, [d])), {"x": xin})
    for post in POST:
        sc = .05 if post == "PROBIT" else 1.
        for c, lab in [(1, {"classlabels_ints": [4, 9]}), (2, {"classlabels_ints": [4, 9]}), (3, {"classlabels_strings": ["p", "q", "r"]})]:
            at = dict(coefficients=(rng.normal(size=4 * c) * sc).astype(np.float32).tolist(), intercepts=[.5, .4, .3][:c], post_transform=post, **lab)
            lt = T.STRING if c == 3 else T.INT64
            if post == "PROBIT" and c == 1:
                continue  # onnxruntime writes the scores of different rows into one another
            for tag, v in [("f", x), ("i", xi)][: 1 if post != "NONE" else 2]:
                z.add(f"lincls.{post}.{c}.{tag}", model("LinearClassifier", {"x": v}, [("l", lt), ("s", T.FLOAT)], **at), {"x": v})
        for t in (1, 3):
            z.add(f"linreg.{post}.{t}", model("LinearRegressor", {"x": x}, [("y", T.FLOAT)], coefficients=(rng.normal(size=4 * t) * sc).astype(np.float32).tolist(), intercepts=[.5, .4, .3][:t], targets=t, post_transform=post), {"x": x})
    z.add("linreg.nobias", model("LinearRegressor", {"x": x}, [("y", T.FLOAT)], coefficients=[.5, -1., .25, 2.], targets=1), {"x": x})
    for kern in ("LINEAR", "POLY", "RBF", "SIGMOID"):
        kp = [.3, .5, 3.]
        sv = rng.normal(size=7 * 4).astype(np.float32).tolist()
        for oc in (0, 1):
            z.add(f"svr.{kern}.{oc}", model("SVMRegressor", {"x": x}, [("y", T.FLOAT)], kernel_type=kern, kernel_params=kp, support_vectors=sv, coefficients=rng.normal(size=7).astype(np.float32).tolist(), n_supports=7, rho=[.25], one_class=oc), {"x": x})
        for c, per in [(2, [3, 4]), (3, [2, 2, 3]), (4, [1, 2, 2, 2])]:
            pairs = c * (c - 1) // 2
            for proba in (False, True):
                for post in ("NONE", "LOGISTIC", "SOFTMAX") if kern == "RBF" else ("NONE",):
                    at = dict(kernel_type=kern, kernel_params=kp, support_vectors=sv, vectors_per_class=per, rho=rng.normal(size=pairs).astype(np.float32).tolist(),
                              coefficients=rng.normal(size=7 * (c - 1)).astype(np.float32).tolist(), post_transform=post, classlabels_ints=[2, 4, 6, 8][:c])
                    if proba:
                        at.update(prob_a=(-rng.random(pairs)).astype(np.float32).tolist(), prob_b=rng.normal(size=pairs).astype(np.float32).tolist())
                    z.add(f"svc.{kern}.{c}.{'p' if proba else 'n'}.{post}", model("SVMClassifier", {"x": x}, [("l", T.INT64), ("s", T.FLOAT)], **at), {"x": x})
    for c in (2, 3):
        z.add(f"svc.linear.{c}", model("SVMClassifier", {"x": x}, [("l", T.STRING), ("s", T.FLOAT)], kernel_type="LINEAR", kernel_params=[0., 0., 0.], coefficients=rng.normal(size=4 * c).astype(np.float32).tolist(), rho=[.2], classlabels_strings=["a", "b", "c"][:c]), {"x": x})
    z.add("svr.linear", model("SVMRegressor", {"x": x}, [("y", T.FLOAT)], kernel_type="LINEAR", kernel_params=[0., 0., 0.], coefficients=[.5, -1., .25, 2.], rho=[.2], n_supports=0), {"x": x})


if __name__ == "__main__":
    z = Archive()
    tree_ops(z)
    simple_ops(z)
    z.save(sys.path[0] + "/ml.npz")
