"""Prints our time of a training step as a ratio to PyTorch's and onnxruntime-training's, model by model.

    python3 tests/bench/learn/compare.py DIR [--cpu 1] [--zoo target/release/zoo] [--models a,b] [--seconds 2]

DIR holds NAME.onnx with NAME.grad.npz. For each model our own steps are timed before and after the rivals', all
pinned to one CPU; the lower of our two medians is divided by the rival's median of the same minutes. Needs
`setup.sh`, and `cargo build --release --bin zoo`. Exits with 1 when a goal is missed: 1.0 of the faster rival for
dense networks, 1.5 for others.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
DENSE = ("mlp", "ae")
REPORTED = ("mbv2",)


def ours(args, model):
    command = [args.zoo, "train", "--alone", f"{args.dir}/{model}.onnx", args.dir, "--seconds", str(args.seconds)]
    pin = lambda: os.sched_setaffinity(0, {args.cpu})
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=pin)
    line = json.loads(done.stdout.splitlines()[-1])
    if "timed" not in line:
        sys.exit(f"{model}: {line.get('error')}")
    return line["timed"]


def rivals(args, model):
    command = [sys.executable, str(HERE / "rivals.py"), args.dir, "--cpu", str(args.cpu), "--models", model,
               "--seconds", str(args.seconds)]
    for name in ("torch_python", "ort_python"):
        if getattr(args, name):
            command += ["--" + name.replace("_", "-"), getattr(args, name)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {(line["engine"], line["optimizer"]): line for line in lines if line["model"] == model}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir")
    parser.add_argument("--cpu", type=int, default=1)
    parser.add_argument("--zoo", default="target/release/zoo")
    parser.add_argument("--models", default="")
    parser.add_argument("--torch-python", default="")
    parser.add_argument("--ort-python", default="")
    parser.add_argument("--seconds", type=float, default=2.0)
    args = parser.parse_args()
    names = sorted(path.name[:-5] for path in pathlib.Path(args.dir).glob("*.onnx"))
    names = [name for name in names if (pathlib.Path(args.dir) / f"{name}.grad.npz").exists()]
    chosen = [name for name in args.models.split(",") if name] or names
    missed = []
    print("| model | optimiser | ours ms | PyTorch ms | ratio | ort-training ms | ratio | of the faster |")
    print("|---|---|---|---|---|---|---|---|")
    for model in chosen:
        before, others, after = ours(args, model), rivals(args, model), ours(args, model)
        for optimizer in ("sgd", "adamw"):
            mine = min(before[f"{optimizer}_ms"], after[f"{optimizer}_ms"])
            cells, ratios = [], []
            for engine in ("torch", "ort"):
                line = others.get((engine, optimizer), {"error": "not run"})
                if "error" in line:
                    cells += ["fails", ""]
                    continue
                ratio = mine / line["ms_per_step"]
                ratios.append(ratio)
                cells += [f"{line['ms_per_step']:.3f}", f"{ratio:.2f}"]
            worst = max(ratios) if ratios else float("nan")
            print(f"| {model} | {optimizer} | {mine:.3f} | {' | '.join(cells)} | {worst:.2f} |", flush=True)
            goal = 1.0 if model.startswith(DENSE) else 1.5
            if worst > goal and not model.startswith(REPORTED):
                missed.append(f"{model} {optimizer} {worst:.2f} > {goal}")
    print("all goals reached" if not missed else "missed: " + ", ".join(missed))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
