"""P1: a secret is in clear in the reply that minted it, and not at rest, in a log or in an error."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from keystead.gen.v1 import keys_pb2
from tests.clients import METHODS, TRANSPORTS, Answer, Client, JsonClient, client_for
from tests.databases import change
from tests.servers import KeysteadServer, ServerFarm
from tests.services import PrivatePostgres

ENTROPY = slice(-46, -14)
TAG_AND_CRC = slice(-14, None)
Misuse = Callable[["Run", str], Awaitable[Any]]


@dataclass
class Run:
    """One rich run against one server: what must be found nowhere, by where it was put, and what came back."""

    server: KeysteadServer
    json: JsonClient
    grpc: Client
    needles: dict[str, bytes] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def secret(self, place: str, text: str) -> str:
        """Note a secret that was minted."""
        self.needles[f"{place}: entropy"] = text[ENTROPY].encode()
        self.needles[f"{place}: tag and crc"] = text[TAG_AND_CRC].encode()
        return text

    async def mint(self, place: str, **fields: Any) -> str:
        """Make a key whose secret is then put in ``place``."""
        retry = f"{uuid.uuid4()}"
        self.needles[f"{place}: idempotency key"] = retry.encode()
        wanted: dict[str, Any] = {"owner_id": "o", "create_owner": True, "name": place, "environment": "LIVE", **fields}
        made = (await self.json.call("CreateKey", idempotency_key=retry, **wanted)).must()
        return self.secret(place, made.secret)


async def raw(run: Run, path: str, *, body: bytes = b"{}", verb: str = "POST", **headers: str) -> str:
    """Send a request as it is, and return everything that came back as text."""
    sent = {"content-type": "application/json", "authorization": f"Bearer {run.json.token}"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    got = await run.json.http.request(verb, path, content=body, headers=sent)
    return f"{got.headers} {got.text}"


def field_of(method: str, **fields: Any) -> Misuse:
    """Put the secret where ``fields`` say ``…``, over gRPC and JSON."""

    async def put(run: Run, secret: str) -> list[Answer]:
        filled = json.loads(json.dumps(fields, ensure_ascii=False).replace("…", secret))
        told = [await run.grpc.call(method, **filled)]
        with suppress(json_format.SerializeToJsonError):  # a mask that JSON cannot even spell
            told.append(await run.json.call(method, **filled))
        return told

    return put


def body_of(path: str, body: str) -> Misuse:
    """Put the secret into a body that is not well-formed."""
    return lambda run, secret: raw(run, f"/keystead.v1.{path}", body=body.replace("…", secret).encode())


def path_of(path: str, verb: str = "POST") -> Misuse:
    """Put the secret into a URL."""
    return lambda run, secret: raw(run, path.replace("…", secret), verb=verb)


def header_of(name: str, value: str = "…", *, method: str = "CreateKey") -> Misuse:
    """Put the secret into a header of a call that changes something."""

    async def put(run: Run, secret: str) -> list[Answer]:
        wanted: dict[str, Any] = (
            {"owner_id": "o", "name": f"by {name}", "environment": "LIVE"} if method == "CreateKey" else {}
        )
        sent = {name: value.replace("…", secret)}
        return [await client.call(method, headers=sent, **wanted) for client in (run.json, run.grpc)]

    return put


async def grpc_path(run: Run, secret: str) -> str:
    """Call a gRPC method that is named like the secret."""
    channel = run.grpc.channel  # type: ignore[attr-defined]  # it is gRPC's
    try:
        await channel.unary_unary(f"/keystead.v1.KeyService/{secret}")(b"", timeout=10)
    except Exception as error:  # noqa: BLE001 -- whatever it says is what is looked at
        return f"{error}"
    return ""


MISUSES: dict[str, Misuse] = {
    "key id": field_of("GetKey", key_id="…"),
    "owner id": field_of("GetOwner", owner_id="…"),
    "owner of a new key": field_of("CreateKey", owner_id="…", name="n", environment="LIVE"),
    "owner to suspend": field_of("SuspendOwner", owner_id="…"),
    "owner to delete": field_of("DeleteOwner", owner_id="…"),
    "id to update": field_of("UpdateKey", key={"id": "…"}, update_mask={"paths": ["name"]}),
    "mask": field_of("UpdateKey", key={"id": "key_01h455vb4pex5vsknk084sn02q"}, update_mask={"paths": ["…"]}),
    "etag": field_of("DeleteOwner", owner_id="o", etag="…"),
    "query": field_of("ListKeys", query="…"),
    "prefix": field_of("ListKeys", prefix="…"),
    "page token": field_of("ListKeys", page_token="…"),
    "order": field_of("ListKeys", order_by="…"),
    "scope": field_of("CreateKey", owner_id="o", name="n", environment="LIVE", scopes=["…"]),
    "range": field_of("CreateKey", owner_id="o", name="n", environment="LIVE", allowed_ips=["…"]),
    "ids to revoke": field_of("RevokeKeys", key_ids=["…"]),
    "brand": field_of("UpdateWorkspace", workspace={"id": "…"}, update_mask={"paths": ["name"]}),
    "secret": field_of("VerifyKey", key="…", environment="LIVE"),
    "secret with a space": field_of("VerifyKey", key="… ", environment="LIVE"),
    "secret twice": field_of("VerifyKey", key="……", environment="LIVE"),
    "expression": field_of("VerifyKey", key="x", environment="LIVE", scope_expression="… AND"),
    "address": field_of("VerifyKey", key="x", environment="LIVE", client_ip="…"),
    "request id": field_of("VerifyKey", key="x", environment="LIVE", request_id="…"),
    "operation": field_of("VerifyKey", key="x", environment="LIVE", operation="…"),
    "identify": field_of("IdentifyKey", key="…"),
    "identify, cut off": field_of("IdentifyKey", key="…x"),
    "idempotency key": field_of("FinishRotation", key_id="key_01h455vb4pex5vsknk084sn02q", idempotency_key="… "),
    "half a body": body_of("VerificationService/VerifyKey", '{"key":"…"'),
    "wrong type": body_of("VerificationService/VerifyKey", '{"key":{"it":"…"}}'),
    "member": body_of("VerificationService/VerifyKey", '{"…":1}'),
    "enum": body_of("VerificationService/VerifyKey", '{"environment":"…"}'),
    "time": body_of("KeyService/CreateKey", '{"expiresAt":"…"}'),
    "duration": body_of("KeyService/RotateKey", '{"overlap":"…"}'),
    "number": body_of("KeyService/ListKeys", '{"pageSize":"…"}'),
    "no object": body_of("KeyService/ListKeys", '"…"'),
    "method": path_of("/keystead.v1.KeyService/…"),
    "path": path_of("/v1/…", "GET"),
    "query string": path_of("/keystead.v1.KeyService/ListKeys?key=…"),
    "plain path": path_of("/livez?…", "GET"),
    "gRPC method": grpc_path,
    "user-agent": header_of("user-agent"),
    "user-agent, inside": header_of("user-agent", "curl/8 (…)"),
    "x-request-id": header_of("x-request-id"),
    "x-forwarded-for": header_of("x-forwarded-for"),
    "traceparent": header_of("traceparent"),
    "wrong scheme": header_of("authorization", "Basic …"),
    "no management key": header_of("authorization", "Bearer …", method="ListKeys"),
    "header idempotency-key": header_of("idempotency-key"),
    "timeout": header_of("connect-timeout-ms", method="ListKeys"),
    "content type": lambda run, secret: raw(run, "/keystead.v1.KeyService/ListKeys", content_type=f"text/{secret}"),
    "encoding": lambda run, secret: raw(run, "/keystead.v1.KeyService/ListKeys", content_encoding=secret),
}


async def misuse(run: Run) -> None:
    """Put one secret in each wrong place, a different one each, and keep what came back."""
    for place, put in MISUSES.items():
        secret = await run.mint(place)
        told = await put(run, secret)
        run.texts[place] = "".join(
            [f"{answer.text} {answer.fields} {answer.refusal}" for answer in told] if isinstance(told, list) else told
        )


async def use(run: Run) -> None:
    """Do with every transport what can be done with keys."""
    for transport in TRANSPORTS:
        async with client_for(run.server, transport) as client:
            wanted: dict[str, Any] = {
                "owner_id": "u",
                "create_owner": True,
                "name": "n",
                "environment": "LIVE",
                "metadata": {"a": "b"},
            }
            made = (await client.call("CreateKey", idempotency_key=noted(run, transport), **wanted)).must()
            run.secret(f"created by {transport}", made.secret)
            assert await client.verify(made.secret) == "VALID"
            for overlap in (timedelta(hours=1), timedelta(0)):
                asked: dict[str, Any] = {
                    "key_id": made.key.id,
                    "overlap": overlap,
                    "idempotency_key": noted(run, transport),
                }
                again = (await client.call("RotateKey", **asked)).must()
                assert (await client.call("RotateKey", **asked)).must().secret == again.secret
                run.secret(f"rotated by {transport}, {overlap}", again.secret)
                assert await client.verify(again.secret) == "VALID"
            (await client.call("IdentifyKey", key=made.secret)).must()
            (await client.call("RevokeKey", key_id=made.key.id, reason="done")).must()
            made = (await client.call("CreateKey", kind="MANAGEMENT", environment="ALL", name="m")).must()
            run.secret(f"management key by {transport}", made.secret)
            assert (await client.call("ListKeys", token=made.secret)).status == "PERMISSION_DENIED"


def noted(run: Run, place: str) -> str:
    """Draw an idempotency key and note it."""
    retry = str(uuid.uuid4())
    run.needles[f"{place}: idempotency key {retry[:4]}"] = retry.encode()
    return retry


async def break_it(run: Run) -> None:
    """Take a column away behind the server's back: minting and looking up run into what nobody expects."""
    cold = await run.mint("cold when it broke")
    for renaming in ("hash TO lost", "lost TO hash"):
        await change(run.server, f"ALTER TABLE secrets RENAME COLUMN {renaming}")
        for client in (run.json, run.grpc):
            wanted: dict[str, Any] = {
                "owner_id": "o",
                "name": "broken",
                "environment": "LIVE",
                "idempotency_key": noted(run, "broken"),
            }
            made = await client.call("CreateKey", **wanted)
            checked = await client.call("VerifyKey", key=cold, environment="LIVE")
            if renaming == "hash TO lost":
                assert {made.refusal, checked.refusal} == {("INTERNAL", "INTERNAL")}
                run.texts["internal"] = f"{made.text} {checked.text}"
                assert re.fullmatch(r"Internal error; quote err_\w+\.", made.text)
            else:
                run.secret("made when it was whole again", made.must().secret)


