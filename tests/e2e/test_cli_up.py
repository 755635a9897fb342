"""`keystead up`, as a newcomer meets it: from an empty directory to a verified key, again later, and on bad days."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.e2e.cli_program import PROGRAM, Server, clean_environment, keystead, keystead_json
from tests.services import wait_until

ROOT = Path(__file__).parent.parent.parent
KEYS = re.compile(r"\b(?:keystead|acme)_(?:live|test)_[0-9A-Za-z]{58}\b")
STOP_QUICKLY_S = 5.0

Start = Callable[..., Server]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Start]:
    """Lend a way to run `keystead up` in a directory of the test's own."""
    started: list[Server] = []

    def start(*words: str, terminal: bool = False, environment: dict[str, str] | None = None) -> Server:
        started.append(Server(tmp_path, "up", *words, terminal=terminal, environment=environment))
        return started[-1]

    yield start
    for server in started:
        server.close()


def verify(told: dict[str, Any], key: str) -> dict[str, Any]:
    """Ask the server about ``key``."""
    reply = httpx2.post(
        f"{told['http']}/keystead.v1.VerificationService/VerifyKey",
        json={"key": key, "environment": "LIVE"},
        headers={"authorization": f"Bearer {told['management_key']}"},
        timeout=30,
    )
    found: dict[str, Any] = reply.json()
    return found


def bash(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Paste ``script`` into a shell in ``folder``."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euc", script],  # noqa: S607 -- the shell that a person has
        cwd=folder,
        env=clean_environment(folder, {"PATH": path}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_programs_get_one_object_and_a_second_run_keeps_the_data(up: Start, tmp_path: Path) -> None:
    """The first line of `--json` tells all keys on the first run and none later; the data and the keys live on; SIGTERM
    ends it quickly and well.
    """
    server = up("--json")
    first = server.told()
    assert list(first) == ["workspace_id", "management_key", "sample_key", "sample_key_id", "http", "grpc"]
    assert verify(first, first["sample_key"])["code"] == "VALID"
    code, took_s = server.stop()
    assert (code, took_s < STOP_QUICKLY_S) == (0, True)
    assert len(server.out.splitlines()) == 1

    again = up("--json").told()
    assert list(again) == ["workspace_id", "sample_key_id", "http", "grpc"]
    assert [again[name] for name in ("workspace_id", "sample_key_id")] == [
        first[name] for name in ("workspace_id", "sample_key_id")
    ]
    assert verify({**first, "http": again["http"]}, first["sample_key"])["code"] == "VALID"
    kept = json.loads((tmp_path / "data" / "first-run.json").read_text())
    assert {name: kept[name] for name in first} == {**first, "http": again["http"], "grpc": again["grpc"]}


def test_without_a_terminal_keys_are_in_files_alone(up: Start, tmp_path: Path) -> None:
    """Output that may end in a log holds no key; both files of keys are for their owner alone, whatever the umask."""
    before = os.umask(0)
    try:
        server = up().until("Ctrl-C")
    finally:
        os.umask(before)
    files = [tmp_path / "data" / name for name in ("first-run.json", "env")]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]
    keys = set(KEYS.findall(files[0].read_text()))
    assert (len(keys), set(KEYS.findall(files[1].read_text()))) == (2, keys)
    server.stop()
    assert KEYS.findall(server.out + server.err) == []


def test_on_a_terminal_keys_are_shown_once(up: Start) -> None:
    """A person sees both keys on the first run, each whole on its own line, and never again."""
    server = up(terminal=True).until("Ctrl-C")
    lines = server.out.splitlines()
    assert len(KEYS.findall(server.out)) == 2
    assert [bool(KEYS.fullmatch(line.strip())) for line in lines].count(True) == 2
    server.signal(signal.SIGINT)
    assert server.wait()[0] == 0
    assert KEYS.findall(up(terminal=True).until("Ctrl-C").out) == []


def pasted(screen: str, beginning: str) -> str:
    """Take a command from the screen, with the lines that it is continued on."""
    lines = screen.splitlines()
    start = next(index for index, line in enumerate(lines) if line.strip().startswith(beginning))
    end = start
    while lines[end].endswith("\\"):
        end += 1
    return "\n".join(lines[start : end + 1])


def test_what_the_screen_says_to_try_works_when_pasted(up: Start, tmp_path: Path) -> None:
    """Sourced, verified by curl and by gRPC, rotated by the command line, and the old secret still verifies."""
    screen = up(terminal=True).until("Ctrl-C").out
    source, curl = pasted(screen, "source "), pasted(screen, "curl ")
    done = bash(tmp_path, f"{source}\n{curl}")
    assert '"code":"VALID"' in done.stdout, done.stderr
    assert "make try-grpc" in screen
    by_grpc = f"{source}\ncd {shlex.quote(str(ROOT))}\n{shlex.quote(sys.executable)} -m tools.try_grpc"
    assert bash(tmp_path, by_grpc).returncode == 0
    rotate = next(line for line in screen.splitlines() if " keys rotate " in line)
    rotated = bash(tmp_path, f"{source}\n{rotate}")
    assert rotated.returncode == 0, rotated.stderr
    assert KEYS.fullmatch(rotated.stdout.splitlines()[-1])
    assert '"secretStatus":"RETIRING"' in bash(tmp_path, f"{source}\n{curl}").stdout


