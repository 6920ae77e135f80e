"""Makes `core.npz`: small models of core operators as exporters write them, float16 ones in `half.npz`."""
import sys

import numpy as np
import onnx
from onnx import TensorProto as T, helper as h, numpy_helper as nh
from onnxconverter_common import float16

from gen_ml import DT, Archive

rng = np.random.default_rng(11)


def graph(nodes, inputs, outputs, init=None, opset=17, dims=None, functions=None, extra=(), ir=8):
    """`inputs` {name: array}; axis 0 open unless `dims` says otherwise."""
    dims = dims or {}
    vi = []
    for k, a in inputs.items():
        d = dims.get(k, ["N"] + list(a.shape[1:]) if a.ndim else [])
        vi.append(h.make_tensor_value_info(k, DT[a.dtype], d))
    vo = [h.make_tensor_value_info(n, t, None) for n, t in outputs]
    g = h.make_graph(nodes, "g", vi, vo, [nh.from_array(np.asarray(v), k) for k, v in (init or {}).items()])
    return h.make_model(g, opset_imports=[h.make_opsetid("", opset)] + [h.make_opsetid(d, 1) for d in extra], functions=functions or [], ir_version=ir)


def f(*s):
    return rng.normal(size=s).astype(np.float32)


def main(z):
    N = h.make_node
    def one(case, op, xs, attrs=None, init=None, opset=17, out=T.FLOAT, outs=1, dims=None, domain="", order=None):
        inputs = {f"x{i}": x for i, x in enumerate(xs)} if isinstance(xs, list) else {"x0": xs}
        names = order or (list(inputs) + list(init or {}))
        ys = [f"y{i}" for i in range(outs)]
        m = graph([N(op, names, ys, domain=domain, **(attrs or {}))], inputs, [(y, out if not isinstance(out, list) else out[i]) for i, y in enumerate(ys)], init, opset, dims, extra=[domain] if domain else ())
        z.add(case, m, inputs)

    x, y4 = f(5, 6), f(3, 4, 10)
    img = f(2, 4, 9, 8)
    i64 = lambda *v: np.array(v, np.int64)
    for op in ("Abs Neg Exp Sqrt Erf Sin Cos Tan Atan Sinh Cosh Tanh Asinh Sigmoid Relu Softplus Softsign Sign Floor Ceil Round Reciprocal Elu Selu Celu LeakyRelu HardSigmoid HardSwish ThresholdedRelu Mish Shrink Identity LogSoftmax Softmax Hardmax Not IsNaN IsInf").split():
        v = x.copy() if op not in ("Sqrt",) else np.abs(x)
        if op == "Not":
            one(op, op, x > 0, out=T.BOOL)
        elif op in ("IsNaN", "IsInf"):
            v[0, 0] = np.nan; v[1, 1] = -np.inf
            one(op, op, v, out=T.BOOL)
        else:
            one(op, op, v, opset=18)
    one("Log", "Log", np.abs(x)); one("Acos", "Acos", np.tanh(x)); one("Asin", "Asin", np.tanh(x)); one("Atanh", "Atanh", np.tanh(x) * .9); one("Acosh", "Acosh", np.abs(x) + 1)
    for ap in ("none", "tanh"):
        one("Gelu." + ap, "Gelu", x, dict(approximate=ap), opset=20)
    for op in "Softmax LogSoftmax Hardmax".split():
        for o in (9, 11, 13):
            for ax in (1, -1, 0, 2):
                if ax != 0:
                    one(f"{op}.{o}.{ax}", op, y4, dict(axis=ax), opset=o)
    for op in "Sum Mean Min Max".split():
        for n in (1, 2, 3):
            one(f"{op}.{n}", op, [f(5, 6) for _ in range(n)])
        one(f"{op}.bc", op, [f(5, 6)], init={"w": f(1, 6), "v": f(6)})
    for op in "Add Sub Mul Div Pow PRelu Mod".split():
        kw = dict(attrs=dict(fmod=1)) if op == "Mod" else {}
        one(f"{op}.w", op, np.abs(x) + .5, init={"w": np.abs(f(6)) + .5}, **kw)
    one("Mod.i", "Mod", rng.integers(-9, 9, (5, 6)), init={"w": i64(3, -3, 4, 5, -7, 2)}, out=T.INT64)
    one("Pow.i", "Pow", x, init={"w": i64(2)}); one("BitShift", "BitShift", rng.integers(0, 99, (5, 6)).astype(np.uint8), dict(direction="LEFT"), {"w": np.array([1], np.uint8)}, out=T.UINT8)
    for op in "Equal Greater Less GreaterOrEqual LessOrEqual".split():
        one(op, op, [x.round(), f(5, 6).round()], out=T.BOOL)
    for op in "And Or Xor".split():
        one(op, op, [x > 0, f(5, 6) > 0], out=T.BOOL)
    for op in "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare".split():
        v = np.abs(y4)
        for keep in (0, 1):
            one(f"{op}.13.{keep}", op, v, dict(axes=[2], keepdims=keep) if op != "ReduceSum" else dict(keepdims=keep), None if op != "ReduceSum" else {"a": i64(2)}, opset=13)
            one(f"{op}.18.{keep}", op, v, dict(keepdims=keep), {"a": i64(1, -1)}, opset=18)
        one(f"{op}.noop", op, v, dict(noop_with_empty_axes=1), opset=18)
    for op in ("ArgMax", "ArgMin"):
        for kw in (dict(axis=1), dict(axis=-1, keepdims=0), dict(axis=1, select_last_index=1)):
            one(f"{op}.{len(str(kw))}", op, y4.round(), kw, out=T.INT64)
    one("TopK", "TopK", y4, dict(axis=2), {"k": i64(3)}, outs=2, out=[T.FLOAT, T.INT64]); one("TopK.small", "TopK", y4, dict(axis=1, largest=0), {"k": i64(2)}, outs=2, out=[T.FLOAT, T.INT64])
    one("TopK.10", "TopK", y4, dict(axis=-1), {"k": i64(3)}, opset=10, outs=2, out=[T.FLOAT, T.INT64])
    one("CumSum", "CumSum", y4, init={"a": np.array(2, np.int64)}); one("CumSum.ex", "CumSum", y4, dict(exclusive=1, reverse=1), {"a": np.array(1, np.int32)})
    for o, mode in ((11, "constant"), (18, "reflect"), (18, "edge"), (19, "wrap"), (13, "constant")):
        one(f"Pad.{mode}.{o}", "Pad", img, dict(mode=mode), {"p": i64(0, 0, 1, 2, 0, 0, 2, 1)}, opset=o)
    one("Pad.value", "Pad", img, {}, {"p": i64(0, 0, 1, 2, 0, 0, 2, 1), "v": np.float32(1.5)}); one("Pad.axes", "Pad", img, {}, {"p": i64(1, 2), "v": np.float32(1.5), "a": i64(2)}, opset=18)
    one("Pad.neg", "Pad", img, {}, {"p": i64(0, 0, -1, 0, 0, 0, 0, -2)}); one("Pad.2", "Pad", img, dict(pads=[0, 0, 1, 0, 0, 0, 1, 2], mode="constant", value=.5), opset=9)
    for o in (7, 9):
        sc = [1., 1., 2., 2.]
        one(f"Upsample.{o}", "Upsample", img, dict(mode="nearest", **({"scales": sc} if o == 7 else {})), None if o == 7 else {"s": np.array(sc, np.float32)}, opset=o)
    for mode in ("nearest", "linear", "cubic"):
        for ctm in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
            at = dict(mode=mode, coordinate_transformation_mode=ctm)
            if mode == "nearest":
                at["nearest_mode"] = "floor" if ctm != "half_pixel" else "round_prefer_floor"
            one(f"Resize.{mode}.{ctm}.up", "Resize", img, at, {"s": np.array([1, 1, 2, 1.5], np.float32)}, order=["x0", "", "s"], opset=13)
            m = graph([N("Resize", ["x0", "", "", "z"], ["y0"], **at)], {"x0": img}, [("y0", T.FLOAT)], {"z": i64(2, 4, 5, 4)}, 13, {"x0": [2, 4, 9, 8]})
            z.add(f"Resize.{mode}.{ctm}.size", m, {"x0": img})
    for kw in (dict(kernel_shape=[3, 3]), dict(kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), dict(kernel_shape=[2, 2], dilations=[2, 2]), dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]), dict(kernel_shape=[3, 2], auto_pad="SAME_UPPER", strides=[2, 2]), dict(kernel_shape=[3, 2], auto_pad="SAME_LOWER"), dict(kernel_shape=[2, 2], auto_pad="VALID")):
        tag = str(abs(hash(str(sorted(kw.items())))) % 1) + "".join(k[0] + k[-1] for k in kw) + str(len(str(kw)))
        one(f"MaxPool.{tag}", "MaxPool", img, kw, opset=12)
        if "dilations" not in kw:
            one(f"AveragePool.{tag}", "AveragePool", img, kw, opset=11)
            one(f"AveragePool.{tag}.incl", "AveragePool", img, dict(kw, count_include_pad=1), opset=11)
    one("AveragePool.dil", "AveragePool", img, dict(kernel_shape=[2, 2], dilations=[2, 2]), opset=19)
    one("MaxPool.1d", "MaxPool", y4, dict(kernel_shape=[3])); one("LpPool", "LpPool", img, dict(kernel_shape=[2, 2], p=2), opset=18)
    for op in ("GlobalAveragePool", "GlobalMaxPool"):
        one(op + ".1d", op, y4); one(op + ".2d", op, img)
    one("GlobalLpPool", "GlobalLpPool", img)
    for tag, kw, wshape in (("plain", {}, (3, 4, 3, 3)), ("pad", dict(pads=[1, 1, 1, 1], strides=[2, 2]), (3, 4, 3, 3)), ("group", dict(group=2), (6, 2, 3, 3)), ("depth", dict(group=4), (8, 1, 3, 3)), ("dil", dict(dilations=[2, 2]), (3, 4, 3, 3)), ("same", dict(auto_pad="SAME_UPPER", strides=[2, 2]), (3, 4, 3, 3))):
        one("Conv." + tag, "Conv", img, kw, {"w": f(*wshape), "b": f(wshape[0])})
    one("Conv.1d", "Conv", y4, dict(pads=[1, 1]), {"w": f(3, 4, 3)})
    for tag, kw in (("plain", {}), ("stride", dict(strides=[2, 2], output_padding=[1, 1], pads=[1, 1, 1, 1])), ("group", dict(group=2)), ("shape", dict(strides=[2, 2], output_shape=[18, 16])), ("same", dict(auto_pad="SAME_UPPER", strides=[2, 2])), ("dil", dict(dilations=[2, 2]))):
        one("ConvT." + tag, "ConvTranspose", img, kw, {"w": f(4, 2, 3, 3)})
    one("ConvT.1d", "ConvTranspose", y4, dict(strides=[2]), {"w": f(4, 2, 3)})
    one("BatchNorm", "BatchNormalization", img, {}, {"s": f(4), "b": f(4), "m": f(4), "v": np.abs(f(4))}); one("InstanceNorm", "InstanceNormalization", img, {}, {"s": f(4), "b": f(4)})
    one("GroupNorm.18", "GroupNormalization", img, dict(num_groups=2), {"s": f(2), "b": f(2)}, opset=18); one("GroupNorm.21", "GroupNormalization", img, dict(num_groups=2), {"s": f(4), "b": f(4)}, opset=21)
    one("LayerNorm", "LayerNormalization", y4, {}, {"s": f(10), "b": f(10)}); one("LayerNorm.ax", "LayerNormalization", y4, dict(axis=1), {"s": f(4, 10), "b": f(4, 10)}); one("LayerNorm.nob", "LayerNormalization", y4, {}, {"s": f(10)})
    one("RMSNorm", "RMSNormalization", y4, {}, {"s": f(10)}, opset=23); one("MVN", "MeanVarianceNormalization", img); one("LRN", "LRN", img, dict(size=3)); one("LpNorm", "LpNormalization", x, dict(p=2, axis=1)); one("LpNorm1", "LpNormalization", x, dict(p=1, axis=-1))
    one("Split.num", "Split", x, dict(axis=1, num_outputs=3), opset=18, outs=3); one("Split.13", "Split", x, dict(axis=1), {"s": i64(2, 4)}, outs=2, opset=13); one("Split.2", "Split", x, dict(axis=1, split=[1, 5]), outs=2, opset=9); one("Split.uneven", "Split", x, dict(axis=1, num_outputs=4), opset=18, outs=4)
    one("Concat", "Concat", [f(5, 2), f(5, 3)], dict(axis=-1)); one("Flatten", "Flatten", y4); one("Flatten.2", "Flatten", y4, dict(axis=2)); one("Transpose", "Transpose", y4, dict(perm=[0, 2, 1]))
    one("Squeeze.13", "Squeeze", f(3, 1, 4), init={"a": i64(1)}, opset=13); one("Squeeze.1", "Squeeze", f(3, 1, 4), dict(axes=[1]), opset=9); one("Unsq.13", "Unsqueeze", x, init={"a": i64(1, -1)}, opset=13); one("Unsq.1", "Unsqueeze", x, dict(axes=[2]), opset=9)
    one("Reshape", "Reshape", y4, init={"s": i64(-1, 40)}); one("Reshape.0", "Reshape", y4, init={"s": i64(0, -1, 5)}); one("Expand", "Expand", f(3, 1, 4), init={"s": i64(1, 5, 1)}); one("Tile", "Tile", x, init={"r": i64(1, 2)})
    one("Slice.10", "Slice", y4, init={"s": i64(1, -3), "e": i64(3, 9999), "a": i64(1, 2), "t": i64(1, 2)}, opset=10); one("Slice.1", "Slice", y4, dict(starts=[1], ends=[3], axes=[1]), opset=9); one("Slice.neg", "Slice", y4, init={"s": i64(-1), "e": i64(-9999), "a": i64(2), "t": i64(-1)})
    one("Gather", "Gather", y4, dict(axis=1), {"i": i64(0, -1, 2)}); one("Gather.s", "Gather", y4, dict(axis=2), {"i": np.array(-1)}); one("GatherElements", "GatherElements", [x, rng.integers(-6, 6, (5, 3))], dict(axis=1)); one("GatherND", "GatherND", x, dict(batch_dims=0), {"i": np.array([[0, 1], [4, 2]])}, dims={"x0": [5, 6]})
    one("Scatter", "ScatterElements", [x, rng.permuted(np.tile(np.arange(6), (5, 1)), axis=1)[:, :3], f(5, 3)], dict(axis=1)); one("ScatterND", "ScatterND", x, {}, {"i": np.array([[0], [2]]), "u": f(2, 6)}, dims={"x0": [5, 6]}); one("ScatterAdd", "ScatterElements", [x, rng.integers(0, 6, (5, 3)), f(5, 3)], dict(axis=1, reduction="add"), opset=16)
    one("OneHot", "OneHot", rng.integers(0, 4, (5,)), {}, {"d": i64(4), "v": np.array([-1, 2], np.float32)}); one("OneHot.ax", "OneHot", rng.integers(-4, 4, (5, 2)), dict(axis=1), {"d": i64(4), "v": np.array([0, 1], np.float32)})
    one("Trilu", "Trilu", f(3, 4, 4), dict(upper=0)); one("Trilu.k", "Trilu", f(3, 4, 5), {}, {"k": np.array(1, np.int64)}); one("Where", "Where", [x > 0, x, f(5, 6)]); one("Clip", "Clip", x, init={"a": np.float32(-.5), "b": np.float32(.5)}); one("Clip.6", "Clip", x, dict(min=-.5, max=.5), opset=6 + 3); one("Clip.max", "Clip", x, order=["x0", "", "b"], init={"b": np.float32(.5)})
    one("DepthToSpace", "DepthToSpace", img, dict(blocksize=2)); one("DepthToSpace.crd", "DepthToSpace", img, dict(blocksize=2, mode="CRD")); one("SpaceToDepth", "SpaceToDepth", f(2, 3, 4, 6), dict(blocksize=2)); one("EyeLike", "EyeLike", f(4, 5), dims={"x0": [4, 5]}); one("NonZero", "NonZero", x.round(), out=T.INT64, dims={"x0": [5, 6]})
    for eq in ("bij,bjk->bik", "bij->bji", "bij->b", "bhij,bhjk->bhik", "bij,bij->bij", "bii->bi"):
        s = {"bij,bjk->bik": [f(2, 3, 4), f(2, 4, 5)], "bij->bji": [f(2, 3, 4)], "bij->b": [f(2, 3, 4)], "bhij,bhjk->bhik": [f(2, 3, 4, 5), f(2, 3, 5, 6)], "bij,bij->bij": [f(2, 3, 4), f(2, 3, 4)], "bii->bi": [f(2, 3, 3)]}[eq]
        one("Einsum." + eq.replace(",", "_").replace(">", ""), "Einsum", s, dict(equation=eq))
    one("ReverseSeq", "ReverseSequence", [f(3, 5, 2), i64(2, 5, 3)], dict(batch_axis=0, time_axis=1)); one("CastLike", "CastLike", x, init={"t": np.array([1.], np.float64)}, out=T.DOUBLE); one("Cast.i", "Cast", x * 5, dict(to=T.INT64), out=T.INT64); one("Cast.b", "Cast", x.round(), dict(to=T.BOOL), out=T.BOOL); one("Cast.d", "Cast", x, dict(to=T.DOUBLE), out=T.DOUBLE)
    one("Gemm", "Gemm", x, dict(alpha=.5, beta=2., transB=1), {"w": f(3, 6), "b": f(3)}); one("Gemm.noc", "Gemm", x, {}, {"w": f(6, 3)}); one("Gemm.ta", "Gemm", f(6, 5), dict(transA=1), {"w": f(6, 3)}, dims={"x0": [6, 5]}); one("MatMul.3d", "MatMul", y4, init={"w": f(10, 3)}); one("MatMul.bc", "MatMul", [f(2, 3, 4, 5), f(2, 1, 5, 6)]); one("MatMul.v", "MatMul", x, init={"w": f(6)})
    one("CDist", "CDist", x, dict(metric="euclidean"), {"w": f(4, 6)}, domain="com.microsoft"); one("CDist.sq", "CDist", x, dict(metric="sqeuclidean"), {"w": f(4, 6)}, domain="com.microsoft")
    one("Dropout.7", "Dropout", x, dict(ratio=.3), opset=9); one("Dropout.12", "Dropout", x, init={"r": np.float32(.3)}, opset=13); one("Shape.15", "Shape", y4, dict(start=1), out=T.INT64, opset=15)
    one("DynQ", "DynamicQuantizeLinear", x, outs=3, out=[T.UINT8, T.FLOAT, T.UINT8]); one("Quant", "QuantizeLinear", x, init={"s": np.float32(.1), "zp": np.uint8(128)}, out=T.UINT8); one("Dequant", "DequantizeLinear", (x * 20).astype(np.int8), init={"s": np.float32(.1), "zp": np.int8(3)}); one("Range", "Range", np.array(5., np.float32), init={"l": np.float32(9), "d": np.float32(.5)}, dims={"x0": []})
    one("Compress", "Compress", x, dict(axis=1), {"c": np.array([1, 0, 1, 1, 0, 0], bool)}); one("Attention.f", "FastGelu", x, domain="com.microsoft"); one("BiasGelu", "BiasGelu", x, {}, {"b": f(6)}, domain="com.microsoft"); one("FusedMatMul", "FusedMatMul", x, dict(alpha=.5, transB=1), {"w": f(3, 6)}, domain="com.microsoft"); one("SkipLN", "SkipLayerNormalization", [y4, f(3, 4, 10)], {}, {"g": f(10), "b": f(10)}, domain="com.microsoft"); one("FusedGemm", "FusedGemm", x, dict(activation="Relu"), {"w": f(6, 3), "b": f(3)}, domain="com.microsoft"); one("FusedConv", "FusedConv", img, dict(activation="Relu"), {"w": f(3, 4, 3, 3), "b": f(3)}, domain="com.microsoft")
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        H, I, S = 5, 3, 6
        for d in ("forward", "reverse", "bidirectional"):
            nd = 2 if d[0] == "b" else 1
            for tag, kw in (("", {}), (".lbr", dict(linear_before_reset=1))) if op == "GRU" else (("", {}),):
                init = {"w": f(nd, gates * H, I), "r": f(nd, gates * H, H), "b": f(nd, 2 * gates * H)}
                xs = f(S, 4, I)
                m = graph([N(op, ["x0", "w", "r", "b"], ["y0", "y1"], hidden_size=H, direction=d, **kw)], {"x0": xs}, [("y0", T.FLOAT), ("y1", T.FLOAT)], init, dims={"x0": [S, "N", I]})
                z.add(f"{op}.{d}{tag}", m, {"x0": xs})
                tr = [N("Transpose", ["x0"], ["t"], perm=[1, 0, 2]), N(op, ["t", "w", "r", "b"], ["q", "hl"], hidden_size=H, direction=d, **kw), N("Transpose", ["hl"], ["y0"], perm=[1, 0, 2])]
                xs = f(4, S, I)
                z.add(f"{op}.{d}{tag}.batch", graph(tr, {"x0": xs}, [("y0", T.FLOAT)], init), {"x0": xs})
                z.add(f"{op}.{d}{tag}.freelen", graph(tr, {"x0": xs}, [("y0", T.FLOAT)], init, dims={"x0": ["N", "S", I]}), {"x0": xs})
    # structure
    z.add("old_initialisers", (lambda m: (m.graph.input.append(h.make_tensor_value_info("w", T.FLOAT, [6, 3])), m)[1])(graph([N("MatMul", ["x", "w"], ["y"])], {"x": x}, [("y", T.FLOAT)], {"w": f(6, 3)}, 8, ir=3)), {"x": x})
    z.add("two_inputs", graph([N("MatMul", ["a", "w"], ["t"]), N("Add", ["t", "b"], ["y"])], {"a": x, "b": f(5, 3)}, [("y", T.FLOAT)], {"w": f(6, 3)}), {"a": x, "b": f(5, 3)})
    z.add("unnamed_dims", graph([N("MatMul", ["x", "w"], ["y"])], {"x": x}, [("y", T.FLOAT)], {"w": f(6, 3)}, dims={"x": [None, 6]}), {"x": x})
    z.add("all_open", graph([N("MatMul", ["x", "w"], ["y"])], {"x": x}, [("y", T.FLOAT)], {"w": f(6, 3)}, dims={"x": [None, None]}), {"x": x})
    z.add("scalar_out", graph([N("ReduceSum", ["x"], ["y"], keepdims=0)], {"x": x}, [("y", T.FLOAT)]), {"x": x})
    z.add("embed", graph([N("Gather", ["e", "i"], ["t"]), N("ReduceMean", ["t"], ["y"], axes=[1], keepdims=0)], {"i": rng.integers(0, 9, (4, 7))}, [("y", T.FLOAT)], {"e": f(9, 5)}), {"i": rng.integers(0, 9, (4, 7))})
    fn = h.make_function("local", "Lin", ["a", "w"], ["o"], [N("MatMul", ["a", "w"], ["t"]), N("LeakyRelu", ["t"], ["o"])], [h.make_opsetid("", 17)], [])
    fn2 = h.make_function("local", "Twice", ["a", "w"], ["o"], [N("Lin", ["a", "w"], ["t"], domain="local"), N("Lin", ["t", "w"], ["o"], domain="local")], [h.make_opsetid("", 17), h.make_opsetid("local", 1)], [])
    z.add("functions", graph([N("Twice", ["x", "w"], ["u"], domain="local"), N("Lin", ["u", "w"], ["y"], domain="local")], {"x": x}, [("y", T.FLOAT)], {"w": f(6, 6)}, functions=[fn, fn2], extra=["local"]), {"x": x})
    sub = lambda name, k: h.make_graph([N("Constant", [], ["c" + name], value_float=k), N("Mul", ["x", "c" + name], [name])], name, [], [h.make_tensor_value_info(name, T.FLOAT, None)])
    z.add("if_const", graph([N("If", ["c"], ["y"], then_branch=sub("p", 2.), else_branch=sub("q", 3.))], {"x": x}, [("y", T.FLOAT)], {"c": np.array(True)}), {"x": x})
    z.add("if_dyn", graph([N("ReduceSum", ["x"], ["s"], keepdims=0), N("Greater", ["s", "o"], ["c"]), N("If", ["c"], ["y"], then_branch=sub("p", 2.), else_branch=sub("q", 3.))], {"x": x}, [("y", T.FLOAT)], {"o": np.float32(0)}, dims={"x": [5, 6]}), {"x": x})
    body = h.make_graph([N("Add", ["v", "v"], ["v2"]), N("Identity", ["c"], ["c2"])], "b", [h.make_tensor_value_info("i", T.INT64, []), h.make_tensor_value_info("c", T.BOOL, []), h.make_tensor_value_info("v", T.FLOAT, None)], [h.make_tensor_value_info("c2", T.BOOL, []), h.make_tensor_value_info("v2", T.FLOAT, None)])
    z.add("loop_const", graph([N("Loop", ["m", "", "x"], ["y"], body=body)], {"x": x}, [("y", T.FLOAT)], {"m": np.array(3, np.int64)}), {"x": x})
    z.add("sequence", graph([N("SplitToSequence", ["x"], ["s"], axis=1), N("SequenceAt", ["s", "k"], ["y"])], {"x": x}, [("y", T.FLOAT)], {"k": np.array(2, np.int64)}), {"x": x})
    z.add("sequence_concat", graph([N("SequenceConstruct", ["x", "x"], ["s"]), N("ConcatFromSequence", ["s"], ["y"], axis=1)], {"x": x}, [("y", T.FLOAT)]), {"x": x})


