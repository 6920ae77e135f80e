#!/usr/bin/env python3
"""Gradients in float64 of ONNX files as they are written, and more dialects of the same networks.

    gen_models.py DIR OUT                       DIR/NAME.onnx with DIR/NAME.grad.npz -> OUT/NAME.grad64.npz
    gen_models.py DIR OUT --export              first exports nine networks of DIR in other dialects into OUT
    gen_models.py DIR OUT --keras PYTHON        and Keras networks through tf2onnx (keras_nets.py, another venv)
    gen_models.py --fixtures FOLDER [--keras PYTHON]     tiny networks in each dialect: agent/learn/testdata/zoo

NAME.grad64.npz: x, t (class numbers, or values), loss, and of each floating initialiser that has a gradient
`g:INITIALISER` (float64) and `e:INITIALISER`, how far PyTorch's float32 gradient of the same graph lies from it
(norm of the difference by the gradient's norm, or by a millionth of all gradients' where it is less: the bias of
an attention's keys has none). The loss is the mean cross-entropy of the scores before a last Softmax or, where
the file has no such node, -log of its probabilities; values: the mean squared error. BatchNorm is frozen.
Initialisers are called as in the file. Needs torch, onnx, onnxscript; skl2onnx and scikit-learn for theirs.
"""
import argparse
import io
import pathlib
import subprocess
import sys
import warnings

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2] / "agent/learn/testdata")]

import numpy as np
import onnx
import torch
import torch.nn as nn
import torch.nn.functional as F
from onnx import numpy_helper

import head
from nets import CNN1D, IR, Rnn, Tfm, mlp, zoo
from onnx_torch import Graph

torch.set_num_threads(1)
LARGEST_BYTES = 150_000


def loss_of(model, graph, x, t):
    name, kind = head.scores(model)
    inputs = [i.name for i in model.graph.input if i.name not in {k.name for k in model.graph.initializer}]
    feed = torch.from_numpy(x).to(graph.dtype) if x.dtype.kind == "f" else torch.from_numpy(x.astype(np.int64))
    graph.outputs = [o.name for o in model.graph.output]
    graph({inputs[0]: feed})
    if t.dtype.kind == "f":
        out = graph.env[head_output(model)]
        return F.mse_loss(out.reshape(t.shape), torch.from_numpy(t).to(graph.dtype))
    y = graph.env[name]
    y, t = y.reshape(len(t), -1), torch.from_numpy(t.astype(np.int64))
    if kind == "scores" or (kind == "values" and not torch.allclose(y.detach().sum(1), torch.ones(len(t), dtype=y.dtype), atol=1e-5)):
        return F.cross_entropy(y, t)
    if kind == "sigmoid" and y.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(y[:, 0], t.to(y.dtype))
    return F.nll_loss(torch.log(y), t)


def head_output(model):
    return next((o.name for o in model.graph.output if "prob" in o.name.lower()), model.graph.output[0].name)


def gradients(model, x, t, dtype):
    graph = Graph(model, dtype=dtype)
    loss = loss_of(model, graph, x, t)
    loss.backward()
    return loss.item(), {k: p.grad.numpy() for k, p in graph.parameters.items() if p.grad is not None and torch.isfinite(p.grad).all()}


def reference(path, x, t):
    model = onnx.load(path)
    loss, g64 = gradients(model, x, t, torch.float64)
    _, g32 = gradients(model, x, t, torch.float32)
    d = {"x": x, "t": t, "loss": np.array([loss])}
    least = 1e-6 * np.sqrt(sum((g ** 2).sum() for g in g64.values()))
    for k, g in g64.items():
        n = max(np.linalg.norm(g), least)
        d["g:" + k] = np.ascontiguousarray(g)
        d["e:" + k] = np.array(np.linalg.norm(g32[k] - g) / n if n > 0 and k in g32 else 0.0)
    return d


def worst(d):
    e = [float(v) for k, v in d.items() if k.startswith("e:")]
    return max(e, default=0.0)


# ---- dialects

def legacy(net, x, path, opset=17, folded=False):
    """PyTorch's older exporter; unfolded keeps BatchNorm, Gemm's transB and the parameters' names."""
    mode = torch.onnx.TrainingMode.EVAL if folded else torch.onnx.TrainingMode.PRESERVE
    torch.onnx.export(net, (x,), str(path), dynamo=False, input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "N"}, "y": {0: "N"}},
                      opset_version=opset, do_constant_folding=folded, training=mode)


