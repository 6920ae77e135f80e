#!/usr/bin/env bash
# Makes `target/watch-bench/river`, `evidently` and `whylogs`: the Python environments of rivals.py.
# They are apart: whylogs 1.6.4, its last release, wants numpy 1, and each is measured alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
venvs=$(realpath -m "${1:-target/watch-bench}")
install() {
    [ -x "$venvs/$1/bin/python" ] || python3 -m venv "$venvs/$1"
    "$venvs/$1/bin/pip" install --quiet --disable-pip-version-check "${@:2}"
}
install river 'river==0.26.1'
install whylogs 'whylogs==1.6.4' 'numpy<2' pandas 'setuptools<81'
install evidently 'evidently==0.7.23' 'pandas<3'
"$venvs/river/bin/python" -c 'import river; print("river", river.__version__)'
"$venvs/whylogs/bin/python" -c 'import whylogs; print("whylogs", whylogs.__version__)'
"$venvs/evidently/bin/python" -c 'import evidently; print("evidently", evidently.__version__)'
