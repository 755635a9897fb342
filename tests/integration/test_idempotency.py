"""P9 over the wire: a retry is answered as the first call was, and does nothing more."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.clients import TRANSPORTS, Client, client_for
from tests.databases import ask, change, events_by_target
from tests.servers import KeysteadServer, ServerFarm
from tests.services import PrivatePostgres

WANTED: dict[str, Any] = {"owner_id": "o", "create_owner": True, "name": "Key", "environment": "LIVE"}
SECRET_METHODS = ("CreateKey", "RotateKey")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(
    request: pytest.FixtureRequest, postgres: PrivatePostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KeysteadServer]:
    """Lend one server on each store for this module."""
    farm = ServerFarm(tmp_path_factory.mktemp("idempotency"))
    name = "idempotency"
    url = postgres.create_database(name) if request.param == "postgresql" else ""
    try:
        yield farm.start(database=url)
    finally:
        farm.end()
        if url:
            postgres.drop_database(name)


@pytest.fixture
async def client(server: KeysteadServer) -> AsyncIterator[Client]:
    """Lend a gRPC client."""
    async with client_for(server) as made:
        yield made


async def events_of(server: KeysteadServer, key_id: str) -> int:
    """Return how many events a key has, after holding every change in the database against its events."""
    return (await events_by_target(server))[key_id]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_retry_is_answered_byte_for_byte(server: KeysteadServer, transport: str) -> None:
    """The same call under the same idempotency key returns the same reply to the last byte, secret included, on every
    transport, and changes nothing more.
    """
    async with client_for(server, transport) as client:
        calls: list[tuple[str, dict[str, Any]]] = [("CreateKey", WANTED)]
        key_id = ""
        for name, fields in calls:
            retry = str(uuid.uuid4())
            replies = [await client.call(name, idempotency_key=retry, **fields) for _ in range(3)]
            assert replies[0].ok, replies[0]
            assert len({answer.raw for answer in replies}) == 1
            if name == "CreateKey":
                key_id = replies[0].reply.key.id
                others = ("RotateKey", "FinishRotation", "SuspendKey", "ResumeKey", "RevokeKey")
                calls += [(other, {"key_id": key_id}) for other in others]
            if name in SECRET_METHODS:
                assert replies[2].reply.secret == replies[0].reply.secret != ""
        assert await events_of(server, key_id) == 6


async def test_the_header_does_what_the_field_does(client: Client) -> None:
    """``Idempotency-Key`` as a header and ``idempotency_key`` as a field are one thing; two that differ are refused."""
    retry = str(uuid.uuid4())
    first = await client.call("CreateKey", headers={"idempotency-key": retry}, **WANTED)
    second = await client.call("CreateKey", idempotency_key=retry, **WANTED)
    both = await client.call("CreateKey", headers={"idempotency-key": retry}, idempotency_key=retry, **WANTED)
    assert first.ok
    assert first.raw == second.raw == both.raw
    other = await client.call("CreateKey", headers={"idempotency-key": retry}, idempotency_key=f"{retry}x", **WANTED)
    assert (other.refusal, other.fields) == (("INVALID_ARGUMENT", "INVALID_REQUEST"), ("idempotency_key",))


async def test_twenty_at_once_are_one(server: KeysteadServer) -> None:
    """Twenty concurrent calls under one idempotency key, over two transports, make one key and get one reply."""
    retry = str(uuid.uuid4())
    wanted: dict[str, Any] = {**WANTED, "name": f"Only {retry}", "owner_id": f"only-{retry}"}
    async with client_for(server) as grpc, client_for(server, "proto") as http:
        answers = await asyncio.gather(
            *[client.call("CreateKey", idempotency_key=retry, **wanted) for client in (grpc, http) for _ in range(10)]
        )
        assert {answer.refusal for answer in answers} == {("OK", "")}
        assert len({answer.raw for answer in answers}) == 1
        listed = (await grpc.call("ListKeys", query=f"Only {retry}")).must().keys
        assert [key.id for key in listed] == [answers[0].reply.key.id]
        rotated = await asyncio.gather(
            *[grpc.call("RotateKey", key_id=listed[0].id, idempotency_key=retry) for _ in range(20)]
        )
        assert {answer.refusal for answer in rotated} == {("OK", "")}
        assert len({answer.raw for answer in rotated}) == 1
    assert await events_of(server, listed[0].id) == 2


async def test_another_request_under_the_same_key_is_refused(client: Client) -> None:
    """Whoever reuses an idempotency key by mistake is told so, and nothing is done."""
    retry = str(uuid.uuid4())
    made = (await client.call("CreateKey", idempotency_key=retry, **WANTED)).must()
    for fields in ({"name": "Other"}, {"environment": "TEST"}, {"scopes": ["read:a"]}):
        other = await client.call("CreateKey", idempotency_key=retry, **{**WANTED, **fields})
        assert other.refusal == ("FAILED_PRECONDITION", "IDEMPOTENCY_CONFLICT")
    assert (await client.call("CreateKey", idempotency_key=retry, **WANTED)).must().secret == made.secret
    assert (await client.call("ListKeys", query="Other")).must().keys == []


@pytest.mark.parametrize("weak", ("1", "order-42", "0" * 40, "abcabcabcabcabcabcabcabc"))
async def test_what_guards_a_secret_cannot_be_guessed(client: Client, weak: str) -> None:
    """An idempotency key that could be guessed is refused where the reply holds a secret, and taken elsewhere."""
    made = await client.call("CreateKey", idempotency_key=weak, **WANTED)
    assert made.refusal == ("INVALID_ARGUMENT", "IDEMPOTENCY_KEY_WEAK")
    key_id = (await client.call("CreateKey", **WANTED)).must().key.id
    assert (await client.call("RotateKey", key_id=key_id, idempotency_key=weak)).reason == "IDEMPOTENCY_KEY_WEAK"
    assert (await client.call("SuspendKey", key_id=key_id, idempotency_key=f"{key_id}-{weak}")).ok


@pytest.mark.parametrize("form", ("a b" * 10, "ä" * 30, "x" * 129, "quote'" * 5))
async def test_an_idempotency_key_has_its_form(client: Client, form: str) -> None:
    """What is no idempotency key is refused before anything is done."""
    answer = await client.call("CreateKey", idempotency_key=form, **WANTED)
    assert answer.refusal == ("INVALID_ARGUMENT", "IDEMPOTENCY_KEY_WEAK")


async def test_credentials_do_not_share_idempotency_keys(client: Client) -> None:
    """Two callers who happen to use one idempotency key each get what they asked for, and not the other's secret."""
    other = (await client.call("CreateKey", kind="MANAGEMENT", environment="ALL", name="M", scopes=["*:*"])).must()
    retry = str(uuid.uuid4())
    mine = (await client.call("CreateKey", idempotency_key=retry, **WANTED)).must()
    theirs = (await client.call("CreateKey", idempotency_key=retry, token=other.secret, **WANTED)).must()
    assert mine.secret != theirs.secret
    assert mine.key.id != theirs.key.id


