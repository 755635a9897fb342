"""Pages of a list: bounded sizes, and tokens that only their own list accepts.

A token is the position after the page and a MAC over it and over the question asked, so it cannot be made by hand, used
with other filters or used by another tenant.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from keystead.kernel.errors import invalid

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 1_000
_MAC_BYTES = 16

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """At most ``size`` items after ``position``; the position is the last item's sort key, empty for the first page."""

    size: int
    position: tuple[str, ...] = ()
    ascending: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Items, and the position after the last of them when there are more."""

    items: Sequence[Item]
    next_position: tuple[str, ...] | None = None


class PageTokens:
    """Makes and reads page tokens under one secret."""

    def __init__(self, secret: bytes) -> None:
        """Sign with ``secret``, 32 bytes."""
        self._secret = secret

    def request(
        self, *, page_size: int, page_token: str, question: Mapping[str, object], ascending: bool
    ) -> PageRequest:
        """Read what a caller sent; ``question`` is everything that must be the same for every page of one list."""
        if page_size < 0:
            raise invalid("page_size", "must not be negative")
        size = min(page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        if not page_token:
            return PageRequest(size=size, ascending=ascending)
        return PageRequest(size=size, position=self._position(page_token, question), ascending=ascending)

    def token(self, position: tuple[str, ...] | None, question: Mapping[str, object]) -> str:
        """Make the token for ``position``, or an empty text when there is no further page."""
        if position is None:
            return ""
        body = json.dumps(position).encode()
        return base64.urlsafe_b64encode(self._mac(body, question) + body).decode().rstrip("=")

    def _position(self, token: str, question: Mapping[str, object]) -> tuple[str, ...]:
        wrong = invalid("page_token", "is not from the last reply to this same list; begin again without it")
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise wrong from None
        mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(body, question)):
            raise wrong
        return tuple(json.loads(body))

    def _mac(self, body: bytes, question: Mapping[str, object]) -> bytes:
        asked = json.dumps(question, sort_keys=True).encode()
        return hmac.digest(self._secret, hashlib.sha256(asked).digest() + body, "sha256")[:_MAC_BYTES]


def cut(items: Sequence[Item], size: int, position: Callable[[Item], tuple[str, ...]]) -> Page[Item]:
    """Make a page of at most ``size`` items out of up to ``size + 1`` that a store returned."""
    if len(items) <= size:
        return Page(items)
    kept = items[:size]
    return Page(kept, position(kept[-1]))
