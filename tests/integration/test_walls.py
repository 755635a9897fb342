"""P8 over the wire: what belongs to others answers exactly as what does not exist, and nobody gains a right."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.gen.v1 import keys_pb2
from keystead.keys.secret_format import compose
from tests.clients import METHODS, Answer, Client, GrpcClient
from tests.servers import KeysteadServer, ServerFarm
from tests.services import PrivatePostgres

NO_KEY = "key_01h455vb4pex5vsknk084sn02q"
NO_WORKSPACE = "wsp_01h455vb4pex5vsknk084sn02q"
NO_OWNER = "nobody-by-that-name"
STATES = ("LIVE", "TEST", "ALL")


@dataclass
class Tenant:
    """One workspace: a management key for each environment, and something in each."""

    id: str
    management: dict[str, str]
    management_ids: dict[str, str] = field(default_factory=dict)
    keys: dict[str, Any] = field(default_factory=dict)
    owner_id: str = ""


@dataclass
class World:
    """Two workspaces on one server."""

    server: KeysteadServer
    client: Client
    ours: Tenant
    theirs: Tenant

    async def call(self, name: str, token: str, /, **fields: Any) -> Answer:
        """Call as the bearer of ``token``."""
        return await self.client.call(name, token=token, **fields)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(
    request: pytest.FixtureRequest, postgres: PrivatePostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KeysteadServer]:
    """Lend one server on each store for this module, with an operator key."""
    farm = ServerFarm(tmp_path_factory.mktemp("walls"))
    url = postgres.create_database("walls") if request.param == "postgresql" else ""
    try:
        yield farm.start(flags=("--first-run", "--operator"), database=url)
    finally:
        farm.end()
        if url:
            postgres.drop_database("walls")


async def furnish(client: Client, tenant: Tenant) -> Tenant:
    """Make what a tenant has."""
    root = tenant.management["ALL"]
    tenant.owner_id = f"owner-of-{tenant.id}"
    for environment in ("LIVE", "TEST"):
        wanted: dict[str, Any] = {
            "owner_id": tenant.owner_id,
            "create_owner": True,
            "name": "Key",
            "environment": environment,
        }
        tenant.keys[environment] = (await client.call("CreateKey", token=root, **wanted)).must()
        (await client.call("RotateKey", token=root, key_id=tenant.keys[environment].key.id)).must()
        own: dict[str, Any] = {"kind": "MANAGEMENT", "environment": environment, "name": environment, "scopes": ["*:*"]}
        made = (await client.call("CreateKey", token=root, **own)).must()
        tenant.management[environment] = made.secret
        tenant.management_ids[environment] = made.key.id
    return tenant


_worlds: dict[str, tuple[Tenant, Tenant]] = {}


@pytest.fixture
async def world(server: KeysteadServer) -> AsyncIterator[World]:
    """Lend the two workspaces, made once for each server."""
    async with GrpcClient(server.grpc) as client:
        if server.grpc not in _worlds:
            made = (
                await client.call("CreateWorkspace", token=server.told["operator_key"], brand="other", name="O")
            ).must()
            ours = Tenant(server.told["workspace_id"], {"ALL": server.management_key})
            theirs = Tenant(made.workspace.id, {"ALL": made.secret}, {"ALL": made.management_key.id})
            _worlds[server.grpc] = (await furnish(client, ours), await furnish(client, theirs))
        yield World(server, client, *_worlds[server.grpc])


def by_key_id(key_id: str) -> dict[str, dict[str, Any]]:
    """Return every call that names a key."""
    plain = ("GetKey", "FinishRotation", "CancelRotation", "SuspendKey", "ResumeKey", "RevokeKey", "RotateKey")
    return {
        **{name: {"key_id": key_id} for name in plain},
        "RevokeKeys": {"key_ids": [key_id]},
        "UpdateKey": {"key": {"id": key_id, "name": "Mine now"}, "update_mask": {"paths": ["name"]}},
    }


def by_owner_id(owner_id: str) -> dict[str, dict[str, Any]]:
    """Return every call that names an owner, and must not make one."""
    return {
        **{name: {"owner_id": owner_id} for name in ("GetOwner", "SuspendOwner", "ResumeOwner", "DeleteOwner")},
        "UpdateOwner": {"owner": {"owner_id": owner_id, "name": "Mine now"}, "update_mask": {"paths": ["name"]}},
        "CreateKey": {"owner_id": owner_id, "name": "Key", "environment": "LIVE"},
        "ListKeys": {"owner_id": owner_id},
        "RevokeKeys": {"owner_id": owner_id},
    }


def by_workspace_id(workspace_id: str) -> dict[str, dict[str, Any]]:
    """Return every call that names a workspace and is a management key's to make."""
    named = {"id": workspace_id, "name": "Mine now"}
    return {
        "GetWorkspace": {"workspace_id": workspace_id},
        "UpdateWorkspace": {"workspace": named, "update_mask": {"paths": ["name"]}},
    }


