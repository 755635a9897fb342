"""What was done with each secret of a key: exact counts of a day, and the addresses that a rotation waits for."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from keystead.adapters.sql import secret_uses
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.usage import SqlUsage
from keystead.adapters.walls import Walls
from keystead.usage.model import SecretUse
from tests.contract.usage_stores import (
    DAY,
    HOUR,
    MINUTE,
    NOWHERE,
    OUR_KEY,
    OUR_TESTS,
    OURS,
    ROTATED,
    T0,
    THEIR_KEY,
    UNOWNED,
    Store,
    Writer,
    call,
)


@pytest.fixture
async def sql_usage(database: Database) -> SqlUsage:
    """Lend a store in a database of each kind."""
    return SqlUsage(database)


async def test_each_secret_is_told_with_its_addresses(usage_store: Store) -> None:
    """Every verdict of the day counts, the most frequent address comes first, and ties go by their text."""
    await usage_store.count(
        Writer().stretch(
            call(T0 - 1, client_ip="192.0.2.99"),
            call(T0, client_ip="192.0.2.1"),
            call(T0 + HOUR, client_ip="192.0.2.2"),
            call(T0 + 2 * HOUR, client_ip="192.0.2.2", code=9),
            call(T0 + 3 * HOUR, ROTATED, client_ip="2001:db8::1"),
            call(T0 + 3 * HOUR, ROTATED, client_ip="192.0.2.3"),
            call(T0 + 4 * HOUR, UNOWNED, client_ip="192.0.2.4"),
            call(T0 + 4 * HOUR, THEIR_KEY, client_ip="192.0.2.5"),
        )
    )
    assert await usage_store.secret_uses(OURS, OUR_KEY.key_id, since_ms=T0) == [
        SecretUse("sec_a1", 3, ("192.0.2.2", "192.0.2.1")),
        SecretUse("sec_a2", 2, ("192.0.2.3", "2001:db8::1")),
    ]


async def test_at_most_twenty_addresses_are_told(usage_store: Store) -> None:
    """A secret that is used from everywhere is told with the twenty most frequent addresses."""
    calls = [call(T0 + place, client_ip=f"192.0.2.{place:03d}") for place in range(30)]
    await usage_store.count(Writer().stretch(*calls, *[call(T0 + 50, client_ip="192.0.2.029")]))
    (use,) = await usage_store.secret_uses(OURS, OUR_KEY.key_id, since_ms=T0)
    assert use.calls == 31
    assert use.addresses == ("192.0.2.029", *[f"192.0.2.{place:03d}" for place in range(19)])


async def test_secrets_have_walls(usage_store: Store) -> None:
    """Whoever may not see a key's environment is told nothing of its secrets (P8)."""
    await usage_store.count(Writer().stretch(call(T0), call(T0, THEIR_KEY)))
    for scope in (OUR_TESTS, NOWHERE):
        assert await usage_store.secret_uses(scope, OUR_KEY.key_id, since_ms=T0) == []
    assert await usage_store.secret_uses(OURS, "key_unknown", since_ms=T0) == []


async def test_a_day_is_whole_minutes(sql_usage: SqlUsage) -> None:
    """The minute that is under way and the one a day ago are in it, and nothing past them."""
    calls = [call(T0 + MINUTE - 1), call(T0 + DAY + MINUTE - 1), call(T0 + DAY + MINUTE), call(T0 - 1)]
    await sql_usage.count(Writer().stretch(*calls))
    (use,) = await sql_usage.secret_uses(OURS, OUR_KEY.key_id, since_ms=T0 + MINUTE - 1)
    assert use.calls == 2


async def test_a_secret_that_is_hardly_used_is_found_among_the_others(sql_usage: SqlUsage) -> None:
    """The few calls with the old secret are told with their addresses, however many came with the new one since."""
    old = call(T0, OUR_KEY, client_ip="192.0.2.7")
    new = [call(T0 + MINUTE + number, ROTATED) for number in range(secret_uses.LOOKED_AT_MAX + 5)]
    await sql_usage.count(Writer().stretch(old, *new))
    first, second = await sql_usage.secret_uses(OURS, OUR_KEY.key_id, since_ms=T0)
    assert first == SecretUse("sec_a1", 1, ("192.0.2.7",))
    assert second == SecretUse("sec_a2", len(new), ("192.0.2.1",))


async def test_no_step_reads_a_whole_table(migrated_file: object) -> None:
    """Minutes are searched for one by one, and calls are a bounded piece of the key's own."""
    database = Database.connect(f"sqlite:///{migrated_file}")
    question = secret_uses.SecretQuestion("sqlite", Walls.around(OURS), secret_uses.day_of("key_a", T0))
    asked: set[tuple[str, tuple[object, ...]]] = set()

    def note(_connection: object, _cursor: object, statement: str, parameters: tuple[object, ...], *_: object) -> None:
        asked.add((statement, parameters))

    event.listen(database.statements.sync_engine, "before_cursor_execute", note)
    async with database.statements.connect() as connection:
        await connection.execute(question.by_minute())
        await connection.execute(question.addresses("sec_a1", before_ms=T0 + 5))
    for statement, parameters in asked:
        steps = [row[3] for row in await database.fetch(f"EXPLAIN QUERY PLAN {statement}", *parameters)]
        keyed = ("begins_at_ms=? AND key_id=?", "workspace_id=? AND key_id=? AND at_ms>?")
        assert any(part in step for step in steps for part in keyed), steps
    await database.close()
