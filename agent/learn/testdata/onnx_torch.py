"""Executes an ONNX graph with PyTorch operators, in any floating type, so that autograd gives its gradients.

    g = Graph(onnx.load("net.onnx"))                 # float64 unless dtype says otherwise
    g.parameters                                     # {initialiser: leaf tensor}
    y = g({"x": x})["y"]

Written from the operators' specification, to be a second opinion: nothing here knows the engine it judges.
Floats of every width become `dtype` (a Cast between them changes nothing), integers become int64.
BatchNorm's running mean and variance are constants, dropout without training_mode is the identity.
"""
import math

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto as T, numpy_helper

FLOATS = {T.FLOAT, T.FLOAT16, T.DOUBLE, T.BFLOAT16}
OPS = {}


def op(*names, domain=""):
    def put(f):
        for n in names:
            OPS[domain, n] = f
        return f
    return put


def attribute(a):
    v = onnx.helper.get_attribute_value(a)
    if isinstance(v, bytes):
        return v.decode()
    if isinstance(v, (list, tuple)) and v and isinstance(v[0], bytes):
        return [s.decode() for s in v]
    return list(v) if a.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS) else v


class Call:
    """One node: inputs `i` (None where left out), attributes `a`."""

    def __init__(self, graph, node, inputs, env, opset):
        self.graph, self.node, self.i, self.env, self.opset = graph, node, inputs, env, opset
        self.a = {a.name: attribute(a) for a in node.attribute}
        self.outs = len(node.output)
        self.dtype = graph.dtype

    def at(self, k):
        return self.i[k] if k < len(self.i) else None

    def get(self, name, default=None):
        return self.a.get(name, default)

    def ints(self, k, name, default=None):
        """Operand `k`, or the attribute of older opsets."""
        v = self.at(k)
        if v is not None:
            return [int(x) for x in v.reshape(-1).tolist()]
        v = self.a.get(name, default)
        return [v] if isinstance(v, int) else v


class Graph:
    """`trainable` makes leaves of the floating initialisers; `only` restricts them to these names."""

    def __init__(self, model, dtype=torch.float64, trainable=True, only=None):
        self.model, self.dtype = model, dtype
        self.opsets = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import}
        self.functions = {(f.domain, f.name): f for f in model.functions}
        self.values, self.parameters = {}, {}
        g = model.graph
        frozen = statistics(g)
        for t in g.initializer:
            v = self.tensor(numpy_helper.to_array(t))
            if trainable and t.data_type in FLOATS and t.name not in frozen and (only is None or t.name in only):
                v.requires_grad_(True)
                self.parameters[t.name] = v
            self.values[t.name] = v
        self.inputs = [i.name for i in g.input if i.name not in self.values]
        self.outputs = [o.name for o in g.output]

    def tensor(self, a):
        a = np.asarray(a)
        if a.dtype.kind in "OUS":
            return a
        if a.dtype.kind == "b":
            return torch.from_numpy(a.copy())
        if a.dtype.kind in "iu":
            return torch.from_numpy(a.astype(np.int64))
        return torch.from_numpy(a.astype(np.float64)).to(self.dtype)

    def __call__(self, feeds):
        env = dict(self.values)
        for k, v in feeds.items():
            env[k] = v if isinstance(v, torch.Tensor) else self.tensor(v)
        self.run(self.model.graph.node, env, self.opsets)
        self.env = env
        return {o: env[o] for o in self.outputs}

    def run(self, nodes, env, opsets):
        for n in nodes:
            domain = "" if n.domain == "ai.onnx" else n.domain
            inputs = [env[x] if x else None for x in n.input]
            f = self.functions.get((n.domain, n.op_type))
            if f is not None:
                outs = self.call(f, n, inputs)
            else:
                fn = OPS.get((domain, n.op_type))
                if fn is None:
                    raise NotImplementedError(f"{domain or 'ai.onnx'} {n.op_type}")
                try:
                    outs = fn(Call(self, n, inputs, env, opsets.get(domain, 1)))
                except NotImplementedError:
                    raise
                except Exception as e:
                    raise RuntimeError(f"{n.op_type} `{n.name}` {[tuple(x.shape) if hasattr(x, 'shape') else x for x in inputs]}: {e}") from e
            if not isinstance(outs, (tuple, list)):
                outs = (outs,)
            for name, v in zip(n.output, outs):
                if name:
                    env[name] = v

    def call(self, f, n, inputs):
        env = dict(zip(f.input, inputs))
        given = {a.name: a for a in n.attribute}
        for d in f.attribute_proto:
            given.setdefault(d.name, d)
        nodes = []
        for body in f.node:
            m = onnx.NodeProto()
            m.CopyFrom(body)
            kept = []
            for a in m.attribute:
                if a.ref_attr_name:
                    if a.ref_attr_name not in given:
                        continue
                    b = onnx.AttributeProto()
                    b.CopyFrom(given[a.ref_attr_name])
                    b.name = a.name
                    a = b
                kept.append(a)
            kept = [onnx.AttributeProto.FromString(a.SerializeToString()) for a in kept]
            del m.attribute[:]
            m.attribute.extend(kept)
            nodes.append(m)
        self.run(nodes, env, {o.domain: o.version for o in f.opset_import})
        return [env[o] for o in f.output]

    def body(self, g, env, feeds):
        env = dict(env)
        for t in g.initializer:
            env[t.name] = self.tensor(numpy_helper.to_array(t))
        env.update(feeds)
        self.run(g.node, env, self.opsets)
        return [env[o.name] for o in g.output]


