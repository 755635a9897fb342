"""``keystead sinks`` against a real server and a real service: made, tried, looked at, changed, replayed, deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli_program import Server, keystead
from tests.e2e.test_cli_keys import Shop
from tests.services import wait_until
from tests.sink_receivers import TOKEN, RunningAuditLog, audit_log

UNKNOWN = "snk_01h455vb4pex5vsknk084sn02q"


class Yard(Shop):
    """A service whose sinks may carry anywhere, and to files."""

    def __init__(self, folder: Path) -> None:
        """Start in ``folder``."""
        self.folder = folder
        self.files = folder / "sinks"
        self.files.mkdir()
        self.token = folder / "token.txt"
        self.token.write_text(f"{TOKEN}\n", encoding="utf-8")
        environment = {"KEYSTEAD_OUTBOUND": "any", "KEYSTEAD_SINK_FILES": str(self.files)}
        self.server = Server(folder, "up", "--json", environment=environment)
        self.told = self.server.told()
        self.environment = {
            "KEYSTEAD_URL": self.told["http"],
            "KEYSTEAD_MANAGEMENT_KEY": self.told["management_key"],
        }

    def sink(self, sink_id: str) -> dict[str, Any]:
        """Return a sink."""
        found: dict[str, Any] = self.json("sinks", "get", sink_id)["sink"]
        return found

    def caught_up(self, sink_id: str) -> bool:
        """Say whether a sink comes to have carried everything."""
        return wait_until(lambda: int(self.sink(sink_id)["progress"]["waitingEvents"]) == 0, timeout_s=20)


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """Lend one service to this file's tests."""
    made = Yard(tmp_path_factory.mktemp("yard"))
    yield made
    made.server.close()


@pytest.fixture
def service() -> Iterator[RunningAuditLog]:
    """Lend an Audit-Log service."""
    with audit_log() as running:
        yield running


def test_a_sink_lives_its_life_by_the_command_line(yard: Yard, service: RunningAuditLog) -> None:
    """Each command says what the service does."""
    made = yard.json("sinks", "create", "siem", "--url", f"{service.url}/events", "--token-file", str(yard.token))
    sink_id = made["sink"]["id"]
    assert made["secret"] == ""
    assert yard.caught_up(sink_id)
    shown = yard.run("sinks", "list").stdout
    assert (sink_id in shown, "siem" in shown, TOKEN in shown) == (True, True, False)
    assert yard.run("sinks", "test", sink_id).stdout.startswith("Taken, in ")
    changed = yard.json("sinks", "update", sink_id, "--batch-max", "7", "--answer-within", "3s", "--pause")["sink"]
    assert (changed["http"]["batchMax"], changed["http"]["timeout"], changed["state"]) == (7, "3s", "PAUSED")
    before = int(changed["progress"]["nextIndex"])
    assert before > 3
    again = yard.json("sinks", "replay", sink_id, "--from-index", "2")["sink"]
    assert int(again["progress"]["nextIndex"]) == 2
    yard.json("sinks", "update", sink_id, "--resume", "--strict-lag", "1h")
    assert yard.caught_up(sink_id)
    assert yard.sink(sink_id)["strictLag"] == "3600s"
    assert "no changes while 1 h behind" in yard.run("sinks", "get", sink_id).stdout
    assert "strictLag" not in yard.json("sinks", "update", sink_id, "--strict-lag", "0s")["sink"]
    assert yard.run("sinks", "delete", sink_id, "--yes").stdout == "Deleted.\n"
    assert yard.refusal("sinks", "get", sink_id) == (1, "NOT_FOUND")


def test_what_is_refused_is_shown_and_tried_again(yard: Yard) -> None:
    """Somebody who looks sees what a service refuses and why, and has it sent again."""
    with audit_log(token="") as strange:
        made = yard.json("sinks", "create", "strange", "--url", f"{strange.url}/nowhere")["sink"]
        tried = yard.run("sinks", "test", made["id"])
        assert tried.exit_code == 1
        assert tried.stdout.startswith("Not taken, after ")
        assert "404" in tried.stdout
        assert wait_until(lambda: "404" in yard.sink(made["id"])["progress"]["lastError"], timeout_s=20)
        trouble = yard.run("sinks", "get", made["id"]).stdout
        assert "last error" in trouble
        assert "next try" in trouble
        yard.run("sinks", "update", made["id"], "--url", f"{strange.url}/events")
        assert yard.caught_up(made["id"])
        yard.run("sinks", "delete", made["id"], "--yes")
    assert yard.refusal("sinks", "replay", UNKNOWN, "--set-aside") == (1, "NOT_FOUND")


def test_signed_sinks_and_secrets_from_standard_input(yard: Yard) -> None:
    """The signing secret is the last line, alone, so that it can be kept; a token may come through a pipe."""
    words = ("sinks", "create", "signed", "--url", "http://127.0.0.1:9/", "--token-file", "-", "--signed")
    made = yard.run(*words, typed=f"{TOKEN}\n")
    assert made.exit_code == 0
    secret = made.stdout.splitlines()[-1]
    assert secret.startswith("whsec_")
    listed = yard.json("sinks", "list")["sinks"]
    sink_id = next(it["id"] for it in listed if it["name"] == "signed")
    assert secret not in json.dumps(listed)
    yard.json("sinks", "delete", sink_id, "--yes")


def test_a_sink_to_a_file(yard: Yard) -> None:
    """The file is where the server was told that files go, one event on each line."""
    made = yard.json("sinks", "create", "archive", "--to-file", "audit.jsonl", "--payload", "ocsf", "--start", "30d")
    assert yard.caught_up(made["sink"]["id"])
    [path] = yard.files.rglob("audit.jsonl")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines[0]["data"]["class_uid"] == 3004
    changed = yard.json("sinks", "update", made["sink"]["id"], "--keep-files", "5", "--name", "kept")["sink"]
    assert (changed["file"]["keepFiles"], changed["file"]["name"], changed["name"]) == (5, "audit.jsonl", "kept")


@pytest.mark.parametrize(
    "words",
    (
        ("create", "x"),
        ("create", "x", "--url", "https://x.example/", "--to-file", "f"),
        ("create", "x", "--url", "https://x.example/", "--start", "some day"),
        ("create", "x", "--url", "https://x.example/", "--client-key", "not-there.pem"),
        ("update", UNKNOWN),
        ("replay", UNKNOWN),
        ("replay", UNKNOWN, "--from-index", "1", "--set-aside"),
    ),
)
def test_what_cannot_be_meant_is_refused_here(yard: Yard, words: tuple[str, ...]) -> None:
    """Nothing is asked of the server that cannot be meant."""
    assert yard.run("sinks", *words).exit_code == 2


def test_doctor_looks_at_the_directory(tmp_path: Path) -> None:
    """Who gave a directory for files that is none learns of it before a sink waits for it."""
    for name, status in (("none", "failed"), (".", "ok")):
        told = keystead(tmp_path, "doctor", "--json", environment={"KEYSTEAD_SINK_FILES": str(tmp_path / name)})
        found = {it["name"]: it["status"] for it in json.loads(told.stdout)["findings"]}
        assert found["sink files"] == status
