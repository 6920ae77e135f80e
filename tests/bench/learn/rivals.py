#!/usr/bin/env python3
"""Times training steps in PyTorch and onnxruntime-training; one JSON line a measurement (README.md).

    rivals.py DIR [--venvs target/learn-bench] [--models a,b] [--engines torch,ort] [--optimizers sgd,adamw] [--cpu N]

DIR holds NAME.onnx with NAME.grad.npz (x, t). Needs only the standard library; each measurement is a child process.
"""
import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
ENGINES = {"torch": "torch", "torch-fused": "torch", "ort": "ort"}
RATE = 1e-4                 # learning rate: small, so that thousands of steps stay finite
WARM_SECONDS, WARM_STEPS = 0.5, 5
LEAST_STEPS = 20
CHILD_SECONDS = 600


def measured(step, seconds):
    """Runs `step` until `seconds` and LEAST_STEPS are over; after a warm-up."""
    start, count = time.perf_counter(), 0
    while count < WARM_STEPS or time.perf_counter() - start < WARM_SECONDS:
        step()
        count += 1
    times, start, cpu = [], time.perf_counter(), time.process_time()
    while len(times) < LEAST_STEPS or time.perf_counter() - start < seconds:
        a = time.perf_counter()
        loss = step()
        times.append(time.perf_counter() - a)
    cpu = time.process_time() - cpu
    n = len(times)
    times.sort()
    at = lambda q: round(1e3 * times[min(n - 1, int(q * n))], 5)
    return {"ms_per_step": at(.5), "p10": at(.1), "p90": at(.9), "cpu_ms_per_step": round(1e3 * cpu / n, 5), "steps": n,
            "last_loss": float(loss), "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)}


def rows(folder, name, batch):
    import numpy as np
    z = np.load(f"{folder}/{name}.grad.npz")
    at = np.arange(batch) % len(z["x"])
    return z["x"][at], z["t"][at]


def about(o, model):
    """What tells whether the engine computes what the file says."""
    import numpy as np
    z = np.load(f"{o.folder}/{o.name}.grad.npz")
    told = {"file_loss": float(np.ravel(z["loss"])[0])} if o.batch % len(z["x"]) == 0 else {}
    if any(n.op_type == "BatchNormalization" for n in model.graph.node):
        told["batch_norm"] = "of the batch" if o.engine == "ort" else "frozen"
    return told


def run_torch(o):
    import onnx
    import torch
    import torch.nn.functional as F
    from onnx import numpy_helper
    from head import cut, scores
    from nets import zoo
    torch.set_num_threads(1)
    model = onnx.load(f"{o.folder}/{o.name}.onnx")
    x, t = (torch.from_numpy(v.copy()) for v in rows(o.folder, o.name, o.batch))
    values = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in model.graph.initializer}
    net = zoo().get(o.name, (None,))[0]
    if net is not None and all(k in values or k.endswith("num_batches_tracked") for k in net.state_dict()):
        net.load_state_dict({k: values.get(k, v) for k, v in net.state_dict().items()})
        net.eval()          # BatchNorm frozen, as in the file
        parameters, call, network = list(net.parameters()), net, "module"
    else:
        sys.path.insert(0, str(ROOT / "agent/learn/testdata"))
        from onnx_torch import Graph
        from head import weights
        name, _ = scores(model)
        only = weights(model)
        graph = Graph(cut(model, name), dtype=torch.float32, only=only)
        source = graph.inputs[0]
        parameters, call, network = list(graph.parameters.values()), lambda v: graph({source: v})[name], "interpreted"
    loss_of = F.mse_loss if t.is_floating_point() else F.cross_entropy
    kw = {"fused": True} if o.engine == "torch-fused" else {}
    optimizer = (torch.optim.SGD if o.optimizer == "sgd" else torch.optim.AdamW)(parameters, lr=RATE, **kw)

    def step():
        optimizer.zero_grad()
        loss = loss_of(call(x).reshape(t.shape if t.is_floating_point() else (len(x), -1)), t)
        loss.backward()
        optimizer.step()
        return loss.item()

    first = step()
    return {**measured(step, o.seconds), "first_loss": first, "parameters": sum(p.numel() for p in parameters), "network": network, "version": torch.__version__, **about(o, model)}


def import_ort():
    """onnxruntime-training imports parts that need PyTorch though artifacts and steps do not: they are left out."""
    import types
    empty = lambda name, **has: sys.modules.__setitem__(name, (m := types.ModuleType(name))) or m.__dict__.update(has)
    sys.modules["onnxruntime.training.ortmodule"] = None
    empty("onnxruntime.training.amp")
    empty("onnxruntime.training.optim")
    empty("onnxruntime.tools.pytorch_export_helpers", infer_input_info=None)
    import onnxruntime
    return onnxruntime


