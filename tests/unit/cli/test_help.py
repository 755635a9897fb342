"""Every command explains itself, and shows by examples that really work."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from keystead.cli.application import Command, Entry, LazyGroup, application
from tests.unit.cli.conftest import CommandLine

SCREEN_COLUMNS = 80


def walk(path: tuple[str, ...], group: click.Group) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command below ``group`` with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield (*path, name), found
        if isinstance(found, click.Group):
            yield from walk((*path, name), found)


EVERYTHING = tuple(walk((), application))
COMMANDS = tuple((path, command) for path, command in EVERYTHING if not isinstance(command, click.Group))
ENTRIES = tuple(
    entry
    for group in (application, *(command for _, command in EVERYTHING))
    if isinstance(group, LazyGroup)
    for entry in group.entries.values()
)


def named(cases: tuple[tuple[tuple[str, ...], click.Command], ...]) -> list[str]:
    """Name cases by the words that call them."""
    return [" ".join(path) for path, _ in cases]


@pytest.mark.parametrize(("path", "command"), EVERYTHING, ids=named(EVERYTHING))
def test_help_is_a_sentence_and_a_reason(path: tuple[str, ...], command: click.Command) -> None:
    """The first sentence says what a command does, a paragraph says why one would."""
    paragraphs = (command.help or "").strip().split("\n\n")
    assert len(paragraphs) >= 2, path
    assert re.fullmatch(r"[A-Z][^\n]*[^.]\.", paragraphs[0]), path
    assert paragraphs[1].strip().endswith("."), path


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=named(COMMANDS))
def test_examples_can_be_typed(path: tuple[str, ...], command: click.Command) -> None:
    """Every example calls the command it stands with, by options that exist and values that are taken."""
    assert isinstance(command, Command)
    for example in command.examples:
        words = shlex.split(example.rpartition("| ")[2])
        assert tuple(words[: len(path) + 1]) == ("keystead", *path)
        command.make_context(path[-1], words[len(path) + 1 :])


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=named(COMMANDS))
def test_options_are_explained_and_unabbreviated(path: tuple[str, ...], command: click.Command) -> None:
    """One can read what every option does, and its name is a word."""
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, (path, option.name)
            assert all(re.fullmatch(r"--[a-z]{2,}(-[a-z]+)*", name) for name in option.opts), (path, option.opts)


@pytest.mark.parametrize(("path", "command"), EVERYTHING, ids=named(EVERYTHING))
def test_help_fits_on_a_narrow_screen(run_alone: CommandLine, path: tuple[str, ...], command: click.Command) -> None:
    """Help is read at 80 columns; only examples, which are copied, may be longer."""
    result = run_alone(*path, "--help", COLUMNS=str(SCREEN_COLUMNS))
    assert result.exit_code == 0
    examples = command.examples if isinstance(command, Command) else ()
    assert (not examples) == ("Examples:" not in result.stdout)
    long = [line for line in result.stdout.splitlines() if len(line) > SCREEN_COLUMNS and line.strip() not in examples]
    assert long == []


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.place for entry in ENTRIES])
def test_lists_of_commands_say_what_the_commands_say(entry: Entry) -> None:
    """What a group says of a command without loading it is the command's own first sentence."""
    command = entry.load()
    assert (command.help or "").strip().split("\n\n")[0] == entry.sentence


@pytest.mark.parametrize(
    "module",
    (
        "keys.reading",
        "keys.making",
        "keys.changing",
        "keys.revoking",
        "keys.checking",
        "plans.reading",
        "plans.changing",
        "plans.simulating",
        "limits.showing",
        "limits.changing",
        "limits.checking",
        "usage.showing",
        "usage.ranking",
        "usage.calls",
        "usage.tailing",
        "usage.grants",
        "usage.reconciling",
        "audit.exporting",
        "audit.verifying",
        "audit.proving",
    ),
)
def test_commands_that_ask_a_server_load_none(module: str) -> None:
    """A command that talks to a server starts quickly: it loads nothing of the server, rich when there is something
    to show, and the HTTP client when there is something to send.
    """
    heavy = {"keystead.bootstrap", "keystead.config", "sqlalchemy", "grpc", "uvicorn", "pydantic", "rich", "httpx2"}
    code = f"import keystead.__main__, keystead.cli.{module}, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert heavy & set(loaded.stdout.split()) == set()


def test_the_version_is_told(run_alone: CommandLine) -> None:
    """`keystead --version` is what a report of a fault begins with."""
    assert re.fullmatch(r"keystead \d+\.\d+\.\d+\S*\n", run_alone("--version").stdout)


@pytest.mark.parametrize("words", (("keys", "lits"), ("keys", "list", "--ownr", "x"), ("keys", "get")))
def test_a_mistake_is_usage_for_people_and_programs(run_alone: CommandLine, words: tuple[str, ...]) -> None:
    """A wrong word exits 2; with --json the error is an object as well."""
    said = run_alone(*words)
    assert (said.exit_code, said.stderr.startswith("Usage: keystead")) == (2, True)
    result = run_alone(*words, "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert '"code": "USAGE"' in result.stderr
