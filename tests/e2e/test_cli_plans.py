"""The commands about plans and limits against a real server: what is sold, what is left, and what would have been."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.cli_program import on_terminal
from tests.e2e.test_cli_keys import Shop
from tests.services import wait_until


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Lend one service to this file's tests."""
    made = Shop(tmp_path_factory.mktemp("tiers"))
    yield made
    made.server.close()


def left(shop: Shop, key_id: str) -> dict[str, int]:
    """Return what is left of a key's limits, by name."""
    gauges = shop.json("limits", "show", key_id)["limits"]
    return {gauge["limit"]["name"]: gauge["state"]["remaining"] for gauge in gauges}


def test_a_tier_lives_its_life_by_the_command_line(shop: Shop) -> None:
    """Made, given, felt, looked at, changed for all keys that have it, and deleted when nobody has it any more."""
    shop.json("plans", "create", "starter", "--limit", "requests=3/h", "--limit", "daily=quota:100/day@owner")
    key_id, secret = shop.make("--plan", "starter", "--limit", "burst=bucket:1/h:burst=50")
    assert [shop.verdict(secret)["code"] for _ in range(5)] == ["VALID"] * 3 + ["RATE_LIMITED"] * 2
    assert left(shop, key_id) == {"requests": 0, "daily": 97, "burst": 47}
    shop.json("plans", "update", "starter", "--limit", "requests=5/h")
    assert wait_until(lambda: left(shop, key_id) == {"requests": 2, "burst": 47}, timeout_s=10)
    assert [shop.verdict(secret)["code"] for _ in range(3)] == ["VALID"] * 2 + ["RATE_LIMITED"]
    assert shop.json("limits", "reset", key_id, "--name", "requests")["names"] == ["requests"]
    assert left(shop, key_id)["requests"] == 5
    assert shop.json("plans", "preview", "starter")["affectedKeys"] == 1
    assert shop.refusal("plans", "delete", "starter", "--yes") == (1, "PLAN_IN_USE")
    shop.json("keys", "update", key_id, "--clear", "plan", "--clear", "limits")
    shop.json("plans", "delete", "starter", "--yes")
    assert [plan["name"] for plan in shop.json("plans", "list")["plans"]] == ["enterprise", "free"]


def test_owners_and_workspaces_have_plans_too(shop: Shop) -> None:
    """The default applies to who has none; the owner's goes before it, an entitlement before that, until it ends."""
    shop.json("plans", "create", "basic", "--limit", "basic=10/min")
    shop.json("plans", "create", "gold", "--limit", "gold=20/min")
    key_id, _ = shop.make()

    def applies(name: str) -> bool:
        return wait_until(lambda: shop.json("limits", "show", key_id)["planName"] == name, timeout_s=10)

    assert applies("free")
    workspace = shop.json("workspaces", "get")["workspace"]
    shop.json("workspaces", "update", workspace["id"], "--default-plan", "basic")
    assert applies("basic")
    shop.json("owners", "update", "cus_42", "--plan", "gold", "--limit", "extra=30/min")
    assert applies("gold")
    assert set(left(shop, key_id)) == {"gold", "extra"}
    shop.json("owners", "entitle", "cus_42", "--plan", "enterprise", "--until", "30d")
    assert applies("enterprise")
    shop.json("owners", "entitle", "cus_42", "--end")
    assert applies("gold")
    shop.json("owners", "update", "cus_42", "--clear-plan", "--clear-limits")
    shop.json("workspaces", "update", workspace["id"], "--default-plan", "free")
    assert applies("free")


def test_limits_can_be_tried_on_what_was_called(shop: Shop) -> None:
    """A simulation counts the calls of a key as they were recorded, and what other limits would have denied of them."""
    key_id, secret = shop.make("--plan", "enterprise")
    assert {shop.verdict(secret)["code"] for _ in range(6)} == {"VALID"}

    def found() -> dict[str, object]:
        return shop.json("plans", "simulate", "--key", key_id, "--limit", "requests=2/h")

    assert wait_until(lambda: int(str(found()["calls"])) == 6, timeout_s=10)
    assert found()["deniedByLimit"] == {"requests": 4}
    assert shop.json("plans", "simulate", "enterprise", "--key", key_id)["denied"] == 0


def test_a_subject_of_the_platforms_own_is_limited(shop: Shop) -> None:
    """The answer is the exit code, so that a script need not read anything."""
    check = ("limits", "check", "203.0.113.7", "--environment", "live", "--limit", "signups=2/h", "--json")
    results = [shop.run(*check) for _ in range(3)]
    assert [result.exit_code for result in results] == [0, 0, 1]
    assert json.loads(results[-1].stdout)["bindingLimit"] == "signups"


def test_credits_are_added_and_taken(shop: Shop) -> None:
    """What was paid for is there, and a balance never falls below nothing."""
    key_id, _ = shop.make("--limit", "credit=credits:100")
    assert shop.json("limits", "adjust", key_id, "credit", "--add", "50")["balance"] == 150
    assert shop.json("limits", "adjust", key_id, "credit", "--take", "150")["balance"] == 0
    assert shop.refusal("limits", "adjust", key_id, "credit", "--take", "1") == (1, "INVALID_REQUEST")


def test_watching_draws_on_a_terminal(shop: Shop) -> None:
    """A person sees the gauge again and again; it ends by itself when told to."""
    key_id, _ = shop.make()
    words = ("limits", "show", key_id, "--watch", "--every", "100ms", "--times", "3")
    code, screen = on_terminal(shop.folder, *words, typed="", environment=shop.environment)
    assert code == 0
    assert screen.count("100 of 100") == 3
