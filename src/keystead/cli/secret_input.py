"""How a secret comes in: from standard input, a file or a hidden prompt, never from an argument.

Arguments stand in the shell's history and in every process listing; a word that was given as one is not shown again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

import click

from keystead.cli.flags import with_options

_BYTES_MAX = 4_096

SECRET_OPTIONS = with_options(
    click.argument("words", nargs=-1, metavar="[-]", type=click.UNPROCESSED),
    click.option(
        "--file",
        "file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Read the secret from this file; - is standard input.",
    ),
)


def read_secret(words: tuple[str, ...], file: Path | None) -> str:
    """Return the secret without what surrounds it; raise ``UsageError`` when none is given or one is an argument."""
    if words not in ((), ("-",)) or (words and file is not None):
        raise click.UsageError(
            "secrets are not taken from arguments, which others can read: give - (standard input), --file FILE, or"
            " nothing to be asked for it"
        )
    if file is not None and str(file) != "-":
        return _read_file(file)
    if words or file is not None or not sys.stdin.isatty():
        return _text(sys.stdin.buffer)
    prompted: str = click.prompt("Secret (not shown)", hide_input=True, err=True)
    return prompted.strip()


def _read_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return _text(file)
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read: {error.strerror}") from None


def _text(stream: BinaryIO) -> str:
    text = stream.read(_BYTES_MAX).decode("utf-8", "replace").strip()
    if not text:
        raise click.UsageError("no secret was given: the input is empty")
    return text