def seen(answer: Answer, *ids: str) -> tuple[str, str, str, bytes]:
    """Return everything of an answer that a caller can see, but for the id that he named himself."""
    text = answer.text
    for known in ids:
        text = text.replace(known, "…")
    return answer.status, answer.reason, text, answer.raw


async def state_of(world: World, tenant: Tenant) -> list[bytes]:
    """Return everything a tenant can see of its own, as bytes."""
    asked = ("ListKeys", "ListOwners", "ListWorkspaces")
    replies = [(await world.call(name, tenant.management["ALL"])).must() for name in asked]
    for key in replies[0].keys:
        key.ClearField("last_used_at")
        for secret in key.secrets:
            secret.ClearField("last_used_at")
    return [reply.SerializeToString(deterministic=True) for reply in replies]


@pytest.mark.parametrize("environment", STATES)
async def test_another_workspace_does_not_exist(world: World, environment: str) -> None:
    """Every method that is given a key, owner or workspace of another tenant answers, to the letter, as for one that
    nobody has, and changes nothing of it; whether the caller is for one environment or both.
    """
    token, theirs = world.ours.management[environment], world.theirs
    before = await state_of(world, theirs)
    pairs = [(by_key_id(made.key.id), by_key_id(NO_KEY), (made.key.id, NO_KEY)) for made in theirs.keys.values()]
    pairs += [(by_key_id(one), by_key_id(NO_KEY), (one, NO_KEY)) for one in theirs.management_ids.values()]
    pairs += [(by_owner_id(theirs.owner_id), by_owner_id(NO_OWNER), (theirs.owner_id, NO_OWNER))]
    pairs += [(by_workspace_id(theirs.id), by_workspace_id(NO_WORKSPACE), (theirs.id, NO_WORKSPACE))]
    for foreign, unknown, ids in pairs:
        for name, fields in foreign.items():
            got = seen(await world.call(name, token, **fields), *ids)
            assert got == seen(await world.call(name, token, **unknown[name]), *ids), name
            assert got[0] in {"NOT_FOUND", "OK", "PERMISSION_DENIED"}, (name, got)
    assert await state_of(world, theirs) == before


@pytest.mark.parametrize(("mine", "other"), (("LIVE", "TEST"), ("TEST", "LIVE")))
async def test_the_other_environment_does_not_exist(world: World, mine: str, other: str) -> None:
    """The same between the two environments of one workspace."""
    token, key_id = world.ours.management[mine], world.ours.keys[other].key.id
    before = await state_of(world, world.ours)
    for one in (key_id, world.ours.management_ids[other]):
        unknown = by_key_id(NO_KEY)
        for name, fields in by_key_id(one).items():
            got = seen(await world.call(name, token, **fields), one, NO_KEY)
            assert got == seen(await world.call(name, token, **unknown[name]), one, NO_KEY), name
    listed = (await world.call("ListKeys", token)).must().keys
    assert {keys_pb2.Key.Environment.Name(key.environment) for key in listed} == {mine}
    wanted: dict[str, Any] = {"owner_id": world.ours.owner_id, "name": "Key", "environment": other}
    assert (await world.call("CreateKey", token, **wanted)).status == "PERMISSION_DENIED"
    refused = await world.call("VerifyKey", token, key=world.ours.keys[other].secret, environment=other)
    assert refused.status == "PERMISSION_DENIED"
    hidden = (await world.call("VerifyKey", token, key=world.ours.keys[other].secret)).must()
    assert (hidden.valid, hidden.key_id, hidden.owner_id, hidden.name) == (False, "", "", "")
    assert await state_of(world, world.ours) == before


