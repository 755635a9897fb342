"""Running a server in the foreground until somebody stops it.

The first SIGTERM or Ctrl-C lets calls finish; the second ends the process at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import click
import uvloop

from keystead.bootstrap import Running, running
from keystead.cli.problems import ExitCode
from keystead.config import Settings

Background = Callable[[Running], Coroutine[Any, Any, None]]


def serve_until_stopped(settings: Settings, *, greet: Callable[[Running], Background | None]) -> None:
    """Run a server; ``greet`` is called once it listens, and may return what should run beside it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, greet))


async def _serve(settings: Settings, greet: Callable[[Running], Background | None]) -> None:
    stop = _heed_signals()
    async with running(settings) as server:
        background = greet(server)
        beside = asyncio.create_task(background(server)) if background else None
        await stop.wait()
        if beside is not None:
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)


def _heed_signals() -> asyncio.Event:
    stop = asyncio.Event()

    def heed() -> None:
        if stop.is_set():
            os._exit(ExitCode.INTERRUPTED)
        stop.set()
        click.echo("Stopping: calls under way may finish; once more stops at once.", err=True)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heed)
    return stop
