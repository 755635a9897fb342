"""A PostgreSQL and a Redis of the tests' own: real servers on free ports of 127.0.0.1, with data nobody else sees.

Tests may stop, kill and freeze them. They never outlive the test run: each is ended by its fixture, at exit, and by the
kernel (PR_SET_PDEATHSIG) should the test process be killed. PostgreSQL refuses to run as root, so root steps down.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
COMMAND_TIMEOUT_S = 60.0
PORT_ATTEMPTS = 5
_POLL_S = 0.02
_PORTS_FROM, _PORTS_TO = 12_000, 32_000
_PORT_SOURCE = random.SystemRandom()  # never the same in two processes, whoever seeds what


class MissingProgramError(Exception):
    """Raised when a server's program is not installed; `make services` says how to get it, or gets it."""


class ServerError(Exception):
    """Raised when a server does not do as it is told; carries the end of its log."""


def wait_until(condition: Callable[[], bool], *, timeout_s: float) -> bool:
    """Wait until ``condition`` holds; say whether it did within ``timeout_s``."""
    tick = threading.Event()
    for _ in range(int(timeout_s / _POLL_S)):
        if condition():
            return True
        tick.wait(_POLL_S)
    return condition()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on at this moment.

    It is below those that the system lends by itself, or a connection of another test could take it before its use;
    and drawn at random, so that tests side by side rarely draw the same.
    """
    while True:
        port = _PORT_SOURCE.randrange(_PORTS_FROM, _PORTS_TO)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def find_program(name: str) -> str:
    """Return the path of ``name``: from PATH, or from where Debian keeps PostgreSQL's, the newest first."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    for folder in [None, *map(str, debian)]:
        found = shutil.which(name, path=folder)
        if found:
            return found
    raise MissingProgramError(f"{name} is not installed; run `make services`")


def unprivileged_user() -> pwd.struct_passwd | None:
    """Return whom to run servers as: the one we are, unless that is root."""
    if os.geteuid() != 0:
        return None
    users = {user.pw_name: user for user in pwd.getpwall()}
    return users.get("postgres") or users["nobody"]


def children_of(pid: int) -> list[int]:
    """Return the processes whose parent is ``pid``."""
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text(encoding="ascii").split()] if found.exists() else []


def is_running(pid: int) -> bool:
    """Say whether a process runs; one that only waits for somebody to read its exit code does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def send(pid: int, number: signal.Signals) -> None:
    """Signal one process, which may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def as_user(user: pwd.struct_passwd | None, *, dies_by: signal.Signals) -> list[str]:
    """Return what begins a command that is run as ``user`` and ended when we are."""
    prefix = [find_program("setpriv"), f"--pdeathsig={dies_by.name.removeprefix('SIG')}"]
    if user is not None:
        prefix += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return [*prefix, "--"]


