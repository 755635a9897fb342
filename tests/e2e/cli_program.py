"""The installed command `keystead`, run as a person or a script runs it: with pipes, or on a terminal of its own.

Nothing outlives its test: a server is ended by its fixture, and by the kernel (PR_SET_PDEATHSIG) should the test
process be killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests.services import find_program, wait_until

PROGRAM = str(Path(sys.executable).with_name("keystead"))
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
COMMAND_TIMEOUT_S = 60.0

_COLOURS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def clean_environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Make an environment without settings, profiles or colours of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KEYSTEAD_")}
    return kept | {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "COLUMNS": "80", **(more or {})}


def keystead(
    folder: Path, *words: str, typed: str = "", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in ``folder`` to its end, with pipes."""
    return subprocess.run(
        [PROGRAM, *words],
        cwd=folder,
        env=clean_environment(folder, environment),
        input=typed,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )


def keystead_json(folder: Path, *words: str, environment: Mapping[str, str], typed: str = "") -> dict[str, Any]:
    """Run a command that must succeed, and return the object that it prints."""
    done = keystead(folder, *words, "--json", environment=environment, typed=typed)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class Server:
    """A `keystead up` or `serve` in ``folder``; its output is read as it comes, from pipes or from its terminal."""

    def __init__(
        self, folder: Path, *words: str, terminal: bool = False, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start; ``--http`` and ``--grpc`` get free ports unless they are among ``words``."""
        free = [part for flag in ("--http", "--grpc") if flag not in words for part in (flag, "127.0.0.1:0")]
        command = [find_program("setpriv"), "--pdeathsig=KILL", "--", PROGRAM, *words, *free]
        self._lock = threading.Lock()
        self._texts = {"out": "", "err": ""}
        self._threads: list[threading.Thread] = []
        variables = clean_environment(folder, environment)
        if terminal:
            self._start_on_terminal(command, folder, variables)
        else:
            self._start_with_pipes(command, folder, variables)

    @property
    def out(self) -> str:
        """What stood on standard output so far; on a terminal everything, without colours."""
        with self._lock:
            return _COLOURS.sub("", self._texts["out"]).replace("\r\n", "\n")

    @property
    def err(self) -> str:
        """What stood on standard error so far."""
        with self._lock:
            return self._texts["err"]

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process.poll() is None

    def until(self, text: str, *, on: str = "out") -> Server:
        """Wait until ``text`` was printed."""
        seen = wait_until(
            lambda: text in (self.out if on == "out" else self.err) or not self.running, timeout_s=START_TIMEOUT_S
        )
        assert seen, (self.out, self.err)
        assert text in (self.out if on == "out" else self.err), (self.out, self.err)
        return self

    def told(self) -> dict[str, Any]:
        """Return the object on the first line."""
        self.until("\n")
        found: dict[str, Any] = json.loads(self.out.splitlines()[0])
        return found

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Signal the process."""
        self.process.send_signal(number)

    def wait(self) -> tuple[int, float]:
        """Wait for the end; return the exit code and how many seconds it took."""
        began_s = time.monotonic()
        code = self.process.wait(STOP_TIMEOUT_S)
        took_s = time.monotonic() - began_s
        for thread in self._threads:
            thread.join(STOP_TIMEOUT_S)
        return code, took_s

    def stop(self) -> tuple[int, float]:
        """Stop in good order."""
        if self.running:
            self.signal()
        return self.wait()

    def close(self) -> None:
        """End the process if it is still there."""
        if self.running:
            self.process.kill()
        self.wait()

    def _start_with_pipes(self, command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for name, stream in (("out", self.process.stdout), ("err", self.process.stderr)):
            assert stream is not None
            self._read(stream, name)

    def _start_on_terminal(self, command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> None:
        ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command, cwd=folder, env=variables, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self._read(os.fdopen(ours, "rb"), "out")

    def _read(self, stream: IO[bytes], name: str) -> None:
        def read() -> None:
            with stream, contextlib.suppress(OSError):  # a terminal ends with an error
                while part := os.read(stream.fileno(), 65_536):
                    with self._lock:
                        self._texts[name] += part.decode("utf-8", "replace")

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        self._threads.append(thread)


def on_terminal(folder: Path, *words: str, typed: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run a command on a terminal, type ``typed`` when it asks, and return its exit code and what the screen shows."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, *words],
        cwd=folder,
        env=clean_environment(folder, environment),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    screen = b""
    answered = False
    deadline_s = time.monotonic() + COMMAND_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if not select.select([ours], [], [], 0.1)[0]:
            continue
        try:
            part = os.read(ours, 65_536)
        except OSError:
            break
        screen += part
        if not answered and screen.rstrip().endswith(b":"):
            os.write(ours, typed.encode() + b"\n")
            answered = True
    os.close(ours)
    return process.wait(COMMAND_TIMEOUT_S), _COLOURS.sub("", screen.decode()).replace("\r\n", "\n")