def dynamo(net, x, path, **kw):
    torch.onnx.export(net, (x,), str(path), dynamo=True, input_names=["x"], output_names=["y"], dynamic_shapes=({0: torch.export.Dim("N")},),
                      external_data=False, verbose=False, **kw)


DIALECTS = {
    "": lambda n, x, p: legacy(n, x, p), "folded": lambda n, x, p: legacy(n, x, p, folded=True), "dynamo": lambda n, x, p: dynamo(n, x, p),
    "op11": lambda n, x, p: legacy(n, x, p, 11), "op13": lambda n, x, p: legacy(n, x, p, 13), "op13.folded": lambda n, x, p: legacy(n, x, p, 13, True),
    "op20": lambda n, x, p: legacy(n, x, p, 20), "dynamo.raw": lambda n, x, p: dynamo(n, x, p, optimize=False),
}


def anonymous(path):
    """Drops what names files and lines of the machine that exported."""
    model = onnx.load(path)
    for n in [*model.graph.node, *(n for f in model.functions for n in f.node)]:
        n.doc_string = ""
        kept = [p for p in n.metadata_props if "/" not in p.value or "stack" not in p.key]
        kept = [onnx.StringStringEntryProto.FromString(p.SerializeToString()) for p in kept]
        del n.metadata_props[:]
        n.metadata_props.extend(kept)
    onnx.save(model, path)


def export(net, x, name, out, dialects):
    made = []
    for d in dialects:
        path = out / (f"{name}.{d}.onnx" if d else f"{name}.onnx")
        said = io.StringIO()
        try:
            from contextlib import redirect_stderr, redirect_stdout
            with redirect_stdout(said), redirect_stderr(said):
                DIALECTS[d](net, torch.from_numpy(x), path)
            anonymous(path)
            made.append(path)
        except Exception as e:
            path.unlink(missing_ok=True)
            print(f"{path.name}: not exported: {type(e).__name__} {' '.join(str(e).split())[:160]}")
    return made


def restore(net, path):
    values = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in onnx.load(path).graph.initializer}
    net.load_state_dict({k: values.get(k, v) for k, v in net.state_dict().items()})
    return net.eval()


def settle(net, shape, rows=8, seed=5):
    """Makes BatchNorm's statistics and the biases other than what they start as."""
    torch.manual_seed(seed)
    net.train()
    with torch.no_grad():
        for _ in range(20):
            net(torch.randn(rows, *shape))
        for p in net.parameters():
            if p.ndim == 1:
                p.add_(torch.randn_like(p) * .05)
    return net.eval()


def sklearn_models(out, rng):
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from skl2onnx import to_onnx
    x = rng.standard_normal((300, 6)).astype(np.float32)
    t = (np.tanh(x) @ rng.standard_normal((6, 3))).argmax(1)
    two, r = (t > 0).astype(np.int64), (x[:, 0] * x[:, 1]).astype(np.float32)
    for name, m, y in (("skl_mlp", MLPClassifier((8,), max_iter=30, random_state=0), t), ("skl_mlp2", make_pipeline(StandardScaler(), MLPClassifier((6, 4), activation="tanh", max_iter=30, random_state=0)), two),
                       ("skl_mlpr", MLPRegressor(hidden_layer_sizes=(8,), max_iter=30, random_state=0), r), ("skl_logreg", LogisticRegression(), t)):
        m.fit(x, y)
        o = to_onnx(m, x[:1], options={} if y.dtype.kind == "f" else {id(m): {"zipmap": False}}, target_opset={"": 17, "ai.onnx.ml": 3})
        (out / f"{name}.onnx").write_bytes(o.SerializeToString())
        yield name, x[:16], (y[:16].reshape(-1, 1) if y.dtype.kind == "f" else y[:16].astype(np.int64))


def keras_models(out, python):
    done = subprocess.run([python, str(HERE / "keras_nets.py"), str(out)], capture_output=True, text=True)
    print(done.stdout.strip() or done.stderr[-500:])
    for path in sorted(out.glob("*.data.npz")):
        z = np.load(path)
        x, t = z["x"], z["t"]
        path.unlink()
        yield path.name[:-len(".data.npz")], x, t


