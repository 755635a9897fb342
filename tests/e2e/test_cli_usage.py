"""The commands about usage against a real server and real calls, as a script and as a person use them."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.cli_program import (
    COMMAND_TIMEOUT_S,
    PROGRAM,
    Server,
    clean_environment,
    keystead,
    keystead_json,
    on_terminal,
)
from tests.services import free_port, wait_until

VALID = 7
DENIED = 3
ENDED = (200, 200, 200, 503)


class Shop:
    """A running service, and one key that is used."""

    def __init__(self, folder: Path) -> None:
        """Start in ``folder`` and make the key."""
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self.start()
        self.told = self.server.told()
        self.environment = {
            "KEYSTEAD_URL": self.told["http"],
            "KEYSTEAD_MANAGEMENT_KEY": self.told["management_key"],
        }
        words = ("--owner", "cus_42", "--create-owner", "--name", "Billing", "--environment", "live")
        made = self.json("keys", "create", *words, "--scope", "read:invoices", "--allow-ip", "203.0.113.0/24")
        self.key_id, self.secret = made["key"]["id"], made["secret"]

    def start(self) -> None:
        """Start the service, where it was before."""
        self.server = Server(self.folder, "up", "--json", "--http", self.address)

    def json(self, *words: str) -> dict[str, Any]:
        """Run a command that must succeed."""
        return keystead_json(self.folder, *words, environment=self.environment)

    def verify(self, operation: str, *, scope: str = "read:invoices", sample: bool = False) -> str:
        """Verify the key, or the one that every installation has; return the verdict's id."""
        message = {
            "key": self.told["sample_key"] if sample else self.secret,
            "environment": "LIVE",
            "operation": operation,
            "clientIp": "203.0.113.7",
            "scopeExpression": scope,
        }
        return str(self._post("VerifyKey", message)["verificationId"])

    def report(self, verification_id: str, http_status: int) -> None:
        """Say how a call ended; it took 20 ms."""
        outcome = {"verificationId": verification_id, "httpStatus": http_status, "latency": "0.020s"}
        assert self._post("ReportOutcomes", {"outcomes": [outcome]})["received"] == 1

    def is_counted(self) -> bool:
        """Say whether every call of the key is counted, and every outcome."""
        totals = self.json("usage", "show", self.key_id)["totals"]
        return (int(totals["calls"]), int(totals["outcomes"])) == (VALID + DENIED, len(ENDED))

    def _post(self, method: str, message: dict[str, Any]) -> dict[str, Any]:
        reply = httpx2.post(
            f"{self.told['http']}/keystead.v1.VerificationService/{method}",
            json=message,
            headers={"authorization": f"Bearer {self.told['management_key']}"},
            timeout=COMMAND_TIMEOUT_S,
        )
        assert reply.status_code == httpx2.codes.OK, reply.text
        found: dict[str, Any] = reply.json()
        return found


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Lend one service, whose key was used ten times; it was reported how four of the calls ended."""
    made = Shop(tmp_path_factory.mktemp("shop"))
    try:
        admitted = [made.verify("list-invoices") for _ in range(VALID)]
        for verification_id, http_status in zip(admitted, ENDED, strict=False):
            made.report(verification_id, http_status)
        for _ in range(DENIED):
            made.verify("delete-invoice", scope="write:invoices")
        assert wait_until(made.is_counted, timeout_s=COMMAND_TIMEOUT_S)
        yield made
    finally:
        made.server.close()


def test_totals_charts_ranks_and_calls_agree(shop: Shop) -> None:
    """Every command tells the same ten calls: by sum, by group, in rank and one by one."""
    totals = shop.json("usage", "show", shop.key_id)["totals"]
    assert (int(totals["admitted"]), int(totals["denied"])) == (VALID, DENIED)
    assert (totals["lastUsedIp"], totals["lastOperation"]) == ("203.0.113.7", "list-invoices")
    series = shop.json("usage", "show", shop.key_id, "--by", "operation", "--interval", "day", "--from", "1d")["series"]
    sums = {found["group"]: sum(int(point["calls"]) for point in found["points"]) for found in series}
    assert sums == {"list-invoices": VALID, "delete-invoice": DENIED}
    ranked = shop.json("usage", "top", "--key", shop.key_id, "--by", "code")["totals"]
    assert [(total["group"], int(total["calls"])) for total in ranked] == [
        ("VALID", VALID),
        ("INSUFFICIENT_SCOPE", DENIED),
    ]
    denied = shop.json("usage", "calls", "--key", shop.key_id, "--code", "insufficient_scope")["calls"]
    assert [(call["keyId"], call["operation"]) for call in denied] == [(shop.key_id, "delete-invoice")] * DENIED


def test_it_is_told_how_calls_ended(shop: Shop) -> None:
    """Whoever reports outcomes sees the share of errors and how long answers took, in sums and call by call."""
    done = keystead(shop.folder, "usage", "show", shop.key_id, environment=shop.environment)
    assert "1 (25.0 %) of 4 reported" in done.stdout
    assert "half within 20 ms" in done.stdout
    calls = shop.json("usage", "calls", "--code", "valid", "--operation", "list-invoices")["calls"]
    assert sorted(call["httpStatus"] for call in calls if "httpStatus" in call) == sorted(ENDED)


def test_a_terminal_without_utf8_gets_ascii(shop: Shop) -> None:
    """Where blocks cannot be written, the same pictures come in characters that every encoding has."""
    environment = {**shop.environment, "PYTHONIOENCODING": "iso-8859-1"}
    for words in (("show",), ("show", "--by", "code"), ("top",), ("calls",)):
        done = keystead(shop.folder, "usage", *words, environment=environment)
        assert (done.returncode, done.stdout.isascii()) == (0, True), done.stderr


def test_every_call_is_exported_once(shop: Shop) -> None:
    """The CSV of all calls has a line for each verdict, by its id."""
    path = shop.folder / "calls.csv"
    words = ("calls", "--key", shop.key_id, "--all", "--csv", "--output", str(path))
    done = keystead(shop.folder, "usage", *words, environment=shop.environment)
    assert (done.returncode, done.stdout) == (0, "")
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert len({row["verification_id"] for row in rows}) == len(rows) == VALID + DENIED
    assert {row["client_ip"] for row in rows} == {"203.0.113.7"}


@pytest.mark.parametrize(
    "words",
    (("show",), ("show", "--by", "key", "--from", "1h"), ("show", "--from", "1h"), ("top",), ("calls",)),
    ids=" ".join,
)
def test_screens_fit(shop: Shop, words: tuple[str, ...]) -> None:
    """On a terminal of 80 columns nothing is wider."""
    code, screen = on_terminal(shop.folder, "usage", *words, typed="", environment=shop.environment)
    assert code == 0
    assert "Complete until" in screen
    assert [line for line in screen.splitlines() if len(line.rstrip()) > 80] == []


@pytest.fixture
def tail(shop: Shop) -> Iterator[subprocess.Popen[str]]:
    """Run ``usage tail`` on a name of this test's own; a minute is the most that it may take."""
    process = subprocess.Popen(
        [PROGRAM, "usage", "tail", "--operation", "tailed", "--from", "1m", "--json"],
        cwd=shop.folder,
        env=clean_environment(shop.folder, shop.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(COMMAND_TIMEOUT_S, process.kill)
    watchdog.start()
    yield process
    watchdog.cancel()
    process.kill()
    process.communicate()


def read_calls(process: subprocess.Popen[str], count: int) -> list[str]:
    """Read the ids of the next calls."""
    assert process.stdout is not None
    return [json.loads(process.stdout.readline())["verificationId"] for _ in range(count)]


def test_a_tail_follows_until_it_is_interrupted(shop: Shop, tail: subprocess.Popen[str]) -> None:
    """Calls come as they are counted, each once and in order, also over a restart of the service; Ctrl-C ends it with
    the shell's own number, and nothing more is said.
    """
    asked = [shop.verify("tailed", sample=True) for _ in range(3)]
    assert read_calls(tail, 3) == asked
    shop.server.stop()
    shop.start()
    shop.server.until("\n")
    asked = [shop.verify("tailed", sample=True) for _ in range(3)]
    assert read_calls(tail, 3) == asked
    tail.send_signal(signal.SIGINT)
    out, err = tail.communicate(timeout=COMMAND_TIMEOUT_S)
    assert (tail.returncode, out) == (130, "")
    assert [line for line in err.splitlines() if line and not line.startswith("warning: ")] == []


def test_a_young_key_has_nothing_unused(shop: Shop) -> None:
    """A key that was just made is not suggested for revocation."""
    assert shop.json("usage", "unused", "--all")["grants"] == []
