"""The little Markdown that the reference is written in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table; a bar or a line break in a cell would end it, so neither is left as it is."""
    lines = [_row(headings), _row(["---"] * len(headings)), *[_row(row) for row in rows]]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join([cell.replace("\n", " ").replace("|", "\\|") for cell in cells]) + " |"


def code(text: str) -> str:
    """Write ``text`` as code; nothing when it is empty."""
    return f"`{text}`" if text else ""


def anchor(heading: str) -> str:
    """Return what links to ``heading`` on its page, as GitHub makes it."""
    kept = [letter for letter in heading.lower() if letter.isalnum() or letter in " -_"]
    return "".join(kept).replace(" ", "-")
