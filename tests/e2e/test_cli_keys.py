"""The commands about workspaces, owners and keys against a real server, as a script and as a person use them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner, Result

from keystead.cli.application import application
from tests.e2e.cli_program import Server, on_terminal
from tests.services import wait_until


class Shop:
    """A running service and a command line that manages it."""

    def __init__(self, folder: Path) -> None:
        """Start in ``folder``."""
        self.folder = folder
        self.server = Server(folder, "up", "--json")
        self.told = self.server.told()
        self.environment = {
            "KEYSTEAD_URL": self.told["http"],
            "KEYSTEAD_MANAGEMENT_KEY": self.told["management_key"],
        }

    def run(self, *words: str, typed: str = "", **environment: str) -> Result:
        """Run a command in this process, which is quicker than in one of its own."""
        result = CliRunner().invoke(application, words, input=typed, env={**self.environment, **environment})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def json(self, *words: str, typed: str = "") -> dict[str, Any]:
        """Run a command that must succeed."""
        result = self.run(*words, "--json", typed=typed)
        assert result.exit_code == 0, result.stderr
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def refusal(self, *words: str, **environment: str) -> tuple[int, str]:
        """Run a command that must fail; return its exit code and the reason."""
        result = self.run(*words, "--json", **environment)
        return result.exit_code, str(json.loads(result.stderr)["error"]["code"])

    def verdict(self, key: str) -> dict[str, Any]:
        """Verify ``key``."""
        reply = httpx2.post(
            f"{self.told['http']}/keystead.v1.VerificationService/VerifyKey",
            json={"key": key, "environment": "LIVE"},
            headers={"authorization": f"Bearer {self.told['management_key']}"},
            timeout=30,
        )
        found: dict[str, Any] = reply.json()
        return found

    def make(self, *words: str) -> tuple[str, str]:
        """Make a key; return its id and its secret."""
        common = ("--owner", "cus_42", "--create-owner", "--name", "Billing", "--environment", "live")
        made = self.json("keys", "create", *common, *words)
        return made["key"]["id"], made["secret"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Lend one service to this file's tests."""
    made = Shop(tmp_path_factory.mktemp("shop"))
    yield made
    made.server.close()


def test_a_key_lives_its_life_by_the_command_line(shop: Shop) -> None:
    """Made, verified, rotated with both secrets good, finished, suspended, resumed and revoked: the service agrees at
    each step with what the command said.
    """
    key_id, old = shop.make("--scope", "read:invoices", "--metadata", "team=a")
    assert shop.verdict(old)["metadata"] == {"team": "a"}
    new = shop.json("keys", "rotate", key_id, "--overlap", "1h")["secret"]
    assert [shop.verdict(secret)["secretStatus"] for secret in (old, new)] == ["RETIRING", "CURRENT"]
    shop.json("keys", "finish", key_id)
    assert [shop.verdict(secret)["code"] for secret in (old, new)] == ["EXPIRED", "VALID"]
    shop.json("keys", "suspend", key_id, "--reason", "a look")
    assert shop.verdict(new)["code"] == "SUSPENDED"
    shop.json("keys", "resume", key_id)
    assert shop.verdict(new)["code"] == "VALID"
    assert shop.json("keys", "revoke", key_id, "--reason", "leaked")["key"]["stateReason"] == "leaked"
    assert shop.verdict(new)["code"] == "REVOKED"
    assert shop.refusal("keys", "rotate", key_id) == (1, "KEY_REVOKED")


def test_a_rotation_can_be_taken_back(shop: Shop) -> None:
    """Cancelling makes the old secret current again and the new one worthless."""
    key_id, old = shop.make()
    new = shop.json("keys", "rotate", key_id)["secret"]
    shop.json("keys", "cancel", key_id)
    assert [shop.verdict(secret)["code"] for secret in (old, new)] == ["VALID", "EXPIRED"]
    assert shop.refusal("keys", "cancel", key_id) == (1, "NO_ROTATION")


