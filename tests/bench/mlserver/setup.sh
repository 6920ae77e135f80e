#!/bin/sh
# Makes a venv with MLServer and onnxruntime for `bench serve --mlserver VENV`.
set -eu
venv=${1:?usage: setup.sh VENV}
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check mlserver==1.7.1 onnxruntime
"$venv/bin/mlserver" --version
