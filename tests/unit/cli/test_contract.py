"""Every command that talks to a server says exactly what it was told, in the contract's own words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from keystead.gen.v1 import keys_pb2, limiter_pb2, owners_pb2, plans_pb2, usage_pb2, workspaces_pb2
from tests.unit.cli.conftest import SECRET, CommandLine, sample_key
from tests.unit.cli.stub_server import StubServer, is_mutation, method_named, reply

KEY = "key_01hzx"
WORKSPACE = "wsp_01hzx"
WINDOW = {"name": "requests", "slidingWindow": {"limit": 100, "window": "60s"}}
QUOTA = {"name": "daily", "on": "OWNER", "quota": {"limit": 10_000, "period": "DAY"}}

# The words of a command, the method it calls, and what it says beside the idempotency key.
CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        (
            "keys create --owner cus_42 --create-owner --name Billing --description d --environment live --kind service"
            " --scope read:a --scope write:a --metadata a=b --metadata c=d=e --tag t --allow-ip 10.0.0.0/8"
            " --expires 2099-01-31T12:00:00+02:00"
        ),
        "CreateKey",
        {
            "ownerId": "cus_42",
            "createOwner": True,
            "name": "Billing",
            "description": "d",
            "environment": "LIVE",
            "kind": "SERVICE",
            "scopes": ["read:a", "write:a"],
            "metadata": {"a": "b", "c": "d=e"},
            "tags": ["t"],
            "allowedIps": ["10.0.0.0/8"],
            "expiresAt": "2099-01-31T10:00:00.000Z",
        },
    ),
    ("keys create --name n --environment TEST", "CreateKey", {"name": "n", "environment": "TEST"}),
    (
        (
            "keys create --name n --environment live --plan starter --limit requests=100/min"
            " --limit daily=quota:10k/day@owner"
        ),
        "CreateKey",
        {"name": "n", "environment": "LIVE", "planId": "starter", "limits": [WINDOW, QUOTA]},
    ),
    (
        f"keys update {KEY} --plan starter --limit requests=100/min",
        "UpdateKey",
        {"key": {"id": KEY, "etag": "", "planId": "starter", "limits": [WINDOW]}, "updateMask": "planId,limits"},
    ),
    (
        f"keys update {KEY} --clear plan --clear limits",
        "UpdateKey",
        {"key": {"id": KEY, "etag": "", "planId": "", "limits": []}, "updateMask": "planId,limits"},
    ),
    (
        (
            "keys list --owner cus_42 --environment all --state active --kind management --scope read:a --tag t"
            " --prefix acme_live_ --unused-since 2026-01-01 --expires-before 2099-01-01T00:00:00Z --query q"
            " --oldest-first --page-size 7 --page-token x"
        ),
        "ListKeys",
        {
            "ownerId": "cus_42",
            "environment": "ALL",
            "state": "ACTIVE",
            "kind": "MANAGEMENT",
            "scope": "read:a",
            "tag": "t",
            "prefix": "acme_live_",
            "unusedSince": "2026-01-01T00:00:00.000Z",
            "expiresBefore": "2099-01-01T00:00:00.000Z",
            "query": "q",
            "orderBy": "created_at asc",
            "pageSize": 7,
            "pageToken": "x",
        },
    ),
    ("keys list", "ListKeys", {}),
    (f"keys get {KEY}", "GetKey", {"keyId": KEY}),
    (
        f"keys update {KEY} --name n --scope read:a --expires never --clear tags --clear allowed-ips --etag 1",
        "UpdateKey",
        {
            "key": {"id": KEY, "etag": "1", "name": "n", "scopes": ["read:a"], "tags": [], "allowedIps": []},
            "updateMask": "name,scopes,expiresAt,tags,allowedIps",
        },
    ),
    (
        f"keys update {KEY} --description d --metadata a=b --tag t --allow-ip ::1 --expires 2099-01-01",
        "UpdateKey",
        {
            "key": {
                "id": KEY,
                "etag": "",
                "description": "d",
                "metadata": {"a": "b"},
                "tags": ["t"],
                "allowedIps": ["::1"],
                "expiresAt": "2099-01-01T00:00:00.000Z",
            },
            "updateMask": "description,metadata,tags,allowedIps,expiresAt",
        },
    ),
    (f"keys rotate {KEY}", "RotateKey", {"keyId": KEY}),
    (f"keys rotate {KEY} --overlap 1h30m", "RotateKey", {"keyId": KEY, "overlap": "5400s"}),
    (f"keys rotate {KEY} --overlap 0s", "RotateKey", {"keyId": KEY, "overlap": "0s"}),
    (f"keys finish {KEY}", "FinishRotation", {"keyId": KEY}),
    (f"keys cancel {KEY}", "CancelRotation", {"keyId": KEY}),
    (f"keys suspend {KEY} --reason r", "SuspendKey", {"keyId": KEY, "reason": "r"}),
    (f"keys resume {KEY}", "ResumeKey", {"keyId": KEY}),
    (f"keys revoke {KEY} --reason r", "RevokeKey", {"keyId": KEY, "reason": "r"}),
    (
        (
            f"keys revoke-matching --owner o --environment live --kind customer --scope read:a --tag t"
            f" --prefix acme_live_ --key {KEY} --reason r --expected-count 0"
        ),
        "RevokeKeys",
        {
            "ownerId": "o",
            "environment": "LIVE",
            "kind": "CUSTOMER",
            "scope": "read:a",
            "tag": "t",
            "prefix": "acme_live_",
            "keyIds": [KEY],
            "reason": "r",
            "expectedCount": 0,
        },
    ),
    ("keys revoke-matching --tag t --yes", "RevokeKeys", {"tag": "t"}),
    ("keys revoke-matching --tag t --validate-only", "RevokeKeys", {"tag": "t", "validateOnly": True}),
    (
        "owners create cus_42 --name n --metadata a=b",
        "CreateOwner",
        {"ownerId": "cus_42", "name": "n", "metadata": {"a": "b"}},
    ),
    ("owners list --query q --suspended", "ListOwners", {"query": "q", "suspended": True}),
    ("owners list --not-suspended --oldest-first", "ListOwners", {"suspended": False, "orderBy": "created_at asc"}),
    ("owners get cus_42", "GetOwner", {"ownerId": "cus_42"}),
    (
        "owners update cus_42 --name n --clear-metadata --allow-missing --etag 2",
        "UpdateOwner",
        {
            "owner": {"ownerId": "cus_42", "etag": "2", "name": "n", "metadata": {}},
            "updateMask": "name,metadata",
            "allowMissing": True,
        },
    ),
    (
        "owners create cus_42 --plan starter --limit requests=100/min",
        "CreateOwner",
        {"ownerId": "cus_42", "planId": "starter", "limits": [WINDOW]},
    ),
    (
        "owners update cus_42 --plan starter --limit daily=quota:10000/day@owner",
        "UpdateOwner",
        {
            "owner": {"ownerId": "cus_42", "etag": "", "planId": "starter", "limits": [QUOTA]},
            "updateMask": "planId,limits",
        },
    ),
    (
        "owners update cus_42 --clear-plan --clear-limits",
        "UpdateOwner",
        {"owner": {"ownerId": "cus_42", "etag": "", "planId": "", "limits": []}, "updateMask": "planId,limits"},
    ),
    (
        "owners entitle cus_42 --plan enterprise --until 2099-01-31",
        "ApplyEntitlement",
        {"ownerId": "cus_42", "planId": "enterprise", "until": "2099-01-31T00:00:00.000Z"},
    ),
    ("owners entitle cus_42 --plan enterprise", "ApplyEntitlement", {"ownerId": "cus_42", "planId": "enterprise"}),
    ("owners entitle cus_42 --end", "ApplyEntitlement", {"ownerId": "cus_42"}),
    ("owners suspend cus_42 --reason r", "SuspendOwner", {"ownerId": "cus_42", "reason": "r"}),
    ("owners resume cus_42", "ResumeOwner", {"ownerId": "cus_42"}),
    (
        "owners delete cus_42 --reason r --etag 1 --yes",
        "DeleteOwner",
        {"ownerId": "cus_42", "reason": "r", "etag": "1"},
    ),
    ("workspaces create --brand acme --name n", "CreateWorkspace", {"brand": "acme", "name": "n"}),
    ("workspaces list --page-size 3", "ListWorkspaces", {"pageSize": 3}),
    ("workspaces get", "GetWorkspace", {}),
    (f"workspaces get {WORKSPACE}", "GetWorkspace", {"workspaceId": WORKSPACE}),
    (
        f"workspaces update {WORKSPACE} --name n",
        "UpdateWorkspace",
        {"workspace": {"id": WORKSPACE, "name": "n", "etag": ""}, "updateMask": "name"},
    ),
    (
        f"workspaces update {WORKSPACE} --default-plan starter",
        "UpdateWorkspace",
        {"workspace": {"id": WORKSPACE, "etag": "", "defaultPlanId": "starter"}, "updateMask": "defaultPlanId"},
    ),
    (
        f"workspaces update {WORKSPACE} --clear-default-plan --etag 1",
        "UpdateWorkspace",
        {"workspace": {"id": WORKSPACE, "etag": "1", "defaultPlanId": ""}, "updateMask": "defaultPlanId"},
    ),
    (f"workspaces delete {WORKSPACE} --yes", "DeleteWorkspace", {"workspaceId": WORKSPACE}),
    (
        (
            "usage show --from 2026-01-01 --to 2026-01-02T00:00:00Z --interval day --by code --secret sec_x --owner o"
            " --operation op --code rate_limited --environment test --tag t --time-zone Europe/Rome"
        ),
        "QueryUsage",
        {
            "from": "2026-01-01T00:00:00.000Z",
            "to": "2026-01-02T00:00:00.000Z",
            "interval": "DAY",
            "groupBy": "CODE",
            "filter": {
                "secretId": "sec_x",
                "ownerId": "o",
                "operation": "op",
                "code": "RATE_LIMITED",
                "environment": "TEST",
                "tag": "t",
            },
            "timeZone": "Europe/Rome",
        },
    ),
    (
        "usage show --from 2026-01-01 --to 2026-01-02",
        "QueryUsage",
        {"from": "2026-01-01T00:00:00.000Z", "to": "2026-01-02T00:00:00.000Z", "interval": "HOUR"},
    ),
    (
        f"usage top --from 2026-01-01 --by owner --limit 3 --key {KEY}",
        "TopUsage",
        {"from": "2026-01-01T00:00:00.000Z", "groupBy": "OWNER", "limit": 3, "filter": {"keyId": KEY}},
    ),
    (
        f"usage calls --from 2026-01-01 --limit 7 --key {KEY}",
        "ListCalls",
        {"from": "2026-01-01T00:00:00.000Z", "pageSize": 7, "filter": {"keyId": KEY}},
    ),
    (
        (
            "plans create starter --description d --limit requests=100/min --limit daily=quota:10000/day@owner"
            " --max-keys-per-owner 5 --rotate-every 90d --suspend-overdue --on-limiter-outage local"
        ),
        "CreatePlan",
        {
            "name": "starter",
            "description": "d",
            "limits": [WINDOW, QUOTA],
            "maxKeysPerOwner": 5,
            "rotateEvery": "7776000s",
            "suspendOverdue": True,
            "onLimiterOutage": "LOCAL",
        },
    ),
    ("plans create open", "CreatePlan", {"name": "open"}),
    ("plans list --page-size 3 --page-token x", "ListPlans", {"pageSize": 3, "pageToken": "x"}),
    ("plans show free", "GetPlan", {"planId": "free"}),
    (
        "plans update free --name basic --limit requests=100/min --warn-overdue --max-keys-per-owner 0 --etag 2",
        "UpdatePlan",
        {
            "plan": {
                "id": "free",
                "etag": "2",
                "name": "basic",
                "limits": [WINDOW],
                "maxKeysPerOwner": 0,
                "suspendOverdue": False,
            },
            "updateMask": "name,limits,maxKeysPerOwner,suspendOverdue",
        },
    ),
    (
        "plans update free --clear limits --clear rotate-every --clear description --clear max-keys-per-owner",
        "UpdatePlan",
        {
            "plan": {"id": "free", "etag": "", "limits": [], "description": "", "maxKeysPerOwner": 0},
            "updateMask": "limits,rotateEvery,description,maxKeysPerOwner",
        },
    ),
    ("plans delete starter --etag 1 --yes", "DeletePlan", {"planId": "starter", "etag": "1"}),
    ("plans preview free", "PreviewPlan", {"planId": "free"}),
    (
        f"plans simulate free --from 2026-01-01 --to 2026-01-02 --owner o --key {KEY}",
        "SimulatePlan",
        {
            "planId": "free",
            "from": "2026-01-01T00:00:00.000Z",
            "to": "2026-01-02T00:00:00.000Z",
            "ownerId": "o",
            "keyId": KEY,
        },
    ),
    (
        "plans simulate --limit requests=100/min --from 2026-01-01",
        "SimulatePlan",
        {"limits": [WINDOW], "from": "2026-01-01T00:00:00.000Z"},
    ),
    (f"limits show {KEY}", "GetLimits", {"keyId": KEY}),
    (f"limits reset {KEY}", "ResetLimits", {"keyId": KEY}),
    (
        f"limits reset {KEY} --name requests --name daily --reason r",
        "ResetLimits",
        {"keyId": KEY, "names": ["requests", "daily"], "reason": "r"},
    ),
    (f"limits adjust {KEY} credit --add 50", "AdjustCredits", {"keyId": KEY, "name": "credit", "delta": 50}),
    (
        f"limits adjust {KEY} credit --take 50 --reason r",
        "AdjustCredits",
        {"keyId": KEY, "name": "credit", "delta": -50, "reason": "r"},
    ),
    (
        "usage unused --for 90d --owner o --environment live --page-size 7 --page-token x",
        "ListUnusedGrants",
        {"unusedFor": "7776000s", "ownerId": "o", "environment": "LIVE", "pageSize": 7, "pageToken": "x"},
    ),
)


@pytest.mark.parametrize(("words", "method", "said"), CASES)
def test_a_command_says_what_it_was_told(
    stub: StubServer, run: CommandLine, words: str, method: str, said: dict[str, Any]
) -> None:
    """Each option arrives in its field; what is not given is not sent; the reply is printed as it came, and is all."""
    result = run(*words.split(), "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {}
    (asked,) = stub.asked
    body = {name: value for name, value in asked.body.items() if name != "idempotencyKey"}
    assert (asked.method, body) == (method, said)


def test_every_method_has_a_command() -> None:
    """Nothing that these services can do is out of the command line's reach."""
    services = (
        keys_pb2.DESCRIPTOR.services_by_name["KeyService"],
        owners_pb2.DESCRIPTOR.services_by_name["OwnerService"],
        workspaces_pb2.DESCRIPTOR.services_by_name["WorkspaceService"],
        usage_pb2.DESCRIPTOR.services_by_name["UsageService"],
        plans_pb2.DESCRIPTOR.services_by_name["PlanService"],
        limiter_pb2.DESCRIPTOR.services_by_name["LimitService"],
    )
    named = {method.name for service in services for method in service.methods}
    elsewhere = {"IdentifyKey", "GetKeyUsage", "TailCalls", "CheckLimit"}
    assert named == {method for _, method, _ in CASES} - {"ApplyEntitlement"} | elsewhere


