"""Which master keys this database has met, so that a node with a wrong one does not start."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, or_, select

from keystead.adapters.sql import schema, sinks_schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.session import Session, transaction
from keystead.kernel.clock import Clock
from keystead.keys.model import KeyState
from keystead.tenants.errors import AlreadyExistsError

_TABLE = schema.master_keys
_SINKS = sinks_schema.sinks


class SqlMasters:
    """The registered master keys: ids and check values, never the keys."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        """Keep them in ``database``; what still works is judged by ``clock``."""
        self._database = database
        self._clock = clock

    async def registered(self) -> dict[str, bytes]:
        """Return the check value of every master ever registered, by its id."""
        rows = await Session(self._database, read_only=False).read(select(_TABLE.c.id, _TABLE.c.check_value))
        return {row.id: row.check_value for row in rows}

    async def register(self, master_id: str, check_value: bytes) -> None:
        """Remember a master; again is no change, with another check value raises ``AlreadyExistsError``."""
        values = {"id": master_id, "check_value": check_value, "created_at_ms": self._clock.now_ms()}
        async with transaction(self._database) as session:
            added = await session.write(self._database.insert_new(_TABLE).values(values))
            rows = await session.read(select(_TABLE.c.check_value).where(_TABLE.c.id == master_id))
        if not added and rows[0].check_value != check_value:
            raise AlreadyExistsError("master key", master_id)

    async def in_use(self) -> set[str]:
        """Return the masters of secrets that still work or may again: not retired, of a key that is not revoked.

        And those of the key that signs checkpoints, and of what sinks prove themselves with.
        Masters are few and secrets many, so the index is asked for one master after the other, and each for one secret.
        """
        session = Session(self._database, read_only=False)
        rows = await session.read(_in_use(self._clock.now_ms()))
        sealing = await session.read(select(schema.audit_keys.c.master_id))
        sinks = await session.read(select(_SINKS.c.master_id).where(_SINKS.c.sealed.is_not(None)).distinct())
        return {row.id for row in rows} | {row.master_id for row in (*sealing, *sinks)}


def _in_use(now_ms: int) -> Select[Any]:
    keys, secrets = schema.keys, schema.secrets
    masters = select(func.min(secrets.c.master_id).label("id")).cte("masters", recursive=True)
    following = select(func.min(secrets.c.master_id)).where(secrets.c.master_id > masters.c.id).scalar_subquery()
    masters = masters.union_all(select(following).where(masters.c.id.is_not(None)))
    works = (
        select(secrets.c.id)
        .join(keys, keys.c.id == secrets.c.key_id)
        .where(
            secrets.c.master_id == masters.c.id,
            or_(secrets.c.retires_at_ms.is_(None), secrets.c.retires_at_ms > now_ms),
            keys.c.state != KeyState.REVOKED,
        )
        .limit(1)  # and not EXISTS, which PostgreSQL would answer by reading every secret there is
    )
    return select(masters.c.id).where(works.scalar_subquery().is_not(None))
