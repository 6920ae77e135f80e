#!/usr/bin/env bash
# Makes `target/learn-bench/torch` and `target/learn-bench/ort`: the Python environments of rivals.py.
# They are apart: onnxruntime-training 1.19.2 is the last release with training, and wants numpy 1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
venvs=$(realpath -m "${1:-target/learn-bench}")
pip() { "$venvs/$1/bin/pip" install --quiet --disable-pip-version-check "${@:2}"; }
for name in torch ort; do
    [ -x "$venvs/$name/bin/python" ] || python3 -m venv "$venvs/$name"
done
pip torch torch 'numpy<3' onnx
# A newer onnx writes the optimizer's graph with an IR version and operator sets that 1.19.2 refuses.
pip ort 'onnxruntime-training==1.19.2' 'numpy<2' 'onnx==1.16.2'
"$venvs/torch/bin/python" -c 'import torch, onnx; print("torch", torch.__version__)'
(cd tests/bench/learn && PYTHONDONTWRITEBYTECODE=1 "$venvs/ort/bin/python" -c \
    'import rivals; o = rivals.import_ort(); from onnxruntime.training import artifacts; print("onnxruntime-training", o.__version__)')
