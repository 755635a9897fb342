"""Revoking everywhere and seeing who serves, by the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keystead import __version__
from tests.e2e.cli_program import keystead, keystead_json
from tests.servers import KeysteadServer, ServerFarm


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeysteadServer]:
    """Lend a server with an operator key."""
    farm = ServerFarm(tmp_path_factory.mktemp("cli-nodes"))
    yield farm.start(flags=("--first-run", "--operator"))
    farm.end()


def test_an_operator_lists_the_nodes(server: KeysteadServer, tmp_path: Path) -> None:
    """People read a table, programs an object; a management key is told what is missing."""
    operator = {"KEYSTEAD_URL": server.http, "KEYSTEAD_MANAGEMENT_KEY": server.told["operator_key"]}
    (node,) = keystead_json(tmp_path, "nodes", "list", environment=operator)["nodes"]
    assert (node["version"], node["servesStale"]) == (__version__, False)
    shown = keystead(tmp_path, "nodes", "list", environment=operator)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert node["id"] in shown.stdout
    assert "BEHIND" in shown.stdout
    refused = keystead(
        tmp_path, "nodes", "list", environment={**operator, "KEYSTEAD_MANAGEMENT_KEY": server.management_key}
    )
    assert refused.returncode == 4
    assert "operator key" in refused.stderr


def test_a_key_is_revoked_everywhere_before_the_command_returns(server: KeysteadServer, tmp_path: Path) -> None:
    """With ``--wait``, also for a suspension and for many keys."""
    environment = {"KEYSTEAD_URL": server.http, "KEYSTEAD_MANAGEMENT_KEY": server.management_key}
    made = ("keys", "create", "--owner", "cust_1", "--create-owner", "--name", "CI", "--environment", "live")
    keys = [keystead_json(tmp_path, *made, environment=environment)["key"]["id"] for _ in range(2)]
    suspended = keystead_json(tmp_path, "keys", "suspend", keys[0], "--wait", environment=environment)
    assert suspended["key"]["state"] == "SUSPENDED"
    revoked = keystead_json(tmp_path, "keys", "revoke", keys[0], "--wait", environment=environment)
    assert revoked["key"]["state"] == "REVOKED"
    matching = ("keys", "revoke-matching", "--owner", "cust_1", "--yes", "--wait")
    assert keystead_json(tmp_path, *matching, environment=environment)["keyIds"] == [keys[1]]
