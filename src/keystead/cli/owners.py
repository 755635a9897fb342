"""``keystead owners …``: the platform's customers, by the platform's own ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from keystead.cli.application import command, group
from keystead.cli.flags import YES_FLAG, with_options
from keystead.cli.limits.explaining import notations
from keystead.cli.limits.options import limit_option, plan_option
from keystead.cli.message import Message
from keystead.cli.output import NOTHING, entries, exactly, facts, future, past, print_page_end, show
from keystead.cli.parameters import Identifier, Metadata, Moment
from keystead.cli.session import Session, ask_before, in_pages, speaks_to_server
from keystead.cli.tables import Cell, Column, Table, cell, joined

_SERVICE = "OwnerService"
_OWNER_ID = click.argument("owner_id", type=Identifier())
_REASON = click.option("--reason", default="", help="Why, for the audit record.")
_NAME = click.option("--name", help="What people call the owner.")
_METADATA = click.option("--metadata", multiple=True, type=Metadata(), help="Note this; repeatable.")
_PLAN = plan_option("The plan, by id or name, of its keys that have none of their own.")
_LIMITS = limit_option("Limit its keys by this too, in place of their plan's of that name; repeatable.")


@command(
    "create",
    examples=(
        'keystead owners create cus_42 --name "Example Corp" --metadata region=eu',
        "keystead owners create cus_42 --plan starter --limit monthly=quota:50000/month@owner",
    ),
)
@_OWNER_ID
@_NAME
@_METADATA
@_PLAN
@_LIMITS
@speaks_to_server(mutates=True)
def create(session: Session, *, owner_id: str, name: str | None, plan: str | None, **given: Any) -> None:
    """Make an owner.

    OWNER_ID is the platform's own id of its customer, so that nothing has to be looked up twice.
    """
    message = {
        "ownerId": owner_id,
        "name": name,
        "metadata": dict(given["metadata"]),
        "planId": plan,
        "limits": list(given["limits"]),
    }
    session.show(session.change(_SERVICE, "CreateOwner", message), _print_reply)


@command("list", examples=("keystead owners list", "keystead owners list --suspended --json"))
@with_options(
    click.option("--query", default="", help="With this in id or name."),
    click.option("--suspended/--not-suspended", default=None, help="Only those that are suspended, or are not."),
    click.option("--oldest-first", is_flag=True, help="Turn the order round."),
)
@in_pages
@speaks_to_server()
def list_owners(
    session: Session, *, page: dict[str, Any], query: str, suspended: bool | None, oldest_first: bool
) -> None:
    """List owners, the newest first.

    All filters given must hold.
    """
    order_by = "created_at asc" if oldest_first else ""
    message = {**page, "query": query, "suspended": suspended, "orderBy": order_by}
    session.show(session.pages(_SERVICE, "ListOwners", message, field="owners"), _print_page)


@command("get", examples=("keystead owners get cus_42",))
@_OWNER_ID
@speaks_to_server()
def get(session: Session, *, owner_id: str) -> None:
    """Show one owner.

    Its keys are listed by `keystead keys list --owner OWNER_ID`.
    """
    session.show(session.call(_SERVICE, "GetOwner", {"ownerId": owner_id}), _print_reply)


@command(
    "update",
    examples=(
        'keystead owners update cus_42 --name "Example Corporation"',
        "keystead owners update cus_42 --metadata region=eu --allow-missing",
        "keystead owners update cus_42 --plan starter --clear-limits",
    ),
)
@_OWNER_ID
@_NAME
@_METADATA
@_PLAN
@_LIMITS
@with_options(
    click.option("--clear-metadata", is_flag=True, help="Remove all notes."),
    click.option("--clear-plan", is_flag=True, help="Leave its keys to the workspace's default plan."),
    click.option("--clear-limits", is_flag=True, help="Remove all limits of its own."),
    click.option("--allow-missing", is_flag=True, help="Make the owner when there is none."),
    click.option("--etag", default="", help="Refuse when the owner was changed since it had this etag."),
)
@speaks_to_server(mutates=True)
def update(session: Session, *, owner_id: str, etag: str, allow_missing: bool, **given: Any) -> None:
    """Change an owner's name, notes, plan or limits.

    Only what is given changes; notes and limits are replaced as a whole.
    """
    for option, cleared in (("metadata", "clear_metadata"), ("plan", "clear_plan"), ("limits", "clear_limits")):
        if given[option] and given[cleared]:
            flag = option.removesuffix("s")
            raise click.UsageError(f"--clear-{option} contradicts --{flag}")
    changed: dict[str, Any] = {} if given["name"] is None else {"name": given["name"]}
    if given["metadata"] or given["clear_metadata"]:
        changed["metadata"] = dict(given["metadata"])
    if given["plan"] or given["clear_plan"]:
        changed["planId"] = given["plan"] or ""
    if given["limits"] or given["clear_limits"]:
        changed["limits"] = list(given["limits"])
    if not changed:
        raise click.UsageError("nothing to change was given")
    message = {
        "owner": {"ownerId": owner_id, "etag": etag, **changed},
        "updateMask": ",".join(changed),
        "allowMissing": allow_missing or None,
    }
    session.show(session.change(_SERVICE, "UpdateOwner", message), _print_reply)


@command(
    "entitle",
    examples=(
        "keystead owners entitle cus_42 --plan enterprise --until 2027-01-31",
        "keystead owners entitle cus_42 --plan starter --until 30d",
        "keystead owners entitle cus_42 --end",
    ),
)
@_OWNER_ID
@with_options(
    plan_option("The plan, by id or name."),
    click.option("--until", "until_at", type=Moment(), help="Until a time, a day, or 30d from now. [for ever]"),
    click.option("--end", is_flag=True, help="End the entitlement: the owner's own plan applies again."),
)
@speaks_to_server(mutates=True)
def entitle(session: Session, *, owner_id: str, plan: str | None, until_at: str | None, end: bool) -> None:
    """Give an owner a plan until some time.

    It goes before the owner's own plan until then, and gives way by itself. A service that bills does the same by
    ApplyEntitlement; doing it twice changes nothing.
    """
    if bool(plan) == end or (end and until_at):
        raise click.UsageError("give either --plan, perhaps with --until, or --end alone")
    message = {"ownerId": owner_id, "planId": plan, "until": until_at}
    session.show(session.change("EntitlementService", "ApplyEntitlement", message), _print_reply)


@command("suspend", examples=('keystead owners suspend cus_42 --reason "invoice overdue"',))
@_OWNER_ID
@_REASON
@speaks_to_server(mutates=True)
def suspend(session: Session, *, owner_id: str, reason: str) -> None:
    """Refuse all keys of an owner until it is resumed.

    Each key keeps its own state and has it back afterwards.
    """
    session.show(session.change(_SERVICE, "SuspendOwner", {"ownerId": owner_id, "reason": reason}), _print_reply)


@command("resume", examples=("keystead owners resume cus_42",))
@_OWNER_ID
@speaks_to_server(mutates=True)
def resume(session: Session, *, owner_id: str) -> None:
    """Let the keys of a suspended owner work again.

    Keys that were suspended or revoked by themselves stay so.
    """
    session.show(session.change(_SERVICE, "ResumeOwner", {"ownerId": owner_id}), _print_reply)


@command("delete", examples=('keystead owners delete cus_42 --reason "contract ended"',))
@_OWNER_ID
@_REASON
@click.option("--etag", default="", help="Refuse when the owner was changed since it had this etag.")
@YES_FLAG
@speaks_to_server(mutates=True)
def delete(session: Session, *, owner_id: str, reason: str, etag: str, agreed: bool) -> None:
    """Delete an owner and revoke all its keys.

    Both happen in one step and cannot be taken back, so it asks first; to stop an owner for a while, suspend it.
    """
    ask_before(f"Delete the owner {owner_id} and revoke all its keys for good?", agreed=agreed)
    message = {"ownerId": owner_id, "reason": reason, "etag": etag}
    session.show(session.change(_SERVICE, "DeleteOwner", message), _print_deleted)


def _state(owner: Message) -> Cell:
    return cell("◐ suspended", "yellow") if owner["suspended"] else cell("● active", "green")


def _entitlement(owner: Message) -> str:
    plan_id = str(owner.get("entitledPlanId", ""))
    if not plan_id:
        return ""
    until = owner.get("entitledUntil")
    return f"{plan_id} until {exactly(until, future(until, parts=2))}" if until else f"{plan_id}, for ever"


def _print_reply(reply: Message) -> None:
    owner = reply["owner"]
    pairs = [
        ("owner", owner["ownerId"]),
        ("metadata", entries(owner["metadata"])),
        ("plan", owner["planId"]),
        ("entitled to", _entitlement(owner)),
        ("limits", notations(owner["limits"])),
        ("created", exactly(owner.get("createdAt"), past(owner.get("createdAt")))),
        ("updated", exactly(owner.get("updatedAt"), past(owner.get("updatedAt")))),
        ("etag", owner["etag"]),
    ]
    show(joined([cell(owner["name"] or owner["ownerId"], "bold"), _state(owner)], "  "), facts(pairs))


def _print_page(reply: Message) -> None:
    owners: Sequence[Message] = reply["owners"]
    made = Table((Column("STATE", whole=True), Column("OWNER"), Column("NAME"), Column("CREATED", whole=True)))
    for owner in owners:
        created = cell(past(owner.get("createdAt")))
        made.rows.append((_state(owner), cell(owner["ownerId"]), cell(owner["name"] or NOTHING), created))
    if owners:
        show(made)
    print_page_end(reply, owners, what="owners match")


def _print_deleted(reply: Message) -> None:
    click.echo(f"Deleted, and {reply['revokedKeys']} of its keys revoked.")


_HELP = """Make and look after owners, the platform's customers.

An owner is known by the platform's own id. Its keys follow it: suspend it and none of them works, delete it and all are
revoked.
"""

owners = group("owners", help_text=_HELP, commands=(create, list_owners, get, update, entitle, suspend, resume, delete))
