"""What one key did, in numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import tzinfo
from typing import Any

from keystead.cli.output import NOTHING, facts, past, show
from keystead.cli.tables import cell
from keystead.cli.usage.rendering import at, counted, number, percent, took, written

_QUANTILES = (("p50", "half"), ("p90", "90 %"), ("p99", "99 %"))


def print_totals(key_id: str, totals: Mapping[str, Any], zone: tzinfo) -> None:
    """Print a key's totals; what nobody reported is left out."""
    show(cell(key_id, "bold"), facts([(name, written(value)) for name, value in _facts(totals, zone)]))


def _facts(totals: Mapping[str, Any], zone: tzinfo) -> Iterator[tuple[str, str]]:
    calls, outcomes = number(totals.get("calls")), number(totals.get("outcomes"))
    yield "calls", counted(calls)
    yield "admitted", _part(totals.get("admitted"), calls)
    yield "denied", _part(totals.get("denied"), calls)
    yield "", "\n".join(_denials(totals.get("byCode", {})))
    yield "cost", counted(totals.get("cost"))
    yield "errors", f"{_part(totals.get('errors'), outcomes)} of {outcomes:,} reported" if outcomes else ""
    yield "latency", ", ".join(_latency(totals.get("latency", {})))
    yield "last used", _last_use(totals, zone)


def _part(value: object, whole: int) -> str:
    return f"{counted(value)} ({percent(number(value), whole)})" if whole else counted(value)


def _denials(by_code: Mapping[str, object]) -> Iterator[str]:
    denials = [(number(count), code) for code, count in by_code.items() if code != "VALID"]
    for count, code in sorted(denials, key=lambda denial: (-denial[0], denial[1])):
        yield f"{count:,} {code.lower()}"


def _latency(latency: Mapping[str, object]) -> Iterator[str]:
    for name, said in _QUANTILES:
        if latency.get(name):
            yield f"{said} within {took(latency[name])}"


def _last_use(totals: Mapping[str, Any], zone: tzinfo) -> str:
    timestamp = totals.get("lastUsedAt")
    if not timestamp:
        return "never"
    said = f"{at(timestamp, zone)} ({past(timestamp)})"
    where = f" from {totals['lastUsedIp']}" if totals.get("lastUsedIp") else ""
    what = f" for {totals['lastOperation']}" if totals.get("lastOperation") else ""
    return f"{said}{where}{what}" or NOTHING
