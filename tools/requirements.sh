#!/bin/sh
# Compiles requirements/*.txt out of pyproject.toml: every release pinned, by hash, for every platform.
# What is pinned stays pinned unless UPGRADE=1. No name of an index or a machine may get into the files.
set -eu
cd "$(dirname "$0")/.."

compile() {
    .venv/bin/uv pip compile -q --no-config --universal --python-version 3.11 --generate-hashes \
        --no-header --no-annotate --no-emit-index-url --no-emit-find-links ${UPGRADE:+--upgrade} "$@" >/dev/null
}

compile pyproject.toml -o requirements/base.txt
compile pyproject.toml --group dev -c requirements/base.txt -o requirements/dev.txt
echo uv | compile - -c requirements/dev.txt -o requirements/uv.txt
