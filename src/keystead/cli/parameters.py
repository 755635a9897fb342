"""What people write on a command line, turned into what the contract's JSON takes.

A secret given where an id belongs is refused without being shown again: it would end in terminals and logs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import click

from keystead.keys.secret_format import complaint

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DURATION = re.compile(r"(?:[0-9]{1,12}(?:ms|[smhdw]))+", re.ASCII)
_DURATION_PART = re.compile(r"([0-9]+)(ms|[smhdw])", re.ASCII)
_DURATION_MS_MAX = 10_000 * 365 * 86_400_000
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def duration_ms(text: str) -> int | None:
    """Read ``24h``, ``90d``, ``1h30m``, ``0s``; None when ``text`` is no duration."""
    if not _DURATION.fullmatch(text):
        return None
    total_ms = sum(int(count) * _UNITS_MS[unit] for count, unit in _DURATION_PART.findall(text))
    return total_ms if total_ms <= _DURATION_MS_MAX else None


def duration_json(total_ms: int) -> str:
    """Write a duration as protobuf's JSON does: seconds, with thousandths when there are any."""
    seconds, thousandths = divmod(total_ms, 1_000)
    return f"{seconds}.{thousandths:03}s" if thousandths else f"{seconds}s"


class Duration(click.ParamType[int]):
    """A length of time, in milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read a duration, or fail with examples."""
        if isinstance(value, int):
            return value
        found = duration_ms(str(value))
        if found is None:
            self.fail("must be a number and a unit (s, m, h, d, w), for example 30m, 24h, 90d, 1h30m, 0s", param, ctx)
        return found


class Moment(click.ParamType[str]):
    """A moment, as protobuf's JSON writes it: RFC 3339 as given, or a duration from now (or back from now)."""

    name = "time"

    def __init__(self, *, past: bool = False, never: bool = False) -> None:
        """Count durations back when ``past``; take the word ``never``, which becomes an empty text, when ``never``."""
        self._past = past
        self._never = never

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read a moment, or fail with examples."""
        text = str(value)
        if self._never and text == "never":
            return ""
        span_ms = duration_ms(text)
        try:
            moment = self._relative(span_ms) if span_ms is not None else absolute(text)
        except (ValueError, OverflowError):
            self._explain(param, ctx)
        return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _relative(self, span_ms: int) -> datetime:
        span = timedelta(milliseconds=span_ms)
        return datetime.now(UTC) - span if self._past else datetime.now(UTC) + span

    def _explain(self, param: click.Parameter | None, ctx: click.Context | None) -> NoReturn:
        direction = "ago" if self._past else "from now"
        never = ", or never" if self._never else ""
        self.fail(
            f"must be a time like 2027-01-31T12:00:00Z, a day like 2027-01-31 (its beginning, UTC),"
            f" or a duration like 30d (that long {direction}){never}",
            param,
            ctx,
        )


def absolute(text: str) -> datetime:
    """Read a day or a time with its zone; raise ``ValueError``."""
    moment = datetime.fromisoformat(text)
    if _DATE.fullmatch(text):
        return moment.replace(tzinfo=UTC)
    if moment.tzinfo is None or "T" not in text.upper():
        raise ValueError("a time without a zone means different moments to different people")
    return moment


class Metadata(click.ParamType[tuple[str, str]]):
    """One entry of metadata, ``name=value``."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split at the first equals sign."""
        if isinstance(value, tuple):
            return value
        entry, separator, text = str(value).partition("=")
        if not entry or not separator:
            self.fail("must look like name=value", param, ctx)
        return entry, text


class Identifier(click.ParamType[str]):
    """An id, passed on as it is; whether it exists is the server's to say."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse a whole secret without quoting it."""
        text = str(value)
        if complaint(text) is None:
            self.fail(
                "that is a whole secret, not an id; `keystead keys identify` finds its key. The secret now stands in"
                " the shell's history: rotate its key if others may read that",
                param,
                ctx,
            )
        return text


class Name(click.Choice[str]):
    """One of the contract's names, in any case; becomes the contract's own spelling."""

    def __init__(self, names: Sequence[str]) -> None:
        """Offer ``names`` in lower case."""
        super().__init__([name.lower() for name in names], case_sensitive=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the contract's spelling."""
        return str(super().convert(value, param, ctx)).upper()


ENVIRONMENT = Name(("LIVE", "TEST", "ALL"))
STATE = Name(("ACTIVE", "SUSPENDED", "REVOKED", "EXPIRED"))
KIND = Name(("CUSTOMER", "SERVICE", "MANAGEMENT", "OPERATOR"))
DURATION = Duration()
