"""How sinks look to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keystead.cli.output import NOTHING, exactly, facts, future, past, show
from keystead.cli.tables import Block, Column, Table, cell
from keystead.cli.text import span
from keystead.cli.usage.rendering import counted, duration_us, number, took, written

Sink = Mapping[str, Any]


def print_sink(sink: Sink) -> None:
    """Print everything about one sink."""
    blocks: list[Block] = [cell(written(sink["name"]), "bold"), facts(_facts(sink))]
    letters = sink["progress"]["firstDeadLetters"]
    if letters:
        table = Table((Column("SET ASIDE", whole=True), Column("INDEX", whole=True), Column("WHY")))
        for letter in letters:
            table.rows.append((cell(letter["eventId"]), cell(counted(letter["index"])), cell(written(letter["error"]))))
        blocks += [cell(""), table]
    show(*blocks)


def sinks_table(sinks: Sequence[Sink]) -> Table:
    """Make a table of sinks, a line each."""
    made = Table(
        (
            Column("SINK", whole=True),
            Column("NAME"),
            Column("TO"),
            Column("STATE", whole=True),
            Column("WAITING", whole=True),
            Column("LAG", whole=True),
            Column("TROUBLE"),
        )
    )
    for sink in sinks:
        progress = sink["progress"]
        row = (
            cell(sink["id"]),
            cell(written(sink["name"]), "bold"),
            cell(_to(sink)),
            cell(str(sink["state"]).lower(), "" if sink["state"] == "ACTIVE" else "yellow"),
            cell(counted(progress["waitingEvents"])),
            cell(_length(progress["lag"]) if progress.get("lag") else NOTHING),
            cell(_trouble(sink), "red"),
        )
        made.rows.append(row)
    return made


def _length(text: object) -> str:
    return span((duration_us(text) or 0) // 1_000)


def _to(sink: Sink) -> str:
    return written(sink["http"]["url"]) if sink.get("http") else f"file {written(sink['file']['name'])}"


def _trouble(sink: Sink) -> str:
    progress = sink["progress"]
    aside = number(progress["deadLetters"])
    said = [written(progress["lastError"])] if progress["lastError"] else []
    return ", ".join([*said, *([f"{aside:,} set aside"] if aside else [])])


def _facts(sink: Sink) -> list[tuple[str, str]]:
    progress, http, file = sink["progress"], sink.get("http") or {}, sink.get("file") or {}
    retry = progress.get("retryAt")
    return [
        ("sink", sink["id"]),
        ("to", _to(sink)),
        ("payload", str(sink["payload"]).lower()),
        ("state", str(sink["state"]).lower()),
        ("batch", f"{http['batchMax']} events at most, {took(http['timeout'])} for an answer" if http else ""),
        ("signed", "by Standard Webhooks" if http.get("signed") else ""),
        ("client", "proves itself with a certificate" if http.get("clientCertificate") else ""),
        ("full at", f"{counted(file['rotateBytes'])} bytes" if file else ""),
        ("strict", f"no changes while {_length(sink['strictLag'])} behind" if sink.get("strictLag") else ""),
        ("next event", counted(progress["nextIndex"])),
        ("waiting", counted(progress["waitingEvents"])),
        ("lag", _length(progress["lag"]) if progress.get("lag") else ""),
        ("delivered", exactly(progress.get("deliveredAt"), past(progress.get("deliveredAt")))),
        ("failures", counted(progress["failures"]) if number(progress["failures"]) else ""),
        ("last error", written(progress["lastError"])),
        ("next try", exactly(retry, future(retry))),
        ("set aside", counted(progress["deadLetters"]) if number(progress["deadLetters"]) else ""),
        ("created", exactly(sink.get("createdAt"), past(sink.get("createdAt")))),
        ("updated", exactly(sink.get("updatedAt"), past(sink.get("updatedAt")))),
        ("etag", sink["etag"]),
    ]