def halves(z):
    N = h.make_node
    def conv(case, nodes, x, init, keep):
        m = graph(nodes, {"x": x}, [("y", T.FLOAT)], init)
        m.graph.output[0].type.tensor_type.shape.CopyFrom(onnx.TensorShapeProto())
        o = float16.convert_float_to_float16(m, keep_io_types=keep, disable_shape_infer=True)
        for v in o.graph.output:
            v.type.tensor_type.ClearField("shape")
        z.add(case, o, {"x": x if keep else x.astype(np.float16)})
    for keep in (False, True):
        conv(f"dense.{keep}", [N("Gemm", ["x", "w", "b"], ["t"]), N("Relu", ["t"], ["u"]), N("MatMul", ["u", "v"], ["y"])], f(5, 6), {"w": f(6, 8) * .3, "b": f(8), "v": f(8, 3) * .3}, keep)
        conv(f"conv.{keep}", [N("Conv", ["x", "w"], ["t"]), N("Relu", ["t"], ["u"]), N("GlobalAveragePool", ["u"], ["v"]), N("Flatten", ["v"], ["y"])], f(3, 2, 8, 8), {"w": f(4, 2, 3, 3) * .3}, keep)
        conv(f"norm.{keep}", [N("LayerNormalization", ["x", "s", "b"], ["t"]), N("Softmax", ["t"], ["y"])], f(4, 6), {"s": f(6), "b": f(6)}, keep)


if __name__ == "__main__":
    z = Archive()
    main(z)
    z.save(sys.path[0] + "/core.npz")
    z = Archive()
    halves(z)
    z.save(sys.path[0] + "/half.npz")
