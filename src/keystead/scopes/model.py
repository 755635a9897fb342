"""Scopes as they are granted: ``action:resource``, either of which may be ``*``.

Grants are compiled once per key; asking is then a set look-up, or up to three more when the key holds wildcards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from keystead.kernel.bounds import Bounds
from keystead.kernel.redaction import holds_secret

SCOPES_PER_KEY = 100
SCOPE_CHARACTERS = 128

_PART = r"[A-Za-z0-9][A-Za-z0-9._/-]*"
_ASKED = re.compile(rf"{_PART}:{_PART}", re.ASCII)
_GRANTED = re.compile(rf"(?:\*|{_PART}):(?:\*|{_PART})", re.ASCII)


def is_asked_scope(text: str) -> bool:
    """Say whether ``text`` is a scope that a call may ask for: no wildcard."""
    return len(text) <= SCOPE_CHARACTERS and _ASKED.fullmatch(text) is not None


def is_granted_scope(text: str) -> bool:
    """Say whether ``text`` is a scope that a key may be granted: wildcards are legal."""
    return len(text) <= SCOPE_CHARACTERS and _GRANTED.fullmatch(text) is not None


def check_granted(bounds: Bounds, field: str, scopes: Sequence[str]) -> None:
    """Note in ``bounds`` what is wrong with the scopes that a key is to be granted."""
    if len(scopes) > SCOPES_PER_KEY:
        bounds.add(field, f"must have at most {SCOPES_PER_KEY} entries, not {len(scopes)}")
        return
    for index, scope in enumerate(scopes):
        if not is_granted_scope(scope) or holds_secret(scope):
            bounds.add(
                f"{field}[{index}]",
                "must be action:resource, such as read:invoices or read:*, of [A-Za-z0-9._/-], "
                f"at most {SCOPE_CHARACTERS} characters",
            )
    if len(set(scopes)) != len(scopes):
        bounds.add(field, "must not name a scope twice")


def covering(scope: str) -> frozenset[str]:
    """Return every scope that grants what ``scope`` does: itself, and the wildcards over it."""
    action, _, resource = scope.partition(":")
    return frozenset((scope, f"{action}:*", f"*:{resource}", "*:*"))


class Grants:
    """What a key may do, ready to be asked. Immutable and shared between keys with the same scopes."""

    __slots__ = ("exact", "scopes", "wild")

    def __init__(self, scopes: Iterable[str]) -> None:
        """Compile ``scopes``, each of them well-formed."""
        self.scopes = tuple(scopes)
        self.exact = frozenset(self.scopes)
        self.wild = any("*" in scope for scope in self.scopes)

    def allow(self, scope: str) -> bool:
        """Say whether ``scope`` (``action:resource``, no wildcard) was granted."""
        if scope in self.exact:
            return True
        if not self.wild:
            return False
        action, _, resource = scope.partition(":")
        return f"{action}:*" in self.exact or f"*:{resource}" in self.exact or "*:*" in self.exact

    def cover(self, scope: str) -> bool:
        """Say whether everything that ``scope`` grants, wildcards included, is granted here as well."""
        return not covering(scope).isdisjoint(self.exact)

    def lacking(self, scopes: Iterable[str]) -> list[str]:
        """Return those of ``scopes`` that are not covered."""
        return [scope for scope in scopes if not self.cover(scope)]