def statistics(g):
    """Initialisers that are the running mean or variance of a BatchNorm, seen through Identity."""
    source = {n.output[0]: n.input[0] for n in g.node if n.op_type == "Identity"}
    names = set()
    for n in g.node:
        if n.op_type == "BatchNormalization":
            for k in n.input[3:5]:
                while k in source:
                    names.add(k)
                    k = source[k]
                names.add(k)
    return names


# ---- elementwise

def unary(name, f):
    OPS["", name] = lambda c: f(c.i[0])


for name, f in {
    "Abs": torch.abs, "Neg": torch.neg, "Exp": torch.exp, "Log": torch.log, "Sqrt": torch.sqrt, "Reciprocal": torch.reciprocal,
    "Sin": torch.sin, "Cos": torch.cos, "Tan": torch.tan, "Asin": torch.asin, "Acos": torch.acos, "Atan": torch.atan,
    "Sinh": torch.sinh, "Cosh": torch.cosh, "Asinh": torch.asinh, "Acosh": torch.acosh, "Atanh": torch.atanh, "Erf": torch.erf,
    "Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "Relu": torch.relu, "Softsign": lambda x: x / (1 + x.abs()),
    "Softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)), "Floor": torch.floor, "Ceil": torch.ceil, "Round": torch.round,
    "Sign": torch.sign, "Not": torch.logical_not, "IsNaN": torch.isnan, "IsInf": torch.isinf, "Identity": lambda x: x,
    "HardSwish": lambda x: x * torch.clamp(x / 6 + 0.5, 0, 1), "BitwiseNot": torch.bitwise_not,
    "Mish": lambda x: x * torch.tanh(torch.logaddexp(x, torch.zeros_like(x))),
}.items():
    unary(name, f)


def divide(a, b):
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


for name, f in {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": divide, "Less": torch.lt, "LessOrEqual": torch.le,
    "Greater": torch.gt, "GreaterOrEqual": torch.ge, "Equal": torch.eq, "And": torch.logical_and, "Or": torch.logical_or,
    "Xor": torch.logical_xor, "BitwiseAnd": torch.bitwise_and, "BitwiseOr": torch.bitwise_or,
}.items():
    OPS["", name] = lambda c, f=f: f(c.i[0], c.i[1])

SELU_A, SELU_G = 1.67326319217681884765625, 1.05070102214813232421875


@op("Pow")
def _(c):
    x, y = c.i
    return torch.pow(x, y.to(x.dtype))


@op("Mod")
def _(c):
    return torch.fmod(*c.i) if c.get("fmod", 0) else torch.remainder(*c.i)


@op("LeakyRelu")
def _(c):
    x = c.i[0]
    return torch.where(x < 0, x * c.get("alpha", 0.01), x)


@op("PRelu")
def _(c):
    x, s = c.i
    return torch.where(x < 0, x * s, x)


def elu(x, a, b=1.0):
    return torch.where(x > 0, x, a * torch.expm1(torch.clamp(x, max=0) / b))


@op("Elu")
def _(c):
    return elu(c.i[0], c.get("alpha", 1.0))


@op("Celu")
def _(c):
    a = c.get("alpha", 1.0)
    return elu(c.i[0], a, a)


@op("Selu")
def _(c):
    return c.get("gamma", SELU_G) * elu(c.i[0], c.get("alpha", SELU_A))


@op("Gelu")
def _(c):
    x = c.i[0]
    if c.get("approximate", "none") == "tanh":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


OPS["com.microsoft", "Gelu"] = OPS["", "Gelu"]


@op("Swish")
def _(c):
    return c.i[0] * torch.sigmoid(c.get("alpha", 1.0) * c.i[0])


@op("HardSigmoid")
def _(c):
    return torch.clamp(c.get("alpha", 0.2) * c.i[0] + c.get("beta", 0.5), 0, 1)


@op("ThresholdedRelu")
def _(c):
    x = c.i[0]
    return torch.where(x > c.get("alpha", 1.0), x, torch.zeros_like(x))


@op("Shrink")
def _(c):
    x, l, b = c.i[0], c.get("lambd", 0.5), c.get("bias", 0.0)
    return torch.where(x < -l, x + b, torch.where(x > l, x - b, torch.zeros_like(x)))


@op("Clip")
def _(c):
    x, lo, hi = c.i[0], c.at(1), c.at(2)
    if c.opset < 11:
        lo, hi = c.get("min"), c.get("max")
    bound = lambda v: v if isinstance(v, torch.Tensor) else torch.tensor(v, dtype=x.dtype)
    if lo is not None:
        x = torch.where(x < lo, bound(lo), x)
    if hi is not None:
        x = torch.where(x > hi, bound(hi), x)
    return x


def fold(f):
    def run(c):
        y = c.i[0]
        for x in c.i[1:]:
            y = f(y, x)
        return y
    return run


OPS["", "Min"], OPS["", "Max"], OPS["", "Sum"] = fold(torch.minimum), fold(torch.maximum), fold(torch.add)


@op("Mean")
def _(c):
    return fold(torch.add)(c) / len(c.i)


@op("Where")
def _(c):
    return torch.where(*c.i)


