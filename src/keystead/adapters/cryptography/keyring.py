"""Master keys and the subkeys that HKDF derives from each, one per use, so that no two uses share a key.

The id of a master key is derived from it as well, so a configuration cannot name one wrongly; a check value in the
database tells a node that holds another key under the same name.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from collections.abc import Iterable, Mapping, Set

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MASTER_KEY_BYTES = 32
_NONCE_BYTES = 12


def derive(secret: bytes, use: str, length_bytes: int = 32) -> bytes:
    """Derive the subkey for ``use`` (HKDF-SHA256, RFC 5869, no salt: the secret is uniformly random)."""
    return HKDF(algorithm=SHA256(), length=length_bytes, salt=None, info=b"keystead/v1/" + use.encode()).derive(secret)


def decode_master_key(text: str) -> bytes:
    """Read one master key: 32 bytes in base64 or 64 hex digits; raise ``ValueError`` without quoting it."""
    text = text.strip()
    try:
        raw = bytes.fromhex(text) if len(text) == 2 * MASTER_KEY_BYTES else _any_base64(text)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != MASTER_KEY_BYTES:
        message = f"a master key must be {MASTER_KEY_BYTES} bytes, in base64 or as {2 * MASTER_KEY_BYTES} hex digits"
        raise ValueError(message)
    return raw


def _any_base64(text: str) -> bytes:
    """Read either alphabet of base64, padded or not."""
    digits = text.rstrip("=").replace("-", "+").replace("_", "/")
    return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)


class _Master:
    __slots__ = ("audit", "check", "id", "pepper", "replies", "sinks", "slots", "tag")

    def __init__(self, secret: bytes) -> None:
        self.id = derive(secret, "id", 4).hex()
        self.check = derive(secret, "check", 16)
        self.tag = derive(secret, "tag")
        self.pepper = derive(secret, "pepper")
        self.slots = derive(secret, "idempotency-slot")
        self.replies = derive(secret, "idempotency-reply")
        self.audit = derive(secret, "audit-key")
        self.sinks = derive(secret, "sink-secrets")


class MasterKeyring:
    """``Keyring`` over the configured master keys, the newest first; also what is signed and sealed besides secrets."""

    def __init__(self, secrets: Iterable[bytes], *, distrusted: Set[str] = frozenset()) -> None:
        """Derive from each of ``secrets``; ``distrusted`` names masters whose tags no longer prove anything."""
        self._masters = {master.id: master for master in map(_Master, secrets)}
        if not self._masters:
            message = "at least one master key is needed"
            raise ValueError(message)
        self._current = next(iter(self._masters.values()))
        if self._current.id in distrusted:
            message = f"master key {self._current.id} is distrusted and would mint; put a new one before it"
            raise ValueError(message)
        self._distrusted = distrusted
        self.page_token_secret = derive(self._current.tag, "page-tokens")

    @property
    def current_id(self) -> str:
        """The master that mints."""
        return self._current.id

    @property
    def checks(self) -> dict[str, bytes]:
        """The check value of each master by its id, the newest first."""
        return {master.id: master.check for master in self._masters.values()}

    def tag(self, signed: bytes) -> bytes:
        """Return the HMAC-SHA256 of ``signed`` under the current master's tag subkey."""
        return hmac.digest(self._current.tag, signed, "sha256")

    def tags(self, signed: bytes) -> Mapping[str, bytes]:
        """Return the HMAC-SHA256 of ``signed`` under each master's tag subkey."""
        return {master.id: hmac.digest(master.tag, signed, "sha256") for master in self._masters.values()}

    def pepper(self, master_id: str, entropy: bytes) -> bytes:
        """Return base64 of HMAC-SHA256(pepper, entropy): 44 bytes, so bcrypt cuts nothing off and meets no NUL."""
        return base64.b64encode(hmac.digest(self._masters[master_id].pepper, entropy, "sha256"))

    def distrusted(self, master_id: str) -> bool:
        """Say whether tags of this master no longer prove anything."""
        return master_id in self._distrusted

    def slot_hmacs(self, idempotency_key: str) -> list[bytes]:
        """Return what may be stored in place of an idempotency key, by the newest master first."""
        return [hmac.digest(master.slots, idempotency_key.encode(), "sha256") for master in self._masters.values()]

    def seal(self, idempotency_key: str, reply: bytes) -> bytes:
        """Encrypt a reply under HKDF(master, idempotency key) with AES-256-GCM: master id, nonce, ciphertext."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._reply_cipher(self._current, idempotency_key).encrypt(nonce, reply, None)
        return bytes.fromhex(self._current.id) + nonce + sealed

    def open(self, idempotency_key: str, sealed: bytes) -> bytes | None:
        """Undo ``seal``; None when its master key is gone or it was tampered with."""
        master = self._masters.get(sealed[:4].hex())
        if master is None:
            return None
        nonce, body = sealed[4 : 4 + _NONCE_BYTES], sealed[4 + _NONCE_BYTES :]
        try:
            return self._reply_cipher(master, idempotency_key).decrypt(nonce, body, None)
        except (InvalidTag, ValueError):  # a ValueError: cut off so short that there is no nonce
            return None

    def seal_audit_key(self, private: bytes, public: bytes) -> tuple[str, bytes]:
        """Encrypt the key that signs checkpoints, bound to its public half; return the master's id and the result."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._current.id, nonce + AESGCM(self._current.audit).encrypt(nonce, private, public)

    def open_audit_key(self, master_id: str, sealed: bytes, public: bytes) -> bytes | None:
        """Undo ``seal_audit_key``; None when its master key is gone, or when it or ``public`` was tampered with."""
        master = self._masters.get(master_id)
        if master is None:
            return None
        try:
            return AESGCM(master.audit).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], public)
        except (InvalidTag, ValueError):  # a ValueError: cut off so short that there is no nonce
            return None

    def seal_for_sink(self, sink_id: str, secrets: bytes) -> tuple[str, bytes]:
        """Encrypt what a sink proves itself with, bound to the sink; return the master's id and the result."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._current.id, nonce + AESGCM(self._current.sinks).encrypt(nonce, secrets, sink_id.encode())

    def open_for_sink(self, sink_id: str, master_id: str, sealed: bytes) -> bytes | None:
        """Undo ``seal_for_sink``; None when its master key is gone, it is another sink's, or was tampered with."""
        master = self._masters.get(master_id)
        if master is None:
            return None
        try:
            return AESGCM(master.sinks).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], sink_id.encode())
        except (InvalidTag, ValueError):  # a ValueError: cut off so short that there is no nonce
            return None

    @staticmethod
    def _reply_cipher(master: _Master, idempotency_key: str) -> AESGCM:
        return AESGCM(derive(master.replies + idempotency_key.encode(), "idempotency-reply"))