def test_the_stub_knows_mutations_from_questions() -> None:
    """The checks of this file would notice a mutation without an idempotency key."""
    assert is_mutation(method_named("/keystead.v1.KeyService/RotateKey"))
    assert not is_mutation(method_named("/keystead.v1.KeyService/GetKey"))


def test_every_mutation_draws_its_own_idempotency_key(stub: StubServer, run: CommandLine) -> None:
    """Two commands are two changes, also when their words are the same."""
    for _ in range(2):
        assert run("keys", "revoke", KEY, "--json").exit_code == 0
    assert len({asked.body["idempotencyKey"] for asked in stub.asked}) == 2


def test_a_repeated_command_can_name_its_idempotency_key(stub: StubServer, run: CommandLine) -> None:
    """Whoever lost an answer gets it by repeating the command with the key that the error named."""
    run("keys", "rotate", KEY, "--idempotency-key", "0123456789abcdefghijkl", "--json")
    assert stub.asked[0].body["idempotencyKey"] == "0123456789abcdefghijkl"


@pytest.mark.parametrize("words", (("-",), ("--file", "-"), ()))
def test_identify_sends_the_secret_it_read(stub: StubServer, run: CommandLine, words: tuple[str, ...]) -> None:
    """The secret comes from standard input without the line end that surrounds it, and goes into the body alone."""
    stub.will_answer(reply(keys_pb2.IdentifyKeyResponse(key=sample_key(), secret_id="sec_x")))
    result = run("keys", "identify", *words, typed=f"{SECRET}\n")
    assert result.exit_code == 0
    assert stub.asked[0].body == {"key": SECRET}
    assert "sec_x" in result.stdout
    assert SECRET not in result.output


