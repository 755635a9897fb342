"""Adds to the sums of usage: one statement per table and step, its rows in one order everywhere.

Counters that meet in the same rows therefore wait for one another and never in a circle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Table

from keystead.adapters.sql.engines import POSTGRESQL
from keystead.adapters.sql.session import Session
from keystead.adapters.sql.usage_rows import Row

_ARRAYS = {"BIGINT": "bigint", "SMALLINT": "smallint"}


async def add_sums(session: Session, table: Table, rows: Sequence[Row]) -> None:
    """Add to the rows of ``table`` with the same primary key, or insert them; what is no key is a sum.

    ``rows`` stand in the order of the table's columns, each primary key once, sorted. The transaction must have begun.
    """
    await _upsert(session, table, rows, "{name} = kept.{name} + excluded.{name}")


async def keep_latest(session: Session, table: Table, rows: Sequence[Row]) -> None:
    """As ``add_sums``, but the greater of the two numbers stays."""
    greatest = "greatest" if session.database.kind == POSTGRESQL else "max"
    await _upsert(session, table, rows, f"{{name}} = {greatest}(kept.{{name}}, excluded.{{name}})")


async def add_spans(session: Session, table: Table, rows: Sequence[Row]) -> None:
    """As ``add_sums``, but of ``first_at_ms`` and ``last_at_ms`` the least and the greatest stay."""
    least, greatest = ("least", "greatest") if session.database.kind == POSTGRESQL else ("min", "max")
    others = {
        name: f"{name} = {choice}(kept.{name}, excluded.{name})"
        for name, choice in (("first_at_ms", least), ("last_at_ms", greatest))
    }
    await _upsert(session, table, rows, "{name} = kept.{name} + excluded.{name}", others)


async def _upsert(
    session: Session, table: Table, rows: Sequence[Row], change: str, others: Mapping[str, str] | None = None
) -> None:
    if not rows:
        return
    statement = _statement(table, session.database.kind, change, others or {})
    if session.database.kind == POSTGRESQL:
        columns = [list(column) for column in zip(*rows, strict=True)]
        await session.on_driver(lambda driver: driver.execute(statement, *columns))
    else:
        await session.on_driver(lambda driver: driver.executemany(statement, rows))


def _statement(table: Table, kind: str, change: str, others: Mapping[str, str]) -> str:
    """Write the statement; on PostgreSQL it takes columns, on SQLite one row."""
    names = [column.name for column in table.columns]
    cell = [column.name for column in table.primary_key.columns]
    changes = ", ".join(others.get(name, change.format(name=name)) for name in names if name not in cell)
    if kind == POSTGRESQL:
        arrays = ", ".join(f"${place}::{_array_type(column)}[]" for place, column in enumerate(table.columns, start=1))
        rows = f"SELECT * FROM unnest({arrays})"  # noqa: S608 -- constants
    else:
        rows = f"VALUES ({', '.join('?' * len(names))})"
    return (
        f"INSERT INTO {table.name} AS kept ({', '.join(names)}) {rows} "
        f"ON CONFLICT ({', '.join(cell)}) DO UPDATE SET {changes}"
    )


def _array_type(column: Any) -> str:
    return _ARRAYS.get(str(column.type), "text")
