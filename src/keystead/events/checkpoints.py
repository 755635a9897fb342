"""Checkpoints (C2SP tlog-checkpoint): how large a workspace's log was, and the root of its tree, signed.

Origin and key are named after the workspace, so a checkpoint of one can never pass for one of another's, though one key
signs them all. Whoever keeps a checkpoint cannot be shown another past.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from keystead.events.merkle import HASH_BYTES, append, root
from keystead.events.notes import Note, NoteError, Signer, Verifier, VerifierKey, sign_note

SIZE_MAX = (1 << 63) - 1
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_LINES = 4


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """That the log ``origin`` had ``size`` events, whose tree has the root ``root_hash`` of 32 bytes."""

    origin: str
    size: int
    root_hash: bytes

    def body(self) -> str:
        """Write the text that is signed: origin, size and root, a line each."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root_hash).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``body`` writes, byte for byte; raise ``NoteError`` for anything else, also more lines."""
        lines = text.split("\n")
        if len(lines) != _LINES or not _SIZE.fullmatch(lines[1]):
            raise NoteError("the note is no checkpoint")
        try:
            read = cls(lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True))
        except (binascii.Error, ValueError):
            raise NoteError("the note is no checkpoint") from None
        if not read.origin or read.size > SIZE_MAX or len(read.root_hash) != HASH_BYTES or read.body() != text:
            raise NoteError("the note is no checkpoint")
        return read


@dataclass(frozen=True, slots=True)
class KeptCheckpoint:
    """A checkpoint as it is stored: the signed ``note``, and the ``frontier`` from which the next is computed.

    ``made_at_ms`` is when it was last confirmed; the note itself names no moment.
    """

    workspace_id: str
    size: int
    frontier: bytes
    note: str
    made_at_ms: int

    @property
    def root_hash(self) -> bytes:
        """The root of the tree, 32 bytes."""
        return root(self.frontier)


def origin_of(workspace_id: str) -> str:
    """Name a workspace's log, and the key that signs its checkpoints."""
    return f"keystead/{workspace_id}"


def verifier_key(workspace_id: str, public_key: bytes) -> VerifierKey:
    """Return what the checkpoints of a workspace are verified with."""
    return VerifierKey(origin_of(workspace_id), public_key)


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer) -> str:
    """Return the signed note."""
    return str(sign_note(checkpoint.body(), checkpoint.origin, signer))


def open_checkpoint(note: str, key: VerifierKey, verifier: Verifier) -> Checkpoint:
    """Return the checkpoint in a note signed by ``key``; raise ``NoteError`` when it is not that, or not of its log."""
    read = Note.parse(note)
    read.verified([key], verifier)
    checkpoint = Checkpoint.parse(read.text)
    if checkpoint.origin != key.name:
        raise NoteError(f"the checkpoint is of {checkpoint.origin}, and the key is that of {key.name}")
    return checkpoint


def grown(frontier: bytes, size: int, leaves: Iterable[bytes]) -> bytes:
    """Return the frontier after ``leaves`` (hashes) were appended to the ``size`` that ``frontier`` is of."""
    for number, leaf in enumerate(leaves, size):
        frontier = append(frontier, number, leaf)
    return frontier
