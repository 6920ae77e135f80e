"""Makes `ops.npz` and `layers.npz`: small graphs of each operator, and the float64 gradients that PyTorch's autograd gives them.

    python gen_ops.py      (numpy, torch, onnx; onnxruntime to compare the outputs, where it is installed)

Of each case: `CASE|onnx`, `CASE|in|NAME`, one output `CASE|out|NAME`, weights `CASE|c` of its shape,
`CASE|loss` = sum(out * c), `CASE|grad|INITIALISER` and `CASE|gradin|NAME`; all but the file and the inputs are
float64. A float initialiser without `grad` is a constant (BatchNorm's running statistics, a dropout's ratio).
Data reaches most operators through `x * p` with a parameter `p`, so that their gradient by it is seen.
"""
import io
import sys
import zipfile

import numpy as np
import onnx
import torch
from onnx import TensorProto as T, helper as h, numpy_helper as nh

from onnx_torch import Graph

try:
    import onnxruntime as ort
except ImportError:
    ort = None

torch.set_num_threads(1)
MOST_ARRAYS = 4096         # what shoal-infer reads of one archive
rng = np.random.default_rng(23)
N = h.make_node
DT = {np.dtype("float32"): T.FLOAT, np.dtype("int64"): T.INT64, np.dtype("int32"): T.INT32, np.dtype("bool"): T.BOOL, np.dtype("float16"): T.FLOAT16}
IR = {9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11}
arrays, checked, unchecked, names, failed = {}, [], [], [], []


def f(*s):
    """Normal numbers, none near zero."""
    v = rng.normal(size=s)
    return (np.round(np.sign(v) * (np.abs(v) + 0.08) * 2048) / 2048).astype(np.float32)


def pos(*s):
    return (np.round(rng.uniform(0.4, 2.0, s) * 2048) / 2048).astype(np.float32)


def i64(*v):
    return np.array(v, np.int64)


def make(nodes, feeds, init, out="y", opset=17, dims=None, functions=None, domains=()):
    dims = dims or {}
    vi = [h.make_tensor_value_info(k, DT[a.dtype], dims.get(k, ["N"] + list(a.shape[1:]))) for k, a in feeds.items()]
    g = h.make_graph(nodes, "g", vi, [h.make_tensor_value_info(out, T.FLOAT, None)],
                     [nh.from_array(np.asarray(v), k) for k, v in init.items()])
    imports = [h.make_opsetid("", opset)] + [h.make_opsetid(d, 1) for d in domains]
    return h.make_model(g, opset_imports=imports, ir_version=IR.get(opset, 8), functions=functions or [])


def gradients(model, feeds, c=None, nudge=0.0, nudged=()):
    g = Graph(model)
    r = np.random.default_rng(1)
    for p in (g.parameters[k] for k in nudged):
        p.data += nudge * torch.from_numpy(np.asarray(r.choice([-1.0, 1.0], size=tuple(p.shape)))) * p.data.abs()
    x = {k: torch.from_numpy(v).to(torch.float64).requires_grad_(True) if v.dtype.kind == "f" else torch.from_numpy(v.astype(np.int64) if v.dtype.kind == "i" else v) for k, v in feeds.items()}
    y = g(x)[g.outputs[0]]
    c = torch.from_numpy(np.asarray((np.floor(rng.normal(size=tuple(y.shape)) * 8) + 0.5) / 8)) if c is None else c
    loss = (y * c).sum()
    loss.backward()
    grads = {k: p.grad for k, p in g.parameters.items() if p.grad is not None}
    return y.detach(), c, loss.detach(), grads, {k: v.grad for k, v in x.items() if v.requires_grad and v.grad is not None}


def add(case, *args, **kw):
    try:
        case_of(case, *args, **kw)
    except Exception as e:
        failed.append(f"{case}: {e!r} {e.__cause__ or ''}"[:300])


def case_of(case, nodes, feeds, init, tolerance=1e-4, **kw):
    assert case not in names, case
    names.append(case)
    model = make(nodes, feeds, init, **kw)
    y, c, loss, grads, gradin = gradients(model, feeds)
    near = gradients(model, feeds, c, 1e-6, list(grads))[3]
    for k, v in grads.items():
        assert torch.isfinite(v).all(), f"{case}: {k}"
        assert (v - near[k]).norm() <= 1e-3 * v.norm() + 1e-9, f"{case}: {k} sits at a kink"
    assert any(v.norm() > 1e-6 for v in grads.values()), f"{case}: no gradient"
    arrays[f"{case}|onnx"] = np.frombuffer(model.SerializeToString(), np.uint8)
    for k, v in feeds.items():
        arrays[f"{case}|in|{k}"] = v
    put = lambda key, v: arrays.__setitem__(f"{case}|{key}", np.array(v.numpy(), order="C"))
    put(f"out|{model.graph.output[0].name}", y)
    put("c", c)
    put("loss", loss)
    for k, v in grads.items():
        put(f"grad|{k}", v)
    for k, v in gradin.items():
        put(f"gradin|{k}", v)
    if ort is None:
        return
    try:
        so = ort.SessionOptions()
        so.log_severity_level = 4
        s = ort.InferenceSession(model.SerializeToString(), so, providers=["CPUExecutionProvider"])
        got = s.run(None, feeds)[0]
    except Exception as e:
        unchecked.append((case, str(e).replace("\n", " ")[:110]))
        return
    assert got.shape == tuple(y.shape), f"{case}: onnxruntime {got.shape}, here {tuple(y.shape)}"
    off = np.abs(got - y.numpy()).max() / max(1, np.abs(got).max()) if got.size else 0
    assert off < tolerance, f"{case}: onnxruntime differs by {off}"
    checked.append(case)


def one(case, op, x, attrs=None, init=None, opset=17, outs=1, order=None, domain="", scale=None, **kw):
    """x * p, then the operator with the initialisers behind it."""
    init = dict(init or {})
    p = (1 + 0.2 * f(*x.shape[1:])).clip(0.3, 3).astype(np.float32) if scale is None else scale
    order = order or ["v", *init]
    ys = ["y", *(f"y{k}" for k in range(1, outs))]
    add(case, [N("Mul", ["x", "p"], ["v"]), N(op, order, ys, domain=domain, **(attrs or {}))], {"x": x}, {"p": p, **init}, opset=opset, **kw)


