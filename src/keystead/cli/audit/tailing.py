"""``keystead audit tail``: events as they get their place in the log.

Places have no gaps, so after a break everything beyond the last place that was seen is asked for as a list, and shown
once, before the new stream goes on.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from keystead.cli.application import command
from keystead.cli.audit.asking import FILTERS, SERVICE, filter_of
from keystead.cli.audit.rendering import event_line
from keystead.cli.flags import with_options
from keystead.cli.message import Message
from keystead.cli.output import show
from keystead.cli.problems import warn
from keystead.cli.session import Session, speaks_to_server
from keystead.cli.streaming import StreamBrokenError
from keystead.cli.usage.rendering import number

RESUMES_MAX = 10
RESUME_WAIT_S = 1.0

# An event may get its place after one that happened a little later.
_LATE = timedelta(minutes=5)


@command(
    "tail",
    examples=(
        "keystead audit tail",
        "keystead audit tail --action 'key.*' --owner cus_42",
        "keystead audit tail --action key.revoked --limit 1 --json",
    ),
)
@with_options(*FILTERS, click.option("--limit", type=click.IntRange(1), help="End after so many events."))
@speaks_to_server()
def tail(session: Session, *, limit: int | None, **given: Any) -> None:
    """Print events as they happen, until Ctrl-C.

    An event is shown within a second or two, once, and in the order of the log. With --json each is one object on one
    line. A connection that breaks is made again, and what happened meanwhile is shown; --timeout says how long it may
    be silent.
    """
    left = limit
    for events in _Follower(session, filter_of(given)).events():
        found = events[:left]
        _print(found, as_json=session.as_json)
        if left is not None:
            left -= len(found)
            if left == 0:
                return


class _Follower:
    """Yields each event once, over as many streams as it takes; gives up when 10 in a row bring nothing."""

    def __init__(self, session: Session, asked: Message) -> None:
        self._session = session
        self._asked = asked
        self._from = datetime.now(UTC)
        self._next: int | None = None
        self._failures = 0
        self._begun = False

    def events(self) -> Iterator[list[Message]]:
        """Yield what happened, a part at a time."""
        while True:
            try:
                yield from self._stream()
                self._failures += 1
            except StreamBrokenError as error:
                self._failures += 1
                if not self._begun or self._failures > RESUMES_MAX:
                    raise
                warn(f"{error.problem.message} Trying again.")
            if self._failures > RESUMES_MAX:
                return
            threading.Event().wait(RESUME_WAIT_S)

    def _stream(self) -> Iterator[list[Message]]:
        resumed = self._begun
        for message in self._session.stream(SERVICE, "TailEvents", self._asked):
            if resumed:  # the first message says that the new stream tells everything from here on
                yield self._news(self._missed())
                resumed = False
            self._failures, self._begun = 0, True
            yield self._news(message.get("events", []))

    def _missed(self) -> list[Message]:
        since = (self._from - _LATE).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        asked = {**self._asked, "from": since, "orderBy": "occurred_at asc", "everyPage": True}
        found = self._session.pages(SERVICE, "ListEvents", asked, field="events")["events"]
        placed = [event for event in found if "index" in event]
        if self._next is None:
            placed = [event for event in placed if _moment(event) >= self._from]
        return sorted(placed, key=lambda event: number(event["index"]))

    def _news(self, events: list[Message]) -> list[Message]:
        """Leave out what was told already."""
        news = [event for event in events if number(event["index"]) >= (self._next or 0)]
        if news:
            self._next = number(news[-1]["index"]) + 1
            self._from = _moment(news[-1])
        return news


def _moment(event: Message) -> datetime:
    return datetime.fromisoformat(event["occurredAt"])


def _print(events: list[Message], *, as_json: bool) -> None:
    if as_json:
        for event in events:
            click.echo(json.dumps(event, ensure_ascii=False))
    elif events:
        show(*map(event_line, events))
