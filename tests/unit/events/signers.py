"""Keys that sign without arithmetic: a signature is a hash that everybody can make, which suits tests alone."""

from __future__ import annotations

import hashlib


class FakeSigner:
    """A ``Signer`` of one seed."""

    def __init__(self, seed: bytes) -> None:
        """Derive the public key from ``seed``."""
        self.public_key = hashlib.sha256(seed).digest()

    def sign(self, message: bytes) -> bytes:
        """Sign ``message``."""
        return hashlib.sha512(self.public_key + message).digest()


class FakeVerifier:
    """The ``Verifier`` of what ``FakeSigner`` signs."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Say whether ``signature`` is one."""
        return hashlib.sha512(public_key + message).digest() == signature
