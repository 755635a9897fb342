"""``keystead plans simulate``: what limits would have denied of the calls that were made."""

from __future__ import annotations

from typing import Any

import click

from keystead.cli.application import command
from keystead.cli.charts import bar
from keystead.cli.flags import with_options
from keystead.cli.limits.options import limit_option
from keystead.cli.message import Message
from keystead.cli.output import NOTHING, show
from keystead.cli.parameters import Identifier, Moment
from keystead.cli.plans.reading import SERVICE
from keystead.cli.problems import warn
from keystead.cli.session import Session, speaks_to_server
from keystead.cli.tables import Block, Cell, Column, Table, cell
from keystead.cli.usage.rendering import counted, glyphs, number, percent, right, written

_BAR_COLUMNS = 20


@command(
    "simulate",
    examples=(
        "keystead plans simulate free",
        "keystead plans simulate --limit requests=60/min --limit daily=quota:5000/day@owner --from 30d",
        "keystead plans simulate starter --owner cus_42 --from 2027-01-01 --to 2027-02-01",
    ),
)
@click.argument("plan", type=Identifier(), required=False)
@limit_option("Try this in the place of a plan's limits; repeatable.")
@with_options(
    click.option(
        "--from",
        "from_at",
        type=Moment(past=True),
        default="7d",
        show_default=True,
        help="Since a time, a day, or 30d ago.",
    ),
    click.option("--to", "to_at", type=Moment(past=True), help="Up to a time, a day, or 1h ago. [now]"),
    click.option("--owner", "owner_id", type=Identifier(), metavar="OWNER_ID", help="This owner's calls alone."),
    click.option("--key", "key_id", type=Identifier(), metavar="KEY_ID", help="This key's calls alone."),
)
@speaks_to_server(timeout="5m")
def simulate(session: Session, *, plan: str | None, limits: tuple[Message, ...], **given: Any) -> None:
    """Try limits on the calls that were recorded.

    Replays every call that was admitted, or denied by a limit alone, one after another, and says how many the limits of
    PLAN, or those given, would have denied, and whose. Nothing is spent or changed.
    """
    if (plan is None) != bool(limits):
        raise click.UsageError("give either a plan or limits to try")
    message = {
        "planId": plan,
        "limits": list(limits),
        "from": given["from_at"],
        "to": given["to_at"],
        "ownerId": given["owner_id"],
        "keyId": given["key_id"],
    }
    session.show(session.call(SERVICE, "SimulatePlan", message), _print)


def _print(reply: Message) -> None:
    calls, denied = number(reply.get("calls")), number(reply.get("denied"))
    blocks: list[Block] = [_sentence(calls, denied)]
    if reply.get("deniedByLimit"):
        blocks += [cell(""), _by_limit(reply["deniedByLimit"], denied)]
    if reply.get("keys"):
        blocks += [cell(""), _by_key(reply["keys"])]
    show(*blocks)
    if reply.get("truncated"):
        warn("There were more calls; the latest are left out. Take a shorter time, one owner or one key.")


def _sentence(calls: int, denied: int) -> Cell:
    if not calls:
        return cell("No calls were recorded in this time.")
    if not denied:
        return (*cell("● None", "green"), *cell(f" of {calls:,} calls would have been denied."))
    share = percent(denied, calls)
    return (*cell(f"✕ {denied:,}", "red"), *cell(f" of {calls:,} calls would have been denied ({share})."))


def _by_limit(denied_by_limit: Message, denied: int) -> Table:
    ordered = sorted(denied_by_limit.items(), key=lambda item: (-number(item[1]), item[0]))
    counts = right([counted(count) for _, count in ordered])
    made = Table((Column("LIMIT"), Column("DENIED", whole=True), Column("", whole=True)))
    for (name, count), said in zip(ordered, counts, strict=True):
        drawn = bar(number(count), denied, columns=_BAR_COLUMNS, glyphs=glyphs())
        made.rows.append((cell(written(name), "bold"), said, cell(drawn, "red")))
    return made


def _by_key(keys: list[Message]) -> Table:
    made = Table(
        (
            Column("KEY", whole=True),
            Column("OWNER"),
            Column("CALLS", whole=True),
            Column("DENIED", whole=True),
            Column("SHARE", whole=True),
        )
    )
    calls = right([counted(key["calls"]) for key in keys])
    denied = right([counted(key["denied"]) for key in keys])
    shares = right([percent(number(key["denied"]), number(key["calls"])) for key in keys])
    for key, *numbers in zip(keys, calls, denied, shares, strict=True):
        made.rows.append((cell(key["keyId"]), cell(written(key["ownerId"]) or NOTHING), *numbers))
    return made