# ---- the parts of main

def written(path, x, t, to, compress=True, errors=True, same=None):
    """Writes the reference; says what is odd."""
    try:
        d = reference(path, x, t)
    except Exception as e:
        print(f"{path.name}: no reference: {type(e).__name__} {str(e)[:200]}")
        return None
    loss = float(d["loss"][0])
    odd = "" if same is None or abs(loss - same) < 1e-5 * max(1, abs(same)) else f"  LOSS DIFFERS, expected {same}"
    print(f"{path.name}: {path.stat().st_size} bytes, loss {loss:.6f}, {sum(k.startswith('g:') for k in d)} gradients, float32 off by {worst(d):.1e}{odd}")
    if not errors:
        d = {k: v for k, v in d.items() if not k.startswith("e:")}
    (np.savez_compressed if compress else np.savez)(to, **d)
    return loss


def references(folder, out, with_exports, keras):
    losses, skipped = {}, ("qdq", "dynq", "f16")
    for path in sorted(folder.glob("*.onnx")):
        base, dialect = path.stem.split(".")[0], path.stem.split(".")[1:]
        if not (folder / f"{base}.grad.npz").exists() or any(s in dialect for s in skipped):
            continue
        z = np.load(folder / f"{base}.grad.npz")
        got = written(path, z["x"], z["t"], out / f"{path.stem}.grad64.npz", same=float(z["loss"][0]))
        losses[base] = losses.get(base, got)
    if with_exports:
        for name, (net, _, _) in zoo().items():
            if not (folder / f"{name}.onnx").exists():
                continue
            z = np.load(folder / f"{name}.grad.npz")
            for path in export(restore(net, folder / f"{name}.onnx"), z["x"], name, out, list(DIALECTS)):
                written(path, z["x"], z["t"], out / f"{path.stem}.grad64.npz", same=float(z["loss"][0]))
        for name, x, t in sklearn_models(out, np.random.default_rng(3)):
            written(out / f"{name}.onnx", x, t, out / f"{name}.grad64.npz")
    if keras:
        for name, x, t in keras_models(out, keras):
            written(out / f"{name}.onnx", x, t, out / f"{name}.grad64.npz")


class Small2D(nn.Module):
    """A convolution, an inverted residual, a pooled head: what MobileNet is made of."""

    def __init__(s):
        super().__init__()
        s.stem = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU6())
        s.f, s.head = nn.Sequential(IR(4, 4, 1, 2), IR(4, 6, 2, 2)), nn.Linear(6, 3)

    def forward(s, x):
        return s.head(F.adaptive_avg_pool2d(s.f(s.stem(x)), 1).flatten(1))


class LeNet(nn.Module):
    def __init__(s):
        super().__init__()
        s.c1, s.c2, s.p, s.f1, s.head = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(s, x):
        x = s.p(F.relu(s.c1(x)))
        return s.head(F.relu(s.f1(s.p(F.leaky_relu(s.c2(x), .1)).flatten(1))))


class Deep(nn.Module):
    """Stacked both-way recurrent layers, as exporters join their outputs."""

    def __init__(s, kind):
        super().__init__()
        s.rnn, s.head = getattr(nn, kind)(3, 4, num_layers=2, batch_first=True, bidirectional=True), nn.Linear(8, 3)

    def forward(s, x):
        y, _ = s.rnn(x)
        return s.head(y.mean(1))


class Attention(nn.Module):
    def __init__(s):
        super().__init__()
        s.body, s.head = nn.TransformerEncoderLayer(8, 2, 12, dropout=0., batch_first=True, norm_first=True), nn.Linear(8, 3)

    def forward(s, x):
        return s.head(s.body(x)[:, 0])


class Token(nn.Module):
    def __init__(s):
        super().__init__()
        s.e, s.rnn, s.head = nn.Embedding(12, 5), nn.GRU(5, 6, batch_first=True), nn.Linear(6, 3)

    def forward(s, x):
        _, h = s.rnn(s.e(x))
        return s.head(h[-1])


