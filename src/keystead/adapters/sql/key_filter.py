"""A question about keys as SQL, shaped so that a page costs about the same at a thousand keys and at a million.

What stands in a table of its own (scopes, tags, prefixes) is looked up there first, up to a bound. Few keys have it:
then they are asked for by their ids. Many have it: then walking the keys in their order meets some soon, and each is
asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, or_, select

from keystead.adapters.sql import schema
from keystead.adapters.sql.paging import after
from keystead.adapters.sql.session import Session
from keystead.adapters.texts import fold
from keystead.kernel.paging import PageRequest
from keystead.keys.model import KeyFilter, KeyState

FEW = 1_000
_AFTER_ASCII = "\x7f"

_KEYS = schema.keys
_SECRETS = schema.secrets
_LABELS = schema.key_labels


@dataclass(frozen=True, slots=True)
class _Trait:
    """Something keys have in a table of its own: which rows say so, and which column names the key."""

    holder: ColumnElement[str]
    says_so: ColumnElement[bool]

    def having(self) -> Select[Any]:
        """Ask for the keys that have it, up to one more than a few."""
        return select(self.holder).where(self.says_so).distinct().limit(FEW + 1)

    def asked_of_each(self) -> ColumnElement[bool]:
        """Ask each key whether it has it."""
        return exists().where(self.holder == _KEYS.c.id, self.says_so)


class Question:
    """What is asked of the keys in one workspace, or in all of them; everything in the filter must hold."""

    def __init__(self, wanted: KeyFilter, conditions: Sequence[ColumnElement[bool]]) -> None:
        """Use ``prepared`` instead."""
        self._conditions = [*_fields(wanted), *_state(wanted), *_times(wanted), *conditions]

    @classmethod
    async def prepared(cls, session: Session, workspace_id: str | None, wanted: KeyFilter) -> Question:
        """Find out which of the traits asked for are rare."""
        conditions: list[ColumnElement[bool]] = []
        for trait in _traits(workspace_id or wanted.workspace_id, wanted):
            # Asked of each even then, for a key may lose the trait before it is locked.
            conditions.append(trait.asked_of_each())
            having = await session.read(trait.having())
            if len(having) <= FEW:
                conditions.append(_KEYS.c.id.in_([row[0] for row in having]))
        if wanted.query:
            conditions.append(_KEYS.c.search.contains(fold(wanted.query), autoescape=True))
        return cls(wanted, conditions)

    def narrow(self, statement: Select[Any]) -> Select[Any]:
        """Keep of ``statement``, which selects from keys inside its walls, what the question asks for."""
        return statement.where(*self._conditions)

    def page(self, statement: Select[Any], request: PageRequest) -> Select[Any]:
        """Narrow ``statement`` to one page, and one row more."""
        return after(self.narrow(statement), request, (_KEYS.c.id,), request.position)


def _traits(workspace_id: str, wanted: KeyFilter) -> list[_Trait]:
    inside = [_LABELS.c.workspace_id == workspace_id] if workspace_id else []
    traits = [
        _Trait(_LABELS.c.key_id, and_(_LABELS.c.kind == kind, _LABELS.c.label == label, *inside))
        for kind, label in (("scope", wanted.scope), ("tag", wanted.tag))
        if label
    ]
    if wanted.prefix:
        traits.append(_Trait(_SECRETS.c.key_id, _begins_with(wanted.prefix)))
    return traits


def _begins_with(prefix: str) -> ColumnElement[bool]:
    """Ask for a range of the index rather than a pattern; stored prefixes are ASCII, which bounds the range."""
    return and_(_SECRETS.c.prefix >= prefix, _SECRETS.c.prefix < prefix + _AFTER_ASCII)


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
