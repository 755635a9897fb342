"""A keystead server for tests, told everything by ``KEYSTEAD_*``: sets up what is missing, then serves until SIGTERM.

``keystead up`` without its screen. The first line on stdout is one JSON object, as ``up --json`` prints it, with what
only tests want to know beside it; a server that does not start prints why instead and exits with 2.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import signal
import sys
from collections.abc import Mapping, Sequence

import uvloop

from keystead import bootstrap
from keystead.config import Settings, load_settings
from keystead.kernel.errors import KeysteadError

_PR_GET_DUMPABLE = 3


def main(words: Sequence[str]) -> None:
    """Serve, as ``words`` and the environment say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first-run", action="store_true", help="make a workspace when there is none")
    parser.add_argument("--operator", action="store_true", help="mint an operator key")
    options = parser.parse_args(words)
    try:
        settings = load_settings()
        bootstrap.migrate(settings)
        uvloop.run(_run(settings, options))
    except KeysteadError as error:
        _say({"error": error.code, "message": error.public})
        sys.exit(2)


async def _run(settings: Settings, options: argparse.Namespace) -> None:
    told: dict[str, object] = {}
    if options.first_run and (made := await bootstrap.first_run(settings, keep=lambda _: None)) is not None:
        told |= {
            "workspace_id": made.workspace_id,
            "management_key": made.management_key.reveal(),
            "sample_key": made.sample_key.reveal(),
            "sample_key_id": made.sample_key_id,
        }
    if options.operator:
        _, secret = await bootstrap.mint_operator(settings, name="Tests")
        told["operator_key"] = secret.reveal()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with bootstrap.running(settings) as running:
        dumpable = ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)
        _say(told | {"grpc": running.grpc, "http": running.http, "dumpable": dumpable})
        await stopped.wait()


def _say(told: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
