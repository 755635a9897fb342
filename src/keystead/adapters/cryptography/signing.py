"""Ed25519 (RFC 8032): the key that signs checkpoints, and whether a signature is one.

The private half leaves this module only sealed, by AES-256-GCM under a subkey of a master key.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.events.ports import SealedKey
from keystead.keys.masters import WrongMasterKeyError


class Ed25519Signer:
    """A ``Signer``; its ``repr`` tells nothing."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        """Sign with ``private``."""
        self._private = private
        self._public_key = private.public_key().public_bytes_raw()

    @property
    def public_key(self) -> bytes:
        """What its signatures are verified with, 32 bytes."""
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        """Sign ``message``."""
        return self._private.sign(message)


class Ed25519Verifier:
    """A ``Verifier``."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Say whether ``signature`` is one of ``message`` by the owner of ``public_key``; False for what is no key."""
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class SigningKeyVault:
    """The ``KeyVault`` of the configured master keys."""

    def __init__(self, keyring: MasterKeyring) -> None:
        """Seal under ``keyring``."""
        self._keyring = keyring

    def make(self) -> SealedKey:
        """Make a random key, sealed under the newest master."""
        private = Ed25519PrivateKey.generate()
        return self._sealed(private.private_bytes_raw(), private.public_key().public_bytes_raw())

    def open(self, key: SealedKey) -> Ed25519Signer:
        """Return what signs with the key; raise ``WrongMasterKeyError`` when no configured master opens it."""
        return Ed25519Signer(Ed25519PrivateKey.from_private_bytes(self._private(key)))

    def sealed_anew(self, key: SealedKey) -> SealedKey | None:
        """Return the key sealed under the newest master; None when it is already."""
        if key.master_id == self._keyring.current_id:
            return None
        return self._sealed(self._private(key), key.public_key)

    def _sealed(self, private: bytes, public: bytes) -> SealedKey:
        master_id, sealed = self._keyring.seal_audit_key(private, public)
        return SealedKey(public, master_id, sealed)

    def _private(self, key: SealedKey) -> bytes:
        private = self._keyring.open_audit_key(key.master_id, key.sealed, key.public_key)
        if private is None:
            raise WrongMasterKeyError(
                f"The key that signs checkpoints is not opened by the master key {key.master_id}."
            )
        return private
