"""``keystead workspaces …``: one for each platform of a deployment; mostly the work of an operator key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from keystead.cli.application import command, group
from keystead.cli.flags import YES_FLAG
from keystead.cli.message import Message
from keystead.cli.output import exactly, facts, past, print_page_end, print_secret, show
from keystead.cli.parameters import Identifier
from keystead.cli.session import Session, ask_before, in_pages, speaks_to_server
from keystead.cli.tables import Column, Table, cell

_SERVICE = "WorkspaceService"
_WORKSPACE_ID = click.argument("workspace_id", type=Identifier())


@command("create", examples=('keystead workspaces create --brand acme --name "Acme Cloud"',))
@click.option("--brand", required=True, help="What its keys begin with: 2 to 16 of a-z and 0-9; never changes.")
@click.option("--name", required=True, help="What people call it.")
@speaks_to_server(mutates=True)
def create(session: Session, *, brand: str, name: str) -> None:
    """Make a workspace and print its first management key, once.

    The management key may do everything in the workspace, in both environments; make lesser ones with it. Needs an
    operator key, which `keystead bootstrap` mints.
    """
    session.show(session.change(_SERVICE, "CreateWorkspace", {"brand": brand, "name": name}), _print_created)


@command("list", examples=("keystead workspaces list --all",))
@in_pages
@speaks_to_server()
def list_workspaces(session: Session, *, page: dict[str, Any]) -> None:
    """List workspaces, the newest first.

    An operator key sees all of them, a management key its own alone.
    """
    session.show(session.pages(_SERVICE, "ListWorkspaces", page, field="workspaces"), _print_page)


@command("get", examples=("keystead workspaces get", "keystead workspaces get wsp_01HZX…"))
@click.argument("workspace_id", type=Identifier(), required=False)
@speaks_to_server()
def get(session: Session, *, workspace_id: str | None) -> None:
    """Show one workspace.

    Without WORKSPACE_ID it is the management key's own.
    """
    session.show(session.call(_SERVICE, "GetWorkspace", {"workspaceId": workspace_id}), _print_reply)


@command(
    "update",
    examples=(
        'keystead workspaces update wsp_01HZX… --name "Acme Platform"',
        "keystead workspaces update wsp_01HZX… --default-plan starter",
        "keystead workspaces update wsp_01HZX… --audit-retention-days 400",
    ),
)
@_WORKSPACE_ID
@click.option("--name", help="What people call it.")
@click.option("--default-plan", metavar="PLAN", help="The plan, by id or name, of customers' keys without another.")
@click.option("--clear-default-plan", is_flag=True, help="Leave customers' keys without another plan unlimited.")
@click.option(
    "--audit-retention-days",
    type=click.IntRange(0, 36_500),
    help="How long its events are kept: 30 days at least, 0 for ever.",
)
@click.option("--etag", default="", help="Refuse when the workspace was changed since it had this etag.")
@speaks_to_server(mutates=True)
def update(session: Session, *, workspace_id: str, name: str | None, etag: str, **given: Any) -> None:
    """Change the name of a workspace, its default plan, or how long its events are kept.

    Only what is given changes. Its brand stays: it stands in every secret of the workspace.
    """
    if given["default_plan"] and given["clear_default_plan"]:
        raise click.UsageError("--clear-default-plan contradicts --default-plan")
    changed: Message = {} if name is None else {"name": name}
    if given["default_plan"] or given["clear_default_plan"]:
        changed["defaultPlanId"] = given["default_plan"] or ""
    if given["audit_retention_days"] is not None:
        changed["auditRetentionDays"] = given["audit_retention_days"]
    if not changed:
        raise click.UsageError("nothing to change was given")
    message = {"workspace": {"id": workspace_id, "etag": etag, **changed}, "updateMask": ",".join(changed)}
    session.show(session.change(_SERVICE, "UpdateWorkspace", message), _print_reply)


@command("delete", examples=("keystead workspaces delete wsp_01HZX…",))
@_WORKSPACE_ID
@click.option("--etag", default="", help="Refuse when the workspace was changed since it had this etag.")
@YES_FLAG
@speaks_to_server(mutates=True)
def delete(session: Session, *, workspace_id: str, etag: str, agreed: bool) -> None:
    """Delete a workspace for good.

    It is refused while any of its keys, management keys aside, is not revoked; so nothing that is in use can vanish.
    """
    ask_before(f"Delete the workspace {workspace_id} for good?", agreed=agreed)
    reply = session.change(_SERVICE, "DeleteWorkspace", {"workspaceId": workspace_id, "etag": etag})
    session.show(reply, lambda _: click.echo("Deleted."))


def _print_workspace(workspace: Message) -> None:
    pairs = [
        ("workspace", workspace["id"]),
        ("brand", workspace["brand"]),
        ("default plan", workspace["defaultPlanId"]),
        ("events kept", f"{days:,} days" if (days := workspace["auditRetentionDays"]) else "for ever"),
        ("created", exactly(workspace.get("createdAt"), past(workspace.get("createdAt")))),
        ("updated", exactly(workspace.get("updatedAt"), past(workspace.get("updatedAt")))),
        ("etag", workspace["etag"]),
    ]
    show(cell(workspace["name"], "bold"), facts(pairs))


def _print_reply(reply: Message) -> None:
    _print_workspace(reply["workspace"])


def _print_created(reply: Message) -> None:
    _print_workspace(reply["workspace"])
    print_secret(reply.get("secret", ""), what="management key")


def _print_page(reply: Message) -> None:
    found: Sequence[Message] = reply["workspaces"]
    made = Table((Column("WORKSPACE", whole=True), Column("BRAND"), Column("NAME"), Column("CREATED", whole=True)))
    for item in found:
        row = (cell(item["id"]), cell(item["brand"]), cell(item["name"]), cell(past(item.get("createdAt"))))
        made.rows.append(row)
    if found:
        show(made)
    print_page_end(reply, found, what="workspaces")


_HELP = """Make and look after workspaces.

A workspace is a platform: owners and keys belong to exactly one, and nothing crosses between two. Most of these
commands need an operator key, which `keystead bootstrap` mints.
"""

workspaces = group("workspaces", help_text=_HELP, commands=(create, list_workspaces, get, update, delete))
