"""What the tests of the command line share: a stub server, and a way to run a command against it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from google.protobuf.timestamp_pb2 import Timestamp

from keystead.cli.application import application
from keystead.gen.v1 import keys_pb2
from tests.unit.cli.stub_server import StubServer

SECRET = "acme_live_" + "s" * 58


@pytest.fixture
def stub() -> Iterator[StubServer]:
    """Lend a server; whatever breaks the contract fails the test."""
    server = StubServer()
    yield server
    server.close()
    assert server.complaints == []


class CommandLine:
    """Runs commands in this process, as somebody whose home is empty."""

    def __init__(self, home: Path, environment: dict[str, str | None]) -> None:
        """Run with ``environment`` and no profile."""
        self._environment = {"HOME": str(home), "XDG_CONFIG_HOME": None, **environment}

    def __call__(self, *words: str, typed: str | bytes | None = None, **environment: str | None) -> Result:
        """Run ``keystead`` with ``words``, standard input being ``typed``; an exception that escapes fails the test."""
        result = CliRunner().invoke(application, words, input=typed, env={**self._environment, **environment})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result


@pytest.fixture
def run(stub: StubServer, tmp_path: Path) -> CommandLine:
    """Lend a command line that talks to the stub."""
    return CommandLine(tmp_path, stub.environment)


@pytest.fixture
def run_alone(tmp_path: Path) -> CommandLine:
    """Lend a command line that knows no server."""
    unset = ("KEYSTEAD_URL", "KEYSTEAD_MANAGEMENT_KEY", "KEYSTEAD_PROFILE", "KEYSTEAD_CONFIG")
    return CommandLine(tmp_path, dict.fromkeys(unset))


def problem_in(result: Result) -> dict[str, Any]:
    """Read the one JSON object that a failed command leaves on standard error."""
    found: dict[str, Any] = json.loads(result.stderr)["error"]
    return found


def in_seconds(seconds: float) -> Timestamp:
    """Return the moment so many seconds from now."""
    made = Timestamp()
    made.FromDatetime(datetime.now(UTC) + timedelta(seconds=seconds))
    return made


def sample_key(**changes: Any) -> keys_pb2.Key:
    """Make a key as a server describes one, changed by ``changes``."""
    made = keys_pb2.Key(
        id="key_01hzxsample0000000000000000",
        owner_id="cus_42",
        name="Billing",
        environment=keys_pb2.Key.LIVE,
        state=keys_pb2.Key.ACTIVE,
        kind=keys_pb2.Key.CUSTOMER,
        scopes=["read:invoices"],
        created_at=in_seconds(-3_600),
        created_by="key_01hzxmanager000000000000000",
        etag='"1"',
        secrets=[
            keys_pb2.Secret(
                id="sec_01hzx000000000000000000000",
                prefix="acme_live_aaaaaaaaaaaa",
                status=keys_pb2.Secret.CURRENT,
                created_at=in_seconds(-3_600),
                last_used_at=in_seconds(-185),
            )
        ],
    )
    made.MergeFrom(keys_pb2.Key(**changes))
    return made


def rotating_key() -> keys_pb2.Key:
    """Make a key in the middle of a rotation; the old secret lasts for another 23 hours and a half."""
    retiring = keys_pb2.Secret(
        id="sec_01hzx111111111111111111111",
        prefix="acme_live_bbbbbbbbbbbb",
        status=keys_pb2.Secret.RETIRING,
        created_at=in_seconds(-90_000),
        retires_at=in_seconds(23.5 * 3_600 + 30),
    )
    return sample_key(secrets=[retiring])
