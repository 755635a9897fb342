"""Limits in words and on a line, for whoever does not read the notation yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keystead.cli.limits.notation import length_of, notation, rule
from keystead.cli.tables import Column, Table, cell
from keystead.cli.usage.rendering import counted, number, written

Limit = Mapping[str, Any]

_SUBJECTS = {"OWNER": "all keys of an owner together", "WORKSPACE": "all keys of the workspace together"}
_EACH = {"min": "minute", "h": "hour", "s": "second", "ms": "millisecond"}


def explained(limit: Limit) -> str:
    """Say what a limit means; an empty text for a kind that only a newer version knows."""
    said = next((say(limit[field]) for field, say in _SAYINGS.items() if limit.get(field)), "")
    return f"{said}, {_SUBJECTS.get(limit.get('on', ''), 'each key')}" if said else ""


def notations(limits: Sequence[Limit]) -> str:
    """Write limits one below the other."""
    return "\n".join(written(notation(limit)) for limit in limits)


def limits_table(limits: Sequence[Limit]) -> Table:
    """Make a table of limits: how they are written, and what that means."""
    made = Table((Column("LIMIT"), Column("RULE", whole=True), Column("WHICH IS")))
    for limit in limits:
        made.rows.append((cell(written(limit["name"]), "bold"), cell(rule(limit), "cyan"), cell(explained(limit))))
    return made


def _window(window: Limit) -> str:
    if not number(window.get("limit")):
        return "nothing at all"
    return f"at most {counted(window['limit'])} in any {_each(window.get('window'))}"


def _bucket(bucket: Limit) -> str:
    rate, burst = number(bucket.get("rate")), number(bucket.get("burst"))
    if not rate or not burst:
        return "nothing at all"
    return f"{rate:,} each {_each(bucket.get('per'))}, up to {burst:,} at once"


def _quota(quota: Limit) -> str:
    each = "month" if quota.get("period") == "MONTH" else "day"
    if quota.get("soft"):
        return f"told at {counted(quota.get('limit'))} a {each}, never refused"
    return f"{counted(quota['limit'])} each {each}" if number(quota.get("limit")) else "nothing at all"


def _credits(credit: Limit) -> str:
    said = f"{counted(credit.get('balance'))} to begin with"
    if credit.get("refill"):
        said += f", {counted(credit['refill'])} more each {_each(credit.get('refillEvery'))}"
    return f"{said}, never above {counted(credit['maximum'])}" if credit.get("maximum") else said


def _each(text: object) -> str:
    length = length_of(text)
    return _EACH.get(length, length)


_SAYINGS: Mapping[str, Callable[[Limit], str]] = {
    "slidingWindow": _window,
    "tokenBucket": _bucket,
    "quota": _quota,
    "credits": _credits,
}
