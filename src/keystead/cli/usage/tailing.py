"""``keystead usage tail``: calls as they are counted.

The server says with every message up to when it has told everything. So a stream that breaks is asked for again from
there on, and what was shown already is not shown twice.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import click

from keystead.cli.application import command
from keystead.cli.flags import with_options
from keystead.cli.message import Message
from keystead.cli.output import show
from keystead.cli.parameters import Moment
from keystead.cli.problems import warn
from keystead.cli.session import Session, speaks_to_server
from keystead.cli.streaming import StreamBrokenError
from keystead.cli.usage.asking import SERVICE, filter_of, filtered
from keystead.cli.usage.calls import call_line

RESUMES_MAX = 10
RESUME_WAIT_S = 1.0


@command(
    "tail",
    examples=(
        "keystead usage tail",
        "keystead usage tail --owner cus_42 --code rate_limited",
        "keystead usage tail --from 5m --limit 100 --json",
    ),
)
@filtered()
@with_options(
    click.option("--from", "from_at", type=Moment(past=True), help="Since a time, or 5m ago; an hour at most. [now]"),
    click.option("--limit", type=click.IntRange(1), help="End after so many calls."),
)
@speaks_to_server()
def tail(session: Session, *, from_at: str | None, limit: int | None, **given: Any) -> None:
    """Print calls as they are counted, until Ctrl-C.

    A call is shown a second or two after its verdict, once, and in the order of time. With --json each is one object on
    one line. A connection that breaks is made again and nothing is lost; --timeout says how long it may be silent.
    """
    left = limit
    for message in _messages(session, {"filter": filter_of(given), "from": from_at}):
        found = message["calls"][:left]
        _print(found, as_json=session.as_json)
        if left is not None:
            left -= len(found)
            if left == 0:
                return


def _messages(session: Session, asked: Message) -> Iterator[Message]:
    """Yield messages, each call once, over as many streams as it takes; give up when 10 in a row bring nothing."""
    told: set[str] = set()
    failures = 0
    begun = False
    while True:
        try:
            for message in session.stream(SERVICE, "TailCalls", asked):
                failures, begun = 0, True
                calls = [call for call in message.get("calls", []) if call["verificationId"] not in told]
                if calls:
                    told = {call["verificationId"] for call in calls}
                asked = {**asked, "from": message.get("completeUntil") or asked["from"]}
                yield {**message, "calls": calls}
            failures += 1
        except StreamBrokenError as error:
            failures += 1
            if not begun or failures > RESUMES_MAX:
                raise
            warn(f"{error.problem.message} Trying again.")
        if failures > RESUMES_MAX:
            return
        threading.Event().wait(RESUME_WAIT_S)


def _print(calls: list[Message], *, as_json: bool) -> None:
    if as_json:
        for call in calls:
            click.echo(json.dumps(call, ensure_ascii=False))
    elif calls:
        show(*map(call_line, calls))
