"""The example Audit-Log service as a process of its own, and the log that it must have taken in the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients import Client
from tests.polling import eventually
from tests.services import find_program
from tests.web import web_client

PROGRAM = Path(__file__).parent.parent / "examples" / "sisters" / "audit_log" / "receiver.py"
TOKEN = "a-token-of-the-tests"
_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class RunningAuditLog:
    """The service, listening at ``url``."""

    url: str

    async def report(self) -> dict[str, Any]:
        """Return what it says of what it took."""
        return dict(json.loads(await self._get("/report")))

    async def events(self) -> list[dict[str, Any]]:
        """Return all different events, in the order in which each first came."""
        return [json.loads(line) for line in (await self._get("/events")).splitlines()]

    async def misbehave(self, query: str) -> None:
        """Tell it what is to go wrong."""
        async with web_client(timeout=_TIMEOUT_S) as client:
            assert (await client.post(f"{self.url}/misbehave?{query}")).status_code == 204

    async def _get(self, path: str) -> str:
        async with web_client(timeout=_TIMEOUT_S) as client:
            return (await client.get(self.url + path)).text


@contextmanager
def audit_log(*, token: str = TOKEN, secret: str = "", file: Path | None = None) -> Iterator[RunningAuditLog]:
    """Run the service on a free port; it ends with the block, and with the tests."""
    command = [find_program("setpriv"), "--pdeathsig=KILL", "--", sys.executable, str(PROGRAM)]
    kept = [] if file is None else ["--file", str(file)]
    with subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0", *kept],
        env=os.environ | {"RECEIVER_TOKEN": token, "RECEIVER_SECRET": secret},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        try:
            yield RunningAuditLog(url)
        finally:
            process.kill()


async def log_of(client: Client) -> list[str]:
    """Return the ids of all events of the caller's workspace in the log's order, when each has its place."""
    found: list[Any] = []

    async def placed() -> bool:
        found[:] = (await client.call("ListEvents", page_size=1_000)).must().events
        return all(event.HasField("index") for event in found)

    await eventually(placed, within_s=10)
    return [event.id for event in sorted(found, key=lambda event: int(event.index))]


def carried(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what is no event of the log: checkpoints and tests."""
    return [event for event in events if "sequence" in event]


async def all_carried(client: Client, service: RunningAuditLog, *, within_s: float = 30) -> list[dict[str, Any]]:
    """Wait until the service has the whole log; it must be in order, without a gap. Return it."""
    got: list[dict[str, Any]] = []

    async def whole() -> bool:
        got[:] = carried(await service.events())
        return len(got) >= len(await log_of(client))

    await eventually(whole, within_s=within_s)
    assert [event["id"] for event in got] == (await log_of(client))[: len(got)], "not the log, or not in its order"
    assert [int(event["sequence"]) for event in got] == list(range(len(got))), "a gap"
    return got
