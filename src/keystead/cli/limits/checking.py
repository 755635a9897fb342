"""``keystead limits check``: the limiter for whatever the platform counts by itself."""

from __future__ import annotations

from typing import Any

import click

from keystead.cli.application import command
from keystead.cli.flags import with_options
from keystead.cli.limits.gauges import Gauge, gauge_table
from keystead.cli.limits.notation import rule
from keystead.cli.limits.options import OUTAGE_POLICY, limit_option
from keystead.cli.message import Message
from keystead.cli.output import show
from keystead.cli.parameters import Name
from keystead.cli.problems import ExitCode
from keystead.cli.session import Session, speaks_to_server
from keystead.cli.tables import Cell, cell, joined
from keystead.cli.text import span
from keystead.cli.usage.rendering import duration_us, written

_COST_MAX = 1_000_000


@command(
    "check",
    examples=(
        "keystead limits check 203.0.113.7 --environment live --limit signups=5/h",
        "keystead limits check job:42 --limit runs=bucket:1/s:burst=10 --cost 3 --peek --json",
    ),
)
@click.argument("subject")
@limit_option("Decide this one; buckets and windows alone; repeatable.")
@with_options(
    click.option("--cost", type=click.IntRange(0, _COST_MAX), help="Spend so much. [1]"),
    click.option("--peek", is_flag=True, help="Spend nothing, only look."),
    click.option("--environment", type=Name(("LIVE", "TEST")), help="Count in this world. [the management key's own]"),
    click.option(
        "--on-limiter-outage", "outage_policy", type=OUTAGE_POLICY, help="What to do while the store is away. [deny]"
    ),
)
@speaks_to_server()
@click.pass_context
def check(context: click.Context, session: Session, /, *, subject: str, **given: Any) -> None:
    """Decide limits on a subject of your own, without a key.

    SUBJECT is whatever is counted: an address, a user, a job. All limits given are decided in one step, all or nothing.
    Exits 1 when the answer is no.
    """
    if not given["limits"]:
        raise click.UsageError("give at least one --limit")
    message = {
        "subject": subject,
        "limits": list(given["limits"]),
        "cost": given["cost"],
        "peek": given["peek"] or None,
        "environment": given["environment"],
        "onLimiterOutage": given["outage_policy"],
    }
    reply = session.call("LimitService", "CheckLimit", message)
    session.show(reply, lambda found: _print(found, given["limits"]))
    if not reply.get("allowed"):
        context.exit(ExitCode.REFUSED)


def _print(reply: Message, limits: tuple[Message, ...]) -> None:
    states = {state.get("name"): state for state in reply.get("limits", [])}
    gauges = [Gauge(limit["name"], states.get(limit["name"]), rule(limit)) for limit in limits]
    show(_verdict(reply), cell(""), gauge_table(gauges, binding=reply.get("bindingLimit", "")))


def _verdict(reply: Message) -> Cell:
    degraded = [cell("degraded", "yellow")] if reply.get("degraded") else []
    if reply.get("allowed"):
        return joined([cell("● go ahead", "green"), *degraded], "  ")
    wait_us = duration_us(reply.get("retryAfter"))
    when = f"try again in {span(max(wait_us, 1_000_000) // 1_000, parts=2)}" if wait_us else "waiting does not help"
    by = reply.get("bindingLimit", "")
    said = cell(f"{written(by)} says no; {when}" if by else when)
    return joined([cell("✕ stop", "red"), said, *degraded], "  ")
