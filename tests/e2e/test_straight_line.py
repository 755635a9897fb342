"""The straight line: mint, verify, rotate, finish, revoke, restart, by gRPC and by what ``curl`` sends."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from keystead.gen.v1 import keys_pb2, verification_pb2
from tests.clients import Client, GrpcClient, client_for
from tests.servers import KeysteadServer, ServerFarm
from tests.services import PrivatePostgres

Reply = verification_pb2.VerifyKeyResponse
_STATUS = keys_pb2.Secret


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """Lend the URL of an empty database; empty for the embedded one."""
    if request.param == "sqlite":
        yield ""
        return
    postgres: PrivatePostgres = request.getfixturevalue("postgres")
    name = f"line_{abs(hash(request.node.name))}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


async def rotated(client: Client, key_id: str, first: str) -> str:
    """Rotate with an overlap; both secrets verify and the reply tells which is which."""
    answer = await client.call("RotateKey", key_id=key_id, overlap=timedelta(hours=1))
    second = str(answer.must().secret)
    assert second != first
    verdicts = {
        secret: (await client.call("VerifyKey", key=secret, environment="LIVE")).must() for secret in (first, second)
    }
    assert all(verdict.valid for verdict in verdicts.values())
    assert verdicts[first].secret_status == _STATUS.RETIRING
    assert verdicts[first].HasField("secret_retires_at")
    assert verdicts[second].secret_status == _STATUS.CURRENT
    assert not verdicts[second].HasField("secret_retires_at")
    assert {verdict.key_id for verdict in verdicts.values()} == {key_id}
    return second


async def walked(client: Client, server: KeysteadServer) -> dict[str, str]:
    """Take one key from its making to its end; return what every secret must answer from now on."""
    made = (
        await client.call(
            "CreateKey", owner_id="customer-1", create_owner=True, name="Line", environment="LIVE", scopes=["read:a"]
        )
    ).must()
    first, key_id = made.secret, made.key.id
    verdict = (await client.call("VerifyKey", key=first, environment="LIVE", scope_expression="read:a")).must()
    assert (verdict.valid, verdict.code, verdict.http_status) == (True, Reply.VALID, 200)
    assert (verdict.key_id, verdict.owner_id, list(verdict.scopes)) == (key_id, "customer-1", ["read:a"])
    lacking = (await client.call("VerifyKey", key=first, environment="LIVE", scope_expression="write:a")).must()
    assert (lacking.valid, lacking.code, list(lacking.missing_scopes)) == (False, Reply.INSUFFICIENT_SCOPE, ["write:a"])
    assert await client.verify(first, environment="TEST") == "WRONG_ENVIRONMENT"

    second = await rotated(client, key_id, first)
    finished = (await client.call("FinishRotation", key_id=key_id)).must()
    assert [secret.status for secret in finished.key.secrets] == [_STATUS.CURRENT, _STATUS.RETIRED]
    assert await client.verify(first) == "EXPIRED"
    assert await client.verify(second) == "VALID"

    revoked = (await client.call("RevokeKey", key_id=key_id, reason="the line ends")).must()
    assert (revoked.key.state, revoked.key.state_reason) == (keys_pb2.Key.REVOKED, "the line ends")
    assert await client.verify(second) == "REVOKED"
    again = await client.call("RotateKey", key_id=key_id)
    assert again.refusal == ("FAILED_PRECONDITION", "KEY_REVOKED")
    return {first: "REVOKED", second: "REVOKED", server.told["sample_key"]: "VALID"}


@pytest.mark.parametrize("engine", ("native", "grpcio"))
async def test_a_key_lives_from_minting_to_revocation(servers: ServerFarm, database: str, engine: str) -> None:
    """Minted, verified, rotated with both secrets good, finished, revoked and refused at once, by gRPC and by JSON
    over HTTP; and a restart changes nothing of it.
    """
    server = servers.start(database=database, grpc_engine=engine)
    expected: dict[str, str] = {}
    for transport in ("grpc", "json"):
        async with client_for(server, transport) as client:
            expected |= await walked(client, server)
            shown = (await client.call("GetKey", key_id=server.told["sample_key_id"])).must()
    server.restart()
    for transport in ("json", "grpc"):
        async with client_for(server, transport) as client:
            assert {secret: await client.verify(secret) for secret in expected} == expected
            again = (await client.call("GetKey", key_id=server.told["sample_key_id"])).must()
            assert again.key.etag == shown.key.etag


def curl(server: KeysteadServer, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Send what ``curl -H 'authorization: …' -d '{…}'`` sends, and return the status and the JSON."""
    headers = {"authorization": f"Bearer {server.management_key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{server.http}/keystead.v1.{path}", json.dumps(body).encode(), headers)  # noqa: S310 -- the server is the test's own
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310 -- see above
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_first_user_needs_nothing_but_curl(servers: ServerFarm) -> None:
    """What the screen of the first run offers to paste works with names in lowerCamelCase, and every field is printed,
    also those that are false or 0.
    """
    server = servers.start()
    key, key_id = server.told["sample_key"], server.told["sample_key_id"]
    status, verdict = curl(server, "VerificationService/VerifyKey", {"key": key, "environment": "LIVE"})
    assert (status, verdict["code"], verdict["valid"], verdict["degraded"]) == (200, "VALID", True, False)
    status, rotated_key = curl(server, "KeyService/RotateKey", {"keyId": key_id, "overlap": "3600s"})
    assert status == 200
    told = [
        curl(server, "VerificationService/VerifyKey", {"key": secret, "environment": "LIVE"})[1]["secretStatus"]
        for secret in (key, rotated_key["secret"])
    ]
    assert told == ["RETIRING", "CURRENT"]
    status, refused = curl(server, "KeyService/GetKey", {"keyId": key_id, "colour": "red"})
    assert (status, refused["code"], "colour" in refused["message"]) == (400, "invalid_argument", True)


async def test_a_batch_is_as_many_calls(servers: ServerFarm) -> None:
    """BatchVerify answers for each secret, in order, what VerifyKey would."""
    server = servers.start()
    async with GrpcClient(server.grpc, server.management_key) as client:
        made = [
            (await client.call("CreateKey", owner_id="c", create_owner=True, name=f"{n}", environment="LIVE")).must()
            for n in range(4)
        ]
        await client.call("RevokeKey", key_id=made[1].key.id)
        await client.call("SuspendKey", key_id=made[2].key.id)
        asked = [{"key": item.secret, "environment": "LIVE"} for item in made] + [{"key": "x", "environment": "LIVE"}]
        got = (await client.call("BatchVerify", requests=asked)).must().responses
        codes = [Reply.VALID, Reply.REVOKED, Reply.SUSPENDED, Reply.VALID, Reply.MALFORMED]
        assert [verdict.code for verdict in got] == codes