def make_artifacts(o):
    import_ort()
    import onnx
    from head import cut, scores, weights
    from onnxruntime.training import artifacts, onnxblock
    model = onnx.load(f"{o.folder}/{o.name}.onnx")
    name, _ = scores(model)
    cut(model, name)
    known = {i.name for i in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in known]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    for n in model.graph.node:
        if n.op_type == "LayerNormalization" and len(n.output) == 1:     # its gradient reads the optional outputs
            n.output.extend([n.output[0] + ".mean", n.output[0] + ".deviation"])
    _, t = rows(o.folder, o.name, 1)
    loss = artifacts.LossType.MSELoss if t.dtype.kind == "f" else artifacts.LossType.CrossEntropyLoss
    kind = onnxblock.optim.SGD() if o.optimizer == "sgd" else onnxblock.optim.AdamW(eps=1e-8, weight_decay=0.01)    # as PyTorch's
    wanted = weights(model)
    artifacts.generate_artifacts(model, requires_grad=wanted, frozen_params=[k for k in known if k not in wanted], loss=loss, optimizer=kind, artifact_directory=o.artifacts)
    return {}


def run_ort(o):
    onnxruntime = import_ort()
    from onnxruntime.training.api import CheckpointState, Module, Optimizer
    import numpy as np
    import onnx
    x, t = rows(o.folder, o.name, o.batch)
    x, t = np.ascontiguousarray(x), np.ascontiguousarray(t)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    state = CheckpointState.load_checkpoint(f"{o.artifacts}/checkpoint")
    module = Module(f"{o.artifacts}/training_model.onnx", state, f"{o.artifacts}/eval_model.onnx", device="cpu", session_options=options)
    optimizer = Optimizer(f"{o.artifacts}/optimizer_model.onnx", module)
    optimizer.set_learning_rate(RATE)
    module.train()

    def step():
        loss = module(x, t)
        optimizer.step()
        module.lazy_reset_grad()
        return loss

    first = float(step())
    return {**measured(step, o.seconds), "first_loss": first, "parameters": module.get_parameters_size(True), "network": "onnx", "version": onnxruntime.__version__,
            **about(o, onnx.load(f"{o.folder}/{o.name}.onnx"))}


def child(o):
    if o.cpu is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {o.cpu})
    try:
        got = {"torch": run_torch, "torch-fused": run_torch, "ort": run_ort, "artifacts": make_artifacts}[o.child](o)
    except Exception as e:
        text = " ".join(str(e).split())
        got = {"error": f"{type(e).__name__}: {text if len(text) < 400 else '... ' + text[-400:]}"}
    print(json.dumps(got), flush=True)


def ask(o, what, python, name, engine, optimizer, artifacts):
    words = [str(python), str(HERE / "rivals.py"), str(o.folder), "--child", what, "--name", name, "--engine", engine, "--optimizer", optimizer,
             "--batch", str(o.batch), "--seconds", str(o.seconds), "--artifacts", artifacts] + (["--cpu", str(o.cpu)] if o.cpu is not None else [])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "ORT_LOGGING_LEVEL": "4", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=CHILD_SECONDS)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {CHILD_SECONDS} s"}
    except OSError as e:
        return {"error": f"cannot run {python}: {e}"}
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": f"child ended with {done.returncode}: {done.stderr.strip()[-300:]}"}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("folder", type=pathlib.Path)
    a.add_argument("--venvs", type=pathlib.Path, default=ROOT / "target/learn-bench", help="what setup.sh made: torch/ and ort/")
    a.add_argument("--torch-python", type=pathlib.Path)
    a.add_argument("--ort-python", type=pathlib.Path)
    a.add_argument("--models", help="names, joined by commas; all by default")
    a.add_argument("--engines", default="torch,ort", help="of torch, torch-fused, ort")
    a.add_argument("--optimizers", default="sgd,adamw")
    a.add_argument("--batch", type=int, default=32)
    a.add_argument("--seconds", type=float, default=2.0)
    a.add_argument("--cpu", type=int, help="pin each child to this processor")
    for hidden in ("child", "name", "engine", "optimizer", "artifacts"):
        a.add_argument(f"--{hidden}", help=argparse.SUPPRESS)
    o = a.parse_args()
    if o.child:
        return child(o)
    pythons = {"torch": o.torch_python or o.venvs / "torch/bin/python", "ort": o.ort_python or o.venvs / "ort/bin/python"}
    names = sorted(p.name[:-len(".grad.npz")] for p in o.folder.glob("*.grad.npz"))
    names = [n for n in names if (o.folder / f"{n}.onnx").exists() and (not o.models or n in o.models.split(","))]
    if not names:
        sys.exit(f"{o.folder}: no NAME.onnx with NAME.grad.npz")
    for name in names:
        for engine in o.engines.split(","):
            for optimizer in o.optimizers.split(","):
                with tempfile.TemporaryDirectory() as artifacts:
                    python, got = pythons[ENGINES[engine]], {}
                    if engine == "ort":
                        got = ask(o, "artifacts", python, name, engine, optimizer, artifacts)
                    if "error" not in got:
                        got = ask(o, engine, python, name, engine, optimizer, artifacts)
                print(json.dumps({"model": name, "engine": engine, "optimizer": optimizer, "batch": o.batch, **got}), flush=True)


if __name__ == "__main__":
    main()
