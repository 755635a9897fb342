"""`keystead journals`, as an operator uses it when a node's disk is gone, and when the disk turns up again."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.cli_program import Server, keystead, keystead_json
from tests.services import wait_until

CALLS = 7
LOST = ("--reason", "node 3 lost its disk", "--json")
WITHIN_S = 30.0


class Installation:
    """A service of one node with its database in ``folder``, and the sample key of its first run."""

    def __init__(self, folder: Path) -> None:
        """Start it."""
        self.folder = folder
        self.database = folder / "data" / "keystead.db"
        self.journals = folder / "data" / "journal"
        self.start()
        self.told = self.server.told()

    def start(self) -> None:
        """Start the service once more."""
        self.server = Server(self.folder, "up", "--json")
        self.http = self.server.told()["http"]

    def call(self, service: str, method: str, **message: Any) -> dict[str, Any]:
        """Call the API."""
        reply = httpx2.post(
            f"{self.http}/keystead.v1.{service}/{method}",
            json=message,
            headers={"authorization": f"Bearer {self.told['management_key']}"},
            timeout=30,
        )
        found: dict[str, Any] = reply.json()
        return found

    def verify(self) -> None:
        """Verify the sample key."""
        said = self.call("VerificationService", "VerifyKey", key=self.told["sample_key"], environment="LIVE")
        assert said["code"] == "VALID"

    def usage(self) -> dict[str, Any]:
        """Ask for the sample key's usage."""
        return self.call("UsageService", "GetKeyUsage", keyId=self.told["sample_key_id"])

    def listed(self, *words: str) -> list[dict[str, Any]]:
        """List journals."""
        listed: list[dict[str, Any]] = keystead_json(self.folder, "journals", "list", *words, environment={})[
            "journals"
        ]
        return listed

    def declare_lost(self, journal_id: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Declare a journal lost."""
        return keystead(self.folder, "journals", "declare-lost", journal_id, *words)

    def ask(self, statement: str) -> list[Any]:
        """Ask or change the database behind the server's back."""
        with closing(sqlite3.connect(self.database, timeout=30)) as file, file:
            return file.execute(statement).fetchall()

    def killed_with_uncounted_calls(self) -> str:
        """Let calls be answered that cannot be counted, kill the process, and return its journal's id."""
        (journal,) = self.listed()
        with closing(sqlite3.connect(self.database, timeout=30, isolation_level=None)) as held:
            self.verify()
            held.execute("BEGIN IMMEDIATE")
            for _ in range(CALLS - 1):
                self.verify()
            self.server.signal(signal.SIGKILL)
            self.server.wait()
            held.execute("ROLLBACK")
        return str(journal["id"])


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """Lend a running service."""
    made = Installation(tmp_path)
    yield made
    made.server.close()


def code_of(done: subprocess.CompletedProcess[str]) -> str:
    """Return the code of the error that a command printed."""
    return str(json.loads(done.stderr)["error"]["code"])


def test_a_node_that_lost_its_disk_holds_nobody_back(installation: Installation, tmp_path: Path) -> None:
    """Its journal is declared lost, and usage is complete without it; when the disk turns up, every call on it is
    counted exactly once (P5).
    """
    lost = installation.killed_with_uncounted_calls()
    refused = installation.declare_lost(lost, "--yes", *LOST)
    assert (refused.returncode, code_of(refused)) == (1, "JOURNAL_ALIVE")
    disk = tmp_path / "disk"
    (installation.journals / lost).rename(disk)
    installation.ask("UPDATE journals SET seen_at_ms = 1, complete_until_ms = complete_until_ms - 3600000")
    installation.start()
    listed = {journal["id"]: journal for journal in installation.listed()}
    assert (len(listed), listed[lost]["state"], listed[lost]["behind_seconds"] >= 3_600) == (2, "OPEN", True)
    assert all(journal["node"] for journal in listed.values())

    unasked = installation.declare_lost(lost, *LOST)
    assert (unasked.returncode, "--yes" in unasked.stderr) == (2, True)
    done = installation.declare_lost(lost, "--yes", *LOST)
    assert json.loads(done.stdout) == {"journal_id": lost, "state": "LOST", "changed": True}
    assert not json.loads(installation.declare_lost(lost, "--yes", *LOST).stdout)["changed"]
    events = installation.ask("SELECT workspace_id, record FROM events WHERE action = 'journal.declared_lost'")
    assert [row[0] for row in events] == [row[0] for row in installation.ask("SELECT id FROM workspaces")]
    assert lost in events[0][1]
    assert " LOST " in keystead(installation.folder, "journals", "list").stdout

    opened_at = next(journal["opened_at"] for journal in listed.values() if journal["id"] != lost)
    assert moment(installation.usage()["completeUntil"]) > moment(opened_at)
    assert installation.usage()["calls"] < CALLS

    installation.server.stop()
    disk.rename(installation.journals / lost)
    installation.start()
    assert wait_until(lambda: installation.usage()["calls"] == CALLS, timeout_s=WITHIN_S)
    closed = f"SELECT closed FROM journals WHERE id = '{lost}'"  # noqa: S608 -- an id of our own
    assert wait_until(lambda: installation.ask(closed) == [(1,)], timeout_s=WITHIN_S)
    assert {it["id"]: it["state"] for it in installation.listed("--closed")}[lost] == "CLOSED"
    assert installation.usage()["calls"] == CALLS


def moment(timestamp: str) -> datetime:
    """Read a time of the API or of a command."""
    return datetime.fromisoformat(timestamp)


def test_only_an_open_journal_is_declared_lost(installation: Installation) -> None:
    """Whoever names a journal that is counted to its end, or none at all, is told so by a code, and nothing changes."""
    (journal,) = installation.listed()
    installation.server.stop()
    assert installation.listed() == []
    closed = installation.declare_lost(journal["id"], "--yes", *LOST)
    unknown = installation.declare_lost("jrn_01hzx000000000000000000000", "--yes", *LOST)
    nameless = installation.declare_lost(journal["id"], "--yes", "--json", "--reason", "")
    assert [code_of(done) for done in (closed, unknown, nameless)] == [
        "JOURNAL_CLOSED",
        "JOURNAL_UNKNOWN",
        "INVALID_REQUEST",
    ]
    assert installation.ask("SELECT count(*) FROM events WHERE action = 'journal.declared_lost'") == [(0,)]
