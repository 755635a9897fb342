"""Limits as people write them: ``requests=100/min``, ``burst=bucket:10/s:burst=50``, ``daily=quota:10000/day@owner``.

A limit is a name, what it is, and what it is counted on. What a server tells is written the same way, so that every
limit on a screen can be copied to a command line. What is not understood is pointed at, in the text as it was typed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from itertools import pairwise
from typing import Any, NoReturn

from keystead.cli.message import Message
from keystead.cli.parameters import absolute, duration_json, duration_ms
from keystead.cli.usage.rendering import duration_us, number

COUNT_MAX = 2**32 - 1

_NAME = re.compile(r"[a-z0-9_-]{1,40}", re.ASCII)
_COUNT = re.compile(r"([0-9]{1,10}(?:_[0-9]{3})*)([kM]?)", re.ASCII)
_OPTION_STARTS = re.compile(r"[:,](?=[a-z]+=)", re.ASCII)
_SCALES = {"": 1, "k": 1_000, "M": 1_000_000}
_TIME = re.compile(r"([0-9]{0,9})([a-z]+)", re.ASCII)
_UNITS_MS = {
    1: ("ms",),
    1_000: ("s", "sec", "second", "seconds"),
    60_000: ("min", "m", "minute", "minutes"),
    3_600_000: ("h", "hour", "hours"),
    86_400_000: ("day", "d", "days"),
    604_800_000: ("week", "w", "weeks"),
}
_UNIT_MS = {word: length_ms for length_ms, words in _UNITS_MS.items() for word in words}
_WRITTEN_UNITS = ((86_400_000, "d", "day"), (3_600_000, "h", "h"), (60_000, "min", "min"), (1_000, "s", "s"))
_MIDNIGHT = re.compile(r"T00:00:00(\.0+)?Z$", re.ASCII)
_SUBJECTS = ("key", "owner", "workspace")
_NO_OPTIONS = "a window takes nothing more: burst= belongs to bucket:, from= to quota:, refill= and max= to credits:"
_KINDS = ("window", "bucket", "quota", "soft-quota", "credits")


class NotationError(ValueError):
    """Raised when a limit is not understood; ``start`` and ``end`` say which part of the text is meant."""

    def __init__(self, message: str, text: str, start: int, end: int) -> None:
        """Say what is wrong with ``text[start:end]``."""
        super().__init__(message)
        self.text = text
        self.start = start
        self.end = end

    def pointed(self) -> str:
        """Write the message, and under it the text with a line under what is meant."""
        return f"{self}\n\n    {self.text}\n    {' ' * self.start}{'^' * max(1, self.end - self.start)}"


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a text that knows where in it it stands, so that a complaint can point at it."""

    whole: str
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.whole[self.start : self.end]

    def complain(self, message: str) -> NoReturn:
        raise NotationError(message, self.whole, self.start, self.end)

    def cut(self, separator: str, *, last: bool = False) -> tuple[_Part, _Part | None]:
        """Return what is before and after ``separator``; None after when it is not there."""
        place = self.text.rfind(separator) if last else self.text.find(separator)
        if place < 0:
            return self, None
        middle = self.start + place
        return _Part(self.whole, self.start, middle), _Part(self.whole, middle + len(separator), self.end)


def limit_of(text: str) -> Message:
    """Read a limit, as the contract's JSON has it; raise ``NotationError``."""
    name, rest = _Part(text, 0, len(text)).cut("=")
    if rest is None or not _NAME.fullmatch(name.text):
        name.complain("a limit begins with its name, 1 to 40 of a-z 0-9 _ -, as in requests=100/min")
    body, subject = rest.cut("@", last=True)
    limit: Message = {"name": name.text}
    if subject is not None:
        if subject.text not in _SUBJECTS:
            subject.complain("a limit is counted on @key, @owner or @workspace")
        limit["on"] = subject.text.upper()
    kind, described = body.cut(":")
    if _COUNT.fullmatch(kind.text.partition("/")[0]):
        kind, described = _Part(text, body.start, body.start), body
    elif described is None or kind.text not in _KINDS:
        kind.complain(f"write a number and a time, as in 100/min, or one of {', '.join(f'{word}:' for word in _KINDS)}")
    return limit | _READERS[kind.text](described)


def _options(part: _Part, *known: str) -> tuple[_Part, dict[str, _Part]]:
    """Return what stands before the options, and the options; only those that are ``known`` may be there."""
    starts = [found.start() + part.start for found in _OPTION_STARTS.finditer(part.text)]
    found: dict[str, _Part] = {}
    for start, end in pairwise([*starts, part.end]):
        name, value = _Part(part.whole, start + 1, end).cut("=")
        if value is None or name.text not in known:
            takes = f"here only {' and '.join(f'{word}=' for word in known)} may follow" if known else _NO_OPTIONS
            name.complain(takes)
        if name.text in found:
            name.complain(f"{name.text}= is given twice")
        found[name.text] = value
    return _Part(part.whole, part.start, starts[0] if starts else part.end), found