def test_an_update_changes_what_it_names(shop: Shop) -> None:
    """Fields given are replaced, fields cleared are empty, everything else stays; an old etag is refused."""
    key_id, _ = shop.make("--tag", "ci", "--scope", "read:a", "--expires", "30d", "--allow-ip", "10.0.0.0/8")
    before = shop.json("keys", "get", key_id)["key"]
    words = (
        "keys",
        "update",
        key_id,
        "--etag",
        before["etag"],
        "--name",
        "New",
        "--expires",
        "never",
        "--clear",
        "tags",
    )
    after = shop.json(*words)["key"]
    assert (after["name"], after["tags"], after["scopes"], "expiresAt" in after) == ("New", [], ["read:a"], False)
    assert after["allowedIps"] == before["allowedIps"]
    assert shop.refusal(*words)[0] == 1


def test_lists_page_and_filter(shop: Shop) -> None:
    """A page's token leads to the next, `--all` fetches the same, and filters leave out what does not match."""
    made = [shop.make("--tag", "pages")[0] for _ in range(3)]
    first = shop.json("keys", "list", "--tag", "pages", "--page-size", "2")
    second = shop.json("keys", "list", "--tag", "pages", "--page-size", "2", "--page-token", first["nextPageToken"])
    paged = [key["id"] for key in (*first["keys"], *second["keys"])]
    assert paged == made[::-1]
    every = shop.json("keys", "list", "--tag", "pages", "--page-size", "1", "--all")
    assert [key["id"] for key in every["keys"]] == paged
    assert shop.json("keys", "list", "--tag", "pages", "--state", "revoked")["keys"] == []
    assert len(shop.json("keys", "list", "--tag", "pages", "--unused-since", "0s")["keys"]) == 3


def test_revoking_by_a_filter_asks_for_the_number(shop: Shop) -> None:
    """A wrong count revokes nothing; a look beforehand revokes nothing; the right count revokes all."""
    made = [shop.make("--tag", "doomed") for _ in range(2)]
    words = ("keys", "revoke-matching", "--tag", "doomed")
    assert shop.refusal(*words, "--expected-count", "3") == (1, "COUNT_MISMATCH")
    assert shop.json(*words, "--validate-only")["count"] == 2
    assert {shop.verdict(secret)["code"] for _, secret in made} == {"VALID"}
    assert shop.json(*words, "--expected-count", "2")["count"] == 2
    assert {shop.verdict(secret)["code"] for _, secret in made} == {"REVOKED"}


@pytest.mark.parametrize(("answer", "code", "verdict"), (("n", 1, "VALID"), ("y", 0, "REVOKED")))
def test_a_person_is_asked_before_many_keys_go(shop: Shop, answer: str, code: int, verdict: str) -> None:
    """On a terminal the number of keys is shown, and nothing happens without a yes."""
    _, secret = shop.make("--tag", f"asked-{answer}")
    words = ("keys", "revoke-matching", "--tag", f"asked-{answer}")
    exit_code, screen = on_terminal(shop.folder, *words, typed=answer, environment=shop.environment)
    assert "Revoke 1 key for good?" in screen
    assert (exit_code, shop.verdict(secret)["code"]) == (code, verdict)


def test_owners_take_their_keys_with_them(shop: Shop) -> None:
    """Suspending an owner refuses its keys, resuming lets them work, deleting revokes them."""
    shop.json("owners", "create", "cus_gone", "--name", "Gone", "--metadata", "region=eu")
    made = shop.json("keys", "create", "--owner", "cus_gone", "--name", "n", "--environment", "live")
    shop.json("owners", "suspend", "cus_gone", "--reason", "unpaid")
    assert shop.verdict(made["secret"])["code"] == "SUSPENDED"
    assert [owner["ownerId"] for owner in shop.json("owners", "list", "--suspended")["owners"]] == ["cus_gone"]
    shop.json("owners", "resume", "cus_gone")
    assert shop.verdict(made["secret"])["code"] == "VALID"
    renamed = shop.json("owners", "update", "cus_gone", "--name", "Going", "--clear-metadata")["owner"]
    assert (renamed["name"], renamed["metadata"]) == ("Going", {})
    assert shop.json("owners", "delete", "cus_gone", "--yes")["revokedKeys"] == 1
    assert shop.verdict(made["secret"])["code"] == "REVOKED"
    assert shop.refusal("owners", "get", "cus_gone") == (1, "NOT_FOUND")


