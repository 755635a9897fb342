"""``keystead sinks …``: where the event log is carried; each command is imported when it runs."""

from __future__ import annotations

from keystead.cli.application import Entry, LazyGroup

_HELP = """Make and look after sinks, which carry the event log elsewhere.

A sink carries every event of the workspace, and every checkpoint, in order and at least once: to a service that takes
CloudEvents over HTTP, or to a file. It goes on where it was, whatever fails in between.
"""

sinks = LazyGroup(
    "sinks",
    help=_HELP,
    entries={
        "list": Entry("keystead.cli.sinks.reading:list_sinks", "List sinks, the oldest first."),
        "get": Entry("keystead.cli.sinks.reading:get", "Show one sink, how far it has come and what keeps it."),
        "create": Entry("keystead.cli.sinks.changing:create", "Make a sink and begin to carry."),
        "update": Entry("keystead.cli.sinks.changing:update", "Change a sink; it goes on from where it is."),
        "delete": Entry("keystead.cli.sinks.changing:delete", "Delete a sink for good."),
        "test": Entry(
            "keystead.cli.sinks.reading:test", "Send one event that is none of the log's, and say what was answered."
        ),
        "replay": Entry(
            "keystead.cli.sinks.changing:replay", "Carry again from an earlier place, or what was refused."
        ),
    },
)
