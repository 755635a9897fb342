#!/bin/sh
# Makes .venv: what requirements/dev.txt pins, by hash, and keystead itself, editable.
# Nothing but Python 3.11 or later is needed; uv is installed first because it is much faster than pip, and when it
# cannot reach its index (some networks are set up for pip alone) pip does the same work.
set -eu
cd "$(dirname "$0")/.."

say() {
    printf '%s\n' "$*" >&2
}

find_python() {
    for name in "${PYTHON:-python3}" python3.11 python3.12 python3.13 python3; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    say "setup: Python 3.11 or later is needed; name it with PYTHON=…"
    exit 1
}

# Debian's python3 comes without ensurepip, which `python3 -m venv` needs.
ensure_venv_module() {
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        return
    fi
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        say "setup: this Python cannot make virtual environments; run: sudo apt-get install python3-venv"
        exit 1
    fi
    apt-get update -q >&2
    apt-get install -q -y python3-venv >&2
}

install_pinned() {
    if .venv/bin/uv pip sync -q --python .venv/bin/python --require-hashes requirements/dev.txt; then
        return
    fi
    say "setup: uv could not install the requirements; trying pip"
    .venv/bin/python -m pip install -q --require-hashes -r requirements/dev.txt
}

python=$(find_python)
ensure_venv_module
if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    "$python" -m venv --clear .venv
fi
if [ "$(.venv/bin/uv --version 2>/dev/null | cut -d' ' -f2)" != "$(sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements/uv.txt)" ]; then
    .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
fi
install_pinned
.venv/bin/uv pip install -q --python .venv/bin/python --no-deps --no-build-isolation --offline -e .
touch .venv/.ready
