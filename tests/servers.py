"""Real keystead servers of the tests' own: processes on free ports of 127.0.0.1, each with its own data directory.

They never outlive the test: each is ended by its fixture, and by the kernel (PR_SET_PDEATHSIG) should the test process
be killed (``nursery``). What they write to stderr, at debug level, is in a file that a failed test leaves behind.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import secrets
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

from tests.nursery import BornServer, nursery
from tests.services import send, wait_until

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


class NotStartedError(Exception):
    """Raised when a server does not start; ``code`` and the text are the server's own."""

    def __init__(self, code: str, message: str) -> None:
        """Keep what the server said."""
        super().__init__(f"{code}: {message}")
        self.code = code


class KeysteadServer:
    """One server process with a data directory that outlives it, so it can be started again."""

    def __init__(self, folder: Path, *, flags: tuple[str, ...] = ("--first-run",), **settings: object) -> None:
        """Prepare a server that is told ``settings`` (as in ``config.py``); nothing is started."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.data_dir = folder / "data"
        self.log = folder / "stderr.log"
        self.flags = flags
        self.settings: dict[str, object] = {
            "data_dir": self.data_dir,
            "grpc": "127.0.0.1:0",
            "http": "127.0.0.1:0",
            "log_level": "debug",
            "log_format": "json",
            **settings,
        }
        self.told: dict[str, Any] = {}
        self._output = folder / "stdout.log"
        self._process: BornServer | None = None

    @property
    def pid(self) -> int:
        """The process's id; it must have been started."""
        if self._process is None:
            raise NotStartedError("not_running", str(self.folder))
        return self._process.pid

    @property
    def grpc(self) -> str:
        """Where gRPC listens, HOST:PORT."""
        return str(self.told["grpc"])

    @property
    def http(self) -> str:
        """Where HTTP listens, a URL."""
        return str(self.told["http"])

    @property
    def management_key(self) -> str:
        """What the first run made; kept over restarts."""
        return str(self.told["management_key"])

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> KeysteadServer:
        """Start, and return when both listeners listen; raise ``NotStartedError`` when that does not come to pass."""
        environment = _environment()
        environment |= {f"KEYSTEAD_{name.upper()}": _text(value) for name, value in self.settings.items()}
        self._output.write_bytes(b"")
        process = nursery().bear(self.flags, environment, output=self._output, log=self.log)
        self._process = process
        wait_until(lambda: process.poll() is not None or self._first_line() != "", timeout_s=START_TIMEOUT_S)
        told = json.loads(self._first_line() or "{}")
        if "grpc" not in told:
            self.kill()
            raise NotStartedError(told.get("error", "no answer"), told.get("message", self.log_text()[-4_000:]))
        self.told |= told
        return self

    def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Stop in good order; return the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s=timeout_s)

    def wait(self, *, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for the end of the process; return its exit code."""
        if self._process is None:
            return 0
        code = self._process.wait(timeout_s)
        self._process = None
        return code

    def kill(self) -> None:
        """End the process at once, as a crash does."""
        if self._process is not None:
            self.signal(signal.SIGCONT)
            self._process.kill()
            self.wait()

    def restart(self) -> KeysteadServer:
        """Stop in good order and start again."""
        self.stop()
        return self.start()

    def freeze(self) -> None:
        """Make the process hang."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """Signal the process."""
        send(self.pid, number)

    def log_text(self) -> str:
        """Return everything that was written to stderr."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def _first_line(self) -> str:
        line, newline, _ = self._output.read_text(encoding="utf-8", errors="replace").partition("\n")
        return line if newline else ""


class ServerFarm:
    """Every server of one test, ended together."""

    def __init__(self, folder: Path) -> None:
        """Keep the servers' folders in ``folder``."""
        self._folder = folder
        self._servers: list[KeysteadServer] = []
        self.master_key = secrets.token_hex(32)

    def add(self, *, flags: tuple[str, ...] = ("--first-run",), **settings: object) -> KeysteadServer:
        """Prepare a server; those on one PostgreSQL share the farm's master key."""
        if settings.get("database"):
            settings = {"master_keys": self.master_key, **settings}
        server = KeysteadServer(self._folder / f"server-{len(self._servers)}", flags=flags, **settings)
        self._servers.append(server)
        return server

    def start(self, *, flags: tuple[str, ...] = ("--first-run",), **settings: object) -> KeysteadServer:
        """Prepare a server and start it."""
        return self.add(flags=flags, **settings).start()

    def end(self) -> None:
        """End all servers."""
        for server in self._servers:
            server.kill()


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _environment() -> dict[str, str]:
    """Give servers a folder of this run's own for temporary files, which a killed one leaves behind."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("KEYSTEAD_")}
    return ours | {"TMPDIR": str(_folder_of_this_run())}


@functools.cache
def _folder_of_this_run() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="keystead-servers-"))  # its name is short, as the paths of sockets must be
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
