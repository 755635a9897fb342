"""nghttp2's h2load, to check our own load generator by: the same calls, with the one body that it can send."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from bench import frames
from bench.load import Load, Result, headers_of, make_bodies
from bench.processes import BenchError, Run, Server, cores, on_core

_FINISHED = re.compile(r"finished in [0-9.]+\w+, ([0-9.]+) req/s")
_SUCCEEDED = re.compile(r"([0-9]+) succeeded, ([0-9]+) failed")
_TIMEOUT_S = 60.0
_US = 1_000_000


def available() -> bool:
    """Say whether it is installed."""
    return shutil.which("h2load") is not None


def measure(load: Load, server: Server, folder: Path) -> Run:
    """Make the calls of ``load``, always with its first body; latencies are not told."""
    body = folder / "h2load-body"
    body.write_bytes(frames.message(make_bodies(load)[0]))
    headers = [word for name, value in headers_of(load) for word in ("--header", f"{name}: {value}")]
    command = ["h2load", f"--clients={load.connections}", f"--max-concurrent-streams={load.at_once}", *headers]
    command += [f"--duration={load.lasts_s:.0f}", f"--data={body}", f"http://127.0.0.1:{load.port}{load.path}"]
    server.settle()
    used_s = server.used_s
    done = subprocess.run(  # noqa: S603 -- a program that this module names itself
        on_core(cores()[1], command), capture_output=True, text=True, timeout=load.lasts_s + _TIMEOUT_S, check=False
    )
    server.settle()
    finished, succeeded = _FINISHED.search(done.stdout), _SUCCEEDED.search(done.stdout)
    if finished is None or succeeded is None or int(succeeded[2]):
        raise BenchError(f"h2load: {done.stdout[-500:]}{done.stderr[-500:]}")
    calls = int(succeeded[1])
    result = Result(calls, 0, "", calls, float(finished[1]), 0.0, 0.0, 0.0, 0.0)
    return Run(result, (server.used_s - used_s) * _US / max(1, calls))