def test_every_page_becomes_one_reply(stub: StubServer, run: CommandLine) -> None:
    """`--all` asks in the largest pages, follows every token and prints one object."""
    pages = (("a", "t1"), ("b", "t2"), ("c", ""))
    for name, token in pages:
        stub.will_answer(reply(keys_pb2.ListKeysResponse(keys=[sample_key(name=name)], next_page_token=token)))
    result = run("keys", "list", "--all", "--tag", "t", "--json")
    found = json.loads(result.stdout)
    assert [key["name"] for key in found["keys"]] == ["a", "b", "c"]
    assert found["nextPageToken"] == ""
    assert [asked.body.get("pageToken") for asked in stub.asked] == [None, "t1", "t2"]
    assert {(asked.body["pageSize"], asked.body["tag"]) for asked in stub.asked} == {(1_000, "t")}


@pytest.mark.parametrize(
    "words",
    (
        "owners delete cus_42",
        f"workspaces delete {WORKSPACE}",
        "keys revoke-matching --tag t",
        "plans delete starter",
    ),
)
def test_what_cannot_be_taken_back_is_not_done_unasked(stub: StubServer, run: CommandLine, words: str) -> None:
    """Without a terminal to ask on, and without a word of agreement, nothing is sent."""
    result = run(*words.split())
    assert result.exit_code == 2
    assert stub.asked == []