def test_a_found_secret_is_identified_by_a_hidden_prompt(shop: Shop) -> None:
    """A person pastes what was found; the screen shows whose it is and not what it was; nothing counts as used."""
    key_id, secret = shop.make()
    code, screen = on_terminal(shop.folder, "keys", "identify", typed=secret, environment=shop.environment)
    assert (code, key_id in screen, secret in screen) == (0, True, False)
    assert "lastUsedAt" not in shop.json("keys", "get", key_id)["key"]


def test_a_secret_is_checked_by_a_hidden_prompt(shop: Shop) -> None:
    """`keys check` needs no server and shows nothing of what was typed but the prefix."""
    _, secret = shop.make()
    code, screen = on_terminal(shop.folder, "keys", "check", typed=secret)
    assert (code, "Well formed" in screen, secret in screen) == (0, True, False)
    code, screen = on_terminal(shop.folder, "keys", "check", typed=secret[:-1])
    assert (code, secret[:-1] in screen) == (1, False)


def test_the_right_exit_code_for_every_refusal(shop: Shop) -> None:
    """1 for what is not there, 4 without a right, 4 without a credential, 3 without a server, 2 for a mistake."""
    common = ("--kind", "management", "--name", "reader", "--environment", "live")
    lesser = shop.json("keys", "create", *common, "--scope", "read:owners")["secret"]
    assert shop.refusal("owners", "get", "nobody") == (1, "NOT_FOUND")
    assert shop.refusal("keys", "list", KEYSTEAD_MANAGEMENT_KEY=lesser) == (4, "PERMISSION_DENIED")
    assert shop.refusal("keys", "list", KEYSTEAD_MANAGEMENT_KEY="keystead_live_no") == (4, "UNAUTHENTICATED")
    assert shop.refusal("keys", "list", KEYSTEAD_URL="http://127.0.0.1:1") == (3, "UNREACHABLE")
    assert shop.refusal("keys", "list", "--page-size", "0") == (2, "USAGE")
    bad = ("keys", "create", "--owner", "o", "--name", "n", "--environment", "live", "--scope", "no scope")
    assert shop.refusal(*bad) == (1, "INVALID_REQUEST")


def test_people_see_when_a_key_was_used(shop: Shop) -> None:
    """The list tells unused keys from used ones, a moment after the use."""
    key_id, secret = shop.make("--tag", "seen")

    def row() -> str:
        listed = shop.run("keys", "list", "--tag", "seen").stdout
        return next(line for line in listed.splitlines() if key_id in line)

    assert " never " in row()
    assert shop.verdict(secret)["valid"]
    assert wait_until(lambda: " ago " in row() or "just now" in row(), timeout_s=20)


def test_a_workspace_is_its_managers_own(shop: Shop) -> None:
    """A management key sees its own workspace and can name it; making and deleting are an operator's."""
    own = shop.json("workspaces", "get")["workspace"]
    assert own["id"] == shop.told["workspace_id"]
    assert [item["id"] for item in shop.json("workspaces", "list")["workspaces"]] == [own["id"]]
    assert shop.json("workspaces", "update", own["id"], "--name", "Renamed")["workspace"]["name"] == "Renamed"
    assert shop.refusal("workspaces", "create", "--brand", "other", "--name", "x") == (4, "PERMISSION_DENIED")
    assert shop.refusal("workspaces", "delete", own["id"], "--yes") == (4, "PERMISSION_DENIED")
