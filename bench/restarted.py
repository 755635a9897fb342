"""Keystead's server as ``keystead serve`` runs it, nothing warm: ``python -m bench.restarted DATA_DIR``."""

from __future__ import annotations

import sys
from pathlib import Path

import uvloop

from bench.installation import Installation
from bench.serving import announce, stdin_ends
from keystead.bootstrap import running


async def serve(installation: Installation) -> None:
    """Serve ``installation`` until stdin ends."""
    async with running(installation.settings()) as server:
        announce(native=_port(server.grpc), http=_port(server.http))
        await stdin_ends()


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def main() -> int:
    """Serve the data directory named on the command line."""
    uvloop.run(serve(Installation.load(Path(sys.argv[1]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
