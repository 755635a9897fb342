"""Signed notes (C2SP signed-note): a text that people can read, and below it who signed it.

A reader opens a note with the keys that he trusts. Signatures by others are left aside, for anybody may add one; but a
signature that names a trusted key and fails is never passed over: it is what a forger would leave.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

ED25519 = b"\x01"
PUBLIC_KEY_BYTES = 32
NOTE_CHARACTERS_MAX = 65_536
SIGNATURES_MAX = 100
_KEY_ID_BYTES = 4
_DASH = "\N{EM DASH} "
_NAME = re.compile(r"[^\s+]+")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_KEY_ID = re.compile(r"[0-9a-f]{8}")


class NoteError(ValueError):
    """Raised for a note that cannot be read or is not vouched for; the text says why."""


class Signer(Protocol):
    """An Ed25519 key that signs (RFC 8032)."""

    @property
    def public_key(self) -> bytes:
        """What its signatures are verified with, 32 bytes."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Sign ``message``: 64 bytes, the same for the same message."""
        ...


class Verifier(Protocol):
    """Verifies Ed25519 signatures."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Say whether ``signature`` is one of ``message`` by the owner of ``public_key``; never raises."""
        ...


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """An Ed25519 public key under a name; the name is part of its id, so one key may be several signers."""

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for a name with spaces or plus signs, or a key of another length."""
        if not _NAME.fullmatch(self.name):
            message = "the name of a key must not be empty, nor hold spaces or plus signs"
            raise ValueError(message)
        if len(self.public_key) != PUBLIC_KEY_BYTES:
            message = f"a public key must be {PUBLIC_KEY_BYTES} bytes"
            raise ValueError(message)

    @property
    def key_id(self) -> bytes:
        """The first four bytes of SHA-256 over the name, a line end, the algorithm and the key."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public_key).digest()[:_KEY_ID_BYTES]

    def text(self) -> str:
        """Write the key as C2SP does: ``name+id+base64``."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(ED25519 + self.public_key).decode()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``text`` writes; raise ``ValueError`` for anything else, and for other algorithms."""
        name, _, rest = text.strip().partition("+")
        stated, _, encoded = rest.partition("+")
        data = _from_base64(encoded)
        if data is None or not _KEY_ID.fullmatch(stated):
            message = "a public key must be written as name+id+base64"
            raise ValueError(message)
        if data[:1] != ED25519:
            message = "the public key is not of Ed25519"
            raise ValueError(message)
        key = cls(name, data[1:])
        if key.key_id.hex() != stated:
            message = "the id in the public key is not that of its name and bytes: it was cut or changed"
            raise ValueError(message)
        return key


@dataclass(frozen=True, slots=True)
class Signature:
    """One line below a note: the signer's name, four bytes of a key's id, and the signature itself."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A text, which ends with a line end, and its signatures."""

    text: str
    signatures: Sequence[Signature]

    def __str__(self) -> str:
        """Write the note as it is kept and sent."""
        lines = [f"{_DASH}{it.name} {_to_base64(it.key_id + it.signature)}\n" for it in self.signatures]
        return f"{self.text}\n{''.join(lines)}"

    @classmethod
    def parse(cls, written: str) -> Self:
        """Read a note of up to 65,536 characters and 100 signatures; raise ``NoteError`` when it is none."""
        if len(written) > NOTE_CHARACTERS_MAX:
            raise NoteError("the note is too long")
        if _CONTROL.search(written):
            raise NoteError("the note holds control characters")
        text, blank, below = written.rpartition("\n\n")
        if not blank or not below.endswith("\n"):
            raise NoteError("the note does not end with signatures")
        lines = below[:-1].split("\n")
        if len(lines) > SIGNATURES_MAX:
            raise NoteError(f"the note has more than {SIGNATURES_MAX} signatures")
        return cls(text + "\n", [_signature(line) for line in lines])

    def verified(self, keys: Iterable[VerifierKey], verifier: Verifier) -> list[VerifierKey]:
        """Return those of ``keys`` that signed the note.

        Raise ``NoteError`` when none did, or when a signature that names one of them is not by it.
        """
        known = {(key.name, key.key_id): key for key in keys}
        signers: list[VerifierKey] = []
        for it in self.signatures:
            key = known.get((it.name, it.key_id))
            if key is None or key in signers:
                continue
            if not verifier.verify(key.public_key, self.text.encode(), it.signature):
                raise NoteError(f"the signature by {key.name} is not good")
            signers.append(key)
        if not signers:
            raise NoteError("the note is signed by none of the keys that are trusted")
        return signers


def sign_note(text: str, name: str, signer: Signer) -> Note:
    """Sign ``text``, which must end with a line end, under ``name``."""
    if not text.endswith("\n") or _CONTROL.search(text):
        message = "the text of a note must end with a line end and hold no other control characters"
        raise ValueError(message)
    key = VerifierKey(name, signer.public_key)
    return Note(text, [Signature(name, key.key_id, signer.sign(text.encode()))])


def _signature(line: str) -> Signature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    data = _from_base64(encoded)
    if not line.startswith(_DASH) or not _NAME.fullmatch(name) or data is None or len(data) <= _KEY_ID_BYTES:
        raise NoteError("a line below the note is no signature")
    return Signature(name, data[:_KEY_ID_BYTES], data[_KEY_ID_BYTES:])


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _from_base64(text: str) -> bytes | None:
    """Read base64 in its one spelling; None when it is none."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if _to_base64(data) == text else None
