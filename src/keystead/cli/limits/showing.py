"""``keystead limits show``: a gauge of what is left, once or for as long as one looks."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator

import click

from keystead.cli.application import command
from keystead.cli.flags import with_options
from keystead.cli.limits.gauges import Gauge, gauge_table
from keystead.cli.message import Message
from keystead.cli.output import columns_available, show
from keystead.cli.parameters import DURATION, Identifier
from keystead.cli.problems import CommandError, ExitCode, warn
from keystead.cli.session import Session, speaks_to_server
from keystead.cli.tables import Block, cell, joined

SERVICE = "LimitService"
FAILURES_MAX = 10
_INTERVAL_MIN_MS = 100
_UP_AND_CLEAR = "\x1b[{}A\x1b[J"


@command(
    "show",
    examples=(
        "keystead limits show key_01HZX…",
        "keystead limits show key_01HZX… --watch",
        "keystead limits show key_01HZX… --watch --every 5s --json",
    ),
)
@click.argument("key_id", type=Identifier())
@with_options(
    click.option("--watch", is_flag=True, help="Look again and again, until Ctrl-C."),
    click.option("--every", "every_ms", type=DURATION, default="1s", show_default=True, help="Watch so often."),
    click.option("--times", type=click.IntRange(1), help="End watching after so many looks."),
)
@speaks_to_server()
def show_limits(session: Session, *, key_id: str, watch: bool, every_ms: int, times: int | None) -> None:
    """Show what is left of a key's limits.

    Looking spends nothing. A limit comes from the key itself, its owner or the plan, and counts for this key alone
    unless its rule ends in @owner or @workspace. With --watch --json each look is one object on one line; a server that
    goes away is waited for.
    """
    if every_ms < _INTERVAL_MIN_MS:
        message = f"must be at least {_INTERVAL_MIN_MS}ms"
        raise click.BadParameter(message, param_hint="--every")
    if not watch:
        session.show(_ask(session, key_id), lambda reply: _print(key_id, reply))
        return
    screen = _Screen()
    for reply in _looks(session, key_id, every_ms=every_ms, times=times, screen=screen):
        if session.as_json:
            click.echo(json.dumps(reply, ensure_ascii=False))
        else:
            screen.draw(_blocks(key_id, reply))


def _ask(session: Session, key_id: str) -> Message:
    return session.call(SERVICE, "GetLimits", {"keyId": key_id})


def _looks(session: Session, key_id: str, *, every_ms: int, times: int | None, screen: _Screen) -> Iterator[Message]:
    """Look again and again; a server that cannot be reached is waited for, unless it never answered."""
    yield _ask(session, key_id)
    looked, failures = 1, 0
    while times is None or looked < times:
        threading.Event().wait(every_ms / 1_000)
        try:
            reply = _ask(session, key_id)
        except CommandError as error:
            failures += 1
            if error.problem.exit_code is not ExitCode.UNREACHABLE or failures > FAILURES_MAX:
                raise
            warn(f"{error.problem.message} Trying again.")
            screen.leave()
            continue
        failures = 0
        yield reply
        looked += 1


class _Screen:
    """Draws over what it drew before; a pipe gets one picture below the other."""

    def __init__(self) -> None:
        self._lines = 0

    def leave(self) -> None:
        """Let what stands there stand."""
        self._lines = 0

    def draw(self, blocks: list[Block]) -> None:
        from keystead.cli.painting import painted  # noqa: PLC0415 -- rich takes a tenth of a second

        terminal = sys.stdout.isatty()
        lines = painted(blocks, columns=columns_available(), terminal=terminal)
        if terminal and self._lines:
            click.echo(_UP_AND_CLEAR.format(self._lines), nl=False, color=True)
        elif self._lines:
            click.echo()
        click.echo("\n".join(lines), color=terminal)
        self._lines = len(lines)


def _print(key_id: str, reply: Message) -> None:
    show(*_blocks(key_id, reply))
    if reply.get("degraded"):
        warn("The store of buckets and windows is away; their levels are not known.")


def _blocks(key_id: str, reply: Message) -> list[Block]:
    plan = reply.get("planName") or reply.get("planId")
    said = cell(f"plan {plan}" if plan else "no plan", "dim")
    heading = joined(
        [cell(key_id, "bold"), said, *([cell("degraded", "yellow")] if reply.get("degraded") else [])], "  "
    )
    gauges = [Gauge.read(told) for told in reply.get("limits", [])]
    if not gauges:
        return [heading, cell("No limits apply: every call is admitted.")]
    return [heading, cell(""), gauge_table(gauges)]
