"""``keystead audit verify``: whether an export is what was written; it needs the file and the public key alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from keystead.adapters.cryptography.signing import Ed25519Verifier
from keystead.cli.application import command
from keystead.cli.flags import JSON_FLAG, with_options
from keystead.cli.output import facts, print_json, show
from keystead.cli.problems import CommandError, ExitCode, Problem
from keystead.events.checkpoints import Checkpoint, open_checkpoint
from keystead.events.export import JsonLines
from keystead.events.findings import Finding
from keystead.events.notes import VerifierKey
from keystead.events.ocsf import Ocsf
from keystead.events.spreadsheet import Spreadsheet
from keystead.events.verification import Report, verify_export

LINE_BYTES_MAX = 16 * 1024 * 1024


@command(
    "verify",
    examples=(
        'keystead audit verify audit.jsonl --public-key "keystead/wsp_01HZX…+1a2b3c4d+AQ…"',
        "keystead audit verify audit.csv --public-key @audit.pub --json",
    ),
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@with_options(
    click.option(
        "--public-key",
        "public_key",
        metavar="KEY",
        required=True,
        help="What `keystead audit public-key` prints, kept where nobody who could rewrite the log can; or @FILE.",
    ),
    JSON_FLAG,
)
def verify(*, file: Path, public_key: str, as_json: bool) -> None:
    """Check an export offline, and name each record that was touched.

    Every record must be byte for byte what was written, in its place, and lead by its own proof to the checkpoint at
    the end, which must be signed by the public key. Exits 1 when something was changed, removed, inserted or moved.
    """
    key = _key_in(public_key)
    opened = partial(open_checkpoint, key=key, verifier=Ed25519Verifier())
    try:
        report = verify_export(partial(_lines_of, file), opened, (JsonLines(), Ocsf(), Spreadsheet()))
    except OSError as error:
        raise click.BadParameter(f"{file} cannot be read: {error.strerror}", param_hint="FILE") from None
    if not report.intact or report.checkpoint is None:
        raise CommandError(_problem(file, report))
    if as_json:
        print_json(_as_json(report, report.checkpoint))
    else:
        _print(report, report.checkpoint)


def _key_in(given: str) -> VerifierKey:
    try:
        text = Path(given[1:]).read_text(encoding="utf-8") if given.startswith("@") else given
        return VerifierKey.parse(text)
    except (ValueError, OSError) as error:
        raise click.BadParameter(f"it cannot be read: {error}", param_hint="--public-key") from None


def _lines_of(file: Path) -> Iterator[bytes]:
    """Read the lines with their ends; one of more than 16 MiB comes in pieces, which prove nothing."""
    with file.open("rb") as stream:
        while line := stream.readline(LINE_BYTES_MAX):
            yield line


def _problem(file: Path, report: Report) -> Problem:
    more = report.findings_count - len(report.findings)
    hints = [_told(found) for found in report.findings]
    if more:
        hints.append(f"… and {more:,} more")
    count = report.findings_count
    said = f"{file} is not what was written: {count:,} {'thing is' if count == 1 else 'things are'} wrong."
    return Problem(said, "EXPORT_TOUCHED", ExitCode.REFUSED, hints=tuple(hints))


def _told(found: Finding) -> str:
    return f"line {found.line}: {found.detail}" if found.line else found.detail


def _as_json(report: Report, checkpoint: Checkpoint) -> dict[str, object]:
    return {
        "workspaceId": report.workspace_id,
        "events": report.events,
        "firstIndex": report.first_index,
        "cutIndex": report.cut_index,
        "firstAt": _moment(report.first_at_ms),
        "lastAt": _moment(report.last_at_ms),
        "size": checkpoint.size,
        "rootHash": checkpoint.root_hash.hex(),
    }


def _print(report: Report, checkpoint: Checkpoint) -> None:
    before = _before(report)
    span = f", {report.first_index:,} to {checkpoint.size - 1:,}" if report.events else ""
    click.echo("Nothing was touched.")
    show(
        facts(
            (
                ("Workspace", report.workspace_id),
                ("Events", f"{report.events:,}{span}"),
                *([("Before", before)] if before else []),
                ("From", _moment(report.first_at_ms)),
                ("To", _moment(report.last_at_ms)),
                ("Root hash", checkpoint.root_hash.hex()),
            )
        )
    )


def _before(report: Report) -> str:
    """Say what became of earlier events; nothing when the export begins at the beginning."""
    if not report.first_index:
        return ""
    if report.cut_index is None:
        return "not in this export"
    return f"cut by retention, as record {report.cut_index:,} tells"


def _moment(found_ms: int | None) -> str:
    if found_ms is None:
        return ""
    moment = datetime.fromtimestamp(found_ms / 1_000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
