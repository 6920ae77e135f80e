#!/usr/bin/env bash
# Makes the folder `target/clients`, a Python environment with the clients that the tests drive.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[ -x target/clients/bin/python ] || python3 -m venv target/clients
target/clients/bin/pip install --quiet --disable-pip-version-check 'tritonclient[http,grpc]==2.*' 'numpy<3'
target/clients/bin/python -c 'import tritonclient.http, tritonclient.grpc'