def test_a_taken_port_names_its_flag_and_costs_no_key(up: Start) -> None:
    """The error says which flag to change; the keys of that first run are told when the service first listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for flag in ("--http", "--grpc"):
            server = up("--json", flag, f"127.0.0.1:{taken.getsockname()[1]}")
            assert server.wait()[0] == 1
            assert server.out == ""
            problem = json.loads(server.err.splitlines()[-1])["error"]
            assert flag in problem["message"]
    told = up("--json").told()
    assert verify(told, told["sample_key"])["code"] == "VALID"


def test_keys_that_cannot_be_kept_are_not_made(up: Start, tmp_path: Path) -> None:
    """When the file of keys cannot be written, here because a folder is in its place, nothing is made; when it can, the
    next run is the first.
    """
    in_the_way = tmp_path / "data" / "first-run.json"
    in_the_way.mkdir(parents=True)
    server = up("--json")
    assert server.wait()[0] == 1
    assert json.loads(server.err.splitlines()[-1])["error"]["code"] == "KEYS_NOT_KEPT"
    in_the_way.rmdir()
    told = up("--json").told()
    assert verify(told, told["sample_key"])["code"] == "VALID"


def test_a_data_directory_has_one_server(up: Start, tmp_path: Path) -> None:
    """A second server says so and leaves the first alone; at once, though the first is in the midst of a write."""
    first = up("--json")
    told = first.told()
    with closing(sqlite3.connect(tmp_path / "data" / "keystead.db", isolation_level=None)) as writing:
        writing.execute("BEGIN IMMEDIATE")
        second = up("--json")
        assert second.wait()[0] == 1
    assert json.loads(second.err.splitlines()[-1])["error"]["code"] == "DATA_DIRECTORY_LOCKED"
    assert first.running
    assert verify(told, told["sample_key"])["code"] == "VALID"


def test_a_second_signal_ends_at_once(up: Start) -> None:
    """The first signal waits for the call under way; whoever cannot wait signals again."""
    server = up("--json")
    address = urlsplit(server.told()["http"])
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=30) as caller:
        caller.sendall(
            b"POST /keystead.v1.VerificationService/VerifyKey HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 100\r\n\r\n{"
        )
        caller.settimeout(1)
        with pytest.raises(TimeoutError):  # by then the server is reading the body
            caller.recv(1)
        server.signal()
        server.until("Stopping", on="err")
        assert server.running
        server.signal()
        code, took_s = server.wait()
    assert (code, took_s < STOP_QUICKLY_S) == (130, True)


def test_the_demo_makes_calls_of_every_kind(up: Start, tmp_path: Path) -> None:
    """`--demo` says that it does, and uses a few keys of a few owners; the service answers others meanwhile."""
    told = up("--json", "--demo").told()
    environment = {"KEYSTEAD_URL": told["http"], "KEYSTEAD_MANAGEMENT_KEY": told["management_key"]}

    def used() -> int:
        listed = keystead_json(tmp_path, "keys", "list", "--tag", "demo", environment=environment)
        return sum("lastUsedAt" in key for key in listed["keys"])

    assert wait_until(lambda: used() >= 2, timeout_s=30)
    listed = keystead_json(tmp_path, "keys", "list", "--tag", "demo", environment=environment)["keys"]
    assert len({key["ownerId"] for key in listed}) == 3
    assert verify(told, told["sample_key"])["code"] == "VALID"


def test_serve_creates_nothing(tmp_path: Path) -> None:
    """On a database that is not set up `serve` says what to run; once it is set up, it serves."""
    refused = keystead(tmp_path, "serve", "--json", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
    assert refused.returncode == 1
    assert not (tmp_path / "data" / "keystead.db").exists()
    assert keystead(tmp_path, "migrate").stdout.startswith("Migrated from nothing")
    assert keystead(tmp_path, "migrate").stdout.startswith("Nothing to do")
    made = json.loads(keystead(tmp_path, "bootstrap", "--json").stdout)
    server = Server(tmp_path, "serve", "--json")
    try:
        told = server.told()
        assert list(told) == ["http", "grpc"]
        environment = {"KEYSTEAD_URL": told["http"], "KEYSTEAD_MANAGEMENT_KEY": made["operator_key"]}
        workspace = keystead_json(
            tmp_path, "workspaces", "create", "--brand", "shop", "--name", "Shop", environment=environment
        )
        assert workspace["secret"].startswith("keystead_live_")
        assert server.stop()[0] == 0
    finally:
        server.close()


def test_doctor_finds_what_is_wrong_and_what_is_right(up: Start, tmp_path: Path) -> None:
    """Before the first run something is missing, which exits 1; beside a running service nothing is."""
    assert keystead(tmp_path, "doctor").returncode == 1
    up("--json").told()
    found = keystead_json(tmp_path, "doctor", environment={})["findings"]
    assert {finding["status"] for finding in found} == {"ok"}
    assert keystead(tmp_path, "doctor").returncode == 0


def test_the_program_is_what_the_package_installs() -> None:
    """These tests run the command that users run."""
    assert Path(PROGRAM).exists()
