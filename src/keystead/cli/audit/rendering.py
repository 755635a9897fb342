"""How events look to people: a table, whole events one after another, or a line each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keystead.cli.message import Message
from keystead.cli.output import NOTHING, columns_available, facts, past, print_page_end, show
from keystead.cli.tables import Cell, Column, Table, cell, joined
from keystead.cli.usage.rendering import at, counted, number, written

WIDE_COLUMNS = 150
_VALUE_CHARACTERS = 500

# What ends a right or takes something away, what waits for somebody, and what begins something.
_STYLES = {
    "revoked": "red",
    "deleted": "red",
    "suspended": "yellow",
    "rotation_due": "yellow",
    "threshold_reached": "yellow",
    "declared_lost": "yellow",
    "created": "green",
    "resumed": "green",
}


def print_events(reply: Message, *, details: bool) -> None:
    """Print a page of events: as a table, or whole when ``details``."""
    found: Sequence[Message] = reply.get("events", [])
    if details:
        for place, event in enumerate(found):
            show(*([cell("")] if place else []), _heading(event), facts(_facts(event)))
    elif found:
        show(wide_table(found) if columns_available() >= WIDE_COLUMNS else narrow_table(found))
    print_page_end(reply, found, what="events match")


def wide_table(found: Sequence[Message]) -> Table:
    """Make a table of one row for each event."""
    headings = ("INDEX", "TIME (UTC)", "ACTION", "TARGET", "OWNER", "BY", "ADDRESS")
    made = Table(tuple(Column(heading, whole=heading not in {"TARGET", "OWNER"}) for heading in headings))
    for event in found:
        row = (
            cell(_index(event)),
            cell(at(event["occurredAt"])),
            action_cell(event),
            cell(_about(event)),
            cell(_said(event["ownerId"])),
            cell(_who(event)),
            cell(_said(event["clientIp"])),
        )
        made.rows.append(row)
    return made


def narrow_table(found: Sequence[Message]) -> Table:
    """Make a table for 80 columns: two lines for each event."""
    made = Table(
        (
            Column("TIME (UTC), ACTION", whole=True),
            Column("TARGET, BY", columns_max=31),
            Column("OWNER, ADDRESS", columns_max=20),
        )
    )
    for event in found:
        row = (
            joined([cell(at(event["occurredAt"]), "dim"), action_cell(event)], "\n"),
            joined([cell(_about(event)), cell(_who(event), "dim")], "\n"),
            joined([cell(_said(event["ownerId"])), cell(_said(event["clientIp"]), "dim")], "\n"),
        )
        made.rows.append(row)
    return made


def event_line(event: Message) -> Cell:
    """Write an event on one line."""
    parts = [
        cell(at(event["occurredAt"])[-8:], "dim"),
        action_cell(event),
        cell(_about(event)),
        *([cell(f"of {written(event['ownerId'])}")] if event["ownerId"] else []),
        cell(f"by {_who(event)}"),
        *([cell(f"from {written(event['clientIp'])}", "dim")] if event["clientIp"] else []),
    ]
    return joined(parts, "  ")


def action_cell(event: Message) -> Cell:
    """Write what happened, in red when it was refused, and how many times when it was more than once."""
    action = event["action"]
    style = "red" if event.get("result") == "REFUSED" else _STYLES.get(action.rpartition(".")[2], "")
    count = number(event.get("count"))
    return cell(f"{written(action)} x{count:,}" if count > 1 else written(action), style)


def _about(event: Message) -> str:
    """Write what an event is about: its target, else the method that was called or what a text began with."""
    return _said(event["target"] or event.get("method", "") or event.get("presented", ""))


def _who(event: Message) -> str:
    actor = event["actor"]
    return _said(actor["id"] or actor["type"])


def _heading(event: Message) -> Cell:
    return joined([action_cell(event), cell(_about(event), "bold")], "  ")


def _facts(event: Message) -> Iterator[tuple[str, str]]:
    yield "event", event["id"]
    yield "index", _index(event)
    yield "when", f"{at(event['occurredAt'])} UTC ({past(event['occurredAt'])})"
    if event.get("firstAt"):
        yield "since", f"{at(event['firstAt'])} UTC, {counted(event['count'])} times"
    actor = event["actor"]
    yield "by", f"{_said(actor['id'])} ({written(actor['type'])})" if actor["id"] else written(actor["type"])
    yield "address", written(event["clientIp"])
    yield "program", written(event["userAgent"])
    yield "method", written(event.get("method", ""))
    yield "presented", written(event.get("presented", ""))
    yield "owner", written(event["ownerId"])
    environment = event["environment"]
    yield "environment", "" if environment == "ENVIRONMENT_UNSPECIFIED" else environment.lower()
    yield "request", written(event["requestId"])
    yield "reason", written(event["reason"])
    yield "changes", "\n".join(_changes(event.get("changes", {})))


def _changes(changes: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Write what changed; of what is new only what is not empty."""
    for name, change in sorted(changes.items()):
        if "before" not in change and change.get("after") in (None, "", [], {}):
            continue
        before, after = _value(change.get("before")), _value(change.get("after"))
        yield f"{written(name)}: {after}" if "before" not in change else f"{written(name)}: {before} -> {after}"


def _value(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    text = written(text)
    return text if len(text) <= _VALUE_CHARACTERS else text[:_VALUE_CHARACTERS] + "..."


def _index(event: Message) -> str:
    return counted(event["index"]) if "index" in event else NOTHING


def _said(text: str) -> str:
    return written(text) or NOTHING