def save(path, arrays):
    """As np.savez_compressed, without the 64-bit fields it keeps for each array."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as z:
        for k, v in arrays.items():
            b = io.BytesIO()
            np.lib.format.write_array(b, np.array(v, order="C"), allow_pickle=False)
            z.writestr(zipfile.ZipInfo(k + ".npy", (1980, 1, 1, 0, 0, 0)), b.getvalue(), zipfile.ZIP_DEFLATED, 9)


def elementwise():
    x = f(3, 4)
    for op_ in "Abs Neg Exp Erf Sin Cos Tan Atan Sinh Cosh Asinh Tanh Sigmoid Softplus Softsign Relu Elu Selu Celu LeakyRelu HardSwish Mish Identity".split():
        one(op_, op_, x, opset=18)
    one("Log", "Log", pos(3, 4)); one("Sqrt", "Sqrt", pos(3, 4)); one("Reciprocal", "Reciprocal", x)
    one("Acos", "Acos", np.tanh(x) * .3); one("Asin", "Asin", np.tanh(x) * .3); one("Atanh", "Atanh", np.tanh(x) * .3); one("Acosh", "Acosh", pos(3, 4) + 4)
    one("Elu.a", "Elu", x, dict(alpha=.7)); one("Celu.a", "Celu", x, dict(alpha=1.7)); one("Selu.a", "Selu", x, dict(alpha=1.2, gamma=.8)); one("LeakyRelu.a", "LeakyRelu", x, dict(alpha=.2))
    one("Relu.6", "Relu", x, opset=9); one("Sigmoid.9", "Sigmoid", x, opset=9)
    one("HardSigmoid", "HardSigmoid", f(4, 5) * 2); one("HardSigmoid.a", "HardSigmoid", f(4, 5), dict(alpha=1 / 6, beta=.45))
    one("HardSwish.wide", "HardSwish", f(4, 5) * 3); one("ThresholdedRelu", "ThresholdedRelu", f(4, 5) * 2, dict(alpha=.6)); one("Shrink", "Shrink", f(4, 5) * 2, dict(lambd=.5, bias=.2))
    for a in ("none", "tanh"):
        one(f"Gelu.{a}", "Gelu", x, dict(approximate=a), opset=20)
    one("Gelu.ms", "Gelu", x, domain="com.microsoft", domains=["com.microsoft"])
    add("Gelu.erf", [N("Mul", ["x", "p"], ["v"]), N("Div", ["v", "r2"], ["a"]), N("Erf", ["a"], ["b"]), N("Add", ["b", "one"], ["d"]), N("Mul", ["v", "d"], ["e"]), N("Mul", ["e", "half"], ["y"])],
        {"x": x}, {"p": f(4), "r2": np.float32(2 ** .5), "one": np.float32(1), "half": np.float32(.5)})
    add("Swish.parts", [N("Mul", ["x", "p"], ["v"]), N("Sigmoid", ["v"], ["s"]), N("Mul", ["v", "s"], ["y"])], {"x": x}, {"p": f(4)})
    for tag, s in (("one", [1]), ("channel", [3, 1]), ("full", [3, 5]), ("scalar", [])):
        one(f"PRelu.{tag}", "PRelu", f(2, 3, 5), init={"s": np.float32(np.abs(f(*s)) * .3)})
    one("PRelu.4d", "PRelu", f(2, 3, 2, 2), init={"s": np.float32(np.abs(f(3, 1, 1)) * .3)})
    one("Clip.6", "Clip", x * 2, dict(min=-.5, max=1.1), opset=9); one("Clip.6.max", "Clip", x * 2, dict(max=.9), opset=9)
    one("Clip.13", "Clip", x * 2, init={"lo": np.float32(-.5), "hi": np.float32(1.1)}, opset=13); one("Clip.lo", "Clip", x, init={"lo": np.float32(.2)}); one("Clip.hi", "Clip", x, init={"hi": np.float32(.4)}, order=["v", "", "hi"]); one("Clip.none", "Clip", x)
    add("Clip.relu6", [N("Constant", [], ["lo"], value_float=0.), N("Constant", [], ["hi"], value_float=6.), N("Mul", ["x", "p"], ["v"]), N("Clip", ["v", "lo", "hi"], ["y"])], {"x": x * 4}, {"p": pos(4)})
    # binary, broadcasting both ways
    for op_ in ("Add", "Sub", "Mul", "Div"):
        for tag, a, b in (("same", (3, 4), (1, 4)), ("row", (3, 4), (4,)), ("scalar", (3, 4), ()), ("column", (3, 4, 1), (4, 5)), ("inner", (2, 1, 3), (4, 1)), ("mid", (2, 3, 4), (3, 1))):
            one(f"{op_}.{tag}", op_, f(*a), init={"b": f(*b)})
        add(f"{op_}.left", [N("Mul", ["x", "p"], ["v"]), N(op_, ["b", "v"], ["y"])], {"x": f(3, 4)}, {"p": f(4), "b": f(2, 1, 4)})
        op_ == "Div" or add(f"{op_}.self", [N("Mul", ["x", "p"], ["v"]), N("Add", ["v", "v"], ["w"]), N(op_, ["w", "v"], ["y"])], {"x": f(3, 4)}, {"p": f(4)})
    add("Mul.square", [N("Add", ["x", "p"], ["v"]), N("Mul", ["v", "v"], ["y"])], {"x": f(3, 4)}, {"p": f(4)})
    for tag, e, base in (("2", np.float32(2), pos(3, 4)), ("half", np.float32(.5), pos(3, 4)), ("3", np.float32([3]), pos(3, 4)), ("neg", np.float32(-1.5), pos(3, 4)), ("row", pos(4), pos(3, 4)), ("full", pos(3, 1), pos(2, 3, 4))):
        one(f"Pow.{tag}", "Pow", base, init={"e": e})
    for tag, e in (("const2", 2.), ("const3", 3.), ("constm1", -1.), ("const1", 1.)):   # negative bases, constant exponent
        add(f"Pow.{tag}", [N("Constant", [], ["e"], value_float=e), N("Mul", ["x", "p"], ["v"]), N("Pow", ["v", "e"], ["y"])], {"x": f(3, 4)}, {"p": f(4)})
    add("Pow.int", [N("Mul", ["x", "p"], ["v"]), N("Pow", ["v", "e"], ["y"])], {"x": f(3, 4)}, {"p": f(4), "e": i64(3)})
    add("Pow.base", [N("Mul", ["x", "p"], ["v"]), N("Pow", ["b", "v"], ["y"])], {"x": f(3, 4)}, {"p": f(4), "b": np.float32(1.7)})
    for op_ in ("Min", "Max", "Mean", "Sum"):
        add(f"{op_}.3", [N("Mul", ["x", "p"], ["v"]), N(op_, ["v", "a", "b"], ["y"])], {"x": f(3, 4)}, {"p": f(4), "a": f(4), "b": f(3, 1) * .7})
        add(f"{op_}.1", [N("Mul", ["x", "p"], ["v"]), N(op_, ["v"], ["y"])], {"x": f(3, 4)}, {"p": f(4)})
        add(f"{op_}.2", [N("Mul", ["x", "p"], ["v"]), N(op_, ["a", "v"], ["y"])], {"x": f(2, 3, 4)}, {"p": f(4), "a": f(1)})
    for op_ in ("Greater", "Less", "GreaterOrEqual", "LessOrEqual"):
        add(f"Where.{op_}", [N("Mul", ["x", "p"], ["v"]), N(op_, ["v", "t"], ["k"]), N("Where", ["k", "v", "b"], ["y"])], {"x": f(3, 4)}, {"p": f(4), "t": np.float32(.05), "b": f(4)})
    add("Where.Equal", [N("Mul", ["x", "p"], ["v"]), N("Equal", ["i", "two"], ["k"]), N("Where", ["k", "a", "v"], ["y"])], {"x": f(4, 3), "i": rng.integers(1, 4, (4, 1))}, {"p": f(3), "two": i64(2), "a": f(3)})
    add("Where.mask", [N("Mul", ["x", "p"], ["v"]), N("Not", ["m"], ["k"]), N("And", ["k", "n"], ["q"]), N("Where", ["q", "a", "v"], ["y"])], {"x": f(4, 3), "m": rng.random((4, 3)) > .5}, {"p": f(3), "a": f(4, 1), "n": np.array([True, True, False])})
    add("Where.broadcast", [N("Where", ["m", "a", "b"], ["w"]), N("Mul", ["x", "w"], ["y"])], {"x": f(4, 2, 3)}, {"m": np.array([[True], [False]]), "a": f(3), "b": f(2, 1)})
    # casts, dropout, constants
    add("Cast.half", [N("Cast", ["w"], ["q"], to=T.FLOAT), N("MatMul", ["x", "q"], ["y"])], {"x": f(3, 4)}, {"w": f(4, 2).astype(np.float16)})
    add("Cast.double", [N("Mul", ["x", "p"], ["v"]), N("Cast", ["v"], ["d"], to=T.DOUBLE), N("Exp", ["d"], ["e"]), N("Cast", ["e"], ["y"], to=T.FLOAT)], {"x": f(3, 4)}, {"p": f(4)})
    add("Cast.int", [N("Cast", ["i"], ["v"], to=T.FLOAT), N("Mul", ["v", "p"], ["y"])], {"i": rng.integers(-3, 4, (3, 4))}, {"p": f(4)})
    add("Cast.bool", [N("Mul", ["x", "p"], ["v"]), N("Greater", ["v", "z"], ["k"]), N("Cast", ["k"], ["m"], to=T.FLOAT), N("Mul", ["m", "v"], ["y"])], {"x": f(3, 4)}, {"p": f(4), "z": np.float32(0)})
    add("CastLike", [N("Cast", ["i"], ["j"], to=T.INT32), N("CastLike", ["j", "p"], ["v"]), N("Mul", ["v", "p"], ["y"])], {"i": rng.integers(-3, 4, (3, 4))}, {"p": f(4)})
    add("Half.net", [N("Cast", ["x"], ["h"], to=T.FLOAT16), N("MatMul", ["h", "w"], ["a"]), N("Add", ["a", "b"], ["c"]), N("Tanh", ["c"], ["t"]), N("Cast", ["t"], ["y"], to=T.FLOAT)], {"x": f(3, 4).astype(np.float16).astype(np.float32)}, {"w": (f(4, 2) * .5).astype(np.float16), "b": f(2).astype(np.float16)}, tolerance=5e-3)
    one("Dropout.7", "Dropout", x, dict(ratio=.4), opset=9); one("Dropout.12", "Dropout", x, init={"r": np.float32(.3)}, opset=13)
    add("Dropout.false", [N("Mul", ["x", "p"], ["v"]), N("Dropout", ["v", "r", "t"], ["y", "m"])], {"x": x}, {"p": f(4), "r": np.float32(.3), "t": np.array(False)})
    add("Constant.weight", [N("Constant", [], ["k"], value=nh.from_array(f(4, 2))), N("Mul", ["x", "p"], ["v"]), N("MatMul", ["v", "k"], ["y"])], {"x": x}, {"p": f(4)})
    add("Constant.floats", [N("Constant", [], ["k"], value_floats=[1., -2., .5, 3.]), N("Mul", ["x", "p"], ["v"]), N("Add", ["v", "k"], ["w"]), N("Mul", ["w", "k"], ["y"])], {"x": x}, {"p": f(4)})
    add("Shared", [N("MatMul", ["x", "w"], ["a"]), N("Tanh", ["a"], ["b"]), N("MatMul", ["b", "w"], ["y"])], {"x": x}, {"w": f(4, 4)})
    add("Identity.weight", [N("Identity", ["w"], ["u"]), N("Transpose", ["u"], ["t"], perm=[1, 0]), N("MatMul", ["x", "t"], ["a"]), N("MatMul", ["a", "w"], ["y"])], {"x": x}, {"w": f(3, 4)})


def products():
    for tag, a, b in (("2d", (3, 4), (4, 2)), ("3d2d", (2, 3, 4), (4, 5)), ("batched", (2, 3, 4), (1, 4, 5)), ("4d", (2, 2, 3, 4), (2, 4, 2)), ("4d1", (2, 2, 3, 4), (2, 1, 4, 2)), ("vector", (3, 4), (4,)), ("3dv", (2, 3, 4), (4,))):
        one(f"MatMul.{tag}", "MatMul", f(*a), init={"w": f(*b)})
    add("MatMul.left", [N("Mul", ["x", "p"], ["v"]), N("MatMul", ["w", "v"], ["y"])], {"x": f(2, 4, 3)}, {"p": f(3), "w": f(5, 4)})
    add("MatMul.leftv", [N("Mul", ["x", "p"], ["v"]), N("MatMul", ["w", "v"], ["y"])], {"x": f(2, 4, 3)}, {"p": f(3), "w": f(4)})
    add("MatMul.both", [N("Mul", ["x", "p"], ["v"]), N("Mul", ["x", "q"], ["w"]), N("Transpose", ["w"], ["t"], perm=[0, 2, 1]), N("MatMul", ["v", "t"], ["y"])], {"x": f(2, 3, 4)}, {"p": f(4), "q": f(4)})
    for ta in (0, 1):
        for tb in (0, 1):
            add(f"Gemm.{ta}{tb}", [N("Mul", ["x", "p"], ["v"])] + ([N("Transpose", ["v"], ["u"], perm=[1, 0])] if ta else [N("Identity", ["v"], ["u"])]) + [N("Gemm", ["u", "w", "b"], ["y"], transA=ta, transB=tb)], {"x": f(3, 4)}, {"p": f(4), "w": f(*((2, 4) if tb else (4, 2))), "b": f(2)})
    one("Gemm.alpha", "Gemm", f(3, 4), dict(alpha=.5, beta=1.7, transB=1), {"w": f(2, 4), "b": f(2)})
    for tag, s in (("11", (1, 1)), ("1n", (1, 2)), ("m1", (3, 1)), ("s", ()), ("1", (1,))):
        one(f"Gemm.c{tag}", "Gemm", f(3, 4), dict(beta=.6), {"w": f(4, 2), "b": f(*s)})
    one("Gemm.noc", "Gemm", f(3, 4), dict(alpha=1.3), {"w": f(4, 2)}); one("Gemm.9", "Gemm", f(3, 4), dict(transB=1), {"w": f(2, 4), "b": f(2)}, opset=9)
    add("Gemm.dense", [N("Gemm", ["x", "w1", "b1"], ["a"], transB=1), N("Relu", ["a"], ["b"]), N("Gemm", ["b", "w2", "b2"], ["y"], transB=1)], {"x": f(5, 4)}, {"w1": f(6, 4), "b1": f(6), "w2": f(3, 6), "b2": f(3)})
    for tag, eq, a, b in (("mm", "ij,jk->ik", (3, 4), (4, 2)), ("bmm", "bij,bjk->bik", (2, 3, 4), None), ("t", "bik,jk->bij", (2, 3, 4), (5, 4)), ("outer", "bi,j->bij", (2, 3), (4,)), ("heads", "bsd,dhe->bhse", (2, 3, 4), (4, 2, 2)), ("sum", "bij,ij->b", (2, 3, 4), (3, 4)), ("ell", "...i,ij->...j", (2, 3, 4), (4, 2))):
        if b is None:
            add(f"Einsum.{tag}", [N("Mul", ["x", "p"], ["v"]), N("Mul", ["x", "q"], ["u"]), N("Transpose", ["u"], ["t"], perm=[0, 2, 1]), N("Einsum", ["v", "t"], ["y"], equation=eq)], {"x": f(*a)}, {"p": f(4), "q": f(4)})
        else:
            one(f"Einsum.{tag}", "Einsum", f(*a), dict(equation=eq), {"w": f(*b)})
    one("Einsum.perm", "Einsum", f(2, 3, 4), dict(equation="bij->bji")); one("Einsum.trace", "Einsum", f(2, 3, 4), dict(equation="bij->bi"))


def convolutions():
    for tag, x, w, kw in (
            ("1d", (2, 2, 7), (3, 2, 3), {}), ("1d.pad", (2, 2, 7), (3, 2, 3), dict(pads=[1, 1])), ("1d.asym", (2, 2, 7), (3, 2, 3), dict(pads=[2, 0])), ("1d.stride", (2, 2, 8), (3, 2, 3), dict(strides=[2], pads=[1, 1])),
            ("1d.dil", (2, 2, 9), (2, 2, 3), dict(dilations=[2], pads=[2, 2])), ("1d.causal", (2, 2, 6), (2, 2, 2), dict(dilations=[3], pads=[3, 0])), ("1d.group", (2, 4, 6), (4, 2, 3), dict(group=2)), ("1d.depth", (2, 3, 6), (3, 1, 3), dict(group=3, pads=[1, 1])), ("1d.mult", (2, 2, 6), (4, 1, 3), dict(group=2, strides=[2])), ("1d.k1", (2, 3, 4), (2, 3, 1), {}), ("1d.k1s2", (2, 3, 5), (2, 3, 1), dict(strides=[2])),
            ("2d", (2, 2, 5, 4), (3, 2, 3, 3), {}), ("2d.pad", (2, 2, 4, 4), (2, 2, 3, 3), dict(pads=[1, 1, 1, 1])), ("2d.asym", (2, 1, 4, 5), (2, 1, 3, 2), dict(pads=[0, 1, 2, 0])), ("2d.stride", (2, 2, 5, 6), (2, 2, 3, 3), dict(strides=[2, 3], pads=[1, 1, 1, 1])), ("2d.dil", (1, 1, 7, 6), (2, 1, 3, 2), dict(dilations=[2, 3])),
            ("2d.group", (2, 4, 4, 3), (2, 2, 2, 2), dict(group=2)), ("2d.depth", (2, 3, 4, 4), (3, 1, 3, 3), dict(group=3, pads=[1, 1, 1, 1])), ("2d.depth2", (2, 3, 5, 5), (3, 1, 3, 3), dict(group=3, strides=[2, 2], pads=[0, 0, 1, 1])), ("2d.mult", (1, 2, 4, 4), (6, 1, 2, 2), dict(group=2)), ("2d.k1", (2, 3, 3, 2), (4, 3, 1, 1), {}), ("2d.row", (2, 1, 1, 9), (2, 1, 1, 5), dict(strides=[1, 2], pads=[0, 2, 0, 2])), ("2d.all", (2, 2, 7, 6), (4, 1, 3, 2), dict(group=2, strides=[2, 1], dilations=[1, 2], pads=[1, 0, 0, 2])),
            ("3d", (1, 2, 3, 3, 3), (2, 2, 2, 2, 2), dict(pads=[0, 1, 0, 1, 0, 0]))):
        o = w[0]
        one(f"Conv.{tag}", "Conv", f(*x), kw, {"w": f(*w), "b": f(o)})
    one("Conv.1d.nobias", "Conv", f(2, 2, 6), dict(kernel_shape=[3]), {"w": f(3, 2, 3)}); one("Conv.2d.nobias", "Conv", f(2, 2, 4, 4), dict(kernel_shape=[2, 2]), {"w": f(2, 2, 2, 2)}); one("Conv.2d.9", "Conv", f(2, 2, 4, 4), {}, {"w": f(2, 2, 2, 2), "b": f(2)}, opset=9)
    for auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        one(f"Conv.1d.{auto}", "Conv", f(2, 2, 7), dict(auto_pad=auto, strides=[2]), {"w": f(2, 2, 4), "b": f(2)})
        one(f"Conv.2d.{auto}", "Conv", f(2, 1, 5, 6), dict(auto_pad=auto, strides=[2, 1], dilations=[1, 1] if auto != "VALID" else [1, 2]), {"w": f(2, 1, 2, 3), "b": f(2)})
    add("Conv.weight", [N("Mul", ["w", "s"], ["u"]), N("Conv", ["x", "u"], ["y"], pads=[1, 1])], {"x": f(2, 2, 5)}, {"w": f(3, 2, 3), "s": f(3, 1, 1)})
    for tag, x, w, kw in (
            ("1d", (2, 2, 5), (2, 3, 3), {}), ("1d.stride", (2, 2, 4), (2, 2, 3), dict(strides=[2])), ("1d.pad", (2, 2, 4), (2, 2, 4), dict(strides=[2], pads=[1, 1])), ("1d.asym", (2, 2, 4), (2, 2, 3), dict(pads=[0, 2])), ("1d.outpad", (2, 2, 4), (2, 2, 3), dict(strides=[2], pads=[1, 1], output_padding=[1])), ("1d.group", (2, 4, 4), (4, 2, 3), dict(group=2)), ("1d.depth", (2, 3, 4), (3, 1, 3), dict(group=3, strides=[2])), ("1d.dil", (2, 2, 4), (2, 1, 3), dict(dilations=[2])), ("1d.shape", (2, 2, 4), (2, 2, 3), dict(strides=[2], output_shape=[9])), ("1d.shape2", (2, 2, 4), (2, 2, 4), dict(strides=[2], output_shape=[8])),
            ("2d", (2, 2, 3, 3), (2, 2, 2, 2), {}), ("2d.stride", (1, 2, 3, 3), (2, 2, 2, 2), dict(strides=[2, 2])), ("2d.pad", (1, 2, 3, 3), (2, 2, 3, 3), dict(strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])), ("2d.asym", (1, 2, 3, 4), (2, 1, 3, 2), dict(strides=[2, 1], pads=[1, 0, 0, 1])), ("2d.group", (1, 4, 3, 3), (4, 1, 2, 2), dict(group=2, strides=[1, 2])), ("2d.dil", (1, 1, 3, 3), (1, 2, 2, 3), dict(dilations=[2, 1])), ("2d.shape", (1, 2, 3, 3), (2, 1, 4, 4), dict(strides=[2, 2], output_shape=[6, 6]))):
        one(f"ConvTranspose.{tag}", "ConvTranspose", f(*x), kw, {"w": f(*w), "b": f(w[1] * kw.get("group", 1))})
    one("ConvTranspose.nobias", "ConvTranspose", f(1, 2, 4), {}, {"w": f(2, 2, 3)})
    for auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        one(f"ConvTranspose.{auto}", "ConvTranspose", f(1, 2, 4), dict(auto_pad=auto, strides=[2]), {"w": f(2, 2, 4), "b": f(2)})


def pools():
    for op_ in ("MaxPool", "AveragePool"):
        for tag, x, kw in (
                ("1d", (2, 2, 7), dict(kernel_shape=[2])), ("1d.s", (2, 2, 8), dict(kernel_shape=[2], strides=[2])), ("1d.over", (2, 2, 8), dict(kernel_shape=[3], strides=[2])), ("1d.pad", (2, 2, 7), dict(kernel_shape=[3], strides=[2], pads=[1, 1])), ("1d.asym", (2, 2, 7), dict(kernel_shape=[3], pads=[0, 2])), ("1d.ceil", (2, 2, 8), dict(kernel_shape=[3], strides=[2], ceil_mode=1)), ("1d.gap", (2, 2, 9), dict(kernel_shape=[2], strides=[3])),
                ("2d", (2, 2, 4, 4), dict(kernel_shape=[2, 2], strides=[2, 2])), ("2d.over", (1, 2, 5, 5), dict(kernel_shape=[3, 3], strides=[2, 2])), ("2d.pad", (1, 2, 5, 4), dict(kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])), ("2d.ceil", (1, 2, 5, 6), dict(kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1)), ("2d.ceilpad", (1, 1, 6, 6), dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)), ("2d.row", (2, 1, 1, 8), dict(kernel_shape=[1, 2], strides=[1, 2])), ("3d", (1, 1, 4, 4, 4), dict(kernel_shape=[2, 2, 2], strides=[2, 2, 2]))):
            one(f"{op_}.{tag}", op_, f(*x), kw, scale=pos(*x[1:]))
        for auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
            one(f"{op_}.{auto}", op_, f(1, 2, 5, 6), dict(kernel_shape=[2, 3], strides=[2, 2], auto_pad=auto))
        one(f"{op_}.9", op_, f(2, 2, 6), dict(kernel_shape=[2], strides=[2]), opset=9)
        one(f"Global{op_}.1d", f"Global{op_}", f(2, 3, 5)); one(f"Global{op_}.2d", f"Global{op_}", f(2, 2, 3, 3))
    one("MaxPool.1d.dil", "MaxPool", f(2, 2, 8), dict(kernel_shape=[3], dilations=[2])); one("MaxPool.2d.dil", "MaxPool", f(1, 2, 6, 6), dict(kernel_shape=[2, 2], dilations=[2, 3], strides=[2, 1], pads=[0, 1, 1, 0]))
    one("AveragePool.1d.incl", "AveragePool", f(2, 2, 7), dict(kernel_shape=[3], strides=[2], pads=[1, 1], count_include_pad=1)); one("AveragePool.2d.incl", "AveragePool", f(1, 2, 4, 4), dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)); one("AveragePool.ceilincl", "AveragePool", f(1, 2, 6, 6), dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1, count_include_pad=1)); one("AveragePool.dil.19", "AveragePool", f(1, 2, 8), dict(kernel_shape=[3], dilations=[2]), opset=19)


def norms():
    stats = lambda k: {"g": f(k), "b": f(k), "mean": f(k) * .3, "var": pos(k)}
    for tag, x in (("2d", (4, 3)), ("3d", (3, 2, 4)), ("4d", (2, 3, 2, 3))):
        one(f"BatchNormalization.{tag}", "BatchNormalization", f(*x), {}, stats(x[1]))
        one(f"BatchNormalization.{tag}.train", "BatchNormalization", f(*x), dict(training_mode=1, epsilon=1e-3, momentum=.8), stats(x[1]), outs=3)
    one("BatchNormalization.9", "BatchNormalization", f(3, 2, 4), dict(epsilon=1e-3), stats(2), opset=9)
    add("BatchNormalization.train3", [N("Mul", ["x", "p"], ["v"]), N("BatchNormalization", ["v", "g", "b", "mean", "var"], ["y", "m2", "v2"], training_mode=1)], {"x": f(4, 2, 3)}, {"p": f(2, 1), **stats(2)}, opset=15)
    for tag, x, ax, g in (("last", (3, 5), -1, (5,)), ("3d", (2, 3, 4), -1, (4,)), ("axis1", (2, 3, 4), 1, (3, 4)), ("axis-2", (2, 3, 4), -2, (3, 4)), ("4d", (2, 2, 2, 3), 2, (2, 3))):
        one(f"LayerNormalization.{tag}", "LayerNormalization", f(*x), dict(axis=ax, epsilon=1e-3), {"g": f(*g), "b": f(*g)})
    one("LayerNormalization.nobias", "LayerNormalization", f(2, 3, 4), {}, {"g": f(4)})
    add("LayerNormalization.parts", [N("Mul", ["x", "p"], ["v"]), N("ReduceMean", ["v"], ["m"], axes=[-1]), N("Sub", ["v", "m"], ["d"]), N("Constant", [], ["two"], value_float=2.), N("Pow", ["d", "two"], ["s"]), N("ReduceMean", ["s"], ["q"], axes=[-1]), N("Add", ["q", "eps"], ["r"]), N("Sqrt", ["r"], ["t"]), N("Div", ["d", "t"], ["n"]), N("Mul", ["n", "g"], ["o"]), N("Add", ["o", "b"], ["y"])], {"x": f(2, 3, 4)}, {"p": f(4), "eps": np.float32(1e-3), "g": f(4), "b": f(4)})
    for tag, x in (("1d", (2, 3, 5)), ("2d", (2, 2, 3, 3))):
        one(f"InstanceNormalization.{tag}", "InstanceNormalization", f(*x), dict(epsilon=1e-3), {"g": f(x[1]), "b": f(x[1])})
    one("GroupNormalization.18", "GroupNormalization", f(2, 4, 3), dict(num_groups=2), {"g": f(2), "b": f(2)}, opset=18); one("GroupNormalization.21", "GroupNormalization", f(2, 4, 3), dict(num_groups=2), {"g": f(4), "b": f(4)}, opset=21); one("GroupNormalization.21.2d", "GroupNormalization", f(2, 6, 2, 2), dict(num_groups=3, epsilon=1e-2), {"g": f(6), "b": f(6)}, opset=21)
    add("GroupNormalization.parts", [N("Mul", ["x", "p"], ["v"]), N("Reshape", ["v", "s"], ["a"]), N("InstanceNormalization", ["a", "one", "zero"], ["c1"]), N("Shape", ["v"], ["sh"]), N("Reshape", ["c1", "sh"], ["d"]), N("Mul", ["d", "g"], ["e"]), N("Add", ["e", "b"], ["y"])], {"x": f(2, 4, 3)}, {"p": f(4, 1), "s": i64(0, 2, -1), "one": np.ones(2, np.float32), "zero": np.zeros(2, np.float32), "g": f(4, 1), "b": f(4, 1)})
    one("MeanVarianceNormalization", "MeanVarianceNormalization", f(2, 2, 3, 3)); one("MeanVarianceNormalization.axes", "MeanVarianceNormalization", f(3, 4, 2), dict(axes=[1, 2]))
    one("RMSNormalization.23", "RMSNormalization", f(2, 3, 4), {}, {"g": f(4)}, opset=23)
    for p_ in (1, 2):
        for ax in (-1, 1):
            one(f"LpNormalization.{p_}.{ax}", "LpNormalization", f(2, 3, 4), dict(p=p_, axis=ax))
    for op_ in ("Softmax", "LogSoftmax"):
        for ax in (0, 1, 2, -1, -2):
            one(f"{op_}.{ax}", op_, f(2, 3, 4), dict(axis=ax))
        one(f"{op_}.default", op_, f(3, 4), {}); one(f"{op_}.11", op_, f(2, 3, 2), {}, opset=11); one(f"{op_}.11.2", op_, f(2, 3, 4), dict(axis=2), opset=11); one(f"{op_}.11.0", op_, f(2, 3), dict(axis=0), opset=11); one(f"{op_}.11.-1", op_, f(2, 3, 4), dict(axis=-1), opset=11)
    one("LRN", "LRN", f(1, 5, 2, 2), dict(size=3, alpha=.5, beta=.75, bias=1.))


def reductions():
    for op_ in "Sum Mean Max Min Prod L1 L2 LogSum LogSumExp SumSquare".split():
        name = "Reduce" + op_
        x = pos(2, 3, 4) if op_ in ("LogSum", "Prod") else f(2, 3, 4)
        new = op_ == "Sum"
        def red(tag, axes, opset=17, **kw):
            if axes is None:
                one(f"{name}.{tag}", name, x, kw, opset=opset)
            elif (opset >= 13 if new else opset >= 18):
                one(f"{name}.{tag}", name, x, kw, {"axes": i64(*axes)}, opset=opset)
            else:
                one(f"{name}.{tag}", name, x, dict(axes=axes, **kw), opset=opset)
        red("1", [1]); red("1.flat", [1], keepdims=0); red("2", [1, 2], keepdims=0); red("neg", [-1], keepdims=1); red("none", None); red("none.flat", None, keepdims=0); red("0", [0])
        red("18", [-2], opset=18, keepdims=0); red("11", [2, 1], opset=11); red("18.noop", None, opset=18, noop_with_empty_axes=1, keepdims=1) if op_ in ("Sum", "Mean", "Max") else None
    one("ReduceSum.empty", "ReduceSum", f(2, 3), dict(noop_with_empty_axes=1), {"axes": np.zeros(0, np.int64)}); one("ReduceMean.18.empty", "ReduceMean", f(2, 3), dict(keepdims=0), {"axes": np.zeros(0, np.int64)}, opset=18)
    one("CumSum", "CumSum", f(2, 4), init={"a": np.array(1, np.int64)}); one("CumSum.rev", "CumSum", f(2, 4), dict(reverse=1), {"a": np.array(-1, np.int64)}); one("CumSum.excl", "CumSum", f(2, 3, 3), dict(exclusive=1), {"a": np.array(1, np.int64)}); one("CumSum.both", "CumSum", f(2, 3, 3), dict(exclusive=1, reverse=1), {"a": np.array(2, np.int64)})


def shapes():
    x = f(2, 3, 4)
    for tag, s in (("m1", (0, -1)), ("flat", (-1,)), ("split", (0, 0, 2, 2)), ("swap", (-1, 4, 3)), ("all", (2, 12)), ("up", (-1, 1, 3, 4))):
        one(f"Reshape.{tag}", "Reshape", x, init={"s": i64(*s)})
    one("Reshape.allowzero", "Reshape", x, dict(allowzero=1), {"s": i64(-1, 6)})
    for a in (0, 1, 2, -1):
        one(f"Flatten.{a}", "Flatten", x, dict(axis=a))
    one("Squeeze.11", "Squeeze", f(2, 1, 3, 1), dict(axes=[1, 3]), opset=11); one("Squeeze.13", "Squeeze", f(2, 1, 3, 1), {}, {"a": i64(-1)}, opset=13); one("Squeeze.all", "Squeeze", f(2, 1, 3, 1))
    one("Unsqueeze.11", "Unsqueeze", f(2, 3), dict(axes=[0, 3]), opset=11); one("Unsqueeze.13", "Unsqueeze", f(2, 3), {}, {"a": i64(-1, 1)}, opset=13)
    one("Transpose", "Transpose", x); one("Transpose.021", "Transpose", x, dict(perm=[0, 2, 1])); one("Transpose.102", "Transpose", x, dict(perm=[1, 0, 2])); one("Transpose.4d", "Transpose", f(2, 3, 2, 2), dict(perm=[0, 2, 3, 1])); one("Transpose.4d2", "Transpose", f(2, 3, 2, 2), dict(perm=[0, 3, 1, 2]))
    for a in (1, -1):
        add(f"Concat.{a}", [N("Mul", ["x", "p"], ["v"]), N("Mul", ["x", "q"], ["u"]), N("Concat", ["v", "x", "u"], ["y"], axis=a)], {"x": x}, {"p": f(4), "q": f(3, 1)})
    add("Concat.token", [N("Shape", ["x"], ["sh"]), N("Gather", ["sh", "z"], ["n"]), N("Concat", ["n", "o"], ["es"], axis=0), N("Expand", ["w", "es"], ["e"]), N("Concat", ["e", "x"], ["y"], axis=1)], {"x": x}, {"w": f(1, 1, 4), "z": i64(0), "o": i64(1, 4)})
    add("Concat.weights", [N("Concat", ["a", "b"], ["w"], axis=0), N("MatMul", ["x", "w"], ["y"])], {"x": x}, {"a": f(1, 3), "b": f(3, 3)})
    merge = [N("Mul", ["a", "q"], ["a2"]), N("Tanh", ["b"], ["b2"]), N("Concat", ["a2", "b2"], ["y"], axis=-1)]
    add("Split.11", [N("Mul", ["x", "p"], ["v"]), N("Split", ["v"], ["a", "b"], axis=2, split=[1, 3]), *merge], {"x": x}, {"p": f(4), "q": f(3, 1)}, opset=11)
    add("Split.13", [N("Mul", ["x", "p"], ["v"]), N("Split", ["v", "s"], ["a", "b"], axis=-1), *merge], {"x": x}, {"p": f(4), "q": f(3, 1), "s": i64(3, 1)}, opset=13)
    add("Split.13.even", [N("Mul", ["x", "p"], ["v"]), N("Split", ["v"], ["a", "b"], axis=2), *merge], {"x": x}, {"p": f(4), "q": f(3, 1)}, opset=13)
    add("Split.18", [N("Mul", ["x", "p"], ["v"]), N("Split", ["v"], ["a", "b"], axis=2, num_outputs=2), *merge], {"x": f(2, 3, 5)}, {"p": f(5), "q": f(3, 1)}, opset=18)
    add("Split.unused", [N("Mul", ["x", "p"], ["v"]), N("Split", ["v", "s"], ["a", "b", "d"], axis=1), N("Exp", ["b"], ["y"])], {"x": x}, {"p": f(3, 1), "s": i64(1, 1, 1)})
    def sl(tag, starts, ends, axes, steps, opset=17, x=x):
        init = {"st": i64(*starts), "en": i64(*ends)}
        if axes is not None:
            init["ax"] = i64(*axes)
        if steps is not None:
            init["sp"] = i64(*steps)
        one(f"Slice.{tag}", "Slice", x, {}, init, opset=opset)
    sl("1", [1], [3], [1], None); sl("neg", [-3], [-1], [-1], None); sl("end", [1], [2 ** 62], [2], [1]); sl("step", [0], [4], [2], [2]); sl("rev", [-1], [-2 ** 62], [1], [-1]); sl("rev2", [3], [0], [2], [-2]); sl("two", [1, 0], [3, 3], [1, 2], [1, 2]); sl("noaxes", [0, 1], [2, 3], None, None); sl("batch", [0], [1], [0], None); sl("10", [-1], [2 ** 62], [1], None, opset=11)
    one("Slice.9", "Slice", x, dict(starts=[1], ends=[3], axes=[2]), opset=9)
    add("Slice.last", [N("Mul", ["x", "p"], ["v"]), N("Gather", ["v", "k"], ["y"], axis=1)], {"x": x}, {"p": f(4), "k": np.array(-1, np.int64)})
    add("Slice.weight", [N("Slice", ["w", "s", "e", "a"], ["u"]), N("Unsqueeze", ["u", "z"], ["t"]), N("MatMul", ["x", "t"], ["y"])], {"x": x}, {"w": f(5, 2), "s": i64(1), "e": i64(5), "a": i64(0), "z": i64(0)})
    for tag, a, i in (("0", 0, i64(1, 0, 1)), ("1", 1, i64(2, 0)), ("neg", 1, i64(-1, 0, -1)), ("2d", 2, np.array([[0, 3], [1, 1]])), ("scalar", 1, np.array(1, np.int64)), ("-1", -1, i64(3))):
        one(f"Gather.{tag}", "Gather", x, dict(axis=a), {"i": i})
    ids = rng.integers(0, 6, (3, 4))
    add("Gather.embed", [N("Gather", ["e", "i"], ["y"])], {"i": ids}, {"e": f(6, 3)})
    add("Gather.embed.neg", [N("Gather", ["e", "i"], ["y"])], {"i": ids - 6}, {"e": f(6, 3)})
    add("Gather.embed.32", [N("Gather", ["e", "i"], ["y"])], {"i": ids.astype(np.int32)}, {"e": f(6, 3)})
    add("Gather.embed.float", [N("Cast", ["i"], ["k"], to=T.INT64), N("Gather", ["e", "k"], ["t"]), N("ReduceMean", ["t"], ["y"], axes=[1], keepdims=0)], {"i": ids.astype(np.float32)}, {"e": f(6, 3)})
    add("Gather.embed.1d", [N("Gather", ["e", "i"], ["t"]), N("Mul", ["t", "p"], ["y"])], {"i": ids[:, 0]}, {"e": f(6, 3), "p": f(3)})
    add("Gather.embed.axis", [N("Gather", ["e", "i"], ["t"], axis=1), N("Transpose", ["t"], ["y"], perm=[1, 2, 0])], {"i": ids}, {"e": f(2, 6)})
    add("Gather.position", [N("Shape", ["x"], ["sh"]), N("Gather", ["sh", "one"], ["n"]), N("Range", ["zero", "n", "step"], ["r"]), N("Gather", ["e", "r"], ["t"]), N("Add", ["x", "t"], ["y"])], {"x": x}, {"e": f(5, 4), "one": np.array(1, np.int64), "zero": np.array(0, np.int64), "step": np.array(1, np.int64)})
    one("GatherElements", "GatherElements", x, dict(axis=2), {"i": rng.integers(-4, 4, (2, 3, 2))}); one("GatherElements.1", "GatherElements", x, dict(axis=1), {"i": rng.integers(0, 3, (2, 4, 4))})
    add("GatherElements.dyn", [N("Mul", ["x", "p"], ["v"]), N("GatherElements", ["v", "i"], ["y"], axis=1)], {"x": f(3, 4), "i": rng.integers(0, 4, (3, 2))}, {"p": f(4)})
    one("GatherND", "GatherND", x, dict(batch_dims=1), {"i": rng.integers(0, 3, (2, 2, 1))}); one("GatherND.0", "GatherND", x, {}, {"i": np.array([[0, 1], [1, 2]])})
    one("ScatterND", "ScatterND", x, {}, {"i": np.array([[0, 1], [1, 2]]), "u": f(2, 4)}); one("ScatterElements", "ScatterElements", f(2, 4), dict(axis=1), {"i": np.array([[1], [3]]), "u": f(2, 1)})
    one("Expand", "Expand", f(2, 1, 3), init={"s": i64(2, 4, 3)}); one("Expand.up", "Expand", f(2, 3), init={"s": i64(2, 1, 1)}); one("Expand.one", "Expand", f(2, 3, 1), init={"s": i64(1, 4)})
    one("Tile", "Tile", f(2, 3), init={"r": i64(1, 2)}); one("Tile.batch", "Tile", f(2, 3, 1), init={"r": i64(2, 1, 3)})
    add("Tile.weight", [N("Tile", ["w", "r"], ["t"]), N("Add", ["x", "t"], ["y"])], {"x": x}, {"w": f(1, 4), "r": i64(3, 1)})
    def pad(tag, pads, mode="constant", value=None, x=x, opset=17):
        init = {"pd": i64(*pads)}
        if value is not None:
            init["val"] = np.float32(value)
        one(f"Pad.{tag}", "Pad", x, dict(mode=mode), init, opset=opset)
    pad("const", [0, 1, 0, 0, 0, 2]); pad("value", [0, 0, 1, 0, 2, 0], value=.7); pad("reflect", [0, 2, 0, 0, 1, 3], "reflect"); pad("edge", [0, 0, 2, 0, 1, 1], "edge"); pad("neg", [0, -1, 1, 0, 0, -2]); pad("wrap", [0, 1, 2, 0, 2, 1], "wrap", opset=19); pad("4d", [0, 0, 1, 1, 0, 0, 1, 1], x=f(1, 2, 3, 3)); pad("4d.reflect", [0, 0, 1, 2, 0, 0, 2, 1], "reflect", x=f(1, 1, 3, 4))
    one("Pad.2", "Pad", x, dict(pads=[0, 0, 1, 0, 0, 2], value=.5), opset=9); one("Pad.18", "Pad", x, {}, {"pd": i64(1, 2), "val": np.float32(0), "ax": i64(-1)}, opset=18)
    one("Trilu.up", "Trilu", f(2, 3, 4), dict(upper=1)); one("Trilu.low", "Trilu", f(2, 4, 4), dict(upper=0), {"k": np.array(-1, np.int64)}); one("Trilu.k", "Trilu", f(2, 3, 4), dict(upper=1), {"k": np.array(1, np.int64)})
    for m in ("DCR", "CRD"):
        one(f"DepthToSpace.{m}", "DepthToSpace", f(1, 8, 2, 2), dict(blocksize=2, mode=m))
    one("SpaceToDepth", "SpaceToDepth", f(1, 2, 4, 4), dict(blocksize=2))
    def rs(tag, x, scales=None, sizes=None, opset=17, **kw):
        if sizes is None:
            one(f"Resize.{tag}", "Resize", x, kw, {"sc": np.array(scales, np.float32)}, order=["v", "", "sc"] if opset >= 13 else ["v", "roi", "sc"], opset=opset) if opset >= 13 else one(f"Resize.{tag}", "Resize", x, kw, {"roi": np.zeros(0, np.float32), "sc": np.array(scales, np.float32)}, opset=opset)
        else:
            one(f"Resize.{tag}", "Resize", x, kw, {"sz": i64(*sizes)}, order=["v", "", "", "sz"], opset=opset)
    img = f(1, 2, 3, 4)
    rs("nearest", img, [1, 1, 2, 2], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"); rs("nearest.half", img, [1, 1, 2, 2], mode="nearest"); rs("nearest.11", img, [1, 1, 2, 2], opset=11, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"); rs("nearest.size", img, sizes=[1, 2, 5, 7], mode="nearest", nearest_mode="round_prefer_ceil"); rs("nearest.down", f(1, 1, 4, 6), [1, 1, .5, .5], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    rs("linear", img, [1, 1, 2, 2], mode="linear"); rs("linear.corners", img, sizes=[1, 2, 6, 7], mode="linear", coordinate_transformation_mode="align_corners"); rs("linear.pt", img, [1, 1, 1.5, 2], mode="linear", coordinate_transformation_mode="pytorch_half_pixel"); rs("linear.asym", img, [1, 1, 2, 2], mode="linear", coordinate_transformation_mode="asymmetric"); rs("linear.1d", f(2, 2, 4), [1, 1, 2], mode="linear"); rs("nearest.1d", f(2, 2, 4), [1, 1, 3], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"); rs("cubic", img, [1, 1, 2, 2], mode="cubic")
    one("Upsample.9", "Upsample", img, dict(mode="nearest"), {"sc": np.array([1, 1, 2, 2], np.float32)}, opset=9)
    # shape arithmetic
    add("shape.view", [N("Mul", ["x", "p"], ["v"]), N("Shape", ["v"], ["sh"]), N("Gather", ["sh", "z"], ["n"], axis=0), N("Unsqueeze", ["n", "a"], ["n1"]), N("Concat", ["n1", "m"], ["s"], axis=0), N("Reshape", ["v", "s"], ["t"]), N("MatMul", ["t", "w"], ["y"])], {"x": x}, {"p": f(4), "z": np.array(0, np.int64), "a": i64(0), "m": i64(-1), "w": f(12, 2)})
    add("shape.product", [N("Mul", ["x", "p"], ["v"]), N("Shape", ["v"], ["sh"]), N("Slice", ["sh", "one", "three"], ["d"]), N("ReduceProd", ["d"], ["n"], axes=[0], keepdims=1), N("Concat", ["m", "n"], ["s"], axis=0), N("Reshape", ["v", "s"], ["t"]), N("Tanh", ["t"], ["y"])], {"x": x}, {"p": f(4), "one": i64(1), "three": i64(3), "m": i64(-1)})
    add("shape.state", [N("Shape", ["x"], ["sh"]), N("Gather", ["sh", "z"], ["n"]), N("Concat", ["n", "k"], ["s"], axis=0), N("ConstantOfShape", ["s"], ["h"], value=nh.from_array(np.float32([.5]))), N("Concat", ["x", "h"], ["xh"], axis=1), N("MatMul", ["xh", "w"], ["y"])], {"x": f(3, 4)}, {"z": i64(0), "k": i64(2), "w": f(6, 3)})
    add("shape.where", [N("Shape", ["x"], ["sh"]), N("ConstantOfShape", ["three"], ["ones"], value=nh.from_array(i64(1))), N("Mul", ["ones", "m1"], ["neg"]), N("Equal", ["want", "neg"], ["k"]), N("Where", ["k", "ones", "want"], ["s"]), N("Expand", ["w", "s"], ["e"]), N("Add", ["x", "e"], ["y"])], {"x": x}, {"w": f(1, 1, 4), "three": i64(3), "m1": i64(-1), "want": i64(-1, 3, 4)})
    add("shape.div", [N("Mul", ["x", "p"], ["v"]), N("Shape", ["v"], ["sh"]), N("Gather", ["sh", "two"], ["d"]), N("Div", ["d", "twov"], ["q"]), N("Sub", ["d", "q"], ["r"]), N("Mul", ["q", "one"], ["q1"]), N("Slice", ["v", "zero", "q1", "ax"], ["a"]), N("Slice", ["v", "r", "d", "ax"], ["b"]), N("Mul", ["a", "b"], ["y"])], {"x": x}, {"p": f(4), "two": i64(2), "twov": i64(2), "one": i64(1), "zero": i64(0), "ax": i64(2)})
    add("shape.scale", [N("Mul", ["x", "p"], ["v"]), N("Shape", ["v"], ["sh"]), N("Gather", ["sh", "k"], ["d"]), N("Cast", ["d"], ["df"], to=T.FLOAT), N("Sqrt", ["df"], ["s"]), N("Div", ["v", "s"], ["y"])], {"x": x}, {"p": f(4), "k": np.array(-1, np.int64)})
    add("shape.range", [N("Shape", ["x"], ["sh"]), N("Gather", ["sh", "k"], ["d"]), N("Range", ["z", "d", "o"], ["r"]), N("Unsqueeze", ["r", "one"], ["c1"]), N("LessOrEqual", ["r", "c1"], ["m"]), N("MatMul", ["x", "w"], ["q"]), N("Where", ["m", "q", "inf"], ["s"]), N("Softmax", ["s"], ["y"])], {"x": f(2, 3, 3)}, {"k": np.array(1, np.int64), "z": np.array(0, np.int64), "o": np.array(1, np.int64), "one": i64(1), "w": f(3, 3), "inf": np.float32(-1e9)})
    add("shape.reduced", [N("Mul", ["x", "p"], ["v"]), N("ReduceSum", ["v"], ["s"]), N("Shape", ["x"], ["sh"], start=0, end=1), N("Cast", ["sh"], ["n"], to=T.FLOAT), N("Div", ["s", "n"], ["m"]), N("Sub", ["v", "m"], ["y"])], {"x": f(3, 4)}, {"p": f(4)})


def recurrent():
    S, I, H = 3, 2, 3
    for op_, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        for direction in ("forward", "reverse", "bidirectional"):
            d = 2 if direction[0] == "b" else 1
            for lbr in ((0, 1) if op_ == "GRU" else (0,)):
                kw = dict(hidden_size=H, direction=direction, **({"linear_before_reset": 1} if lbr else {}))
                w = lambda: {"w": f(d, gates * H, I) * .6, "r": f(d, gates * H, H) * .5, "b": f(d, 2 * gates * H) * .4}
                tag = f"{op_}.{direction}" + (".lbr" if lbr else "")
                x = f(2, S, I)
                pre = [N("Mul", ["x", "p"], ["v"]), N("Transpose", ["v"], ["t"], perm=[1, 0, 2])]
                p = {"p": f(I)}
                flat = lambda k: [N("Transpose", [k], ["u"], perm=[1, 0, 2]), N("Flatten", ["u"], ["y"])]
                add(tag + ".Y", [*pre, N(op_, ["t", "w", "r", "b"], ["q"], **kw), N("Transpose", ["q"], ["u"], perm=[2, 0, 1, 3]), N("Reshape", ["u", "s"], ["y"])], {"x": x}, {**p, **w(), "s": i64(0, 0, -1)})
                add(tag + ".Yh", [*pre, N(op_, ["t", "w", "r", "b"], ["", "hl"], **kw), *flat("hl")], {"x": x}, {**p, **w()})
                states = {"h0": f(d, 1, H)}
                more = ["h0e"] + (["c0e"] if op_ == "LSTM" else [])
                grow = [N("Shape", ["x"], ["sh"], start=0, end=1), N("Concat", ["dd", "sh", "hh"], ["es"], axis=0), N("Expand", ["h0", "es"], ["h0e"])]
                if op_ == "LSTM":
                    states["c0"] = f(d, 1, H)
                    grow.append(N("Expand", ["c0", "es"], ["c0e"]))
                add(tag + ".init", [*pre, *grow, N(op_, ["t", "w", "r", "b", "", *more], ["q", "hl"], **kw), *flat("hl")], {"x": x}, {**p, **w(), **states, "dd": i64(d), "hh": i64(H)})
                if op_ == "LSTM":
                    add(tag + ".Yc", [*pre, N(op_, ["t", "w", "r", "b"], ["", "", "cl"], **kw), *flat("cl")], {"x": x}, {**p, **w()})
                    add(tag + ".all", [*pre, N(op_, ["t", "w", "r", "b"], ["q", "hl", "cl"], **kw), N("ReduceSum", ["q", "z"], ["qs"], keepdims=0), N("Add", ["qs", "hl"], ["a"]), N("Mul", ["a", "cl"], ["m"]), *flat("m")], {"x": x}, {**p, **w(), "z": i64(0)})
                    ww = w()
                    add(tag + ".peep", [*pre, N(op_, ["t", "w", "r", "b", "", "", "", "pe"], ["", "hl"], **kw), *flat("hl")], {"x": x}, {**p, **ww, "pe": f(d, 3 * H) * .5})
                ww = w(); ww.pop("b")
                add(tag + ".nobias", [*pre, N(op_, ["t", "w", "r"], ["", "hl"], **kw), *flat("hl")], {"x": x}, {**p, **ww})
                wl = w()
                add(tag + ".layout1", [N("Mul", ["x", "p"], ["v"]), N(op_, ["v", "w", "r", "b"], ["q", "hl"], layout=1, **kw), N("Reshape", ["q", "s"], ["qf"]), N("Flatten", ["hl"], ["hf"]), N("Concat", ["qf", "hf"], ["y"], axis=1)], {"x": x}, {**p, **wl, "s": i64(0, -1)})
        w = {"w": f(1, gates * H, I) * .6, "r": f(1, gates * H, H) * .5, "b": f(1, 2 * gates * H) * .4}
        acts = {"LSTM": ["HardSigmoid", "Softsign", "Relu"], "GRU": ["HardSigmoid", "Tanh"], "RNN": ["Relu"]}[op_]
        add(f"{op_}.acts", [N("Mul", ["x", "p"], ["v"]), N("Transpose", ["v"], ["t"], perm=[1, 0, 2]), N(op_, ["t", "w", "r", "b"], ["", "hl"], hidden_size=H, activations=acts), N("Squeeze", ["hl", "z"], ["y"])], {"x": f(3, 4, I)}, {"p": f(I), **w, "z": i64(0)})
        w = {"w": f(1, gates * H, I) * .6, "r": f(1, gates * H, H) * .5, "b": f(1, 2 * gates * H) * .4}
        add(f"{op_}.timemajor", [N("Mul", ["x", "p"], ["v"]), N(op_, ["v", "w", "r", "b"], ["q"], hidden_size=H), N("Transpose", ["q"], ["u"], perm=[2, 0, 1, 3]), N("Flatten", ["u"], ["y"])], {"x": f(4, 2, I)}, {"p": f(I), **w}, dims={"x": [4, "N", I]})
        w = {"w": f(1, gates * H, I) * .6, "r": f(1, gates * H, H) * .5, "b": f(1, 2 * gates * H) * .4}
        w2 = {"w2": f(1, gates * H, H) * .6, "r2": f(1, gates * H, H) * .5, "b2": f(1, 2 * gates * H) * .4}
        add(f"{op_}.stack", [N("Transpose", ["x"], ["t"], perm=[1, 0, 2]), N(op_, ["t", "w", "r", "b"], ["q"], hidden_size=H), N("Squeeze", ["q", "one"], ["q1"]), N(op_, ["q1", "w2", "r2", "b2"], ["", "hl"], hidden_size=H), N("Squeeze", ["hl", "zero"], ["hs"]), N("Gemm", ["hs", "k", "kb"], ["y"])], {"x": f(3, 4, I)}, {**w, **w2, "one": i64(1), "zero": i64(0), "k": f(H, 2), "kb": f(2)})
        # PyTorch's exporter cuts and joins the gates
        add(f"{op_}.cut", [N("Transpose", ["x"], ["t"], perm=[1, 0, 2]), N("Slice", ["wt", "s0", "s1", "a0"], ["wa"]), N("Slice", ["wt", "s1", "s2", "a0"], ["wb"]), N("Concat", ["wb", "wa"], ["wc"], axis=0), N("Unsqueeze", ["wc", "a0"], ["w"]), N("Concat", ["bi", "bh"], ["bc"], axis=0), N("Unsqueeze", ["bc", "a0"], ["b"]), N("Unsqueeze", ["rt", "a0"], ["r"]), N(op_, ["t", "w", "r", "b"], ["", "hl"], hidden_size=H), N("Squeeze", ["hl", "a0"], ["y"])], {"x": f(3, 3, I)}, {"wt": f(gates * H, I), "rt": f(gates * H, H) * .5, "bi": f(gates * H), "bh": f(gates * H), "s0": i64(0), "s1": i64(2), "s2": i64(gates * H), "a0": i64(0)})


def blocks():
    D, Hh, S = 4, 2, 3
    lin = lambda a, w, b, o: [N("MatMul", [a, w], [o + "m"]), N("Add", [o + "m", b], [o])]
    split = lambda a, o, perm: [N("Reshape", [a, "hs"], [o + "r"]), N("Transpose", [o + "r"], [o], perm=perm)]
    init = {"hs": i64(0, 0, Hh, D // Hh), "back": i64(0, 0, -1), "scale": np.float32((D // Hh) ** -.5)}
    for k in "qkvo":
        init["w" + k], init["b" + k] = f(D, D) * .6, f(D) * .3
    body = [*lin("x", "wq", "bq", "q"), *lin("x", "wk", "bk", "k"), *lin("x", "wv", "bv", "v"), *split("q", "qh", [0, 2, 1, 3]), *split("k", "kh", [0, 2, 3, 1]), *split("v", "vh", [0, 2, 1, 3]), N("MatMul", ["qh", "kh"], ["s"]), N("Mul", ["s", "scale"], ["ss"])]
    tail = [N("MatMul", ["a", "vh"], ["c0"]), N("Transpose", ["c0"], ["c1"], perm=[0, 2, 1, 3]), N("Reshape", ["c1", "back"], ["c2"]), *lin("c2", "wo", "bo", "y")]
    add("attention", [*body, N("Softmax", ["ss"], ["a"], axis=-1), *tail], {"x": f(2, S, D)}, init)
    add("attention.causal", [*body, N("Where", ["mask", "ss", "inf"], ["sm"]), N("Softmax", ["sm"], ["a"], axis=-1), *tail], {"x": f(2, S, D)}, {**init, "mask": np.tril(np.ones((S, S), bool)), "inf": np.float32(-1e9)})
    add("attention.packed", [*lin("x", "w", "b", "u"), N("Reshape", ["u", "r5"], ["u5"]), N("Transpose", ["u5"], ["t"], perm=[2, 0, 3, 1, 4]), N("Split", ["t"], ["q1", "k1", "v1"], axis=0), *[N("Squeeze", [c + "1", "z"], [c]) for c in "qkv"], N("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]), N("Mul", ["q", "scale"], ["qs"]), N("MatMul", ["qs", "kt"], ["s"]), N("Softmax", ["s"], ["a"], axis=-1), N("MatMul", ["a", "v"], ["o"]), N("Transpose", ["o"], ["o1"], perm=[0, 2, 1, 3]), N("Reshape", ["o1", "back"], ["y"])], {"x": f(2, S, D)}, {"w": f(D, 3 * D) * .6, "b": f(3 * D), "r5": i64(0, 0, 3, Hh, D // Hh), "z": i64(0), "scale": init["scale"], "back": init["back"]})
    add("squeeze_excite", [N("Conv", ["x", "w", "b"], ["v"], pads=[1, 1, 1, 1]), N("GlobalAveragePool", ["v"], ["g"]), N("Conv", ["g", "w1", "b1"], ["a"]), N("Relu", ["a"], ["a1"]), N("Conv", ["a1", "w2", "b2"], ["s"]), N("HardSigmoid", ["s"], ["h"]), N("Mul", ["v", "h"], ["m"]), N("Add", ["m", "x"], ["r"]), N("ReduceMean", ["r"], ["y"], axes=[2, 3], keepdims=0)], {"x": f(2, 2, 3, 3)}, {"w": f(2, 2, 3, 3), "b": f(2), "w1": f(2, 2, 1, 1) * .3, "b1": np.abs(f(2)) + .5, "w2": f(2, 2, 1, 1) * .3, "b2": f(2) * .1})
    add("keras.conv", [N("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]), N("Conv", ["t", "w"], ["v"], auto_pad="SAME_UPPER"), N("BatchNormalization", ["v", "g", "b", "m", "s"], ["n"]), N("Relu", ["n"], ["r"]), N("MaxPool", ["r"], ["q"], kernel_shape=[2, 2], strides=[2, 2]), N("Transpose", ["q"], ["u"], perm=[0, 2, 3, 1]), N("Reshape", ["u", "f"], ["z"]), N("MatMul", ["z", "k"], ["y"])], {"x": f(2, 4, 4, 1)}, {"w": f(2, 1, 3, 3), "g": pos(2), "b": f(2), "m": f(2), "s": pos(2), "f": i64(-1, 8), "k": f(8, 3)})
    add("keras.conv1d", [N("Unsqueeze", ["x", "one"], ["a"]), N("Transpose", ["a"], ["t"], perm=[0, 3, 1, 2]), N("Conv", ["t", "w", "b"], ["v"], pads=[0, 1, 0, 1]), N("Transpose", ["v"], ["u"], perm=[0, 2, 3, 1]), N("Squeeze", ["u", "one"], ["s"]), N("Elu", ["s"], ["e"]), N("ReduceMax", ["e"], ["y"], axes=[1], keepdims=0)], {"x": f(2, 6, 2)}, {"one": i64(1), "w": f(3, 2, 1, 3), "b": f(3)})
    fn = h.make_function("local", "Lin", ["a", "w"], ["o"], [N("MatMul", ["a", "w"], ["t"]), N("LeakyRelu", ["t"], ["o"])], [h.make_opsetid("", 17)], [])
    add("function", [N("Lin", ["x", "w"], ["u"], domain="local"), N("Lin", ["u", "w"], ["y"], domain="local")], {"x": f(3, 4)}, {"w": f(4, 4)}, functions=[fn], domains=["local"])
    add("two_inputs", [N("MatMul", ["a", "w"], ["t"]), N("Mul", ["b", "q"], ["u"]), N("Concat", ["t", "u"], ["y"], axis=1)], {"a": f(3, 4), "b": f(3, 2)}, {"w": f(4, 2), "q": f(2)})
    add("siamese", [N("MatMul", ["a", "w"], ["t"]), N("MatMul", ["b", "w"], ["u"]), N("Sub", ["t", "u"], ["d"]), N("ReduceL2", ["d"], ["y"], axes=[1], keepdims=0)], {"a": f(3, 4), "b": f(3, 4)}, {"w": f(4, 2)})
    add("dead_branch", [N("MatMul", ["x", "w"], ["y"]), N("MatMul", ["x", "unused"], ["nowhere"])], {"x": f(3, 4)}, {"w": f(4, 2), "unused": f(4, 2)})
    if_ = lambda name, op_: h.make_graph([N(op_, ["v"], [name])], name, [], [h.make_tensor_value_info(name, T.FLOAT, None)])
    add("if_const", [N("Mul", ["x", "p"], ["v"]), N("If", ["k"], ["y"], then_branch=if_("a", "Tanh"), else_branch=if_("b", "Exp"))], {"x": f(3, 4)}, {"p": f(4), "k": np.array(True)})


ARCHIVES = {"ops": (elementwise, products, reductions, shapes), "layers": (convolutions, pools, norms, recurrent, blocks)}

if __name__ == "__main__":
    for archive, parts in ARCHIVES.items():
        arrays.clear()
        for part in parts:
            part()
        if failed:
            sys.exit("\n".join(failed))
        assert len(arrays) <= MOST_ARRAYS
        save(f"{sys.path[0]}/{archive}.npz", arrays)
        print(f"{archive}.npz: {len(arrays)} arrays")
    print(len(names), "cases;", len(checked), "have outputs that onnxruntime gives too")
    for case, why in unchecked:
        print("  not compared:", case, "-", why)