async def test_another_workspaces_secret_is_nobodys(world: World) -> None:
    """A secret of another workspace, warm or cold, verifies and identifies as one that nobody minted."""
    theirs = world.theirs.keys["LIVE"].secret
    assert await world.client.verify(theirs, token=world.theirs.management["ALL"]) == "VALID"
    forged = compose(brand="other", environment="live", tag=MasterKeyring([b"another master key, of somebody."]).tag)
    for name, fields in (("VerifyKey", {"environment": "LIVE"}), ("IdentifyKey", {})):
        answers = []
        for secret in (theirs, forged):
            answer = await world.call(name, world.ours.management["ALL"], key=secret, **fields)
            if answer.ok:
                answer.reply.ClearField("verification_id")
                answers.append(("OK", "", "", answer.reply.SerializeToString(deterministic=True)))
            else:
                answers.append(seen(answer))
        assert answers[0] == answers[1], name


async def test_page_tokens_do_not_cross_walls(world: World) -> None:
    """A page token is good for its own list alone: not for another tenant, environment, method or filter."""
    ours = world.ours.management["ALL"]
    token = (await world.call("ListKeys", ours, page_size=1)).must().next_page_token
    assert token
    assert (await world.call("ListKeys", ours, page_size=2, page_token=token)).ok
    strangers = [
        ("ListKeys", world.theirs.management["ALL"], {}),
        ("ListKeys", world.ours.management["LIVE"], {}),
        ("ListKeys", ours, {"owner_id": world.ours.owner_id}),
        ("ListKeys", ours, {"order_by": "created_at asc"}),
        ("ListOwners", ours, {}),
        ("ListWorkspaces", ours, {}),
    ]
    for name, caller, fields in strangers:
        answer = await world.call(name, caller, page_token=token, **fields)
        assert (answer.refusal, answer.fields) == (("INVALID_ARGUMENT", "INVALID_REQUEST"), ("page_token",)), name


async def test_nobody_gains_a_right(world: World) -> None:
    """A management key with few scopes can neither make one with more, nor widen itself, nor get the secret of,
    change, suspend or end one that holds more; by no method.
    """
    root = world.ours.management["ALL"]
    narrow: dict[str, Any] = {
        "kind": "MANAGEMENT",
        "environment": "ALL",
        "name": "Narrow",
        "scopes": ["write:keys", "read:keys"],
    }
    weak = (await world.call("CreateKey", root, **narrow)).must()
    strong = (await world.call("CreateKey", root, **{**narrow, "scopes": ["*:*"]})).must()
    (await world.call("RotateKey", root, key_id=strong.key.id, overlap=timedelta(hours=1))).must()
    before = (await world.call("GetKey", root, key_id=strong.key.id)).must().key.etag
    for scopes in (["*:*"], ["*:keys"], ["verify:keys"], ["write:keys", "write:owners"], ["write:*"]):
        made = await world.call("CreateKey", weak.secret, **{**narrow, "scopes": scopes})
        assert made.refusal == ("PERMISSION_DENIED", "PERMISSION_DENIED"), scopes
        widened = {"key": {"id": weak.key.id, "scopes": scopes}, "update_mask": {"paths": ["scopes"]}}
        assert (await world.call("UpdateKey", weak.secret, **widened)).status == "PERMISSION_DENIED", scopes
    for name, fields in by_key_id(strong.key.id).items():
        if name != "GetKey":
            answer = await world.call(name, weak.secret, **fields)
            assert answer.refusal == ("PERMISSION_DENIED", "PERMISSION_DENIED"), name
    assert (await world.call("RevokeKeys", weak.secret, kind="MANAGEMENT")).status == "PERMISSION_DENIED"
    assert (await world.call("GetKey", root, key_id=strong.key.id)).must().key.etag == before
    assert (await world.call("RotateKey", weak.secret, key_id=weak.key.id)).ok  # his own he may
    assert (await world.call("CreateKey", weak.secret, **{**narrow, "scopes": ["read:keys"]})).ok


