"""Keys and their secrets in SQL.

A key is read together with its secrets in one statement, so what is read is what was there at one moment. Locking takes
a statement before it: keys are locked in one order, the newest first, so two units that lock many never wait in a
circle.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, delete, func, insert, select, update

from keystead.adapters.limits import limits_from, limits_text
from keystead.adapters.sql import schema
from keystead.adapters.sql.failures import demanding_workspace
from keystead.adapters.sql.key_filter import Question
from keystead.adapters.sql.session import Session
from keystead.adapters.texts import in_order, searched_in_key
from keystead.adapters.walls import Walls
from keystead.events.model import canonical
from keystead.kernel.paging import Page, PageRequest, cut
from keystead.keys.model import Key, KeyFilter, KeyKind, KeyState, SecretRecord
from keystead.tenants.errors import AlreadyExistsError, EtagMismatchError
from keystead.tenants.model import Environment

_KEYS = schema.keys
_SECRETS = schema.secrets
_LABELS = schema.key_labels
_KEY_COLUMNS = [column for column in _KEYS.columns if column.name != "search"]
_SECRET_COLUMNS = [
    column.label(f"secret_{column.name}") for column in _SECRETS.columns if column.name != _SECRETS.c.key_id.name
]


class SqlKeys:
    """The ``KeyRepository`` of one unit."""

    def __init__(self, session: Session, walls: Walls) -> None:
        """See what ``walls`` admit."""
        self._session = session
        self._walls = walls

    async def add(self, key: Key) -> None:
        """Store a new key with its secrets, labels included.

        Raises ``AlreadyExistsError`` when its id or a prefix is taken, ``NotFoundError`` when the workspace is gone.
        """
        self._walls.demand_key(key)
        with demanding_workspace(key.workspace_id):
            added = await self._session.write(self._session.database.insert_new(_KEYS).values(key_values(key)))
        if not added:
            raise AlreadyExistsError("key", key.id)
        for secret in key.secrets:
            await self._add_secret(key, secret)
        await self._add_labels(label_rows(key))

    async def get(self, key_id: str, *, lock: bool = False) -> Key | None:
        """Return one with its secrets, or None."""
        found = await self._load(self._inside().where(_KEYS.c.id == key_id), lock=lock)
        return found[0] if found else None

    async def by_prefix(self, prefix: str) -> Key | None:
        """Return the key with a secret of exactly this prefix, or None."""
        holder = select(_SECRETS.c.key_id).where(_SECRETS.c.prefix == prefix)
        found = await self._load(self._inside().where(_KEYS.c.id.in_(holder)))
        return found[0] if found else None

    async def save(self, key: Key) -> None:
        """Store the new state; raise ``EtagMismatchError`` when the stored version is not the one before it."""
        self._walls.demand_key(key)
        change = update(_KEYS).where(
            _KEYS.c.id == key.id,
            _KEYS.c.workspace_id == key.workspace_id,
            _KEYS.c.environment == key.environment,
            _KEYS.c.version == key.version - 1,
        )
        if not await self._session.write(change.values(**_values(key))):
            raise EtagMismatchError("key", key.id)
        await self._save_secrets(key)
        await self._save_labels(key)

    async def page(self, wanted: KeyFilter, request: PageRequest) -> Page[Key]:
        """Return one page by time of creation; the position is ``(id,)``."""
        question = await self._question(wanted)
        found = await self._load(question.page(self._inside(), request), ascending=request.ascending)
        return cut(found, request.size, lambda key: (key.id,))

    async def find(self, wanted: KeyFilter, *, limit: int, lock: bool = False) -> list[Key]:
        """Return at most ``limit`` keys, the newest first."""
        if lock:
            self._session.demand_writable()
        question = await self._question(wanted)
        found = await self._load(question.page(self._inside(), PageRequest(size=limit)), lock=lock)
        return found[:limit]

    async def count(self, wanted: KeyFilter) -> int:
        """Return how many keys there are."""
        question = await self._question(wanted)
        rows = await self._session.read(question.narrow(self._inside()).with_only_columns(func.count(_KEYS.c.id)))
        count: int = rows[0][0]
        return count

    async def _question(self, wanted: KeyFilter) -> Question:
        return await Question.prepared(self._session, self._walls.workspace_id, wanted)

    async def _load(self, chosen: Select[Any], *, lock: bool = False, ascending: bool = False) -> list[Key]:
        if lock:
            locked = await self._session.lock(chosen.with_only_columns(_KEYS.c.id).with_for_update(of=_KEYS))
            if not locked:
                return []
            chosen = select(*_KEY_COLUMNS).where(_KEYS.c.id.in_([row.id for row in locked]))
        keys = chosen.subquery("chosen")
        statement = select(keys, *_SECRET_COLUMNS).outerjoin(_SECRETS, _SECRETS.c.key_id == keys.c.id)
        statement = statement.order_by(keys.c.id.asc() if ascending else keys.c.id.desc())
        return _keys(await self._session.read(statement))

    def _inside(self) -> Select[Any]:
        conditions: list[ColumnElement[bool]] = []
        if self._walls.workspace_id is not None:
            conditions.append(_KEYS.c.workspace_id == self._walls.workspace_id)
        if self._walls.environments is not None:
            conditions.append(_KEYS.c.environment.in_(sorted(self._walls.environments)))
        return select(*_KEY_COLUMNS).where(*conditions)

    async def _add_secret(self, key: Key, secret: SecretRecord) -> None:
        added = self._session.database.insert_new(_SECRETS).values(secret_values(key, secret))
        if not await self._session.write(added):
            raise AlreadyExistsError("secret", secret.prefix)

    async def _save_secrets(self, key: Key) -> None:
        stored = select(_SECRETS.c.id, _SECRETS.c.retires_at_ms).where(_SECRETS.c.key_id == key.id)
        known = {row.id: row.retires_at_ms for row in await self._session.read(stored)}
        gone = known.keys() - {secret.id for secret in key.secrets}
        if gone:
            await self._session.write(
                delete(_SECRETS).where(_SECRETS.c.id.in_(sorted(gone)), _SECRETS.c.key_id == key.id)
            )
        for secret in key.secrets:
            if secret.id not in known:
                await self._add_secret(key, secret)
            elif secret.retires_at_ms != known[secret.id]:
                change = update(_SECRETS).where(_SECRETS.c.id == secret.id, _SECRETS.c.key_id == key.id)
                await self._session.write(change.values(retires_at_ms=secret.retires_at_ms))

    async def _save_labels(self, key: Key) -> None:
        stored = select(_LABELS).where(_LABELS.c.key_id == key.id)
        known = [row._asdict() for row in await self._session.read(stored)]
        wanted = label_rows(key)
        for label in known:
            if label not in wanted:
                same = [_LABELS.c[name] == value for name, value in label.items()]
                await self._session.write(delete(_LABELS).where(*same))
        await self._add_labels([label for label in wanted if label not in known])

    async def _add_labels(self, labels: list[dict[str, object]]) -> None:
        if labels:
            await self._session.write(insert(_LABELS), labels)


def secret_values(key: Key, secret: SecretRecord) -> dict[str, object]:
    """Return the whole row of a secret of ``key``."""
    return {
        "id": secret.id,
        "key_id": key.id,
        "prefix": secret.prefix,
        "hash": secret.hash,
        "master_id": secret.master_id,
        "created_at_ms": secret.created_at_ms,
        "retires_at_ms": secret.retires_at_ms,
        "last_used_at_ms": secret.last_used_at_ms,
    }


def label_rows(key: Key) -> list[dict[str, object]]:
    """Return the rows by which ``key`` is found by a scope or a tag."""
    labels = [("scope", scope) for scope in key.scopes] + [("tag", tag) for tag in key.tags]
    return [
        {"key_id": key.id, "workspace_id": key.workspace_id, "kind": kind, "label": label}
        for kind, label in dict.fromkeys(labels)
    ]


def key_values(key: Key) -> dict[str, object]:
    """Return the whole row of ``key``."""
    return {"id": key.id, "workspace_id": key.workspace_id, **_fixed_values(key), **_values(key)}


def _fixed_values(key: Key) -> dict[str, object]:
    """Return the columns that no change of a key writes."""
    return {
        "environment": key.environment,
        "kind": key.kind,
        "owner_id": key.owner_id,
        "created_at_ms": key.created_at_ms,
        "created_by": key.created_by,
        "last_used_at_ms": key.last_used_at_ms,
    }


def _values(key: Key) -> dict[str, object]:
    """Return the columns that a change of a key may write."""
    return {
        "name": key.name,
        "description": key.description,
        "state": key.state,
        "state_reason": key.state_reason,
        "scopes": canonical(list(key.scopes)),
        "metadata": canonical(dict(key.metadata)),
        "tags": canonical(list(key.tags)),
        "allowed_ips": canonical(list(key.allowed_ips)),
        "search": searched_in_key(key),
        "updated_at_ms": key.updated_at_ms,
        "expires_at_ms": key.expires_at_ms,
        "revoked_at_ms": key.revoked_at_ms,
        "version": key.version,
        "plan_id": key.plan_id,
        "limits": limits_text(key.limits),
    }


def _keys(rows: Sequence[Row[Any]]) -> list[Key]:
    return [_key(list(group)) for _, group in groupby(rows, attrgetter("id"))]


def _key(rows: Sequence[Row[Any]]) -> Key:
    row = rows[0]
    return Key(
        id=row.id,
        workspace_id=row.workspace_id,
        environment=Environment(row.environment),
        kind=KeyKind(row.kind),
        owner_id=row.owner_id,
        name=row.name,
        description=row.description,
        state=KeyState(row.state),
        state_reason=row.state_reason,
        scopes=tuple(json.loads(row.scopes)),
        metadata=json.loads(row.metadata),
        tags=tuple(json.loads(row.tags)),
        allowed_ips=tuple(json.loads(row.allowed_ips)),
        created_at_ms=row.created_at_ms,
        created_by=row.created_by,
        updated_at_ms=row.updated_at_ms,
        expires_at_ms=row.expires_at_ms,
        revoked_at_ms=row.revoked_at_ms,
        last_used_at_ms=row.last_used_at_ms,
        version=row.version,
        plan_id=row.plan_id,
        limits=limits_from(row.limits),
        secrets=in_order(_secrets(rows)),
    )


def _secrets(rows: Iterable[Row[Any]]) -> list[SecretRecord]:
    return [
        SecretRecord(
            id=row.secret_id,
            prefix=row.secret_prefix,
            hash=row.secret_hash,
            master_id=row.secret_master_id,
            created_at_ms=row.secret_created_at_ms,
            retires_at_ms=row.secret_retires_at_ms,
            last_used_at_ms=row.secret_last_used_at_ms,
        )
        for row in rows
        if row.secret_id is not None
    ]
