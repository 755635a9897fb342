"""``keystead audit export``: the whole log into a file that proves itself."""

from __future__ import annotations

import base64
from pathlib import Path

import click

from keystead.cli.application import command
from keystead.cli.exporting import printing_to
from keystead.cli.flags import with_options
from keystead.cli.parameters import Name
from keystead.cli.session import Session, speaks_to_server

_SERVICE = "AuditService"
_FORMATS = Name(("JSON_LINES", "CSV", "OCSF"))


@command(
    "export",
    examples=(
        "keystead audit export --output audit.jsonl",
        "keystead audit export --output audit.csv --format csv",
        "keystead audit export --output news.jsonl --from-index 120000",
    ),
)
@with_options(
    click.option(
        "--output",
        "output",
        type=click.Path(path_type=Path, dir_okay=False),
        required=True,
        help="Write to this file, which appears when it is whole; what it held before is replaced.",
    ),
    click.option("--format", "form", type=_FORMATS, default="json_lines", show_default=True, help="How lines look."),
    click.option("--from-index", type=click.IntRange(0), default=0, help="From this event on. [the first]"),
)
@speaks_to_server()
def export(session: Session, *, output: Path, form: str, from_index: int) -> None:
    """Write the log to a file, with what proves it.

    Each line holds one event and its proof, and the last a checkpoint that is made for it. `keystead audit verify`
    checks such a file, in any format, without a server. It takes a management key for both environments.
    """
    asked = {"format": form, "fromIndex": str(from_index)}
    bytes_written = 0
    with printing_to(output):
        for message in session.stream(_SERVICE, "ExportEvents", asked):
            data = base64.b64decode(message["data"])
            bytes_written += len(data)
            click.echo(data.decode(), nl=False)
    session.show({"output": str(output), "bytes": bytes_written}, lambda _: _tell(output, bytes_written))


def _tell(output: Path, bytes_written: int) -> None:
    click.echo(f"{bytes_written:,} bytes in {output}. Check them: keystead audit verify {output} --public-key KEY")
