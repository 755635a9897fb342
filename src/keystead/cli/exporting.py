"""Output for other programs and for files: CSV, and a file that is there whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import click

from keystead.cli.flags import Option
from keystead.cli.problems import CommandError, ExitCode, Problem

CSV_FLAG = click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values (RFC 4180) with a heading.")
OUTPUT_OPTION: Option = click.option(
    "--output",
    "output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to this file, which appears when it is whole; what it held before is replaced.",
)

Row = Mapping[str, object]


def demand_one_format(*, as_csv: bool, as_json: bool) -> None:
    """Refuse to print two things at once."""
    if as_csv and as_json:
        raise click.UsageError("--csv contradicts --json")


def print_csv(columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Print a heading and one line for each row, as the rows come; what a row lacks is empty.

    Values are written as they are: a spreadsheet may take one that begins with ``=`` for a formula.
    """
    _print_line(columns)
    for row in rows:
        _print_line([_text(row.get(column)) for column in columns])


def _print_line(values: Sequence[str]) -> None:
    paper = io.StringIO()
    csv.writer(paper, lineterminator="\r\n").writerow(values)
    click.echo(paper.getvalue(), nl=False)


def _text(value: object) -> str:
    return "" if value is None else str(value)


@contextlib.contextmanager
def printing_to(path: Path | None) -> Iterator[None]:
    """Send what is printed to ``path``, in UTF-8; it is replaced when all went well and not touched otherwise."""
    if path is None:
        yield
        return
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():  # a pipe or a device has nothing to be replaced
        with _opened(target) as stream, contextlib.redirect_stdout(stream):
            yield
        return
    with _beside(target) as stream, contextlib.redirect_stdout(stream):
        yield


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[io.TextIOBase]:
    try:
        number, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        _refuse(target, error)
    whole = Path(name)
    try:
        with os.fdopen(number, "w", encoding="utf-8", newline="") as stream:
            yield stream
        whole.chmod(_mode(target))
        whole.replace(target)
    except BaseException:
        whole.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _opened(target: Path) -> Iterator[io.TextIOBase]:
    try:
        stream = target.open("w", encoding="utf-8", newline="")
    except OSError as error:
        _refuse(target, error)
    with stream:
        yield stream


def _mode(target: Path) -> int:
    """Keep the mode of the file that is replaced; a new one gets what any other program's would have."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _refuse(target: Path, error: OSError) -> NoReturn:
    problem = Problem(f"{target} cannot be written: {error.strerror}.", "NOT_WRITTEN", ExitCode.REFUSED)
    raise CommandError(problem) from None
