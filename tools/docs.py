"""Writes docs/reference/ from the code, so that the reference says what the program does.

Each page has one source: the settings' table, the command line's own help, the proto with its comments, the table of
errors, the catalogue of events, the table of metrics, the access options. What the code cannot say (what to do about an
error, what an event means to its reader) stands in ``tools/docs_texts.py``, and a name without a text there is an error
here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tools import docs_api, docs_cli, docs_errors, docs_events, docs_metrics, docs_settings

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
_NOTE = "<!-- Made from the code by `python -m tools.docs`; do not edit. -->\n\n"

PAGES: Mapping[str, Callable[[], str]] = {
    "api.md": docs_api.page,
    "cli.md": docs_cli.page,
    "errors.md": docs_errors.page,
    "events.md": docs_events.page,
    "metrics.md": docs_metrics.page,
    "scopes.md": docs_api.scopes_page,
    "settings.md": docs_settings.page,
}
"""The generated pages, by their file's name."""


def generate() -> dict[str, str]:
    """Return the text of every generated page, by its file's name."""
    return {name: _NOTE + make() for name, make in PAGES.items()}


def stale_pages(made: Mapping[str, str]) -> list[str]:
    """Name the pages that are missing or are not what ``made`` says."""
    return [name for name, text in sorted(made.items()) if _read(REFERENCE / name) != text]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def main() -> int:
    """Write the pages, or with ``--check`` say what is stale."""
    parser = argparse.ArgumentParser(description="Write docs/reference/ from the code.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when something is stale")
    check = parser.parse_args().check
    made = generate()
    stale = stale_pages(made)
    for name in stale:
        if check:
            sys.stderr.write(f"{(REFERENCE / name).relative_to(ROOT)} is stale; run `python -m tools.docs`\n")
        else:
            REFERENCE.mkdir(parents=True, exist_ok=True)
            (REFERENCE / name).write_text(made[name], encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
