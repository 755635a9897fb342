"""Run the service on a Redis of its own: ``make up-redis``, with ``keystead up``'s flags.

The Redis listens on a socket in the data directory and on nothing else, keeps every write (``appendfsync always``, so
that killing it loses no limit's state), evicts nothing, and ends with the service.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

_READY_WITHIN_S = 10.0
_DIRECTORY = Path("data") / "redis"


def main(arguments: list[str]) -> int:
    """Start Redis, serve until the service ends, end Redis; return the service's exit code."""
    program = shutil.which("redis-server")
    if program is None:
        print("make up-redis needs redis-server: apt-get install redis-server (or valkey-server).", file=sys.stderr)
        return 1
    _DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket = _DIRECTORY.resolve() / "redis.sock"
    redis = subprocess.Popen(
        [
            *(program, "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
            *("--dir", str(_DIRECTORY), "--appendonly", "yes", "--appendfsync", "always", "--save", ""),
            *("--maxmemory-policy", "noeviction", "--loglevel", "warning"),
        ],
        start_new_session=True,  # Ctrl-C is for the service, which Redis must outlive
    )
    try:
        _demand_ready(redis, socket)
        command = [sys.executable, "-m", "keystead", "up", "--redis", f"unix://{socket}", *arguments]
        service = subprocess.Popen(command)
        # The terminal sends Ctrl-C to both; here it is the service's to answer.
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: service.terminate())
        return service.wait()
    finally:
        redis.terminate()
        redis.wait()


def _demand_ready(redis: subprocess.Popen[bytes], socket: Path) -> None:
    ends_at = time.monotonic() + _READY_WITHIN_S
    while not socket.exists():
        try:
            redis.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            if time.monotonic() < ends_at:
                continue
        sys.exit("redis-server did not start; its own words are above.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
