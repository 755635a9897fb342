"""``keystead migrate``: the one command that changes the database's schema."""

from __future__ import annotations

import json
from typing import Any

import click

from keystead.bootstrap import migrate as run_migrations
from keystead.cli.application import command
from keystead.cli.flags import JSON_FLAG, PLACE_FLAGS, with_options
from keystead.cli.server_settings import settings_from


@command(
    "migrate",
    examples=("keystead migrate", "keystead migrate --database postgresql://keystead@db.internal/keystead"),
)
@with_options(*PLACE_FLAGS, JSON_FLAG)
def migrate(*, as_json: bool, **flags: Any) -> None:
    """Bring the database's schema to this version.

    Servers of the version before keep working meanwhile, so migrate first and restart them afterwards. Does nothing
    when there is nothing to do.
    """
    before, after = run_migrations(settings_from(flags))
    if as_json:
        click.echo(json.dumps({"before": before, "after": after}))
    elif before == after:
        click.echo(f"Nothing to do: the schema is at revision {after}.")
    else:
        click.echo(f"Migrated from {before or 'nothing'} to revision {after}.")
