"""Which ClickHouse a URL names."""

from __future__ import annotations

from pathlib import Path

import pytest

from keystead.adapters.clickhouse.connection import Target, UsageStoreError

DATA = Path("data")


def test_a_url_names_a_server() -> None:
    """User, password, port and database come out of the URL as they were meant, escapes and all."""
    target = Target.parse("clickhouse://me:a%2Fb%40c@db.internal:9123/usage_1", DATA)
    assert (target.host, target.port, target.username, target.password) == ("db.internal", 9123, "me", "a/b@c")
    assert (target.database, target.secure, target.embedded) == ("usage_1", False, False)


def test_what_is_left_out_has_a_default() -> None:
    """A host alone is enough; TLS has a port of its own."""
    plain, secure = Target.parse("clickhouse://db", DATA), Target.parse("clickhouses://db", DATA)
    assert (plain.port, plain.username, plain.database) == (8123, "default", "keystead")
    assert (secure.port, secure.secure) == (8443, True)


def test_the_engine_lives_in_the_data_directory() -> None:
    """``chdb:`` is the engine inside the process, with its files beside everything else that is kept."""
    target = Target.parse("chdb:", DATA)
    assert target.embedded
    assert target.folder == DATA / "chdb"


@pytest.mark.parametrize(
    "url",
    (
        "postgresql://db/usage",
        "clickhouse:///usage",
        "clickhouse://db/a-b",
        "clickhouse://db/a;DROP DATABASE x",
        "clickhouse://db/usage?secure=1",
        "clickhouse://db:port/usage",
        "chdb:///elsewhere",
        "me:secret@db",
    ),
)
def test_anything_else_is_refused(url: str) -> None:
    """A URL that cannot be meant is refused without repeating it, and no name of a database can carry SQL."""
    with pytest.raises(UsageStoreError, match="usage_store") as refused:
        Target.parse(url, DATA)
    assert url not in refused.value.public.removeprefix("usage_store")
