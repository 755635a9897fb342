"""Making, changing and deleting plans."""

from __future__ import annotations

from typing import Any

import click

from keystead.cli.application import command
from keystead.cli.flags import YES_FLAG, with_options
from keystead.cli.limits.options import OUTAGE_POLICY, limit_option
from keystead.cli.message import Message
from keystead.cli.parameters import DURATION, duration_json
from keystead.cli.plans.reading import PLAN, SERVICE
from keystead.cli.plans.rendering import print_plan
from keystead.cli.session import Session, ask_before, speaks_to_server

_COUNT_MAX = 2**32 - 1
_CLEARABLE: dict[str, tuple[str, Any]] = {
    "description": ("description", ""),
    "limits": ("limits", []),
    "max-keys-per-owner": ("maxKeysPerOwner", 0),
    # A span that ends is named in the mask and absent from the plan.
    "rotate-every": ("rotateEvery", None),
}
_RULES = (
    click.option("--description", help="What people should know of it."),
    click.option(
        "--max-keys-per-owner", type=click.IntRange(0, _COUNT_MAX), help="Let an owner have so many; 0 for any number."
    ),
    click.option(
        "--rotate-every", "rotate_every_ms", type=DURATION, help="Warn of secrets that get as old as this, as in 90d."
    ),
    click.option(
        "--suspend-overdue/--warn-overdue",
        default=None,
        help="Suspend a key a tenth of that after the warning, or only warn. [warn]",
    ),
    click.option(
        "--on-limiter-outage",
        "outage_policy",
        type=OUTAGE_POLICY,
        help="While the limiter's store is away: deny calls, allow them, or count in each process. [deny]",
    ),
)


@command(
    "create",
    examples=(
        "keystead plans create starter --limit requests=600/min --limit monthly=quota:100000/month@owner",
        "keystead plans create burst --limit burst=bucket:10/s:burst=50 --on-limiter-outage local",
        "keystead plans create strict --limit requests=100/min --rotate-every 90d --suspend-overdue",
    ),
)
@click.argument("name")
@limit_option("Limit by this, as in requests=100/min; repeatable. [no limits]")
@with_options(*_RULES)
@speaks_to_server(mutates=True)
def create(session: Session, *, name: str, **given: Any) -> None:
    """Make a plan.

    NAME is what keys and owners call it by, 1 to 40 of a-z, 0-9, _ and -. It applies to nobody until it is given to a
    key or an owner, or made the default.
    """
    message = {"name": name, **_given(**given)}
    session.show(session.change(SERVICE, "CreatePlan", message), _print_reply)


@command(
    "update",
    examples=(
        "keystead plans update free --limit requests=200/min",
        "keystead plans update starter --rotate-every 90d --warn-overdue",
        "keystead plans update starter --clear rotate-every --etag '\"3\"'",
    ),
)
@PLAN
@click.option("--name", help="Call it so from now on; whoever refers to it still does.")
@limit_option("Limit by this and what else is given so, nothing more; repeatable.")
@with_options(
    *_RULES,
    click.option(
        "--clear", "cleared", multiple=True, type=click.Choice(sorted(_CLEARABLE)), help="Empty this; repeatable."
    ),
    click.option("--etag", default="", help="Refuse when the plan was changed since it had this etag."),
)
@speaks_to_server(mutates=True)
def update(session: Session, *, plan: str, name: str | None, cleared: tuple[str, ...], etag: str, **given: Any) -> None:
    """Change a plan for all keys that it applies to.

    Only what is given changes; limits are replaced as a whole. A limit that keeps its name and its kind keeps what was
    spent. See whom it concerns first with `keystead plans preview`.
    """
    changed = {**({} if name is None else {"name": name}), **_given(**given)}
    for option in cleared:
        field, empty = _CLEARABLE[option]
        if changed.setdefault(field, empty) != empty:
            raise click.UsageError(f"--clear {option} contradicts what else was given for it")
    if not changed:
        raise click.UsageError("nothing to change was given")
    values = {field: value for field, value in changed.items() if value is not None}
    message = {"plan": {"id": plan, "etag": etag, **values}, "updateMask": ",".join(changed)}
    session.show(session.change(SERVICE, "UpdatePlan", message), _print_reply)


@command("delete", examples=("keystead plans delete starter",))
@PLAN
@click.option("--etag", default="", help="Refuse when the plan was changed since it had this etag.")
@YES_FLAG
@speaks_to_server(mutates=True)
def delete(session: Session, *, plan: str, etag: str, agreed: bool) -> None:
    """Delete a plan that nobody refers to.

    It is refused while a key, an owner, an entitlement or the workspace itself still does; `keystead plans preview`
    says who.
    """
    ask_before(f"Delete the plan {plan} for good?", agreed=agreed)
    reply = session.change(SERVICE, "DeletePlan", {"planId": plan, "etag": etag})
    session.show(reply, lambda _: click.echo("Deleted."))


def _given(
    *,
    limits: tuple[Message, ...],
    description: str | None,
    max_keys_per_owner: int | None,
    rotate_every_ms: int | None,
    suspend_overdue: bool | None,
    outage_policy: str | None,
) -> dict[str, Any]:
    """Return the fields that were given, by their names in the contract."""
    fields: dict[str, Any] = {
        "description": description,
        "limits": list(limits) or None,
        "maxKeysPerOwner": max_keys_per_owner,
        "rotateEvery": None if rotate_every_ms is None else duration_json(rotate_every_ms),
        "suspendOverdue": suspend_overdue,
        "onLimiterOutage": outage_policy,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _print_reply(reply: Message) -> None:
    print_plan(reply["plan"])
