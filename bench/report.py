"""What a scenario found, as tables for people and as JSON for programs; nothing here measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

Cell = str | int | float

_VERDICT_COLUMNS = ("promise", "measured", "bound", "verdict")


@dataclass(frozen=True, slots=True)
class Check:
    """One number that was promised; ``at_most`` says on which side of ``bound`` it must lie."""

    name: str
    value: float
    bound: float
    unit: str
    at_most: bool

    @property
    def passed(self) -> bool:
        """Whether the promise is kept."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound


@dataclass(frozen=True, slots=True)
class Section:
    """One scenario's table, with what it promises and what should be known to read it."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    """In each a cell for each column; "" where there is nothing to say."""
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def show(console: Console, sections: Sequence[Section]) -> None:
    """Print the tables, and at last every promise with its verdict."""
    for section in sections:
        console.print(_table(section))
        for note in section.notes:
            console.print(f"  {note}", style="dim")
    checks = [check for section in sections for check in section.checks]
    if checks:
        console.print(_verdicts(checks))


def as_json(sections: Sequence[Section]) -> dict[str, Any]:
    """Return the same, numbers unrounded."""
    return {
        "sections": [
            {
                "title": section.title,
                "rows": [dict(zip(section.columns, row, strict=True)) for row in section.rows],
                "notes": section.notes,
            }
            for section in sections
        ],
        "checks": [asdict(check) | {"passed": check.passed} for section in sections for check in section.checks],
    }


def as_markdown(sections: Sequence[Section]) -> str:
    """Return the same as tables for a page of documentation."""
    parts = []
    for section in sections:
        lines = [f"### {section.title}", "", _line(section.columns), _line(["---"] * len(section.columns))]
        lines += [_line([written(cell) for cell in row]) for row in section.rows]
        parts.append("\n".join([*lines, "", *(f"- {note}" for note in section.notes)]).rstrip())
    rows = [_line(verdict_of(check)) for section in sections for check in section.checks]
    parts.append("\n".join(["### What was promised", "", _line(_VERDICT_COLUMNS), _line(["---"] * 4), *rows]))
    return "\n\n".join(parts) + "\n"


def verdict_of(check: Check) -> tuple[str, str, str, str]:
    """Return a promise, what was measured, its bound and whether it is kept, in words."""
    bound = f"{'≤' if check.at_most else '≥'} {written(check.bound)} {check.unit}"
    return check.name, f"{written(check.value)} {check.unit}", bound, "pass" if check.passed else "FAIL"


def written(cell: Cell) -> str:
    """Write a cell: whole numbers with separators, others with three significant digits or none after the point."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int) or abs(cell) >= 100:
        return f"{cell:,.0f}"
    return f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:.2f}"


def _table(section: Section) -> Table:
    table = Table(title=section.title, title_justify="left")
    for place, column in enumerate(section.columns):
        table.add_column(column, justify="left" if place == 0 else "right")
    for row in section.rows:
        table.add_row(*(written(cell) for cell in row))
    return table


def _verdicts(checks: Sequence[Check]) -> Table:
    table = Table(title="What was promised", title_justify="left")
    for column in _VERDICT_COLUMNS:
        table.add_column(column, justify="left" if column in {"promise", "verdict"} else "right")
    for check in checks:
        table.add_row(*verdict_of(check), style="" if check.passed else "red")
    return table


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