async def test_a_right_that_was_lost_is_lost_for_retries_too(client: Client) -> None:
    """Rights are asked before anything is looked up: a caller whose scope was taken away gets no old reply."""
    scopes = ["write:keys", "read:keys", "write:owners"]
    caller = (await client.call("CreateKey", kind="MANAGEMENT", environment="ALL", name="M", scopes=scopes)).must()
    retry = str(uuid.uuid4())
    asked: dict[str, Any] = {"idempotency_key": retry, "token": caller.secret, **WANTED}
    assert (await client.call("CreateKey", **asked)).ok
    narrowed: dict[str, Any] = {"id": caller.key.id, "scopes": ["read:keys"]}
    (await client.call("UpdateKey", key=narrowed, update_mask={"paths": ["scopes"]})).must()
    assert (await client.call("CreateKey", **asked)).refusal == ("PERMISSION_DENIED", "PERMISSION_DENIED")
    (await client.call("RevokeKey", key_id=caller.key.id)).must()
    assert (await client.call("CreateKey", **asked)).refusal == ("UNAUTHENTICATED", "UNAUTHENTICATED")


async def test_a_refused_call_leaves_its_idempotency_key_free(client: Client) -> None:
    """What failed is not remembered: the same idempotency key may be used once the reason is gone."""
    retry, owner = str(uuid.uuid4()), f"late-{uuid.uuid4()}"
    wanted: dict[str, Any] = {"owner_id": owner, "name": "Key", "environment": "LIVE", "idempotency_key": retry}
    assert (await client.call("CreateKey", **wanted)).status == "NOT_FOUND"
    (await client.call("CreateOwner", owner_id=owner)).must()
    made = await client.call("CreateKey", **wanted)
    assert made.ok
    assert (await client.call("CreateKey", **wanted)).raw == made.raw


async def test_a_reply_is_remembered_over_a_restart(server: KeysteadServer) -> None:
    """A retry that comes after the server was killed and started again has the reply of the first call."""
    retry = str(uuid.uuid4())
    async with client_for(server) as client:
        first = await client.call("CreateKey", idempotency_key=retry, **WANTED)
    server.kill()
    server.start()
    async with client_for(server, "proto") as client:
        second = await client.call("CreateKey", idempotency_key=retry, **WANTED)
    assert (second.refusal, second.raw) == (("OK", ""), first.raw)


async def test_after_ten_minutes_the_secret_is_gone(server: KeysteadServer) -> None:
    """A retry that comes later than ten minutes gets the reply without the secret."""
    retry = str(uuid.uuid4())
    async with client_for(server) as client:
        first = (await client.call("CreateKey", idempotency_key=retry, **WANTED)).must()
        sealed = "SELECT count(*) FROM replies WHERE sealed IS NOT NULL"
        assert (await ask(server, sealed))[0][0] > 0
        await change(server, "UPDATE replies SET created_at_ms = created_at_ms - 660000")  # eleven minutes
        later = (await client.call("CreateKey", idempotency_key=retry, **WANTED)).must()
        assert (later.key, later.secret) == (first.key, "")
