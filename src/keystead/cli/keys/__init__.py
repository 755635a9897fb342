"""``keystead keys …``: everything about keys; each command is imported when it runs."""

from __future__ import annotations

from keystead.cli.application import Entry, LazyGroup

_HELP = """Make, find, rotate and revoke keys.

A key is an owner's permission to call; a secret proves it. A key keeps its id, scopes and history for life, while
rotations give it new secrets.
"""

keys = LazyGroup(
    "keys",
    help=_HELP,
    entries={
        "create": Entry("keystead.cli.keys.making:create", "Make a key and print its secret, once."),
        "list": Entry("keystead.cli.keys.reading:list_keys", "List keys, the newest first."),
        "get": Entry("keystead.cli.keys.reading:get", "Show one key and its secrets' public parts."),
        "update": Entry("keystead.cli.keys.changing:update", "Change what a key may do and what it is called."),
        "rotate": Entry("keystead.cli.keys.making:rotate", "Replace the secret of KEY_ID and print the new one, once."),
        "finish": Entry("keystead.cli.keys.making:finish", "End a rotation now: the old secret stops working."),
        "cancel": Entry("keystead.cli.keys.making:cancel", "Take a rotation back: the new secret stops working."),
        "suspend": Entry("keystead.cli.keys.changing:suspend", "Refuse a key until it is resumed."),
        "resume": Entry("keystead.cli.keys.changing:resume", "Let a suspended key work again."),
        "revoke": Entry("keystead.cli.keys.revoking:revoke", "Refuse a key for good."),
        "revoke-matching": Entry(
            "keystead.cli.keys.revoking:revoke_matching", "Refuse every key that matches for good, all or none."
        ),
        "identify": Entry("keystead.cli.keys.reading:identify", "Say which key a found secret belongs to."),
        "check": Entry("keystead.cli.keys.checking:check", "Say offline whether a string is a well-formed secret."),
    },
)