def run_as(user: pwd.struct_passwd | None, folder: Path, *command: str) -> None:
    """Run a command to its end in ``folder``; raise ``ServerError`` when it fails."""
    done = subprocess.run(
        [*as_user(user, dies_by=signal.SIGTERM), *command],
        cwd=folder,
        capture_output=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise ServerError(f"{command[0]}: {done.stderr.decode(errors='replace')}")


@functools.cache
def empty_cluster() -> Path:
    """Make a PostgreSQL cluster that is never started; every server runs on a copy, which is made far sooner."""
    user, folder = unprivileged_user(), Path(tempfile.mkdtemp(prefix="keystead-cluster-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    options = ("--username=keystead", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
    run_as(user, folder, find_program("initdb"), f"--pgdata={folder / 'data'}", *options)
    return folder / "data"


class PrivateServer(ABC):
    """A server process with a folder and a port of its own; made stopped."""

    stop_signal = signal.SIGTERM

    def __init__(self, name: str) -> None:
        """Make the folder, which belongs to the user that the server will run as."""
        self.user = unprivileged_user()
        self.folder = Path(tempfile.mkdtemp(prefix=f"keystead-{name}-"))
        self.port = free_port()
        self._log = self.folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        if self.user is not None:
            os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
        atexit.register(self.remove)

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command that runs the server in the foreground."""

    @abstractmethod
    def answers(self) -> bool:
        """Say whether the server takes requests."""

    @property
    def pid(self) -> int:
        """The server's process id; it must be running."""
        if self._process is None:
            raise ServerError(f"{self.folder.name} is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the server on a free port and return when it answers."""
        for _ in range(PORT_ATTEMPTS):
            if self._launch():
                return
            self.port = free_port()  # somebody took it between our look and the server's
        raise ServerError(self._log.read_text(encoding="utf-8", errors="replace")[-4_000:])

    def stop(self) -> None:
        """Stop the server in good order."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """End the server and all its children at once, as a crash does."""
        for child in children_of(self.pid) if self._process else []:
            send(child, signal.SIGKILL)
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Bring the server back on the same port with the same data, after a stop or instead of one."""
        self.stop()
        if not self._launch():
            raise ServerError(self._log.read_text(encoding="utf-8", errors="replace")[-4_000:])

    def freeze(self) -> None:
        """Make the server hang: connections stay open and nothing answers."""
        self._send_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._send_all(signal.SIGCONT)

    def remove(self) -> None:
        """End the server and delete its data."""
        if self._process is not None:
            self.thaw()
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.remove)

    def run(self, *command: str) -> None:
        """Run a command to its end as the server's user."""
        run_as(self.user, self.folder, *command)

    def _launch(self) -> bool:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._as_user(), *self.command()], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        process = self._process
        settled = wait_until(lambda: process.poll() is not None or self.answers(), timeout_s=START_TIMEOUT_S)
        if settled and process.poll() is None:
            return True
        self._end(signal.SIGKILL)
        return False

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT_S)

    def _send_all(self, number: signal.Signals) -> None:
        """Signal the parent first, so that it makes no more children meanwhile."""
        send(self.pid, number)
        for child in children_of(self.pid):
            send(child, number)

    def _as_user(self) -> list[str]:
        return as_user(self.user, dies_by=self.stop_signal)


class PrivatePostgres(PrivateServer):
    """PostgreSQL with one superuser, ``keystead``, without a password.

    What was committed survives a kill, but not a power cut.
    """

    stop_signal = signal.SIGINT  # fast shutdown: disconnects its clients
    _OPTIONS = (
        "fsync=off",
        "full_page_writes=off",
        "listen_addresses=127.0.0.1",
        "log_min_messages=warning",
        "max_connections=200",
        "shared_buffers=64MB",
    )

    def __init__(self) -> None:
        """Make a cluster of databases and start it."""
        super().__init__("postgres")
        self._data = self.folder / "data"
        self.run("cp", "--archive", str(empty_cluster()), str(self._data))
        self.start()

    def command(self) -> list[str]:
        """Return the command that runs the server in the foreground."""
        options = [*self._OPTIONS, f"port={self.port}", f"unix_socket_directories={self.folder}"]
        return [find_program("postgres"), "-D", str(self._data), *(f"--{option}" for option in options)]

    def answers(self) -> bool:
        """Say whether the server takes connections."""
        try:
            self.run(find_program("pg_isready"), "--quiet", "--timeout=1", *self._where(), "--dbname=postgres")
        except ServerError:
            return False
        return True

    def url(self, database: str) -> str:
        """Return the URL of a database, as people write it."""
        return f"postgresql://keystead@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Make an empty database and return its URL."""
        self.run(find_program("createdb"), *self._where(), name)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Delete a database, whoever is connected to it."""
        self.run(find_program("dropdb"), "--force", *self._where(), name)

    def _where(self) -> list[str]:
        return ["--host=127.0.0.1", f"--port={self.port}", "--username=keystead"]


class PrivateRedis(PrivateServer):
    """Redis that keeps everything in memory: a restart empties it."""

    def __init__(self) -> None:
        """Start the server."""
        super().__init__("redis")
        self.start()

    def command(self) -> list[str]:
        """Return the command that runs the server in the foreground."""
        options = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self.folder), "save": "", "appendonly": "no"}
        return [
            find_program("redis-server"),
            *(word for name, value in options.items() for word in (f"--{name}", value)),
        ]

    def answers(self) -> bool:
        """Say whether the server answers a PING."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def url(self, database: int = 0) -> str:
        """Return the URL of one of the sixteen databases."""
        return f"redis://127.0.0.1:{self.port}/{database}"


class DurableRedis(PrivateRedis):
    """A Redis that answers only what is on its disk: a kill and a restart take nothing away."""

    def command(self) -> list[str]:
        """Return the command that runs the server in the foreground."""
        return [
            find_program("redis-server"),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "always"),
        ]
