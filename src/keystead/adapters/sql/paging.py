"""Pages by where the last one ended, not by counting rows, so rows that come or go meanwhile shift nothing."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, literal, tuple_

from keystead.kernel.paging import PageRequest


def after(
    statement: Select[Any], request: PageRequest, columns: tuple[ColumnElement[Any], ...], position: tuple[object, ...]
) -> Select[Any]:
    """Order ``statement`` by ``columns``, begin after ``position`` unless it is empty, and take a page and one row."""
    if position:
        here = tuple_(*columns)
        last = tuple_(*[literal(value, column.type) for value, column in zip(position, columns, strict=True)])
        statement = statement.where(here > last if request.ascending else here < last)
    order = [column.asc() if request.ascending else column.desc() for column in columns]
    return statement.order_by(*order).limit(request.size + 1)