@pytest.mark.parametrize(
    "words",
    (
        f"keys update {KEY}",
        "owners update cus_42",
        f"keys update {KEY} --scope read:a --clear scopes",
        "owners update cus_42 --metadata a=b --clear-metadata",
        "owners update cus_42 --plan p --clear-plan",
        "owners update cus_42 --limit requests=1/s --clear-limits",
        "owners entitle cus_42",
        "owners entitle cus_42 --plan p --end",
        "owners entitle cus_42 --end --until 30d",
        f"workspaces update {WORKSPACE}",
        f"workspaces update {WORKSPACE} --default-plan p --clear-default-plan",
        f"keys update {KEY} --plan p --clear plan",
        "plans update free",
        "plans update free --limit requests=1/s --clear limits",
        "plans update free --rotate-every 90d --clear rotate-every",
        "plans simulate",
        "plans simulate free --limit requests=1/s",
        "limits check subject",
        f"limits adjust {KEY} credit",
        f"limits adjust {KEY} credit --add 1 --take 1",
        f"limits show {KEY} --watch --every 1ms",
    ),
)
def test_an_update_says_what_to_change(stub: StubServer, run: CommandLine, words: str) -> None:
    """An update of nothing, or one that contradicts itself, is a mistake and is not sent."""
    assert run(*words.split()).exit_code == 2
    assert stub.asked == []