@op("Cast", "CastLike")
def _(c):
    x = c.i[0]
    if c.node.op_type == "CastLike":
        return x.to(c.i[1].dtype)
    to = c.a["to"]
    if to in FLOATS:
        return x.to(c.dtype)
    return x.to(torch.bool) if to == T.BOOL else x.to(torch.int64)


@op("Dropout")
def _(c):
    training = c.at(2)
    assert training is None or not bool(training) or float(c.i[1] if c.at(1) is not None else 0.5) == 0, "dropout that draws"
    return c.i[0], torch.ones_like(c.i[0], dtype=torch.bool)


# ---- products

@op("MatMul")
def _(c):
    return torch.matmul(*c.i)


@op("Gemm")
def _(c):
    a, b = c.i[0], c.i[1]
    a = a.t() if c.get("transA", 0) else a
    b = b.t() if c.get("transB", 0) else b
    y = c.get("alpha", 1.0) * (a @ b)
    return y if c.at(2) is None else y + c.get("beta", 1.0) * c.i[2]


@op("Einsum")
def _(c):
    return torch.einsum(c.a["equation"], *c.i)


# ---- windows

def window(c, spatial, k, transposed=False):
    """Strides, dilations, pads (begin, end) of each spatial axis."""
    n = len(spatial)
    s, d = c.get("strides", [1] * n), c.get("dilations", [1] * n)
    p = c.get("pads", [0] * 2 * n)
    auto = c.get("auto_pad", "NOTSET")
    begin, end = list(p[:n]), list(p[n:])
    if auto == "VALID":
        begin, end = [0] * n, [0] * n
    elif auto.startswith("SAME") and not transposed:
        for i in range(n):
            out = -(-spatial[i] // s[i])
            total = max((out - 1) * s[i] + (k[i] - 1) * d[i] + 1 - spatial[i], 0)
            small = total // 2
            begin[i] = small if auto == "SAME_UPPER" else total - small
            end[i] = total - begin[i]
    return s, d, begin, end


def padded(x, begin, end, value=0.0):
    flat = [v for b, e in reversed(list(zip(begin, end))) for v in (b, e)]
    return F.pad(x, flat, value=value) if any(flat) else x


CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONVT = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
MAXPOOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


@op("Conv")
def _(c):
    x, w = c.i[0], c.i[1]
    n = x.ndim - 2
    s, d, begin, end = window(c, x.shape[2:], w.shape[2:])
    if begin == end:
        return CONV[n](x, w, c.at(2), s, begin, d, c.get("group", 1))
    return CONV[n](padded(x, begin, end), w, c.at(2), s, 0, d, c.get("group", 1))


@op("ConvTranspose")
def _(c):
    x, w = c.i[0], c.i[1]
    n = x.ndim - 2
    s, d, begin, end = window(c, x.shape[2:], w.shape[2:], transposed=True)
    op_ = c.get("output_padding", [0] * n)
    shape, auto = c.get("output_shape"), c.get("auto_pad", "NOTSET")
    if shape is None and auto.startswith("SAME"):
        shape = [a * b for a, b in zip(x.shape[2:], s)]
    if shape is not None:
        for i in range(n):
            total = s[i] * (x.shape[2 + i] - 1) + op_[i] + (w.shape[2 + i] - 1) * d[i] + 1 - shape[-n:][i]
            half = total // 2
            begin[i] = half if auto == "SAME_UPPER" else total - half
            end[i] = total - begin[i]
    y = CONVT[n](x, w, None, s, 0, 0, c.get("group", 1), d)
    y = padded(y, [-b for b in begin], [o - e for o, e in zip(op_, end)])
    return y if c.at(2) is None else y + c.i[2].reshape(1, -1, *[1] * n)


def pool_shape(c, x):
    k = c.a["kernel_shape"]
    s, d, begin, end = window(c, x.shape[2:], k)
    extra = []
    for i, size in enumerate(x.shape[2:]):
        span = size + begin[i] + end[i] - ((k[i] - 1) * d[i] + 1)
        out = (-(-span // s[i]) if c.get("ceil_mode", 0) else span // s[i]) + 1
        if c.get("ceil_mode", 0) and (out - 1) * s[i] >= size + begin[i]:
            out -= 1
        extra.append(max((out - 1) * s[i] - span, 0))
    return k, s, d, begin, end, extra


@op("MaxPool")
def _(c):
    x = c.i[0]
    k, s, d, begin, end, extra = pool_shape(c, x)
    assert c.outs == 1, "MaxPool's indices"
    x = padded(x, begin, [e + z for e, z in zip(end, extra)], -math.inf)
    return MAXPOOL[x.ndim - 2](x, k, s, 0, d)


def windows(x, k, s, d):
    for i in range(len(k)):
        x = x.unfold(2 + i, (k[i] - 1) * d[i] + 1, s[i])[..., ::d[i]]
    return x


@op("AveragePool")
def _(c):
    x = c.i[0]
    k, s, d, begin, end, extra = pool_shape(c, x)
    axes = tuple(range(-len(k), 0))
    ones = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype)
    ones = padded(padded(ones, begin, end, 1.0 if c.get("count_include_pad", 0) else 0.0), [0] * len(k), extra)
    x = padded(x, begin, [e + z for e, z in zip(end, extra)])
    return windows(x, k, s, d).sum(axes) / windows(ones, k, s, d).sum(axes)


@op("GlobalAveragePool")
def _(c):
    x = c.i[0]
    return x.mean(tuple(range(2, x.ndim)), keepdim=True)


@op("GlobalMaxPool")
def _(c):
    x = c.i[0]
    return x.flatten(2).max(2).values.reshape(*x.shape[:2], *[1] * (x.ndim - 2))


# ---- normalisation

def channels(v, x):
    return v.reshape(1, -1, *[1] * (x.ndim - 2))


@op("BatchNormalization")
def _(c):
    x, g, b, m, v = c.i
    eps, mom = c.get("epsilon", 1e-5), c.get("momentum", 0.9)
    if c.get("training_mode", 0) if c.opset >= 14 else c.outs > 1:
        axes = (0, *range(2, x.ndim))
        mean, var = x.mean(axes), x.var(axes, unbiased=False)
        y = (x - channels(mean, x)) / torch.sqrt(channels(var, x) + eps) * channels(g, x) + channels(b, x)
        return y, m * mom + mean * (1 - mom), v * mom + var * (1 - mom), mean, var
    return (x - channels(m, x)) / torch.sqrt(channels(v, x) + eps) * channels(g, x) + channels(b, x)


def standard(x, axes, eps):
    mean = x.mean(axes, keepdim=True)
    inv = 1 / torch.sqrt(((x - mean) ** 2).mean(axes, keepdim=True) + eps)
    return (x - mean) * inv, mean, inv


@op("LayerNormalization")
def _(c):
    x = c.i[0]
    axis = c.get("axis", -1) % x.ndim
    y, mean, inv = standard(x, tuple(range(axis, x.ndim)), c.get("epsilon", 1e-5))
    y = y * c.i[1]
    return (y if c.at(2) is None else y + c.i[2]), mean, inv


@op("RMSNormalization", "SimplifiedLayerNormalization")
def _(c):
    x = c.i[0]
    axis = c.get("axis", -1) % x.ndim
    return x / torch.sqrt((x ** 2).mean(tuple(range(axis, x.ndim)), keepdim=True) + c.get("epsilon", 1e-5)) * c.i[1]


@op("InstanceNormalization")
def _(c):
    x = c.i[0]
    return standard(x, tuple(range(2, x.ndim)), c.get("epsilon", 1e-5))[0] * channels(c.i[1], x) + channels(c.i[2], x)


@op("GroupNormalization")
def _(c):
    x, g, b = c.i
    n = c.a["num_groups"]
    y = standard(x.reshape(x.shape[0], n, -1), (2,), c.get("epsilon", 1e-5))[0].reshape(x.shape)
    if c.opset < 21:        # one scale a group, until 21
        g, b = g.repeat_interleave(x.shape[1] // n), b.repeat_interleave(x.shape[1] // n)
    return y * channels(g, x) + channels(b, x)


@op("MeanVarianceNormalization")
def _(c):
    axes = tuple(c.get("axes", [0, 2, 3]))
    x = c.i[0]
    mean = x.mean(axes, keepdim=True)
    return (x - mean) / (torch.sqrt(((x - mean) ** 2).mean(axes, keepdim=True)) + 1e-9)


@op("LpNormalization")
def _(c):
    x, axis = c.i[0], c.get("axis", -1)
    return x / (x.abs().sum(axis, keepdim=True) if c.get("p", 2) == 1 else torch.sqrt((x * x).sum(axis, keepdim=True)))


@op("LRN")
def _(c):
    x, n = c.i[0], c.a["size"]
    sq = F.pad((x * x).movedim(1, -1), ((n - 1) // 2, n - 1 - (n - 1) // 2)).unfold(-1, n, 1).sum(-1).movedim(-1, 1)
    return x / (c.get("bias", 1.0) + c.get("alpha", 1e-4) / n * sq) ** c.get("beta", 0.75)


@op("Softmax", "LogSoftmax")
def _(c):
    x = c.i[0]
    f = torch.softmax if c.node.op_type == "Softmax" else torch.log_softmax
    if c.opset >= 13:
        return f(x, c.get("axis", -1))
    axis = c.get("axis", 1) % x.ndim
    return f(x.reshape(math.prod(x.shape[:axis]), -1), 1).reshape(x.shape)


# ---- reductions

def l2(x, axes, keep):
    return torch.sqrt((x * x).sum(axes, keepdim=keep))


def prod(x, axes, keep):
    for a in sorted(axes, reverse=True):
        x = x.prod(a, keepdim=keep)
    return x


def extreme(f):
    def run(x, axes, keep):
        for a in sorted(axes, reverse=True):
            x = f(x, a, keepdim=keep).values
        return x
    return run


REDUCE = {
    "ReduceSum": lambda x, a, k: x.sum(a, keepdim=k), "ReduceMean": lambda x, a, k: x.mean(a, keepdim=k),
    "ReduceMax": extreme(torch.max), "ReduceMin": extreme(torch.min), "ReduceProd": prod,
    "ReduceL1": lambda x, a, k: x.abs().sum(a, keepdim=k), "ReduceL2": l2,
    "ReduceLogSum": lambda x, a, k: torch.log(x.sum(a, keepdim=k)), "ReduceLogSumExp": lambda x, a, k: torch.logsumexp(x, a, keepdim=k),
    "ReduceSumSquare": lambda x, a, k: (x * x).sum(a, keepdim=k),
}


@op(*REDUCE)
def _(c):
    x = c.i[0]
    axes = c.ints(1, "axes")
    if not axes:
        if c.get("noop_with_empty_axes", 0):
            axes = []
            return {"ReduceL1": x.abs(), "ReduceL2": x.abs(), "ReduceSumSquare": x * x, "ReduceLogSum": torch.log(x) if x.is_floating_point() else x}.get(c.node.op_type, x) if c.opset >= 18 and c.node.op_type != "ReduceSum" else x
        axes = range(x.ndim)
    axes = tuple(sorted(a % max(x.ndim, 1) for a in axes))
    return REDUCE[c.node.op_type](x, axes, bool(c.get("keepdims", 1))) if x.ndim else x


@op("ArgMax", "ArgMin")
def _(c):
    f = torch.argmax if c.node.op_type == "ArgMax" else torch.argmin
    return f(c.i[0].detach(), c.get("axis", 0), keepdim=bool(c.get("keepdims", 1)))


@op("TopK")
def _(c):
    y = torch.topk(c.i[0], int(c.i[1]), c.get("axis", -1), bool(c.get("largest", 1)), bool(c.get("sorted", 1)))
    return y.values, y.indices


@op("CumSum")
def _(c):
    x, axis = c.i[0], int(c.i[1]) % c.i[0].ndim
    x = x.flip(axis) if c.get("reverse", 0) else x
    y = x.cumsum(axis)
    y = y - x if c.get("exclusive", 0) else y
    return y.flip(axis) if c.get("reverse", 0) else y


# ---- shapes

@op("Shape")
def _(c):
    s = list(c.i[0].shape)
    return torch.tensor(s[c.get("start", 0):c.get("end", len(s))], dtype=torch.int64)


@op("Size")
def _(c):
    return torch.tensor(c.i[0].numel())


@op("Constant")
def _(c):
    for k, v in c.a.items():
        if k == "value":
            return c.graph.tensor(numpy_helper.to_array(v))
        if k in ("value_float", "value_floats"):
            return torch.tensor(v, dtype=c.dtype)
        if k in ("value_int", "value_ints"):
            return torch.tensor(v, dtype=torch.int64)
    raise NotImplementedError("Constant " + " ".join(c.a))


@op("ConstantOfShape")
def _(c):
    v = c.graph.tensor(numpy_helper.to_array(c.a["value"])) if "value" in c.a else torch.zeros(1, dtype=c.dtype)
    return v.reshape(()).expand([int(k) for k in c.i[0].tolist()]).clone()


@op("Range")
def _(c):
    return torch.arange(*[v.item() for v in c.i], dtype=c.i[0].dtype)


@op("Reshape")
def _(c):
    x = c.i[0]
    s = c.ints(1, "shape")
    if not c.get("allowzero", 0):
        s = [x.shape[k] if v == 0 else v for k, v in enumerate(s)]
    return x.reshape(s)


@op("Flatten")
def _(c):
    x = c.i[0]
    axis = c.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


@op("Squeeze")
def _(c):
    x = c.i[0]
    axes = c.ints(1, "axes")
    axes = [k for k, v in enumerate(x.shape) if v == 1] if axes is None else [a % x.ndim for a in axes]
    return x.reshape([v for k, v in enumerate(x.shape) if k not in axes])


@op("Unsqueeze")
def _(c):
    x = c.i[0]
    axes = c.ints(1, "axes")
    n = x.ndim + len(axes)
    for a in sorted(a % n for a in axes):
        x = x.unsqueeze(a)
    return x


@op("Transpose")
def _(c):
    return c.i[0].permute(c.get("perm", list(range(c.i[0].ndim))[::-1]))


@op("Concat")
def _(c):
    return torch.cat(c.i, c.get("axis", 1))


@op("Split")
def _(c):
    x = c.i[0]
    axis = c.get("axis", 0)
    sizes = c.ints(1, "split")
    if sizes is None:
        each = -(-x.shape[axis] // c.outs)
        sizes = [each] * (c.outs - 1) + [x.shape[axis] - each * (c.outs - 1)]
    return x.split(sizes, axis)


@op("Slice")
def _(c):
    x = c.i[0]
    starts, ends = c.ints(1, "starts"), c.ints(2, "ends")
    axes, steps = c.ints(3, "axes") or list(range(len(starts))), c.ints(4, "steps") or [1] * len(starts)
    for s, e, a, t in zip(starts, ends, axes, steps):
        at = list(range(x.shape[a]))[slice_of(s, e, t, x.shape[a])]
        x = x.index_select(a, torch.tensor(at, dtype=torch.int64))
    return x


def slice_of(s, e, t, n):
    if t > 0:
        clamp = lambda v: min(max(v + n if v < 0 else v, 0), n)
        return slice(clamp(s), clamp(e), t)
    s = min(max(s + n if s < 0 else s, 0), n - 1)
    e = min(max(e + n if e < 0 else e, -1), n - 1)
    return slice(s, None if e < 0 else e, t) if e >= 0 or s >= 0 else slice(0, 0)


@op("Gather")
def _(c):
    x, i = c.i
    a = c.get("axis", 0) % x.ndim
    i = torch.where(i < 0, i + x.shape[a], i)
    return x.index_select(a, i.reshape(-1)).reshape((*x.shape[:a], *i.shape, *x.shape[a + 1:]))


@op("GatherElements")
def _(c):
    x, i = c.i
    a = c.get("axis", 0)
    return torch.gather(x, a, torch.where(i < 0, i + x.shape[a], i))


@op("GatherND")
def _(c):
    x, i = c.i
    b = c.get("batch_dims", 0)
    if b == 0:
        return x[tuple(i.movedim(-1, 0))]
    flat, fi = x.reshape(-1, *x.shape[b:]), i.reshape(-1, *i.shape[b:])
    y = torch.stack([p[tuple(q.movedim(-1, 0))] for p, q in zip(flat, fi)])
    return y.reshape(*x.shape[:b], *y.shape[1:])


@op("ScatterND")
def _(c):
    x, i, u = c.i
    return x.clone().index_put(tuple(i.movedim(-1, 0)), u, accumulate=c.get("reduction", "none") == "add")


@op("ScatterElements")
def _(c):
    x, i, u = c.i
    a = c.get("axis", 0)
    i = torch.where(i < 0, i + x.shape[a], i)
    return x.scatter_add(a, i, u) if c.get("reduction", "none") == "add" else x.scatter(a, i, u)


@op("Expand")
def _(c):
    shape = torch.broadcast_shapes(tuple(c.i[0].shape), tuple(c.i[1].tolist()))
    return c.i[0].expand(shape)


@op("Tile")
def _(c):
    return c.i[0].repeat(*[int(v) for v in c.i[1].tolist()])


@op("Pad")
def _(c):
    x = c.i[0]
    pads, mode = c.ints(1, "pads"), c.get("mode", "constant")
    axes = c.ints(3, "axes") or list(range(x.ndim))
    value = c.at(2) if c.opset >= 11 else torch.tensor(c.get("value", 0.0), dtype=x.dtype)
    for k, a in enumerate(axes):
        a %= x.ndim
        b, e, n = pads[k], pads[k + len(axes)], x.shape[a]
        at = list(range(-b, n + e))
        if mode == "edge":
            at = [min(max(v, 0), n - 1) for v in at]
        elif mode == "reflect":
            at = [(lambda w: w if w < n else 2 * (n - 1) - w)(v % (2 * (n - 1)) if n > 1 else 0) for v in at]
        elif mode == "wrap":
            at = [v % n for v in at]
        if mode != "constant":
            x = x.index_select(a, torch.tensor(at))
            continue
        inside = [v for v in at if 0 <= v < n]
        fill = torch.zeros((), dtype=x.dtype) if value is None else value.reshape(())
        block = lambda m: [fill.expand(*x.shape[:a], m, *x.shape[a + 1:])] if m > 0 else []
        x = torch.cat(block(max(b, 0)) + [x.index_select(a, torch.tensor(inside, dtype=torch.int64))] + block(max(e, 0)), a)
    return x


@op("Trilu")
def _(c):
    k = int(c.i[1]) if c.at(1) is not None else 0
    return torch.triu(c.i[0], k) if c.get("upper", 1) else torch.tril(c.i[0], k)


@op("DepthToSpace")
def _(c):
    x, b = c.i[0], c.a["blocksize"]
    n, ch, h, w = x.shape
    if c.get("mode", "DCR") == "DCR":
        return x.reshape(n, b, b, ch // b ** 2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, ch // b ** 2, h * b, w * b)
    return x.reshape(n, ch // b ** 2, b, b, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, ch // b ** 2, h * b, w * b)


@op("SpaceToDepth")
def _(c):
    x, b = c.i[0], c.a["blocksize"]
    n, ch, h, w = x.shape
    return x.reshape(n, ch, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, ch * b * b, h // b, w // b)


@op("OneHot")
def _(c):
    i, depth, values = c.i[0], int(c.i[1]), c.i[2]
    hot = F.one_hot(torch.remainder(i.to(torch.int64), depth), depth).movedim(-1, c.get("axis", -1)).to(torch.bool)
    return torch.where(hot, values[1], values[0])


@op("EyeLike")
def _(c):
    return torch.eye(*c.i[0].shape, dtype=c.dtype)


def coordinates(mode, out, size, scale):
    o = torch.arange(out, dtype=torch.float64)
    if mode == "align_corners":
        return o * (size - 1) / (out - 1) if out > 1 else o * 0
    if mode == "asymmetric":
        return o / scale
    if mode == "pytorch_half_pixel" and out == 1:
        return o * 0
    if mode == "half_pixel_symmetric":
        return (size / 2) * (1 - out / (scale * size)) + (o + 0.5) / scale - 0.5
    return (o + 0.5) / scale - 0.5


def interpolation(c, size, out, scale, mode, coordinate):
    """The matrix [out, size] that resizes one axis."""
    x = coordinates(coordinate, out, size, scale)
    m = torch.zeros(out, size, dtype=torch.float64)
    for o, v in enumerate(x.tolist()):
        if mode == "nearest":
            near = c.get("nearest_mode", "round_prefer_floor") if c.node.op_type == "Resize" else "floor"
            k = {"round_prefer_floor": lambda: math.ceil(v - 0.5), "round_prefer_ceil": lambda: math.floor(v + 0.5),
                 "floor": lambda: math.floor(v), "ceil": lambda: math.ceil(v)}[near]()
            m[o, min(max(k, 0), size - 1)] += 1
            continue
        k = math.floor(v)
        t = v - k
        if mode == "linear":
            taps = [(k, 1 - t), (k + 1, t)]
        else:
            a = c.get("cubic_coeff_a", -0.75)
            near = lambda d: ((a + 2) * d - (a + 3)) * d * d + 1
            far = lambda d: ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
            taps = [(k - 1, far(t + 1)), (k, near(t)), (k + 1, near(1 - t)), (k + 2, far(2 - t))]
        for at, weight in taps:
            m[o, min(max(at, 0), size - 1)] += weight
    return m.to(c.dtype)


@op("Resize", "Upsample")
def _(c):
    x = c.i[0]
    resize = c.node.op_type == "Resize" and c.opset >= 11
    mode = c.get("mode", "nearest")
    coordinate = c.get("coordinate_transformation_mode", "half_pixel") if resize else "asymmetric"
    scales = c.at(2) if resize else c.at(1)
    scales = c.get("scales") if scales is None else scales.tolist()
    sizes = c.at(3)
    axes = [a % x.ndim for a in c.get("axes", range(x.ndim))]
    for k, a in enumerate(axes):
        n = x.shape[a]
        out = int(sizes[k]) if sizes is not None else math.floor(n * scales[k])
        scale = out / n if sizes is not None else scales[k]
        if out == n and scale == 1:
            continue
        x = torch.tensordot(x, interpolation(c, n, out, scale, mode, coordinate), ([a], [1])).movedim(-1, a)
    return x


# ---- recurrent

ACTIVATIONS = {
    "sigmoid": lambda x, a, b: torch.sigmoid(x), "tanh": lambda x, a, b: torch.tanh(x), "relu": lambda x, a, b: torch.relu(x),
    "leakyrelu": lambda x, a, b: torch.where(x < 0, x * (0.01 if a is None else a), x),
    "hardsigmoid": lambda x, a, b: torch.clamp((0.2 if a is None else a) * x + (0.5 if b is None else b), 0, 1),
    "elu": lambda x, a, b: elu(x, 1.0 if a is None else a), "softsign": lambda x, a, b: x / (1 + x.abs()),
    "softplus": lambda x, a, b: torch.logaddexp(x, torch.zeros_like(x)), "affine": lambda x, a, b: (1.0 if a is None else a) * x + (b or 0.0),
    "scaledtanh": lambda x, a, b: a * torch.tanh(b * x), "thresholdedrelu": lambda x, a, b: torch.where(x > (1.0 if a is None else a), x, torch.zeros_like(x)),
}


@op("LSTM", "GRU", "RNN")
def _(c):
    kind = c.node.op_type
    x, w, r = c.i[:3]
    b, lens, h0, c0, peep = c.at(3), c.at(4), c.at(5), (c.at(6) if kind == "LSTM" else None), (c.at(7) if kind == "LSTM" else None)
    batch_first = c.get("layout", 0)
    if batch_first:
        x = x.transpose(0, 1)
        h0 = None if h0 is None else h0.transpose(0, 1)
        c0 = None if c0 is None else c0.transpose(0, 1)
    steps, n, _ = x.shape
    h = r.shape[2]
    directions = w.shape[0]
    assert c.get("clip") is None, "clip"
    default = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[kind]
    names = c.get("activations", default * directions)
    alpha, beta = list(c.get("activation_alpha", [])), list(c.get("activation_beta", []))
    fs = []
    for name in names:
        key = name.lower()
        a = alpha.pop(0) if alpha and key in ("leakyrelu", "hardsigmoid", "elu", "affine", "scaledtanh", "thresholdedrelu") else None
        q = beta.pop(0) if beta and key in ("hardsigmoid", "affine", "scaledtanh") else None
        fs.append(lambda v, key=key, a=a, q=q: ACTIVATIONS[key](v, a, q))
    per = len(fs) // directions
    ys, hs, cs = [], [], []
    for d in range(directions):
        f = fs[d * per:(d + 1) * per]
        back = c.get("direction", "forward") == "reverse" or d == 1
        gates = r.shape[1] // h
        wb, rb = (b[d, :gates * h], b[d, gates * h:]) if b is not None else (x.new_zeros(gates * h), x.new_zeros(gates * h))
        ht = h0[d] if h0 is not None else x.new_zeros(n, h)
        ct = c0[d] if c0 is not None else x.new_zeros(n, h)
        xw = x @ w[d].t() + wb
        out = [None] * steps
        for t in reversed(range(steps)) if back else range(steps):
            if kind == "RNN":
                hn = f[0](xw[t] + ht @ r[d].t() + rb)
                cn = ct
            elif kind == "GRU":
                rz = ht @ r[d][:2 * h].t() + rb[:2 * h]
                z, rr = f[0](xw[t][:, :h] + rz[:, :h]), f[0](xw[t][:, h:2 * h] + rz[:, h:])
                rh, rbh = r[d][2 * h:], rb[2 * h:]
                inner = rr * (ht @ rh.t() + rbh) if c.get("linear_before_reset", 0) else (rr * ht) @ rh.t() + rbh
                hn = (1 - z) * f[1](xw[t][:, 2 * h:] + inner) + z * ht
                cn = ct
            else:
                i, o, fo, g = (xw[t] + ht @ r[d].t() + rb).split(h, 1)
                if peep is not None:
                    pi, po, pf = peep[d].split(h)
                    i, fo = i + pi * ct, fo + pf * ct
                i = f[0](i)
                fo = 1 - i if c.get("input_forget", 0) else f[0](fo)
                cn = fo * ct + i * f[1](g)
                o = f[0](o + po * cn if peep is not None else o)
                hn = o * f[2](cn)
            if lens is not None:
                alive = (t < lens).reshape(-1, 1)
                out[t] = torch.where(alive, hn, torch.zeros_like(hn))
                ht, ct = torch.where(alive, hn, ht), torch.where(alive, cn, ct)
            else:
                ht, ct = hn, cn
                out[t] = hn
        ys.append(torch.stack(out))
        hs.append(ht)
        cs.append(ct)
    y, hs, cs = torch.stack(ys, 1), torch.stack(hs), torch.stack(cs)
    if batch_first:
        y, hs, cs = y.permute(2, 0, 1, 3), hs.transpose(0, 1), cs.transpose(0, 1)
    return (y, hs, cs) if kind == "LSTM" else (y, hs)


# ---- control, sequences

@op("If")
def _(c):
    return c.graph.body(c.a["then_branch"] if bool(c.i[0]) else c.a["else_branch"], c.env, {})


@op("Loop")
def _(c):
    g, state, rows = c.a["body"], list(c.i[2:]), []
    count = int(c.i[0]) if c.at(0) is not None else 2 ** 31
    alive = c.at(1) is None or bool(c.i[1])
    t = 0
    while t < count and alive:
        names = [i.name for i in g.input]
        out = c.graph.body(g, c.env, dict(zip(names, [torch.tensor(t), torch.tensor(True), *state])))
        alive, state = bool(out[0]), out[1:1 + len(state)]
        rows.append(out[1 + len(state):])
        t += 1
    return [*state, *(torch.stack(r) for r in zip(*rows))]


@op("Scan")
def _(c):
    g, m = c.a["body"], c.a["num_scan_inputs"]
    state, xs = list(c.i[:len(c.i) - m]), c.i[len(c.i) - m:]
    names, rows = [i.name for i in g.input], []
    back = c.get("scan_input_directions", [0] * m)
    for t in range(xs[0].shape[0]):
        row = [x[x.shape[0] - 1 - t] if k else x[t] for x, k in zip(xs, back)]
        out = c.graph.body(g, c.env, dict(zip(names, [*state, *row])))
        state = out[:len(state)]
        rows.append(out[len(state):])
    ys = [torch.stack(r) for r in zip(*rows)]
    return [*state, *(y.flip(0) if k else y for y, k in zip(ys, c.get("scan_output_directions", [0] * len(ys))))]


@op("SplitToSequence")
def _(c):
    x, a = c.i[0], c.get("axis", 0)
    if c.at(1) is not None:
        s = c.i[1].tolist()
        return ([*x.split(s, a)],)
    parts = x.split(1, a)
    return ([p if c.get("keepdims", 1) else p.squeeze(a) for p in parts],)


@op("SequenceConstruct")
def _(c):
    return (list(c.i),)


@op("SequenceAt")
def _(c):
    return c.i[0][int(c.i[1])]


@op("ConcatFromSequence")
def _(c):
    return torch.stack(c.i[0], c.a["axis"]) if c.get("new_axis", 0) else torch.cat(c.i[0], c.a["axis"])


# ---- other domains

@op("Scaler", domain="ai.onnx.ml")
def _(c):
    x = c.i[0].to(c.dtype)
    return (x - torch.tensor(c.get("offset", [0.0]), dtype=c.dtype)) * torch.tensor(c.get("scale", [1.0]), dtype=c.dtype)


@op("ArrayFeatureExtractor", domain="ai.onnx.ml")
def _(c):
    return c.i[0].index_select(-1, c.i[1].reshape(-1)) if isinstance(c.i[0], torch.Tensor) else c.i[0]


@op("Normalizer", domain="ai.onnx.ml")
def _(c):
    x, norm = c.i[0], c.get("norm", "MAX")
    return x / {"L1": x.abs().sum(1, keepdim=True), "L2": l2(x, 1, True), "MAX": x.abs().max(1, keepdim=True).values}[norm]


@op("LinearClassifier", domain="ai.onnx.ml")
def _(c):
    """Its numbers are attributes: leaves named `NODE/coefficients` and `NODE/intercepts`."""
    x = c.i[0].to(c.dtype)
    def leaf(name):
        key = f"{c.node.name or c.node.output[0]}/{name}"
        if key not in c.graph.parameters:
            c.graph.parameters[key] = torch.tensor(c.a[name], dtype=c.dtype, requires_grad=True)
        return c.graph.parameters[key]
    w, b = leaf("coefficients"), leaf("intercepts")
    scores = x @ w.reshape(b.numel(), -1).t() + b
    post = c.get("post_transform", "NONE")
    c.graph.scores = scores
    if post == "SOFTMAX":
        scores = torch.softmax(scores, 1)
    elif post == "LOGISTIC":
        scores = torch.sigmoid(scores)
    return scores.detach().argmax(1), scores


@op("Cast", "ZipMap", domain="ai.onnx.ml")
def _(c):
    return c.i[0]


@op("BiasGelu", domain="com.microsoft")
def _(c):
    x = c.i[0] + c.i[1]
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
