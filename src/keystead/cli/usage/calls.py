"""``keystead usage calls``: single calls, the newest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from keystead.cli.application import command
from keystead.cli.exporting import CSV_FLAG, OUTPUT_OPTION, Row, demand_one_format, print_csv, printing_to
from keystead.cli.flags import with_options
from keystead.cli.message import Message
from keystead.cli.output import NOTHING, columns_available, show
from keystead.cli.session import PAGE_SIZE_MAX, Session, speaks_to_server
from keystead.cli.tables import Cell, Column, Table, cell, joined
from keystead.cli.usage.asking import FROM, SERVICE, TO, Span, filter_of, filtered
from keystead.cli.usage.rendering import (
    at,
    code_cell,
    counted,
    milliseconds,
    number,
    print_completeness,
    took,
    written,
)

WIDE_COLUMNS = 140
CALL_COLUMNS = (
    "called_at",
    "verification_id",
    "key_id",
    "secret_id",
    "owner_id",
    "environment",
    "code",
    "operation",
    "client_ip",
    "cost",
    "scope_expression",
    "tags",
    "http_status",
    "latency_ms",
)
_LIMIT_DEFAULT = 50
_LIMIT_MAX = 100_000  # what is printed at once is held in memory; CSV is not


@command(
    "calls",
    examples=(
        "keystead usage calls --key key_01HZX… --from 1h",
        "keystead usage calls --owner cus_42 --code insufficient_scope --limit 200",
        "keystead usage calls --from 2027-01-01 --to 2027-02-01 --all --csv --output january.csv",
    ),
)
@FROM
@TO
@filtered()
@with_options(
    click.option("--limit", type=click.IntRange(1, _LIMIT_MAX), help="So many at most. [50]"),
    click.option("--all", "every_call", is_flag=True, help="Every call, up to 100,000; as CSV any number."),
    CSV_FLAG,
    OUTPUT_OPTION,
)
@speaks_to_server()
def calls(session: Session, *, as_csv: bool, output: Path | None, every_call: bool, **given: Any) -> None:
    """List single calls, the newest first.

    It answers who used which key, when and from where. How a call ended and how long it took is there when somebody
    reported it.
    """
    demand_one_format(as_csv=as_csv, as_json=session.as_json)
    if every_call and given["limit"]:
        raise click.UsageError("--all contradicts --limit")
    message = {**Span(given["from_at"], given["to_at"]).message(), "filter": filter_of(given)}
    limit = None if every_call else given["limit"] or _LIMIT_DEFAULT
    pages = _pages(session, message, limit=limit, bounded=not as_csv)
    with printing_to(output):
        if as_csv:
            print_csv(CALL_COLUMNS, _rows(pages))
        else:
            session.show(_joined(pages), _print)


def _pages(session: Session, message: Message, *, limit: int | None, bounded: bool) -> Iterator[Message]:
    """Yield pages until there is no next or ``limit`` calls were seen; 100,000 calls at most when ``bounded``."""
    left = _LIMIT_MAX if limit is None and bounded else limit
    asked = dict(message)
    while left is None or left > 0:
        asked["pageSize"] = PAGE_SIZE_MAX if left is None else min(PAGE_SIZE_MAX, left)
        page = session.call(SERVICE, "ListCalls", asked)
        yield page
        left = None if left is None else left - len(page.get("calls", []))
        asked["pageToken"] = page.get("nextPageToken", "")
        if not asked["pageToken"]:
            return


def _joined(pages: Iterator[Message]) -> Message:
    """Make one reply of several; the first says up to when it is complete, the last whether there is more."""
    whole = dict(next(pages))
    for page in pages:
        whole["calls"] = [*whole.get("calls", []), *page.get("calls", [])]
        whole["nextPageToken"] = page.get("nextPageToken", "")
    return whole


def _rows(pages: Iterator[Message]) -> Iterator[Row]:
    """Yield the calls of all pages, and say at the end whether there are more."""
    page: Message = {}
    count = 0
    for page in pages:
        count += len(page.get("calls", []))
        yield from map(_row, page.get("calls", []))
    _print_end(page, count)


def _row(call: Message) -> Row:
    return {
        "called_at": call["calledAt"],
        "verification_id": call["verificationId"],
        "key_id": call["keyId"],
        "secret_id": call["secretId"],
        "owner_id": call["ownerId"],
        "environment": call["environment"],
        "code": call["code"],
        "operation": call["operation"],
        "client_ip": call["clientIp"],
        "cost": number(call["cost"]),
        "scope_expression": call.get("scopeExpression"),
        "tags": " ".join(call.get("tags", [])),
        "http_status": call.get("httpStatus"),
        "latency_ms": milliseconds(call.get("latency")),
    }


def _print(reply: Message) -> None:
    found: Sequence[Message] = reply.get("calls", [])
    if found:
        show(wide_table(found) if columns_available() >= WIDE_COLUMNS else narrow_table(found))
    else:
        click.echo("No calls match.", err=True)
    _print_end(reply, len(found))
    print_completeness(reply)


def _print_end(reply: Message, count: int) -> None:
    if reply.get("nextPageToken"):
        click.echo(f"There are more than these {counted(count)}: give --limit or --all.", err=True)


def wide_table(found: Sequence[Message]) -> Table:
    """Make a table of one row for each call."""
    headings = ("TIME (UTC)", "KEY", "CODE", "OPERATION", "ADDRESS", "STATUS", "LATENCY", "COST")
    made = Table(tuple(Column(heading, whole=heading != "OPERATION") for heading in headings))
    for call in found:
        row = (
            cell(at(call["calledAt"])),
            cell(call["keyId"]),
            code_cell(call["code"]),
            cell(_said(call["operation"])),
            cell(_said(call["clientIp"])),
            _status(call),
            cell(took(call.get("latency"))),
            cell(counted(call["cost"])),
        )
        made.rows.append(row)
    return made


def narrow_table(found: Sequence[Message]) -> Table:
    """Make a table for 80 columns: two lines for each call."""
    made = Table(
        (
            Column("TIME (UTC), CODE", whole=True),
            Column("KEY, OPERATION", columns_max=30),
            Column("ADDRESS, COST", columns_max=18),
            Column("ENDED", whole=True),
        )
    )
    for call in found:
        row = (
            joined([cell(at(call["calledAt"])), code_cell(call["code"])], "\n"),
            joined([cell(call["keyId"]), cell(_said(call["operation"]), "dim")], "\n"),
            joined([cell(_said(call["clientIp"])), cell(f"cost {counted(call['cost'])}", "dim")], "\n"),
            joined([_status(call), cell(took(call.get("latency")), "dim")], "\n"),
        )
        made.rows.append(row)
    return made


def call_line(call: Message) -> Cell:
    """Write a call on one line."""
    ended = [_status(call), cell(took(call.get("latency")))] if "httpStatus" in call or "latency" in call else []
    cost = number(call["cost"])
    parts = [
        cell(at(call["calledAt"])[-8:], "dim"),
        cell(call["keyId"]),
        code_cell(call["code"]),
        *(cell(written(text)) for text in (call["operation"], call["clientIp"]) if text),
        *ended,
        *([cell(f"cost {cost:,}")] if cost != 1 else []),
    ]
    return joined(parts, "  ")


def _said(text: str) -> str:
    return written(text) or NOTHING


def _status(call: Message) -> Cell:
    status = call.get("httpStatus")
    if status is None:
        return cell(NOTHING)
    return cell(str(status), "red" if number(status) >= 500 else "")
