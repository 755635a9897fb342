"""``keystead audit …``: what happened, and the proof of it; each command is imported when it runs."""

from __future__ import annotations

from keystead.cli.application import Entry, LazyGroup

_HELP = """Read the log of everything that happened, and prove that nobody has rewritten it.

Every change has exactly one event in it. Checkpoints are signed: keep the public key and a checkpoint elsewhere, and
nobody can show you another past.
"""

audit = LazyGroup(
    "audit",
    help=_HELP,
    entries={
        "list": Entry("keystead.cli.audit.listing:list_events", "List what happened, the newest first."),
        "tail": Entry("keystead.cli.audit.tailing:tail", "Print events as they happen, until Ctrl-C."),
        "export": Entry("keystead.cli.audit.exporting:export", "Write the log to a file, with what proves it."),
        "verify": Entry(
            "keystead.cli.audit.verifying:verify", "Check an export offline, and name each record that was touched."
        ),
        "checkpoint": Entry(
            "keystead.cli.audit.proving:checkpoint",
            "Print the latest signed checkpoint: how many events there are, and the root of their tree.",
        ),
        "proof": Entry(
            "keystead.cli.audit.proving:proof", "Print a receipt that EVENT_ID is in the log (C2SP tlog-proof)."
        ),
        "erase": Entry(
            "keystead.cli.audit.erasing:erase", "Erase what is private beside events: addresses and user agents."
        ),
        "public-key": Entry("keystead.cli.audit.proving:public_key", "Print what checkpoints are verified with."),
    },
)
