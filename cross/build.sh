#!/usr/bin/env bash
# Builds shoal-agent for a board and says what it needs to run.
#
#   cross/build.sh [TARGET]            default: aarch64-unknown-linux-gnu
#   SHOAL_MAX_GLIBC=2.36 cross/build.sh   fails when the binary asks for a newer glibc
#
# Debian's cross gcc links and compiles the C parts (SQLite, ring, zstd); its glibc is the floor.
# The last line of stdout is the path of the binary.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${1:-aarch64-unknown-linux-gnu}
package=${SHOAL_PACKAGE:-shoal-agent}
profile=${SHOAL_PROFILE:-release}

case "$target" in
    aarch64-unknown-linux-gnu) gnu=aarch64-linux-gnu deb=gcc-aarch64-linux-gnu ;;
    armv7-unknown-linux-gnueabihf) gnu=arm-linux-gnueabihf deb=gcc-arm-linux-gnueabihf ;;
    x86_64-unknown-linux-gnu) gnu=x86_64-linux-gnu deb=gcc ;;
    *)
        echo "cross/build.sh: no linker is known for \`$target\`" >&2
        echo "hint: aarch64-unknown-linux-gnu, armv7-unknown-linux-gnueabihf or x86_64-unknown-linux-gnu" >&2
        exit 64
        ;;
esac

if ! command -v "$gnu-gcc" >/dev/null; then
    echo "cross/build.sh: \`$gnu-gcc\` is missing" >&2
    echo "hint: apt-get install $deb libc6-dev-*-cross" >&2
    exit 78
fi
if command -v rustup >/dev/null && ! rustup target list --installed | grep -qx "$target"; then
    rustup target add "$target" >&2
fi

# cargo and the cc crate read these; other targets of the same build (build scripts) are not touched.
upper=$(tr 'a-z-' 'A-Z_' <<<"$target")
lower=$(tr '-' '_' <<<"$target")
export "CARGO_TARGET_${upper}_LINKER=$gnu-gcc"
export "CC_${lower}=$gnu-gcc" "AR_${lower}=$gnu-ar"

cargo build --locked --profile "$profile" --target "$target" --package "$package" >&2

folder=$profile
[ "$profile" = dev ] && folder=debug
binary=${CARGO_TARGET_DIR:-target}/$target/$folder/$package
[ -f "$binary" ] || { echo "cross/build.sh: no binary at $binary" >&2; exit 70; }

bytes=$(stat -c %s "$binary")
packed=$(xz -9 -c "$binary" | wc -c)
floor=$("$gnu-objdump" -T "$binary" | grep -oE 'GLIBC_[0-9]+\.[0-9]+' | sort -Vu | tail -n 1)
{
    echo "target     $target"
    echo "size       $bytes bytes, $packed bytes as xz -9 (what a .deb holds)"
    echo "libraries  $("$gnu-objdump" -p "$binary" | awk '/NEEDED/ {print $2}' | paste -sd' ')"
    echo "glibc      ${floor:-none}"
} >&2

if [ -n "${SHOAL_MAX_GLIBC:-}" ] && [ -n "$floor" ]; then
    newest=$(printf '%s\n%s\n' "${floor#GLIBC_}" "$SHOAL_MAX_GLIBC" | sort -V | tail -n 1)
    if [ "$newest" != "$SHOAL_MAX_GLIBC" ]; then
        echo "cross/build.sh: the binary needs $floor, the board has $SHOAL_MAX_GLIBC" >&2
        exit 70
    fi
fi
echo "$binary"
