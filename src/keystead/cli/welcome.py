"""The first screen: where the service listens, where its keys are, and three commands that work when they are pasted.

Commands stand without frames, and no line of them is longer than 80 columns, so that they can be copied as they are.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keystead import __version__
from keystead.bootstrap import Running
from keystead.cli.output import show
from keystead.cli.saved_keys import KeyFiles, SavedKeys
from keystead.cli.tables import Cell, cell
from keystead.config import Settings

_VERIFY_PATH = "/keystead.v1.VerificationService/VerifyKey"


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """What the screen tells. Keys are shown only when ``show_keys``."""

    server: Running
    settings: Settings
    files: KeyFiles
    saved: SavedKeys | None
    first: bool
    show_keys: bool
    demo: bool


def print_welcome(welcome: Welcome) -> None:
    """Print the screen."""
    show(*welcome_lines(welcome))


def welcome_lines(welcome: Welcome) -> Iterator[Cell]:
    """Compose the screen, line by line."""
    yield cell("● ", "green") + cell(f"Keystead {__version__} is up", "bold")
    yield cell("")
    yield _fact("gRPC", welcome.server.grpc)
    yield _fact("HTTP", welcome.server.http)
    yield _fact("Data", str(welcome.settings.data_dir))
    if welcome.saved is None:
        yield from _lines_without_keys(welcome)
    else:
        yield _fact("Keys", f"{welcome.files.json} (mode 0600)")
        yield from _lines_about_keys(welcome, welcome.saved)
        yield from _lines_to_try(welcome)
    if welcome.demo:
        yield cell("")
        yield cell("Demo: about five sample calls a second are made, good and bad ones.", "yellow")
    yield cell("")
    yield cell("Ctrl-C stops the service; the data stays.", "dim")


def _fact(name: str, value: str) -> Cell:
    return cell(f"  {name}  ", "dim") + cell(value)


def _lines_without_keys(welcome: Welcome) -> Iterator[Cell]:
    yield cell("")
    yield cell(f"This database was set up before, and {welcome.files.json} holds no keys for it.")
    yield cell("They were shown when it was made; the command line needs one of them.")


def _lines_about_keys(welcome: Welcome, saved: SavedKeys) -> Iterator[Cell]:
    if not welcome.first:
        return
    yield cell("")
    yield cell("First run: made a workspace, a management key and a sample customer key.")
    if not welcome.show_keys:
        yield cell(f"The keys stand in {welcome.files.json} and {welcome.files.env}, and nowhere else.")
        return
    yield cell("They stand in that file, and here this once:")
    yield cell("")
    yield cell("  Management key", "dim")
    yield cell(f"  {saved.management_key}")
    yield cell("  Sample key", "dim")
    yield cell(f"  {saved.sample_key}")


def _lines_to_try(welcome: Welcome) -> Iterator[Cell]:
    where = "" if welcome.files.env.is_absolute() else ", in this directory"
    yield cell("")
    yield cell(f"Try it, in another terminal{where}:", "bold")
    yield cell("")
    yield _code(f"source {shlex.quote(str(welcome.files.env))}")
    tls_cert = welcome.settings.tls_cert
    trusting = f"SSL_CERT_FILE={shlex.quote(str(tls_cert))} " if tls_cert else ""
    rotate = f'{trusting}{program()} keys rotate "$KEYSTEAD_SAMPLE_KEY_ID" --overlap 24h'
    steps = [
        ("Verify the sample key by HTTP:", curl_command(tls_cert)),
        ("The same by gRPC:", "make try-grpc"),
        ("Rotate it; the old secret works on for 24 hours:", rotate),
    ]
    if tls_cert:
        del steps[1]  # the sample program speaks without TLS
    for number, (said, code) in enumerate(steps, 1):
        yield from _step(number, said, code)


def _step(number: int, said: str, code: str) -> Iterator[Cell]:
    yield cell("")
    yield cell(f"{number}. {said}")
    for line in code.splitlines():
        yield _code(line)


def _code(line: str) -> Cell:
    return cell(f"   {line}", "cyan")


def curl_command(tls_cert: Path | None = None) -> str:
    """Write the call that verifies the sample key, for a shell that has sourced the env file."""
    trusted = [f"  --cacert {shlex.quote(str(tls_cert))} \\"] if tls_cert else []
    return "\n".join(
        (
            f'curl -sS "$KEYSTEAD_URL{_VERIFY_PATH}" \\',
            *trusted,
            '  -H "authorization: Bearer $KEYSTEAD_MANAGEMENT_KEY" \\',
            '  -H "content-type: application/json" \\',
            '  -d "{\\"key\\":\\"$KEYSTEAD_SAMPLE_KEY\\",\\"environment\\":\\"LIVE\\"}"',
        )
    )


def program() -> str:
    """Say how to run this command line from here: its name when that is on PATH, else its path."""
    if shutil.which("keystead"):
        return "keystead"
    path = Path(sys.argv[0]).absolute()
    if path.name != "keystead":
        return f"{Path(sys.executable)} -m keystead"
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
