"""How a server process and the benchmark that started it talk: a line of JSON when it listens, end of stdin to stop it.

A pipe that ends cannot be missed: whatever becomes of the benchmark, its servers end with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys


def announce(**facts: object) -> None:
    """Tell the benchmark that the server is ready, and where."""
    print(json.dumps(facts), flush=True)


async def stdin_ends() -> None:
    """Return when the benchmark has closed the pipe, or is gone."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def read() -> None:
        if not os.read(sys.stdin.fileno(), 4_096):
            loop.remove_reader(sys.stdin.fileno())
            ended.set()

    loop.add_reader(sys.stdin.fileno(), read)
    await ended.wait()
