"""The page of the command line: what each command says of itself with ``--help``."""

from __future__ import annotations

from collections.abc import Iterator

import click

from keystead.cli.application import application
from tools.docs_markdown import anchor, code, table

WIDTH = 100
_OPENING = """# The command line

Everything here is what `keystead … --help` prints. Commands about keys, owners, workspaces and usage talk to a
running server; the others work on an installation.

"""


def page() -> str:
    """Write the page."""
    found = list(commands())
    contents = [
        (f"[{code(path)}](#{anchor(path)})", command.get_short_help_str(limit=200))
        for path, command in found
        if not isinstance(command, click.Group)
    ]
    sections = [f"\n## {path}\n\n```\n{help_text(path, command)}\n```\n" for path, command in found]
    return _OPENING + table(("command", "what it does"), contents) + "".join(sections)


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command and group with the words that call it, in the order that ``--help`` lists them."""
    yield from _walk("keystead", application)


def _walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            member = command.get_command(context, name)
            if member is not None and not member.hidden:
                yield from _walk(f"{path} {name}", member)


def help_text(path: str, command: click.Command) -> str:
    """Return a command's help, as wide as it is on a wide terminal."""
    settings = {**application.context_settings, "max_content_width": WIDTH}
    context = click.Context(command, info_name=path, terminal_width=WIDTH, **settings)
    return command.get_help(context).rstrip()
