"""A question about keys as SQL, shaped so that a page costs the same at a thousand keys and at a million.

Labels are joined rather than asked for key by key: their index holds the keys of one label in the order of the list, so
a page begins where the last one ended whether the label is rare or everywhere.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, and_, false, or_, select

from keystead.adapters.sql import schema
from keystead.adapters.sql.paging import after
from keystead.adapters.texts import fold
from keystead.kernel.paging import PageRequest
from keystead.keys.model import KeyFilter, KeyState

_KEYS = schema.keys
_SECRETS = schema.secrets


class Question:
    """What is asked of the keys; everything in the filter must hold."""

    def __init__(self, wanted: KeyFilter) -> None:
        """Ask for ``wanted``."""
        self._wanted = wanted
        asked = (("scope", wanted.scope), ("tag", wanted.tag))
        self._labels = [(kind, label, schema.key_labels.alias(kind)) for kind, label in asked if label]

    def narrow(self, statement: Select[Any]) -> Select[Any]:
        """Keep of ``statement``, which selects from keys inside its walls, what the question asks for."""
        for kind, label, table in self._labels:
            statement = statement.join(
                table,
                and_(
                    table.c.key_id == _KEYS.c.id,
                    table.c.workspace_id == _KEYS.c.workspace_id,
                    table.c.kind == kind,
                    table.c.label == label,
                ),
            )
        return statement.where(
            *_fields(self._wanted), *_state(self._wanted), *_times(self._wanted), *_texts(self._wanted)
        )

    def page(self, statement: Select[Any], request: PageRequest) -> Select[Any]:
        """Narrow ``statement`` to one page, and one row more."""
        order = self._labels[0][2].c.key_id if self._labels else _KEYS.c.id
        return after(self.narrow(statement), request, (order,), request.position)


def _fields(wanted: KeyFilter) -> list[ColumnElement[bool]]:
    asked = (
        (_KEYS.c.workspace_id, wanted.workspace_id),
        (_KEYS.c.owner_id, wanted.owner_id),
        (_KEYS.c.environment, wanted.environment),
        (_KEYS.c.kind, wanted.kind),
    )
    conditions: list[ColumnElement[bool]] = [column == value for column, value in asked if value]
    if wanted.key_ids:
        conditions.append(_KEYS.c.id.in_(wanted.key_ids))
    return conditions


def _state(wanted: KeyFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.not_revoked:
        conditions.append(_KEYS.c.state != KeyState.REVOKED)
    if wanted.state is KeyState.ACTIVE:
        alive = or_(_KEYS.c.expires_at_ms.is_(None), _KEYS.c.expires_at_ms > wanted.now_ms)
        conditions += [_KEYS.c.state == KeyState.ACTIVE, alive]
    elif wanted.state is KeyState.EXPIRED:
        conditions += [_KEYS.c.state == KeyState.ACTIVE, _KEYS.c.expires_at_ms <= wanted.now_ms]
    elif wanted.state is not None:
        conditions.append(_KEYS.c.state == wanted.state)
    return conditions


def _times(wanted: KeyFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.unused_since_ms is not None:
        last = _KEYS.c.last_used_at_ms
        conditions.append(or_(last.is_(None), last < wanted.unused_since_ms))
    if wanted.expires_before_ms is not None:
        conditions.append(_KEYS.c.expires_at_ms < wanted.expires_before_ms)
    return conditions


def _texts(wanted: KeyFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.prefix:
        conditions.append(_prefixed(wanted.prefix))
    if wanted.query:
        conditions.append(_KEYS.c.search.contains(fold(wanted.query), autoescape=True))
    return conditions


def _prefixed(prefix: str) -> ColumnElement[bool]:
    """Ask for a range of the index rather than a pattern; prefixes are ASCII, so nothing else can match."""
    if not prefix.isascii():
        return false()
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    within = and_(_SECRETS.c.prefix >= prefix, _SECRETS.c.prefix < end)
    return _KEYS.c.id.in_(select(_SECRETS.c.key_id).where(within))
