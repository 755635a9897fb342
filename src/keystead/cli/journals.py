"""``keystead journals``: whom the deployment's usage waits for, and how it stops waiting for a disk that is gone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import click

from keystead.bootstrap import declare_journal_lost, list_journals
from keystead.cli.application import command, group
from keystead.cli.flags import JSON_FLAG, PLACE_FLAGS, YES_FLAG, with_options
from keystead.cli.output import NOTHING, past, print_json, show
from keystead.cli.parameters import Identifier
from keystead.cli.server_settings import settings_from
from keystead.cli.session import ask_before
from keystead.cli.tables import Column, Table, cell
from keystead.cli.text import span
from keystead.usage.journals import JournalState, KnownJournal

_STYLES = {JournalState.OPEN: "green", JournalState.CLOSED: "dim", JournalState.LOST: "red"}
_COLUMNS = ("JOURNAL", "STATE", "NODE", "OPENED", "LAST SEEN", "COUNTED UP TO", "BEHIND")


@command("list", examples=("keystead journals list", "keystead journals list --closed --json"))
@with_options(
    click.option("--closed", is_flag=True, help="Also those that are counted to their end."),
    *PLACE_FLAGS,
    JSON_FLAG,
)
def list_command(*, closed: bool, as_json: bool, **flags: Any) -> None:
    """List the journals that usage waits for, and those declared lost.

    Every process that answers calls has one, and usage is complete up to the least of the open ones. An open journal
    that nobody has seen for minutes holds it back: start a server in its data directory, or declare it lost. At most
    1,000 are listed, those opened last first.
    """
    found = asyncio.run(list_journals(settings_from(flags), closed=closed))
    if as_json:
        print_json({"journals": [_as_json(journal) for journal in found]})
        return
    made = Table(tuple(Column(heading, whole=True) for heading in _COLUMNS))
    for it in found:
        texts = (it.node or NOTHING, past(_moment(it.opened_at_ms)), past(_moment(it.seen_at_ms)))
        counted = (_moment(it.complete_until_ms), span(it.behind_ms) if it.state is JournalState.OPEN else NOTHING)
        made.rows.append(
            (cell(it.id), cell(str(it.state), _STYLES[it.state]), *[cell(text or NOTHING) for text in texts + counted])
        )
    show(made)


@command(
    "declare-lost",
    examples=(
        'keystead journals declare-lost jrn_01HZX… --reason "node 3 lost its disk"',
        'keystead journals declare-lost jrn_01HZX… --reason "node 3 lost its disk" --yes --json',
    ),
)
@click.argument("journal_id", type=Identifier())
@with_options(
    click.option("--reason", required=True, help="Why, for the audit record; at most 500 characters."),
    YES_FLAG,
    *PLACE_FLAGS,
    JSON_FLAG,
)
def declare_lost(*, journal_id: str, reason: str, agreed: bool, as_json: bool, **flags: Any) -> None:
    """Wait no more for a journal whose disk is gone.

    Usage is complete without it from then on, and may be short of the calls that it held and nobody counted; each
    workspace gets an event that says so. Refused while somebody has reported the journal in the last 5 minutes, by the
    database's clock. Should its disk come back, its calls are counted after all, once.
    """
    settings = settings_from(flags)
    ask_before(f"Count on without the calls in {journal_id} that nobody has counted?", agreed=agreed)
    anew = asyncio.run(declare_journal_lost(settings, journal_id, reason=reason))
    if as_json:
        print_json({"journal_id": journal_id, "state": str(JournalState.LOST), "changed": anew})
    elif anew:
        click.echo(f"{journal_id} is lost: usage waits for it no more.")
    else:
        click.echo(f"Nothing to do: {journal_id} was declared lost before.")


def _moment(at_ms: int) -> str:
    """Write a time as protobuf's JSON does; an empty text when there is none."""
    if not at_ms:
        return ""
    return datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _as_json(journal: KnownJournal) -> dict[str, object]:
    return {
        "id": journal.id,
        "state": str(journal.state),
        "node": journal.node,
        "opened_at": _moment(journal.opened_at_ms),
        "last_seen_at": _moment(journal.seen_at_ms),
        "complete_until": _moment(journal.complete_until_ms),
        "behind_seconds": journal.behind_ms / 1_000,
        "silent_seconds": journal.silent_ms / 1_000,
    }


journals = group(
    "journals",
    help_text="Look after the journals that usage is counted from.\n\n"
    "These commands work on the database itself: journals belong to the deployment and not to a workspace.",
    commands=(list_command, declare_lost),
)
