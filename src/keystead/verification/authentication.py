"""Who calls: the bearer of a management or operator key, found by the same way as every other secret.

Refusals are counted by reason and method and never stored one by one; every reason answers the caller alike.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from keystead.kernel.clock import Clock
from keystead.keys import addresses
from keystead.keys.errors import UnauthenticatedError
from keystead.keys.principal import Principal
from keystead.tenants.model import RESERVED_BRAND
from keystead.verification.cache import Entry
from keystead.verification.last_use import LastUses
from keystead.verification.model import Code
from keystead.verification.resolver import SecretResolver

_SCHEME = "bearer "
_PRINCIPALS_KEPT = 10_000
_REFUSALS_KEPT = 4_096


class Source(Protocol):
    """Where a call comes from; the address is read only for keys that are bound to one."""

    @property
    def peer(self) -> str:
        """The other end's address, without its port; "" when it has none."""
        ...


class Refusals:
    """Refused calls by (method, reason): exact sums, bounded groups, the rest under ``other``."""

    def __init__(self, kept: int = _REFUSALS_KEPT) -> None:
        """Keep at most ``kept`` groups apart."""
        self._kept = kept
        self._counts: Counter[tuple[str, str]] = Counter()

    def count(self, method: str, reason: str) -> None:
        """Count one refused call."""
        group = (method, reason)
        if group not in self._counts and len(self._counts) >= self._kept:
            group = ("other", "other")
        self._counts[group] += 1

    def take(self) -> dict[tuple[str, str], int]:
        """Return the counts so far and begin anew."""
        counts, self._counts = dict(self._counts), Counter()
        return counts


class Authenticator:
    """Turns an ``authorization`` header into a ``Principal``."""

    def __init__(self, resolver: SecretResolver, uses: LastUses, clock: Clock) -> None:
        """Find secrets with ``resolver``."""
        self._resolver = resolver
        self._uses = uses
        self._clock = clock
        self._principals: dict[bytes, tuple[bytes, Entry, Principal]] = {}

    def warm(self, authorization: str, source: Source) -> Principal | None:
        """Return the caller when his key was proven before, without awaiting; None to send him to ``authenticate``."""
        known = self._principals.get(self._resolver.digest(authorization))
        if known is None:
            return None
        digest, entry, principal = known
        if self._resolver.warm(digest) is not entry or not self._admits(entry, source):
            return None
        self._uses.note(entry, self._clock.now_ms())
        return principal

    async def authenticate(self, authorization: str, source: Source) -> Principal:
        """Return the caller; raise ``UnauthenticatedError`` for every reason not to."""
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise UnauthenticatedError("missing" if not authorization else "no bearer token")
        presented = authorization[len(_SCHEME) :].strip(" ")
        parsed = self._resolver.parse(presented)
        if isinstance(parsed, Code):
            raise UnauthenticatedError(parsed.value.lower())
        text, master_id = parsed
        if text.brand != RESERVED_BRAND:
            raise UnauthenticatedError("not a management key")
        digest = self._resolver.digest(presented)  # whatever the header's spelling: one secret, one proof
        found = self._resolver.warm(digest) or await self._resolver.cold(digest, text, master_id)
        if isinstance(found, Code):
            raise UnauthenticatedError(found.value.lower())
        if not self._admits(found, source):
            raise UnauthenticatedError("revoked, suspended, expired or used from elsewhere")
        return self._keep(self._resolver.digest(authorization), digest, found)

    def _admits(self, entry: Entry, source: Source) -> bool:
        if not entry.own or not entry.usable or self._clock.now_ms() >= entry.ends_at_ms:
            return False
        return not entry.networks or addresses.contains(entry.networks, source.peer)

    def _keep(self, header_digest: bytes, digest: bytes, entry: Entry) -> Principal:
        principal = Principal(
            key_id=entry.key_id,
            kind=entry.kind,
            workspace_id=entry.workspace_id,
            brand=entry.brand,
            environment=entry.environment,
            grants=entry.grants,
            expires_at_ms=entry.expires_at_ms,
            networks=entry.networks,
        )
        if len(self._principals) >= _PRINCIPALS_KEPT:
            self._principals.clear()
        self._principals[header_digest] = (digest, entry, principal)
        self._uses.note(entry, self._clock.now_ms())
        return principal
