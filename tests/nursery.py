"""Where keystead servers of the tests are born: a process that has imported everything, and forks.

Importing takes a server longer than starting, and tests start hundreds. A born server is a process like any other, with
an environment, a standard output and an error file of its own; its parent is the test process, which is told its exit
code, and with which it dies.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.services import send

ROOT = Path(__file__).parent.parent
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


class BornServer:
    """A process that the nursery made and this one waits for."""

    def __init__(self, pid: int) -> None:
        """Watch over ``pid``."""
        self.pid = pid
        self._ending = os.pidfd_open(pid)
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, the number of a signal below zero; None while the process is there."""
        if self._code is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self._code = os.waitstatus_to_exitcode(status)
                os.close(self._ending)
        return self._code

    def wait(self, timeout_s: float) -> int:
        """Wait for the end; raise ``TimeoutExpired`` when it does not come in time."""
        if self._code is None:
            select.select([self._ending], [], [], timeout_s)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(f"server {self.pid}", timeout_s)
        return code

    def kill(self) -> None:
        """End the process at once."""
        if self._code is None:
            send(self.pid, signal.SIGKILL)


class Nursery:
    """The process that forks; it ends with this one, when its standard input does."""

    def __init__(self) -> None:
        """Begin importing; what is born becomes a child of this process when its first parent ends."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KEYSTEAD_")}
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._asking = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._end)

    def bear(self, flags: Sequence[str], environment: Mapping[str, str], *, output: Path, log: Path) -> BornServer:
        """Start a server that writes to the ends of ``output`` and ``log``."""
        request = {"flags": flags, "environment": dict(environment), "output": str(output), "log": str(log)}
        with self._asking:
            asked, told = self._process.stdin, self._process.stdout
            assert asked is not None
            assert told is not None
            asked.write(json.dumps(request) + "\n")
            asked.flush()
            return BornServer(int(told.readline()))

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()


@functools.cache
def nursery() -> Nursery:
    """Return the one nursery of this process."""
    return Nursery()


def main() -> None:
    """Fork for every line of standard input; in the child, become the server that the line asks for."""
    from tests import server_process  # noqa: PLC0415 -- takes long, and is for this process alone

    for line in sys.stdin:
        born = _fork()
        if born == 0:
            server_process.main(_settle(json.loads(line)))
            return
        sys.stdout.write(f"{born}\n")
        sys.stdout.flush()


def _fork() -> int:
    """Fork twice, so that the child's parent is the test process; return its id, and 0 in the child."""
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        own = os.getpid()
        born = os.fork()
        if born:
            os.write(writing, str(born).encode())
            os._exit(0)
        while os.getppid() == own:
            os.sched_yield()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.close(writing)
    if between:
        os.waitpid(between, 0)
    told = os.read(reading, 32) if between else b"0"
    os.close(reading)
    return int(told)


def _settle(request: dict[str, Any]) -> list[str]:
    """Take on what the request says of the process, and return the server's flags."""
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # where that is was found out before
    ways = (
        (os.devnull, os.O_RDONLY),
        (request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        (request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    )
    for number, (path, mode) in enumerate(ways):
        opened = os.open(path, mode, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    flags: list[str] = request["flags"]
    return flags


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    main()