def _count(part: _Part) -> int:
    found = _COUNT.fullmatch(part.text)
    if found is None:
        part.complain("this should be a number, as in 100, 10_000, 10k or 5M")
    value = int(found[1]) * _SCALES[found[2]]
    if value > COUNT_MAX:
        part.complain(f"this is more than {COUNT_MAX:,}, the greatest count there is")
    return value


def _rate(part: _Part) -> tuple[int, _Part]:
    """Read ``100/…``: the count, and what stands behind the stroke."""
    count, period = part.cut("/")
    value = _count(count)
    if period is None:
        count.complain(f"say in which time, as in {count.text}/min")
    return value, period


def _length_json(part: _Part) -> str:
    found = _TIME.fullmatch(part.text)
    if found is not None and found[2] in {"month", "months"}:
        part.complain("months differ in length: write quota:… for a calendar month, or 30d")
    length_ms = duration_ms(part.text)
    if found is not None and found[2] in _UNIT_MS:
        length_ms = int(found[1] or "1") * _UNIT_MS[found[2]]
    if length_ms is None:
        part.complain("this should be a time: s, min, h, day or week, or so many of them, as in 15min")
    return duration_json(length_ms)


def _window(part: _Part) -> Message:
    body, _ = _options(part)
    limit, length = _rate(body)
    return {"slidingWindow": {"limit": limit, "window": _length_json(length)}}


def _bucket(part: _Part) -> Message:
    body, options = _options(part, "burst")
    rate, length = _rate(body)
    burst = _count(options["burst"]) if "burst" in options else rate
    return {"tokenBucket": {"rate": rate, "per": _length_json(length), "burst": burst}}


def _quota(part: _Part) -> Message:
    body, options = _options(part, "from")
    limit, period = _rate(body)
    if period.text not in {"day", "month"}:
        period.complain("a quota is for each day or month; for other times write a window, as in 100/15min")
    quota: Message = {"limit": limit, "period": period.text.upper()}
    if "from" in options:
        quota["anchor"] = _moment_json(options["from"])
    return {"quota": quota}


def _soft_quota(part: _Part) -> Message:
    quota = _quota(part)["quota"]
    return {"quota": {**quota, "soft": True}}


def _moment_json(part: _Part) -> str:
    try:
        moment = absolute(part.text).astimezone(UTC)
    except (ValueError, OverflowError):
        part.complain("this should be a day, as in 2027-01-15, or a time, as in 2027-01-15T12:00:00Z")
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _credits(part: _Part) -> Message:
    body, options = _options(part, "refill", "max")
    credit: Message = {"balance": _count(body)}
    if "refill" in options:
        credit["refill"], length = _rate(options["refill"])
        credit["refillEvery"] = _length_json(length)
    if "max" in options:
        credit["maximum"] = _count(options["max"])
    return {"credits": credit}


_READERS: Mapping[str, Callable[[_Part], Message]] = {
    "": _window,
    "window": _window,
    "bucket": _bucket,
    "quota": _quota,
    "soft-quota": _soft_quota,
    "credits": _credits,
}


def notation(limit: Mapping[str, Any]) -> str:
    """Write a limit from the contract's JSON so that ``limit_of`` reads it back."""
    return f"{limit['name']}={rule(limit)}"


def rule(limit: Mapping[str, Any]) -> str:
    """Write a limit without its name; a question mark for a kind that only a newer version knows."""
    written = next((write(limit[field]) for field, write in _WRITERS.items() if limit.get(field)), "?")
    on = str(limit.get("on", "")).lower()
    return f"{written}@{on}" if on in _SUBJECTS[1:] else written


def length_of(text: object) -> str:
    """Write a length of time, from protobuf's JSON: ``min``, ``15min``, ``30d``."""
    length_ms = (duration_us(text) or 0) // 1_000
    for unit_ms, many, one in _WRITTEN_UNITS:
        if length_ms and length_ms % unit_ms == 0:
            return one if length_ms == unit_ms else f"{length_ms // unit_ms}{many}"
    return f"{length_ms}ms"


def _write_window(window: Mapping[str, Any]) -> str:
    return f"{number(window.get('limit'))}/{length_of(window.get('window'))}"


def _write_bucket(bucket: Mapping[str, Any]) -> str:
    rate, burst = number(bucket.get("rate")), number(bucket.get("burst"))
    return f"bucket:{rate}/{length_of(bucket.get('per'))}:burst={burst}"


def _write_quota(quota: Mapping[str, Any]) -> str:
    kind = "soft-quota" if quota.get("soft") else "quota"
    anchor = str(quota.get("anchor") or "")
    since = f":from={_MIDNIGHT.sub('', anchor)}" if anchor else ""
    return f"{kind}:{number(quota.get('limit'))}/{str(quota.get('period', '')).lower()}{since}"


def _write_credits(credit: Mapping[str, Any]) -> str:
    text = f"credits:{number(credit.get('balance'))}"
    if credit.get("refill"):
        text += f",refill={number(credit['refill'])}/{length_of(credit.get('refillEvery'))}"
    return f"{text},max={number(credit['maximum'])}" if credit.get("maximum") else text


_WRITERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "slidingWindow": _write_window,
    "tokenBucket": _write_bucket,
    "quota": _write_quota,
    "credits": _write_credits,
}
