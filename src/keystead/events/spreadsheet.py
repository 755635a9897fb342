"""The log as comma-separated values (RFC 4180), for people; the last column holds what proves the others.

The first line names the columns, the last holds the checkpoint, and both have what programs read in the last column
too. A value that a spreadsheet would take for a formula is written with an apostrophe before it, and a line break as a
space, so that a record is a line.
"""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta

from keystead.events.export import End, Entry, Head, LineError, Part, json_of, part_of
from keystead.events.facts import facts_of

COLUMNS = (
    "index",
    "occurred_at",
    "action",
    "actor_type",
    "actor_id",
    "owner_id",
    "environment",
    "target",
    "reason",
    "client_ip",
    "user_agent",
    "request_id",
    "result",
    "count",
    "method",
    "presented",
)
"""The names of the columns but the last."""

_END = "checkpoint"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENT_MS_MAX = 253_402_300_799_999
_FORMULA_STARTS = ("=", "+", "-", "@", "\t")
_PROVEN_START = ',"{""'
_PROVEN_END = '"\r\n'


class Spreadsheet:
    """The form that people read."""

    head_start = b"index,occurred_at,"
    end_start = b"checkpoint,,"

    def write(self, part: Part) -> str:
        """Write one line."""
        if isinstance(part, Head):
            return _row([*COLUMNS, json_of(part)])
        if isinstance(part, End):
            return _row([_END, *[""] * (len(COLUMNS) - 1), json_of(part)])
        return _row([*_values(part), json_of(part)])

    def read(self, line: str) -> Part:
        """Read a line; only the last column counts, for the others follow from it."""
        # Within a quoted value every quote is doubled, so this is found where the last value begins and nowhere after.
        start = line.rfind(_PROVEN_START)
        if start < 0 or not line.endswith(_PROVEN_END):
            raise LineError("it has no column that proves it")
        return part_of(json.loads(line[start + 2 : -len(_PROVEN_END)].replace('""', '"')))


def _values(entry: Entry) -> list[str]:
    facts = facts_of(entry)
    told = (
        facts.action,
        facts.actor_type,
        facts.actor_id,
        facts.owner_id,
        facts.environment,
        facts.target,
        facts.reason,
        facts.client_ip,
        facts.user_agent,
        facts.request_id,
        facts.result or "done",
        str(facts.count),
        facts.method,
        facts.presented,
    )
    return [str(entry.index), _moment(facts.occurred_at_ms), *map(_harmless, told)]


def _moment(found_ms: int) -> str:
    moment = _EPOCH + timedelta(milliseconds=max(0, min(found_ms, _MOMENT_MS_MAX)))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _harmless(text: str) -> str:
    flat = " ".join(text.splitlines())
    return "'" + flat if flat.startswith(_FORMULA_STARTS) else flat


def _row(values: list[str]) -> str:
    paper = io.StringIO()
    csv.writer(paper, lineterminator="\r\n").writerow(values)
    return paper.getvalue()
