"""``keystead bootstrap``: where authority over a deployment begins, for whoever may touch its database."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from keystead.bootstrap import create_workspace, mint_operator
from keystead.cli.application import command
from keystead.cli.flags import JSON_FLAG, PLACE_FLAGS, with_options
from keystead.cli.output import print_json, print_secret
from keystead.cli.server_settings import settings_from


@command(
    "bootstrap",
    examples=(
        "keystead bootstrap",
        "keystead bootstrap --replace",
        'keystead bootstrap --brand acme --name "Acme Cloud"',
        "keystead bootstrap --database postgresql://keystead@db.internal/keystead --json",
    ),
)
@with_options(
    click.option("--brand", help="Make a workspace whose keys begin with this: 2 to 16 of a-z and 0-9."),
    click.option("--replace", is_flag=True, help="Revoke every operator key there was; not with --brand."),
    click.option("--name", help="What people call the workspace, or else the operator key. [operator]"),
    *PLACE_FLAGS,
    JSON_FLAG,
)
def bootstrap(*, brand: str | None, name: str | None, replace: bool, as_json: bool, **flags: Any) -> None:
    """Mint an operator key, and print it, once.

    An operator key makes and deletes workspaces, sees the nodes, and reads the log of what happened to the deployment;
    it can do nothing with anybody's keys. With --brand it makes a workspace instead and prints its first management
    key. It works on the database itself, which must be migrated; that is what makes it safe to need no key.
    """
    settings = settings_from(flags)
    if brand is not None and replace:
        raise click.UsageError("--replace is about operator keys; leave --brand out.")
    if brand is None:
        key_id, secret = asyncio.run(mint_operator(settings, name=name or "operator", replace=replace))
        reply, what = {"operator_key_id": key_id, "operator_key": secret.reveal()}, "operator key"
    else:
        made = create_workspace(settings, brand=brand, name=name or brand)
        workspace_id, key_id, secret = asyncio.run(made)
        reply, what = (
            {"workspace_id": workspace_id, "management_key_id": key_id, "management_key": secret.reveal()},
            "management key",
        )
    if as_json:
        print_json(reply)
        return
    for field, value in reply.items():
        if field.endswith("_id"):
            click.echo(f"{field.replace('_', ' '):<18} {value}")
    print_secret(secret.reveal(), what=what)
