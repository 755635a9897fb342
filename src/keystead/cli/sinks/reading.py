"""Looking at sinks, and trying one out."""

from __future__ import annotations

from typing import Any

import click

from keystead.cli.application import command
from keystead.cli.message import Message
from keystead.cli.output import print_page_end, show
from keystead.cli.parameters import Identifier
from keystead.cli.session import Session, in_pages, speaks_to_server
from keystead.cli.sinks.rendering import print_sink, sinks_table
from keystead.cli.usage.rendering import took, written

SERVICE = "SinkService"
SINK = click.argument("sink_id", type=Identifier())


@command("list", examples=("keystead sinks list", "keystead sinks list --json"))
@in_pages
@speaks_to_server()
def list_sinks(session: Session, *, page: dict[str, Any]) -> None:
    """List sinks, the oldest first.

    LAG is how long the oldest event waits that a sink has not carried yet.
    """
    session.show(session.pages(SERVICE, "ListSinks", page, field="sinks"), _print_page)


@command("get", examples=("keystead sinks get snk_01HZX…", "keystead sinks get snk_01HZX… --json"))
@SINK
@speaks_to_server()
def get(session: Session, *, sink_id: str) -> None:
    """Show one sink, how far it has come and what keeps it.

    What it proves itself with is never shown.
    """
    session.show(session.call(SERVICE, "GetSink", {"sinkId": sink_id}), lambda reply: print_sink(reply["sink"]))


@command("test", examples=("keystead sinks test snk_01HZX…",))
@SINK
@speaks_to_server()
def test(session: Session, *, sink_id: str) -> None:
    """Send one event that is none of the log's, and say what was answered.

    Its type is keystead.sink.test. Exits with 1 when it was not taken.
    """
    reply = session.call(SERVICE, "TestSink", {"sinkId": sink_id})
    session.show(reply, _print_test)
    if not reply.get("delivered"):
        click.get_current_context().exit(1)


def _print_page(reply: Message) -> None:
    found = reply["sinks"]
    if found:
        show(sinks_table(found))
    print_page_end(reply, found, what="sinks")


def _print_test(reply: Message) -> None:
    after = took(reply.get("took"))
    if reply.get("delivered"):
        click.echo(f"Taken, in {after}.")
    else:
        click.echo(f"Not taken, after {after}: {written(reply['error'])}")