@pytest.mark.parametrize(("mine", "other"), (("LIVE", "TEST"), ("LIVE", "ALL"), ("TEST", "ALL")))
async def test_nobody_gains_an_environment(world: World, mine: str, other: str) -> None:
    """A management key for one environment makes none for the other or for both."""
    wanted: dict[str, Any] = {"kind": "MANAGEMENT", "name": "M", "scopes": ["read:keys"], "environment": other}
    assert (await world.call("CreateKey", world.ours.management[mine], **wanted)).status == "PERMISSION_DENIED"
    refused = await world.call("DeleteOwner", world.ours.management[mine], owner_id=world.ours.owner_id)
    assert refused.status == "PERMISSION_DENIED"


async def test_operators_reach_nothing_of_any_tenant(world: World) -> None:
    """An operator key calls no method that is not for operators, a management key makes and deletes no workspace, and
    nobody makes an operator key by a call.
    """
    operator = world.server.told["operator_key"]
    for name, method in METHODS.items():
        if not method.access.operator:
            assert (await world.call(name, operator)).refusal == ("PERMISSION_DENIED", "PERMISSION_DENIED"), name
        if method.access.operator_only:
            refused = await world.call(name, world.ours.management["ALL"])
            assert refused.refusal == ("PERMISSION_DENIED", "PERMISSION_DENIED"), name
    wanted: dict[str, Any] = {"kind": "OPERATOR", "environment": "ALL", "name": "O", "scopes": ["*:*"]}
    assert (await world.call("CreateKey", world.ours.management["ALL"], **wanted)).status in {
        "PERMISSION_DENIED",
        "INVALID_ARGUMENT",
    }
    assert len((await world.call("ListWorkspaces", operator)).must().workspaces) >= 2
    own = (await world.call("ListWorkspaces", world.ours.management["ALL"])).must().workspaces
    assert [workspace.id for workspace in own] == [world.ours.id]


async def test_every_method_asks_for_its_scope(world: World) -> None:
    """A management key without a method's scope is refused by it before anything is looked at, and told which scope."""
    root = world.ours.management["ALL"]
    none: dict[str, Any] = {"kind": "MANAGEMENT", "environment": "ALL", "name": "None", "scopes": ["read:nothing"]}
    token = (await world.call("CreateKey", root, **none)).must().secret
    for name, method in METHODS.items():
        answer = await world.call(name, token)
        assert answer.refusal == ("PERMISSION_DENIED", "PERMISSION_DENIED"), name
        assert method.access.operator_only or method.access.scope in answer.text, name


async def test_only_keys_made_for_it_open_this_api(world: World) -> None:
    """Customers' and services' keys, strings of every kind, and nothing at all are told the same."""
    root = world.ours.management["ALL"]
    service = (await world.call("CreateKey", root, kind="SERVICE", environment="LIVE", name="S")).must().secret
    forged = compose(brand="keystead", environment="live", tag=MasterKeyring([b"another master key, of somebody."]).tag)
    strangers = ("", "x", service, world.ours.keys["LIVE"].secret, forged, root[:-1], f"{root} ", f"{root},{root}", "*")
    answers = {seen(await world.call("ListKeys", token)) for token in strangers if token != f"{root} "}
    assert len(answers) == 1
    assert answers.pop()[:2] == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    expired: dict[str, Any] = {"kind": "MANAGEMENT", "environment": "ALL", "name": "B", "scopes": ["*:*"]}
    bound = (await world.call("CreateKey", root, **expired, allowed_ips=["198.51.100.0/24"])).must().secret
    assert (await world.call("ListKeys", bound)).status == "UNAUTHENTICATED"


async def test_a_key_for_this_api_is_no_customers(world: World) -> None:
    """A management or operator key, also one's own, verifies as a key that does not exist."""
    root = world.ours.management["ALL"]
    for secret in (root, world.ours.management["LIVE"], world.server.told["operator_key"]):
        assert await world.client.verify(secret, token=root) == "NOT_FOUND"