class UNet(nn.Module):
    """Down and up again: a strided and a transposed convolution, a skip joined by channels, values out."""

    def __init__(s):
        super().__init__()
        s.a, s.b, s.n, s.up, s.o = nn.Conv1d(2, 4, 3, padding=1), nn.Conv1d(4, 6, 4, 2, 1), nn.GroupNorm(2, 6), nn.ConvTranspose1d(6, 4, 4, 2, 1), nn.Conv1d(8, 2, 1)

    def forward(s, x):
        a = F.silu(s.a(x))
        return s.o(torch.cat([a, F.elu(s.up(F.gelu(s.n(s.b(a)))))], 1))


TINY = {
    "mlp": (lambda: mlp(6, 10, 8, 4), (6,), "ce", ("", "folded", "dynamo", "op11")),
    "ae": (lambda: mlp(8, 5, 3, 5, 8), (8,), "mse", ("dynamo",)),
    "cnn1d": (lambda: CNN1D(3, 4, (4, 6)), (3, 20), "ce", ("", "folded", "dynamo", "dynamo.raw", "op11")),
    "lenet": (LeNet, (1, 12, 12), "ce", ("", "dynamo", "op13")),
    "mb": (Small2D, (1, 12, 12), "ce", ("", "folded", "dynamo", "op11")),
    "lstm": (lambda: Rnn("LSTM", 3, 5, 3), (6, 3), "ce", ("", "folded", "dynamo", "dynamo.raw", "op11")),
    "gru": (lambda: Rnn("GRU", 3, 5, 3), (6, 3), "ce", ("", "folded", "dynamo", "op13")),
    "rnn": (lambda: Rnn("RNN", 3, 5, 3), (6, 3), "ce", ("folded", "dynamo")),
    "bilstm2": (lambda: Deep("LSTM"), (5, 3), "ce", ("", "folded", "dynamo")),
    "bigru2": (lambda: Deep("GRU"), (5, 3), "ce", ("folded", "dynamo")),
    "tfm": (lambda: Tfm(3, 8, 2, 5, 3), (5, 3), "ce", ("", "folded", "dynamo", "dynamo.raw", "op11", "op13", "op20")),
    "attention": (Attention, (4, 8), "ce", ("folded", "dynamo")),
    "token": (Token, (5,), "ce", ("", "dynamo")),
    "unet": (UNet, (2, 12), "mse", ("", "dynamo", "op20")),
}


def fixtures(folder, keras):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(9)
    for name, (make, shape, loss, dialects) in TINY.items():
        torch.manual_seed(1)
        net = make()
        net = net.eval() if name == "token" else settle(net, shape)
        x = rng.integers(0, 12, (6, *shape)) if name == "token" else rng.standard_normal((6, *shape)).astype(np.float32)
        y = net(torch.from_numpy(x))
        t = rng.integers(0, y.shape[1], len(x)) if loss == "ce" else rng.standard_normal(tuple(y.shape)).astype(np.float32)
        same = (F.cross_entropy if loss == "ce" else F.mse_loss)(y, torch.from_numpy(t)).item()
        for path in export(net, x, name, folder, dialects):
            written(path, x, t, folder / f"{path.stem}.grad.npz", errors=False, same=same)
    for name, x, t in sklearn_models(folder, rng):
        written(folder / f"{name}.onnx", x, t, folder / f"{name}.grad.npz", errors=False)
    if keras:
        for name, x, t in keras_models(folder, keras):
            written(folder / f"{name}.onnx", x, t, folder / f"{name}.grad.npz", errors=False)
    for path in sorted(folder.glob("*.onnx")):
        other = folder / f"{path.stem}.grad.npz"
        if not other.exists() or path.stat().st_size + other.stat().st_size > LARGEST_BYTES:
            print("left out:", path.name)
            path.unlink()
            other.unlink(missing_ok=True)
    print("in all", sum(p.stat().st_size for p in folder.iterdir()), "bytes")


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("folder", type=pathlib.Path, nargs="?")
    a.add_argument("out", type=pathlib.Path, nargs="?")
    a.add_argument("--export", action="store_true")
    a.add_argument("--keras", metavar="PYTHON", help="a Python with tensorflow and tf2onnx")
    a.add_argument("--fixtures", type=pathlib.Path)
    o = a.parse_args()
    if o.fixtures:
        return fixtures(o.fixtures, o.keras)
    if not o.out:
        a.error("DIR and OUT, or --fixtures FOLDER")
    o.out.mkdir(parents=True, exist_ok=True)
    references(o.folder, o.out, o.export, o.keras)


if __name__ == "__main__":
    main()
