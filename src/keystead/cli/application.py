"""The root of all commands, and what every command has in common.

A command's module is imported when the command runs and not before: the server's parts take a second to load, and
``keystead keys …`` must not wait for them.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from keystead import __version__
from keystead.cli.problems import CommandError, ExitCode, problem_of, report, usage_problem
from keystead.kernel.errors import KeysteadError

Decorator = Callable[[Callable[..., None]], click.Command]


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command is found (``module:attribute``), and the first sentence of its help, which a test compares."""

    place: str
    sentence: str

    def load(self) -> click.Command:
        """Import the command."""
        module, attribute = self.place.split(":")
        found = getattr(importlib.import_module(module), attribute)
        if not isinstance(found, click.Command):
            raise TypeError(f"{self.place} is no command")
        return found


class Command(click.Command):
    """A command that shows by example how it is used."""

    def __init__(self, *args: Any, examples: Sequence[str], **attributes: Any) -> None:
        """Print ``examples`` under the help's text, as they are."""
        super().__init__(*args, **attributes)
        self.examples = tuple(examples)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the text, then the examples."""
        super().format_help_text(ctx, formatter)
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write(f"{'':>{formatter.current_indent}}Examples:\n")
            for example in self.examples:
                for line in example.splitlines():
                    formatter.write(f"{'':>{formatter.current_indent + 2}}{line}\n")


class OrderedGroup(click.Group):
    """A group that lists its commands in their own order."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- the signature is click's
        """Name the commands."""
        return list(self.commands)


class LazyGroup(click.Group):
    """A group whose commands are imported one by one, when they are asked for."""

    def __init__(self, *args: Any, entries: Mapping[str, Entry], **attributes: Any) -> None:
        """Offer ``entries`` in the order given."""
        super().__init__(*args, **attributes)
        self.entries = dict(entries)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- the signature is click's
        """Name the commands in their own order: what comes first in life comes first here."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 -- click's
        """Import one command."""
        entry = self.entries.get(cmd_name)
        return None if entry is None else entry.load()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 -- click's
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.sentence) for name, entry in self.entries.items()])


class Application(LazyGroup):
    """The root: turns every way to fail into an exit code and a text."""

    def main(  # type: ignore[override]  # click's overloads only tell whether it returns
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        **extra: Any,
    ) -> NoReturn:
        """Run the command in ``args`` and exit."""
        words = list(sys.argv[1:] if args is None else args)
        as_json = "--json" in words
        extra["standalone_mode"] = False
        try:
            code = super().main(words, prog_name, **extra)
            sys.exit(code if isinstance(code, int) else ExitCode.DONE)
        except CommandError as error:
            problem = error.problem
        except KeysteadError as error:
            problem = problem_of(error)
        except click.Abort:
            sys.exit(ExitCode.INTERRUPTED)
        except click.ClickException as error:
            if not as_json:
                error.show()
                sys.exit(ExitCode.USAGE)
            problem = usage_problem(error.format_message())
        except OSError as error:
            if error.errno != errno.EPIPE:
                raise
            _leave_broken_pipe()
        report(problem, as_json=as_json)
        sys.exit(problem.exit_code)


def _leave_broken_pipe() -> NoReturn:
    """Go without a word when whoever read our output has gone (``keystead … | head``)."""
    # Python flushes its streams once more at the end, which must not fail again.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    sys.exit(ExitCode.REFUSED)


def command(name: str, *, examples: Sequence[str]) -> Decorator:
    """Make a function a command; its docstring is the help: one sentence, then why."""
    if not examples:
        raise ValueError("a command shows at least one example")
    return click.command(name, cls=Command, examples=examples)


def group(name: str, *, help_text: str, commands: Sequence[click.Command]) -> click.Group:
    """Gather ``commands`` under one noun, in the order given: what comes first in life comes first here."""
    made = OrderedGroup(name, help=help_text)
    for member in commands:
        made.add_command(member)
    return made


_HELP = """API keys for your customers: issue, scope, verify, rotate and revoke them.

`keystead up` runs a whole service here and shows what to try. The commands about workspaces, owners, keys, plans,
limits and usage talk to a running one: to KEYSTEAD_URL with KEYSTEAD_MANAGEMENT_KEY, or as a profile in
~/.config/keystead/profiles.toml says.

Exit codes: 0 done, 1 refused or no, 2 wrong usage or setting, 3 unreachable, 4 not authorized.
"""

application = Application(
    "keystead",
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    entries={
        "up": Entry("keystead.cli.up:up", "Set up what is missing, run the service, and show what to try."),
        "serve": Entry("keystead.cli.serve:serve", "Run the service on a database that is set up."),
        "bootstrap": Entry("keystead.cli.bootstrap:bootstrap", "Mint an operator key, and print it, once."),
        "migrate": Entry("keystead.cli.migrate:migrate", "Bring the database's schema to this version."),
        "doctor": Entry("keystead.cli.doctor:doctor", "Check the settings against the running world."),
        "config": Entry("keystead.cli.config:config", "Print every setting and what it is now."),
        "journals": Entry("keystead.cli.journals:journals", "Look after the journals that usage is counted from."),
        "nodes": Entry("keystead.cli.nodes:nodes", "See the processes that serve."),
        "workspaces": Entry("keystead.cli.workspaces:workspaces", "Make and look after workspaces."),
        "owners": Entry("keystead.cli.owners:owners", "Make and look after owners, the platform's customers."),
        "keys": Entry("keystead.cli.keys:keys", "Make, find, rotate and revoke keys."),
        "plans": Entry("keystead.cli.plans:plans", "Make, change and try plans, the tiers that keys and owners have."),
        "limits": Entry("keystead.cli.limits:limits", "Show, reset and try limits."),
        "usage": Entry("keystead.cli.usage:usage", "Show what was called, by whom, when and how it ended."),
        "audit": Entry(
            "keystead.cli.audit:audit",
            "Read the log of everything that happened, and prove that nobody has rewritten it.",
        ),
        "sinks": Entry("keystead.cli.sinks:sinks", "Make and look after sinks, which carry the event log elsewhere."),
    },
)
click.version_option(__version__, prog_name="keystead", message="%(prog)s %(version)s")(application)
