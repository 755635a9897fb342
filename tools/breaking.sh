#!/bin/sh
# Compares proto/ with what has landed: with the tip of main, with this commit and with the one before it, as far as
# they exist and have a contract. So it finds a break both before and after the commit that makes it.
set -eu
cd "$(dirname "$0")/.."

before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT

landed() {
    for name in main HEAD HEAD~1; do
        git rev-parse --verify -q "$name^{commit}" || true
    done | sort -u
}

for commit in $(landed); do
    if git cat-file -e "$commit:proto" 2>/dev/null; then
        mkdir "$before/$commit"
        git archive "$commit" proto | tar -x -C "$before/$commit"
        .venv/bin/buf breaking proto --against "$before/$commit/proto"
    fi
done
