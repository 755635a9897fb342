"""``keystead usage …``: what keys did; each command is imported when it runs."""

from __future__ import annotations

from keystead.cli.application import Entry, LazyGroup

_HELP = """Show what was called, by whom, when and how it ended.

Every verdict of a key is counted exactly once. Numbers are complete up to a second or two ago, and each command says
until when.
"""

usage = LazyGroup(
    "usage",
    help=_HELP,
    entries={
        "show": Entry("keystead.cli.usage.showing:show_usage", "Draw calls over time, of everything or of one key."),
        "top": Entry("keystead.cli.usage.ranking:top", "Rank who or what calls the most."),
        "calls": Entry("keystead.cli.usage.calls:calls", "List single calls, the newest first."),
        "tail": Entry("keystead.cli.usage.tailing:tail", "Print calls as they are counted, until Ctrl-C."),
        "unused": Entry("keystead.cli.usage.grants:unused", "List what keys were granted and did not use."),
        "reconcile": Entry(
            "keystead.cli.usage.reconciling:reconcile", "Compare usage with what the billing service acknowledged."
        ),
    },
)