def files_of(*folders: Path, aside: frozenset[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of every file, but for those named in ``aside``."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name not in aside:
                yield str(path.relative_to(folder.parent)), path.read_bytes()


def files_in(server: KeysteadServer) -> list[Path]:
    """Return what is in the server's data directory."""
    return list(server.data_dir.iterdir())


def found_in(run: Run, *folders: Path) -> dict[str, str]:
    """Return where each needle was found."""
    found = {}
    for name, content in files_of(*folders, aside=frozenset({"master.key", "stdout.log"})):
        for place, needle in run.needles.items():
            if (at := content.find(needle)) >= 0:
                found[f"{place} in {name}"] = repr(content[max(0, at - 60) : at + 20])
    return found


def echoed(run: Run) -> dict[str, str]:
    """Return which answers repeat what they were sent."""
    needles = {place: run.needles[f"{place}: entropy"].decode() for place in MISUSES}
    return {place: run.texts[place] for place, needle in needles.items() if needle in run.texts[place]}


def demand_none(run: Run, left: dict[str, str]) -> None:
    """Fail with one line for each place where something was found."""
    lines = [f"left: {place}: {around}" for place, around in left.items()]
    lines += [f"repeated: {place}: {text[-300:]}" for place, text in echoed(run).items()]
    assert not lines, "\n".join(lines)


async def rich_run(server: KeysteadServer) -> Run:
    """Do everything, and stop the server."""
    async with JsonClient(server.http, server.management_key) as over_json, client_for(server) as over_grpc:
        run = Run(server, over_json, over_grpc)
        run.secret("first management key", server.management_key)
        run.secret("sample key", server.told["sample_key"])
        await use(run)
        await misuse(run)
        await break_it(run)
    assert '"level": "debug"' in server.log_text()
    return run


def master_needles(text: str) -> dict[str, bytes]:
    """Return the master key in every spelling it may leak in."""
    return {"master key, hex": text.encode(), "master key, raw": bytes.fromhex(text)}


async def test_no_secret_is_left_anywhere_on_sqlite(servers: ServerFarm) -> None:
    """After a run with every kind of call, failed ones with a secret in each wrong place and unexpected errors among
    them: no secret, entropy, tag and checksum, management key, idempotency key or master key is in the database, its
    WAL or a log line at debug level, and no error repeats one.
    """
    server = servers.start()

    run = await rich_run(server)
    run.needles |= master_needles((server.data_dir / "master.key").read_text().strip())
    assert {"keystead.db", "keystead.db-wal", "keystead.db-shm"} <= {path.name for path in files_in(server)}
    left = found_in(run, server.folder)
    server.stop()
    demand_none(run, left | found_in(run, server.folder))


async def test_no_secret_is_left_anywhere_on_postgresql(servers: ServerFarm, own_postgres: PrivatePostgres) -> None:
    """The same on PostgreSQL: its whole data directory, WAL and log included."""
    url = own_postgres.create_database("plaintext")
    server = servers.start(database=url)

    run = await rich_run(server)
    run.needles |= master_needles(servers.master_key)
    server.stop()
    await asyncio.to_thread(own_postgres.stop)
    assert (own_postgres.folder / "data" / "pg_wal").is_dir()
    demand_none(run, found_in(run, server.folder, own_postgres.folder))


def test_the_process_keeps_its_memory_to_itself(servers: ServerFarm) -> None:
    """No core dump holds a secret, and no other process of the same user may read the server's memory."""
    server = servers.start()
    assert server.told["dumpable"] == 0
    limits = Path(f"/proc/{server.pid}/limits").read_text(encoding="ascii")
    assert re.search(r"Max core file size +0 +0 ", limits)
    assert Path(f"/proc/{server.pid}/environ").stat().st_uid == 0  # as for every process that is not dumpable


def test_secrets_hide_in_what_is_printed() -> None:
    """A message that is printed, as by a careless log line, does not show the fields that hold secrets."""
    redacted = [
        (method.name, descriptor.name)
        for method in METHODS.values()
        for kind in (method.request, method.reply)
        for descriptor in kind.DESCRIPTOR.fields
        if descriptor.GetOptions().debug_redact
    ]
    assert ("VerifyKey", "key") in redacted
    assert {("CreateKey", "secret"), ("RotateKey", "secret"), ("CreateWorkspace", "secret")} <= set(redacted)
    assert keys_pb2.CreateKeyResponse.DESCRIPTOR.fields_by_name["secret"].GetOptions().debug_redact
