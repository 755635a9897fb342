"""Plans over the wire: their life, who follows a change, and that a retry, a stranger or a mistake changes nothing."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.clients import TRANSPORTS, Answer, Client, client_for
from tests.databases import ask, events_by_target
from tests.servers import KeysteadServer, ServerFarm
from tests.services import PrivatePostgres

NO_PLAN = "pln_01h455vb4pex5vsknk084sn02q"
WINDOW: dict[str, Any] = {"name": "requests", "sliding_window": {"limit": 5, "window": timedelta(minutes=1)}}
MONTH: dict[str, Any] = {"name": "month", "on": "OWNER", "quota": {"limit": 9, "period": "MONTH", "soft": True}}
GOLD: dict[str, Any] = {
    "description": "For those who pay.",
    "limits": [WINDOW, MONTH],
    "max_keys_per_owner": 2,
    "rotate_every": timedelta(days=90),
    "suspend_overdue": True,
    "on_limiter_outage": "LOCAL",
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(
    request: pytest.FixtureRequest, postgres: PrivatePostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KeysteadServer]:
    """Lend one server on each store for this module, with an operator key."""
    farm = ServerFarm(tmp_path_factory.mktemp("plans"))
    url = postgres.create_database("plans") if request.param == "postgresql" else ""
    try:
        yield farm.start(flags=("--first-run", "--operator"), database=url)
    finally:
        farm.end()
        if url:
            postgres.drop_database("plans")


@pytest.fixture
async def client(server: KeysteadServer) -> AsyncIterator[Client]:
    """Lend a gRPC client."""
    async with client_for(server) as made:
        yield made


def a_name(lead: str) -> str:
    """Return a name that no other test uses."""
    return f"{lead}-{uuid.uuid4().hex[:8]}"


async def events_of(server: KeysteadServer, plan_id: str) -> int:
    """Return how many events a plan has that may be gone, after holding every change against its events."""
    await events_by_target(server)
    rows = await ask(server, f"SELECT count(*) FROM events WHERE target = '{plan_id}'")  # noqa: S608 -- an id of ours
    return int(rows[0][0])


async def make_plan(client: Client, **fields: Any) -> Any:
    """Make a plan with a name of its own."""
    return (await client.call("CreatePlan", **{"name": a_name("plan"), **fields})).must().plan


async def make_key(client: Client, owner_id: str = "", **fields: Any) -> Answer:
    """Make a live key of an owner, who is made with it."""
    wanted: dict[str, Any] = {"owner_id": owner_id or a_name("owner"), "create_owner": True, "name": "Key"}
    return await client.call("CreateKey", **{**wanted, "environment": "LIVE", **fields})


def updating(plan_id: str, *paths: str, **fields: Any) -> dict[str, Any]:
    """Return what changes a plan."""
    return {"plan": {"id": plan_id, **fields}, "update_mask": {"paths": paths}}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_life_of_a_plan(server: KeysteadServer, transport: str) -> None:
    """It is made, found by id and name, listed, changed, refused while in use, and deleted; on every transport."""
    async with client_for(server, transport) as client:
        name = a_name("gold")
        made = (await client.call("CreatePlan", name=name, **GOLD)).must().plan
        assert (made.name, made.description, made.max_keys_per_owner) == (name, GOLD["description"], 2)
        assert [limit.name for limit in made.limits] == ["requests", "month"]
        assert made.limits[0].sliding_window.window.seconds == 60
        assert (made.rotate_every.seconds, made.suspend_overdue, made.etag) == (90 * 86_400, True, '"1"')
        for reference in (made.id, name):
            assert (await client.call("GetPlan", plan_id=reference)).must().plan == made
        assert (await client.call("CreatePlan", name=name)).refusal == ("ALREADY_EXISTS", "ALREADY_EXISTS")
        names: list[str] = []
        token = ""
        while token or not names:
            page = (await client.call("ListPlans", page_size=2, page_token=token)).must()
            names += [plan.name for plan in page.plans]
            token = page.next_page_token
        assert names == sorted(names)
        assert {"free", "enterprise", name} <= set(names)
        changed = (await client.call("UpdatePlan", **updating(name, "limits", etag='"1"'))).must().plan
        assert (list(changed.limits), changed.description, changed.etag) == ([], GOLD["description"], '"2"')
        stale = await client.call("UpdatePlan", **updating(name, "description", etag='"1"'))
        assert stale.refusal == ("ABORTED", "ETAG_MISMATCH")
        key = (await make_key(client, plan_id=name)).must().key
        assert key.plan_id == made.id
        in_use = await client.call("DeletePlan", plan_id=name)
        assert in_use.refusal == ("FAILED_PRECONDITION", "PLAN_IN_USE")
        preview = (await client.call("PreviewPlan", plan_id=name)).must()
        assert (preview.keys, preview.owners, preview.affected_keys) == (1, 0, 1)
        assert (list(preview.sample_owner_ids), preview.is_default) == ([key.owner_id], False)
        (await client.call("RevokeKey", key_id=key.id)).must()
        (await client.call("DeletePlan", plan_id=made.id, etag='"2"')).must()
        assert (await client.call("GetPlan", plan_id=made.id)).refusal == ("NOT_FOUND", "NOT_FOUND")
        assert await events_of(server, made.id) == 3


async def test_every_workspace_has_its_plans(client: Client, server: KeysteadServer) -> None:
    """A new workspace begins with ``free``, its default, and ``enterprise``; ids are its own."""
    made = (
        await client.call(
            "CreateWorkspace", token=server.told["operator_key"], brand=a_name("b")[:10].replace("-", ""), name="N"
        )
    ).must()
    plans = {plan.name: plan for plan in (await client.call("ListPlans", token=made.secret)).must().plans}
    assert set(plans) == {"free", "enterprise"}
    assert made.workspace.default_plan_id == plans["free"].id
    assert plans["free"].limits[0].sliding_window.limit == 100
    ours = (await client.call("GetPlan", plan_id="free")).must().plan
    assert ours.id != plans["free"].id
    wanted: dict[str, Any] = {"id": made.workspace.id, "default_plan_id": "enterprise"}
    mask = {"paths": ["default_plan_id"]}
    for token in (made.secret, server.told["operator_key"]):
        changed = (await client.call("UpdateWorkspace", token=token, workspace=wanted, update_mask=mask)).must()
        assert changed.workspace.default_plan_id == plans["enterprise"].id
    foreign = {"id": made.workspace.id, "default_plan_id": ours.id}
    for token in (made.secret, server.told["operator_key"]):
        refused = await client.call("UpdateWorkspace", token=token, workspace=foreign, update_mask=mask)
        assert refused.refusal == ("NOT_FOUND", "NOT_FOUND")


async def test_another_workspaces_plan_does_not_exist(client: Client, server: KeysteadServer) -> None:
    """Whatever names a plan answers, to the letter, for one of another workspace as for one that nobody has (P8)."""
    other = (
        await client.call("CreateWorkspace", token=server.told["operator_key"], brand=uuid.uuid4().hex[:12], name="N")
    ).must()
    theirs = (await client.call("CreatePlan", token=other.secret, name=a_name("their"))).must().plan
    owner_id = (await make_key(client)).must().key.owner_id
    key_id = (await make_key(client, owner_id)).must().key.id
    before = (await client.call("GetPlan", token=other.secret, plan_id=theirs.id)).must().SerializeToString()

    def calls(plan_id: str) -> dict[str, dict[str, Any]]:
        return {
            "GetPlan": {"plan_id": plan_id},
            "PreviewPlan": {"plan_id": plan_id},
            "DeletePlan": {"plan_id": plan_id},
            "UpdatePlan": updating(plan_id, "description", description="Mine now"),
            "CreateKey": {"owner_id": owner_id, "name": "Key", "environment": "LIVE", "plan_id": plan_id},
            "UpdateKey": {"key": {"id": key_id, "plan_id": plan_id}, "update_mask": {"paths": ["plan_id"]}},
            "CreateOwner": {"owner_id": a_name("o"), "plan_id": plan_id},
            "UpdateOwner": {"owner": {"owner_id": owner_id, "plan_id": plan_id}, "update_mask": {"paths": ["plan_id"]}},
            "ApplyEntitlement": {"owner_id": owner_id, "plan_id": plan_id},
            "UpdateWorkspace": {
                "workspace": {"id": server.told["workspace_id"], "default_plan_id": plan_id},
                "update_mask": {"paths": ["default_plan_id"]},
            },
        }

    for foreign, unknown in ((theirs.id, NO_PLAN), (theirs.name, "nobodys")):
        for name, fields in calls(foreign).items():
            answer = await client.call(name, **fields)
            twin = await client.call(name, **calls(unknown)[name])
            assert answer.refusal == twin.refusal == ("NOT_FOUND", "NOT_FOUND"), (name, answer)
            assert answer.text.replace(foreign, "…") == twin.text.replace(unknown, "…"), name
    assert (await client.call("GetPlan", token=other.secret, plan_id=theirs.id)).must().SerializeToString() == before


async def test_keys_owners_and_entitlements(client: Client) -> None:
    """A plan and limits are given to keys and owners, shown, and taken away again; an entitlement ends when told."""
    plan = await make_plan(client)
    owner_id = a_name("owner")
    owner = (await client.call("CreateOwner", owner_id=owner_id, plan_id=plan.name, limits=[WINDOW])).must().owner
    assert (owner.plan_id, owner.limits[0].name) == (plan.id, "requests")
    key = (await make_key(client, owner_id, plan_id="free", limits=[WINDOW, MONTH])).must().key
    assert (key.plan_id.startswith("pln_"), len(key.limits)) == (True, 2)
    wanted: dict[str, Any] = {"id": key.id, "plan_id": plan.id}
    paths = {"paths": ["plan_id", "limits"]}
    key = (await client.call("UpdateKey", key=wanted, update_mask=paths)).must().key
    assert (key.plan_id, list(key.limits)) == (plan.id, [])
    until = datetime.now(UTC) + timedelta(days=1)
    applied: dict[str, Any] = {"owner_id": owner_id, "plan_id": "enterprise", "until": until}
    owner = (await client.call("ApplyEntitlement", **applied)).must().owner
    assert (owner.plan_id, owner.entitled_plan_id.startswith("pln_")) == (plan.id, True)
    assert owner.entitled_until.seconds == int(until.timestamp())
    assert (await client.call("ApplyEntitlement", **applied)).must().owner == owner
    past = await client.call("ApplyEntitlement", **{**applied, "until": until - timedelta(days=2)})
    assert (past.reason, past.fields) == ("INVALID_REQUEST", ("until",))
    assert (await client.call("ApplyEntitlement", owner_id=a_name("nobody"), plan_id="free")).status == "NOT_FOUND"
    owner = (await client.call("ApplyEntitlement", owner_id=owner_id)).must().owner
    assert (owner.entitled_plan_id, owner.HasField("entitled_until")) == ("", False)


async def test_an_owner_has_as_many_keys_as_its_plan_allows(client: Client) -> None:
    """However many are asked for at once, over one connection or several."""
    plan = await make_plan(client, max_keys_per_owner=3)
    owner_id = a_name("owner")
    answers = await asyncio.gather(*[make_key(client, owner_id, plan_id=plan.id) for _ in range(10)])
    assert sorted(answer.status for answer in answers) == ["FAILED_PRECONDITION"] * 7 + ["OK"] * 3
    assert {answer.reason for answer in answers if not answer.ok} == {"KEY_LIMIT_REACHED"}
    assert (await make_key(client, owner_id, plan_id=plan.id, environment="TEST")).ok


@pytest.mark.parametrize(
    ("fields", "path"),
    (
        ({"name": "pln_x"}, "name"),
        ({"description": "d" * 501}, "description"),
        ({"limits": [{"name": "x"}]}, "limits[0]"),
        ({"limits": [{**WINDOW, "name": "X"}]}, "limits[0].name"),
        ({"limits": [WINDOW, WINDOW]}, "limits"),
        ({"limits": [{"name": "x", "sliding_window": {"limit": 1}}]}, "limits[0].sliding_window.window"),
        ({"limits": [{"name": "x", "quota": {"limit": 1}}]}, "limits[0].quota.period"),
        ({"rotate_every": timedelta(0)}, "rotate_every"),
        ({"rotate_every": timedelta(minutes=59)}, "rotate_every"),
        ({"rotate_every": timedelta(microseconds=1)}, "rotate_every"),
    ),
)
async def test_what_cannot_be_is_refused_when_it_is_written(client: Client, fields: dict[str, Any], path: str) -> None:
    """The reply names the field, in a plan as in its change, and nothing is stored."""
    name = a_name("wrong")
    made = await client.call("CreatePlan", **{"name": name, **fields})
    assert (made.status, made.reason, made.fields) == ("INVALID_ARGUMENT", "INVALID_REQUEST", (path,))
    changed = await client.call("UpdatePlan", **updating("free", *fields, **fields))
    assert (changed.status, changed.reason, changed.fields) == (
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        (f"plan.{path}",),
    )
    assert (await client.call("GetPlan", plan_id=name)).status == "NOT_FOUND"


async def test_tiers_are_set_by_a_key_for_both_environments(client: Client) -> None:
    """A management key for one environment reads plans and gives them to its own keys, and sets none (P8)."""
    own: dict[str, Any] = {"kind": "MANAGEMENT", "environment": "TEST", "name": "M", "scopes": ["*:*"]}
    token = (await client.call("CreateKey", **own)).must().secret
    owner_id = (await make_key(client)).must().key.owner_id
    assert (await client.call("ListPlans", token=token)).ok
    for name, fields in (
        ("CreatePlan", {"name": a_name("gold")}),
        ("UpdatePlan", updating("free", "description", description="Mine now")),
        ("DeletePlan", {"plan_id": "enterprise"}),
        ("CreateOwner", {"owner_id": a_name("o"), "plan_id": "enterprise"}),
        ("ApplyEntitlement", {"owner_id": owner_id, "plan_id": "enterprise"}),
    ):
        assert (await client.call(name, token=token, **fields)).refusal == ("PERMISSION_DENIED",) * 2, name
    wanted: dict[str, Any] = {"owner_id": owner_id, "name": "Key", "plan_id": "enterprise"}
    assert (await client.call("CreateKey", token=token, **wanted)).ok


async def test_a_retry_is_answered_byte_for_byte(client: Client, server: KeysteadServer) -> None:
    """The same call under the same idempotency key changes nothing more, also after what came between (P9)."""
    name, owner_id = a_name("once"), (await make_key(client)).must().key.owner_id
    steps: tuple[tuple[str, dict[str, Any]], ...] = (
        ("CreatePlan", {"name": name}),
        ("UpdatePlan", updating(name, "limits", limits=[WINDOW])),
        ("ApplyEntitlement", {"owner_id": owner_id, "plan_id": name}),
        ("ApplyEntitlement", {"owner_id": owner_id}),
        ("DeletePlan", {"plan_id": name}),
    )
    first = [
        await client.call(method, idempotency_key=f"{name}-{n}", **fields) for n, (method, fields) in enumerate(steps)
    ]
    again = [
        await client.call(method, idempotency_key=f"{name}-{n}", **fields) for n, (method, fields) in enumerate(steps)
    ]
    assert [answer.status for answer in first] == ["OK"] * 5
    assert [answer.raw for answer in first] == [answer.raw for answer in again]
    assert await events_of(server, first[0].reply.plan.id) == 3
