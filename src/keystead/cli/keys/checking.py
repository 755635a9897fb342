"""Whether a string could be a secret at all, told without any server."""

from __future__ import annotations

import json
from pathlib import Path

import click

from keystead.cli.application import command
from keystead.cli.flags import JSON_FLAG
from keystead.cli.problems import ExitCode
from keystead.cli.secret_input import SECRET_OPTIONS, read_secret
from keystead.keys.secret_format import complaint, parse


@command(
    "check",
    examples=("keystead keys check", "keystead keys check --file key.txt", "pbpaste | keystead keys check -"),
)
@SECRET_OPTIONS
@JSON_FLAG
@click.pass_context
def check(context: click.Context, /, *, words: tuple[str, ...], file: Path | None, as_json: bool) -> None:
    """Say offline whether a string is a well-formed secret.

    A secret ends in a checksum, so one that was cut off or mistyped shows here, before anybody looks elsewhere. Whether
    anybody minted it, and whether it still works, only a server can say. Exits 1 when it is not well formed.
    """
    text = read_secret(words, file)
    taken_apart = parse(text)
    if taken_apart is None:
        reason = complaint(text) or "it is no secret"
        click.echo(json.dumps({"well_formed": False, "reason": reason}) if as_json else f"Not well formed: {reason}.")
        context.exit(ExitCode.REFUSED)
    found = {
        "well_formed": True,
        "brand": taken_apart.brand,
        "environment": taken_apart.environment,
        "prefix": taken_apart.prefix,
    }
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo("Well formed.")
    for name in ("brand", "environment", "prefix"):
        click.echo(f"  {name:<12} {found[name]}")
