"""Who calls: the bearer of a management or operator key, found by the same way as every other secret.

Why a call was refused is kept for the log, with the key when its secret was proven; every reason answers the caller
alike.
"""

from __future__ import annotations

from typing import Protocol

from keystead.kernel.clock import Clock
from keystead.keys import addresses
from keystead.keys.errors import Proven, RefusedFor, UnauthenticatedError
from keystead.keys.model import KeyState
from keystead.keys.principal import Principal
from keystead.tenants.model import RESERVED_BRAND
from keystead.verification.cache import Entry
from keystead.verification.last_use import LastUses
from keystead.verification.model import Code
from keystead.verification.resolver import SecretResolver

_SCHEME = "bearer "
_PRINCIPALS_KEPT = 10_000
_REASONS = {Code.MALFORMED: RefusedFor.MALFORMED, Code.NOT_FOUND: RefusedFor.UNKNOWN}


class Source(Protocol):
    """Where a call comes from; the address is read only for keys that are bound to one."""

    @property
    def peer(self) -> str:
        """The other end's address, without its port; "" when it has none."""
        ...


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
            raise UnauthenticatedError(RefusedFor.NOT_BEARER if authorization else RefusedFor.MISSING)
        presented = authorization[len(_SCHEME) :].strip(" ")
        parsed = self._resolver.parse(presented)
        if isinstance(parsed, Code):
            raise UnauthenticatedError(_REASONS[parsed])
        text, master_id = parsed
        if text.brand != RESERVED_BRAND:
            raise UnauthenticatedError(RefusedFor.NOT_MANAGEMENT)
        digest = self._resolver.digest(presented)  # whatever the header's spelling: one secret, one proof
        found = self._resolver.warm(digest) or await self._resolver.cold(digest, text, master_id)
        if isinstance(found, Code):
            raise UnauthenticatedError(_REASONS[found])
        if not self._admits(found, source):
            proven = Proven(found.key_id, found.workspace_id, found.environment)
            raise UnauthenticatedError(self._why_not(found), proven)
        return self._keep(self._resolver.digest(authorization), digest, found)

    def _admits(self, entry: Entry, source: Source) -> bool:
        if not entry.own or not entry.usable or self._clock.now_ms() >= entry.ends_at_ms:
            return False
        return not entry.networks or addresses.contains(entry.networks, source.peer)

    def _why_not(self, entry: Entry) -> RefusedFor:
        """Say why an entry that is not admitted is not, in the order of verdicts."""
        if not entry.own:
            return RefusedFor.NOT_MANAGEMENT
        if entry.state is KeyState.REVOKED:
            return RefusedFor.REVOKED
        if not entry.usable:
            return RefusedFor.SUSPENDED
        return RefusedFor.EXPIRED if self._clock.now_ms() >= entry.ends_at_ms else RefusedFor.WRONG_ADDRESS

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
