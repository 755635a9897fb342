"""What is asked about usage: which calls, from when to when, grouped how; the same words for every command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import click

from keystead.cli.flags import Option
from keystead.cli.message import Message, without_empty
from keystead.cli.parameters import Identifier, Moment, Name
from keystead.cli.text import moment_ms
from keystead.cli.usage.timeline import WIDTHS_MS
from keystead.kernel.clock import SystemClock

SERVICE = "UsageService"

_CODES = (
    "VALID",
    "MALFORMED",
    "NOT_FOUND",
    "REVOKED",
    "SUSPENDED",
    "EXPIRED",
    "WRONG_ENVIRONMENT",
    "IP_NOT_ALLOWED",
    "INSUFFICIENT_SCOPE",
    "FORBIDDEN",
    "RATE_LIMITED",
    "QUOTA_EXCEEDED",
)
WORLD = Name(("LIVE", "TEST"))
GROUP = Name(("KEY", "SECRET", "OWNER", "OPERATION", "CODE", "ENVIRONMENT", "TAG"))
INTERVAL = Name(tuple(WIDTHS_MS))

KEY_FILTER = click.option("--key", "key_id", type=Identifier(), metavar="KEY_ID", help="Calls of this key.")
_FILTERS: tuple[Option, ...] = (
    click.option("--secret", "secret_id", type=Identifier(), metavar="SECRET_ID", help="Calls with this secret."),
    click.option("--owner", "owner_id", type=Identifier(), metavar="OWNER_ID", help="Calls of this owner's keys."),
    click.option("--operation", help="Calls with exactly this operation name."),
    click.option("--code", type=Name(_CODES), metavar="CODE", help="Calls with this verdict, as in rate_limited."),
    click.option("--environment", type=WORLD, help="Calls of this world."),
    click.option("--tag", help="Calls with this tag."),
)
FROM = click.option(
    "--from",
    "from_at",
    type=Moment(past=True),
    default="24h",
    show_default=True,
    help="Since a time, a day, or 7d ago.",
)
TO = click.option("--to", "to_at", type=Moment(past=True), help="Up to a time, a day, or 1h ago. [now]")

_FILTER_NAMES = {
    "key_id": "keyId",
    "secret_id": "secretId",
    "owner_id": "ownerId",
    "operation": "operation",
    "code": "code",
    "environment": "environment",
    "tag": "tag",
}


def filtered(*, key: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the filters, which it takes as ``given``; ``--key`` when the key is no argument of its own."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed((*((KEY_FILTER,) if key else ()), *_FILTERS)):
            function = option(function)
        return function

    return decorate


def filter_of(given: dict[str, Any]) -> Message:
    """Write the filters given as the contract does."""
    return without_empty({name: given.get(own) for own, name in _FILTER_NAMES.items()})


def filters_said(given: dict[str, Any]) -> str:
    """Name the filters given, the key aside, as a person types them."""
    names = [own for own in _FILTER_NAMES if own != "key_id" and given.get(own)]
    return ", ".join(f"{own.removesuffix('_id')} {given[own]}" for own in names)


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when; up to now when there is no ``to_at``."""

    from_at: str
    to_at: str | None

    @property
    def from_ms(self) -> int:
        """When it begins."""
        return moment_ms(self.from_at)

    @property
    def to_ms(self) -> int:
        """When it ends."""
        return moment_ms(self.to_at) if self.to_at else SystemClock().now_ms()

    def message(self) -> Message:
        """Write it as the contract does; without an end the server's clock counts."""
        return without_empty({"from": self.from_at, "to": self.to_at})


def zone_of(name: str) -> tzinfo:
    """Find a time zone by its name, as in ``Europe/Rome``."""
    if not name or name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        message = f"there is no time zone {name!r}; a name looks like Europe/Rome"
        raise click.BadParameter(message, param_hint="--time-zone") from None
