"""What is searched and in which order it is told, the same in every store.

Searching ignores case by Unicode's full case folding, in the text when it is stored and in the question when it is
asked, so no database's own idea of letters matters. Accents are kept: ``é`` is not ``e``.
"""

from __future__ import annotations

from collections.abc import Iterable

from keystead.keys.model import Key, SecretRecord
from keystead.tenants.model import Owner
from keystead.usage.model import Call

MILLISECOND_DIGITS = 15
COUNTED_TEXT_CHARACTERS_MAX = 256
SCOPES_CHARACTERS_MAX = 1_024
TAGS_CHARACTERS_MAX = 2_048
# Control characters are refused in what people send, so no question reaches from one text into the next.
_BETWEEN = "\n"


def fold(text: str) -> str:
    """Return ``text`` as it is compared when case does not matter."""
    return text.casefold()


def searched_in_key(key: Key) -> str:
    """Return what a question about keys is looked for in: name, description, id and owner, folded."""
    return fold(_BETWEEN.join((key.name, key.description, key.id, key.owner_id)))


def searched_in_owner(owner: Owner) -> str:
    """Return what a question about owners is looked for in: id and name, folded."""
    return fold(_BETWEEN.join((owner.owner_id, owner.name)))


def in_order(secrets: Iterable[SecretRecord]) -> tuple[SecretRecord, ...]:
    """Return a key's secrets with the current one first, then the newest."""
    newest = sorted(secrets, key=lambda secret: (secret.created_at_ms, secret.id), reverse=True)
    return tuple(sorted(newest, key=lambda secret: secret.retires_at_ms is not None))


def owner_position(owner: Owner) -> tuple[str, str]:
    """Return where an owner stands in the list of owners."""
    return (f"{owner.created_at_ms:0{MILLISECOND_DIGITS}d}", owner.owner_id)


def call_position(call: Call) -> tuple[str, str]:
    """Return where a call stands in the list of calls."""
    return (f"{call.at_ms:0{MILLISECOND_DIGITS}d}", call.verification_id)


def countable(text: str, at_most: int = COUNTED_TEXT_CHARACTERS_MAX) -> str:
    """Return a caller's text as it is counted: so many characters at most, and none that PostgreSQL refuses.

    A stretch that a database would not take would be tried for ever, so what callers send must not make one.
    """
    if len(text) <= at_most and "\0" not in text:
        return text
    return text[:at_most].replace("\0", "\N{REPLACEMENT CHARACTER}")
