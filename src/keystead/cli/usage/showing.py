"""``keystead usage show``: calls over time, as a chart or as a line for each group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from keystead.cli.application import command
from keystead.cli.exporting import CSV_FLAG, OUTPUT_OPTION, Row, demand_one_format, print_csv, printing_to
from keystead.cli.flags import with_options
from keystead.cli.message import Message, without_empty
from keystead.cli.parameters import Identifier
from keystead.cli.session import Session, speaks_to_server
from keystead.cli.usage.asking import (
    FROM,
    GROUP,
    INTERVAL,
    SERVICE,
    TO,
    Span,
    filter_of,
    filtered,
    filters_said,
    zone_of,
)
from keystead.cli.usage.picturing import Picture, print_picture
from keystead.cli.usage.rendering import group_name, milliseconds, number, print_completeness
from keystead.cli.usage.timeline import interval_for, timeline
from keystead.cli.usage.totals import print_totals

SERIES_COLUMNS = (
    "group",
    "begins_at",
    "calls",
    "cost",
    "outcomes",
    "errors",
    "latency_p50_ms",
    "latency_p90_ms",
    "latency_p99_ms",
)


@command(
    "show",
    examples=(
        "keystead usage show",
        "keystead usage show key_01HZX… --from 30d --time-zone Europe/Rome",
        "keystead usage show --by owner --from 7d --code rate_limited",
        "keystead usage show --from 1h --interval minute --csv --output usage.csv",
    ),
)
@click.argument("key_id", type=Identifier(), required=False)
@FROM
@TO
@with_options(
    click.option("--interval", type=INTERVAL, help="How wide a point is. [by the length of the time]"),
    click.option("--by", "group_by", type=GROUP, help="One line for each of these."),
)
@filtered(key=False)
@with_options(
    click.option("--time-zone", default="", metavar="NAME", help="Where days begin, as in Europe/Rome. [UTC]"),
    CSV_FLAG,
    OUTPUT_OPTION,
)
@speaks_to_server()
def show_usage(session: Session, *, as_csv: bool, output: Path | None, **given: Any) -> None:
    """Draw calls over time, of everything or of one key.

    With KEY_ID it first tells the key's totals: verdicts, errors, how long answers took, and who used it last. Filters
    narrow the chart alone. In pictures times without calls are zero; JSON and CSV leave them out.
    """
    demand_one_format(as_csv=as_csv, as_json=session.as_json)
    zone_of(given["time_zone"])  # a wrong name is a mistake before anything is asked
    span = Span(given["from_at"], given["to_at"])
    interval = given["interval"] or _interval(span, given)
    totals = _totals(session, span, given["key_id"]) if given["key_id"] and not as_csv else None
    query = session.call(SERVICE, "QueryUsage", _query(span, interval, given))
    with printing_to(output):
        if as_csv:
            print_csv(SERIES_COLUMNS, _rows(query))
        elif totals is None:
            session.show(query, lambda reply: _print(reply, None, span, interval, given))
        else:
            both = {"totals": totals, **query}
            session.show(both, lambda reply: _print(reply, reply["totals"], span, interval, given))


def _interval(span: Span, given: dict[str, Any]) -> str:
    """Choose the interval; labels are not counted by the minute."""
    chosen = interval_for(span.to_ms - span.from_ms)
    by_label = given["tag"] or given["group_by"] == "TAG"
    return "HOUR" if by_label and chosen == "MINUTE" else chosen


def _query(span: Span, interval: str, given: dict[str, Any]) -> Message:
    return {
        **span.message(),
        "interval": interval,
        "groupBy": given["group_by"],
        "filter": filter_of(given),
        "timeZone": given["time_zone"],
    }


def _totals(session: Session, span: Span, key_id: str) -> Message:
    return session.call(SERVICE, "GetKeyUsage", without_empty({"keyId": key_id, **span.message()}))


def _print(reply: Message, totals: Message | None, span: Span, interval: str, given: dict[str, Any]) -> None:
    zone = zone_of(given["time_zone"])
    if totals is not None:
        print_totals(given["key_id"], totals, zone)
        click.echo()
    dimension = given["group_by"] or ""
    series = {
        group_name(found["group"], dimension) if dimension else "": found["points"] for found in reply.get("series", [])
    }
    picture = Picture(
        timeline(span.from_ms, span.to_ms, interval, zone),
        interval=interval,
        dimension=dimension,
        said=filters_said(given),
        zone_name=given["time_zone"] or "UTC",
    )
    print_picture(picture, series)
    print_completeness(reply, zone)


def _rows(reply: Message) -> Iterator[Row]:
    for series in reply.get("series", []):
        for point in series["points"]:
            latency = point.get("latency", {})
            yield {
                "group": series["group"],
                "begins_at": point["beginsAt"],
                **{name: number(point.get(name)) for name in ("calls", "cost", "outcomes", "errors")},
                **{f"latency_{name}_ms": milliseconds(latency.get(name)) for name in ("p50", "p90", "p99")},
            }
