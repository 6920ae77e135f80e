#!/usr/bin/env bash
# Runs a board's shoal-agent under qemu on a real package: inspects it, checks the sample
# configuration, serves it and compares a prediction with the one of this machine's own agent.
#
#   cross/qemu-check.sh BINARY PACKAGE.shoal [ROW]
#
# ROW       comma-separated features; default: zeros, as many as the package has.
# SHOAL_NATIVE_AGENT   this machine's shoal-agent, to compare with; without it nothing is compared.
#
# The CPU is a Cortex-A53, since qemu's own default offers instructions that no small board has.
# Memory and time under qemu say nothing about a board and are not looked at.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

binary=${1:?usage: cross/qemu-check.sh BINARY PACKAGE [ROW]}
package=${2:?usage: cross/qemu-check.sh BINARY PACKAGE [ROW]}
row=${3:-}

# The ELF header's machine: 183 is AArch64, 40 is ARM.
machine=$(od -An -j18 -N2 -tu2 "$binary" | tr -d ' ')
case "$machine" in
    183)
        qemu=qemu-aarch64-static
        export QEMU_LD_PREFIX=${QEMU_LD_PREFIX:-/usr/aarch64-linux-gnu} QEMU_CPU=${QEMU_CPU:-cortex-a53}
        ;;
    40)
        qemu=qemu-arm-static
        export QEMU_LD_PREFIX=${QEMU_LD_PREFIX:-/usr/arm-linux-gnueabihf} QEMU_CPU=${QEMU_CPU:-cortex-a15}
        # qemu shows this machine's /proc/cpuinfo, in which NEON is not found.
        export TRACT_CPU_ARM32_NEON=${TRACT_CPU_ARM32_NEON:-true}
        ;;
    *)
        echo "qemu-check: $binary is for machine $machine, not for a board" >&2
        exit 64
        ;;
esac
command -v "$qemu" >/dev/null || { echo "qemu-check: $qemu is missing; hint: apt-get install qemu-user-static" >&2; exit 78; }

work=$(mktemp -d)
agent_pid=
cleanup() {
    if [ -n "$agent_pid" ] && kill -0 "$agent_pid" 2>/dev/null; then
        kill "$agent_pid" || true
        wait "$agent_pid" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT

board() { "$qemu" "$binary" "$@"; }
step() { echo "qemu-check: $*" >&2; }

step "version"
board --version

step "inspect"
board inspect "$package" --json >"$work/inspect.json"
python3 -m json.tool "$work/inspect.json" >/dev/null

step "check-config"
board check-config --config cross/agent.toml

if [ -z "$row" ]; then
    count=$(python3 - "$package" <<'PY'
import io, subprocess, sys, tarfile
plain = subprocess.run(["zstd", "-dc", sys.argv[1]], check=True, capture_output=True).stdout
text = tarfile.open(fileobj=io.BytesIO(plain)).extractfile("model.toml").read().decode()
print(text.count("[[feature]]"))
PY
)
    row=$(printf '0,%.0s' $(seq "$count"))
    row=${row%,}
fi

step "predict, one row without a server"
board predict --package "$package" --row "$row" --json | tee "$work/board.json"
if [ -n "${SHOAL_NATIVE_AGENT:-}" ]; then
    "$SHOAL_NATIVE_AGENT" predict --package "$package" --row "$row" --json >"$work/native.json"
    python3 - "$work/board.json" "$work/native.json" <<'PY'
import json, sys

def numbers(value):
    if isinstance(value, bool):
        return
    if isinstance(value, (int, float)):
        yield float(value)
    elif isinstance(value, dict):
        for key in sorted(value):
            if key in ("values", "confidence", "data", "outputs", "predictions"):
                yield from numbers(value[key])
    elif isinstance(value, list):
        for one in value:
            yield from numbers(one)

board, native = (list(numbers(json.load(open(path)))) for path in sys.argv[1:3])
assert board and len(board) == len(native), f"{len(board)} numbers against {len(native)}"
limit = 1e-5 * max(1.0, max(map(abs, native)))
worst = max(abs(a - b) for a, b in zip(board, native))
print(f"qemu-check: {len(board)} numbers, largest difference {worst:.2e}, allowed {limit:.2e}", file=sys.stderr)
assert worst <= limit
PY
fi

# No model is served here: the agent would start its admission child, and this machine cannot start a
# board's binary without qemu in front.
step "run, until it is ready, and ask it"
mkdir "$work/state"
sed -e "s|^dir = .*|dir = \"$work/state\"|" -e 's|^http = .*|http = "127.0.0.1:0"|' -e 's|^grpc = .*|grpc = "off"|' \
    cross/agent.toml >"$work/agent.toml"
"$qemu" "$binary" run --config "$work/agent.toml" --ready-file "$work/ready.json" >"$work/agent.log" 2>&1 &
agent_pid=$!
for _ in $(seq 300); do
    [ -s "$work/ready.json" ] && break
    kill -0 "$agent_pid" 2>/dev/null || { cat "$work/agent.log" >&2; exit 70; }
    sleep 0.1
done
[ -s "$work/ready.json" ] || { cat "$work/agent.log" >&2; exit 70; }
board --socket "$work/state/control.sock" status --json | python3 -m json.tool >/dev/null
kill "$agent_pid"
wait "$agent_pid" || { cat "$work/agent.log" >&2; exit 70; }
agent_pid=

step "all held"
