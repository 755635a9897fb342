"""An export: the log as lines that prove themselves.

The first line names the workspace and where the export begins, each of the others holds one record with what is private
beside it and its own inclusion proof, and the last holds the checkpoint that all proofs lead to. A line is written by a
function of its content alone, in every form: whoever checks it reads it, writes it again and compares bytes, so nothing
hides in spaces or in keys that are told twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

from keystead.events.model import canonical

EXPORT_NAME = "keystead.audit.v1"
INDEX_MAX = (1 << 63) - 1

_HASH_BYTES = 32
_PROOF_HASHES_MAX = 64


class LineError(ValueError):
    """Raised for a line that proves nothing; ``stated`` is the index that it claims, if it claims one."""

    def __init__(self, why: str, stated: int | None = None) -> None:
        """Say why."""
        super().__init__(why)
        self.stated = stated


@dataclass(frozen=True, slots=True)
class Head:
    """What the first line says: whose log it is, and the index of the first record that follows."""

    workspace_id: str
    first_index: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What a record's line says.

    ``record`` and ``private`` are canonical JSON; ``proof`` is the inclusion proof of the record at ``index``, hashes
    of 32 bytes, at most 64 of them.
    """

    index: int
    record: str
    private: str
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class End:
    """What the last line says: the checkpoint, a signed note."""

    note: str


Part = Head | Entry | End


class Form(Protocol):
    """How lines look. Each is whole, with its line end, and none holds another line feed."""

    @property
    def head_start(self) -> bytes:
        """What every first line begins with, and no other line."""
        ...

    @property
    def end_start(self) -> bytes:
        """What every last line begins with, and no other line."""
        ...

    def write(self, part: Part) -> str:
        """Write one line."""
        ...

    def read(self, line: str) -> Part:
        """Read a line, or what was made of one; raise ``LineError`` or another ``ValueError`` when it is none."""
        ...


class JsonLines:
    """The form that programs read: a JSON object on each line."""

    head_start = b'{"export":'
    end_start = b'{"checkpoint":'

    def write(self, part: Part) -> str:
        """Write one line; what is canonical already is taken as it is."""
        return json_of(part) + "\n"

    def read(self, line: str) -> Part:
        """Read a line."""
        return part_of(json.loads(line))


def json_of(part: Part) -> str:
    """Write what a line says as canonical JSON."""
    if isinstance(part, Head):
        return canonical(
            {"export": EXPORT_NAME, "first_index": part.first_index, "workspace_id": part.workspace_id},
        )
    if isinstance(part, End):
        return canonical({"checkpoint": part.note})
    proof = ",".join(f'"{found.hex()}"' for found in part.proof)
    return f'{{"index":{part.index},"private":{part.private},"proof":[{proof}],"record":{part.record}}}'


def part_of(found: Any) -> Part:
    """Read what ``json_of`` wrote, or what was made of it; raise ``ValueError`` when it is nothing of the kind."""
    if not isinstance(found, dict):
        raise LineError("it is no object")
    match sorted(found):
        case ["index", "private", "proof", "record"]:
            return Entry(
                index_of(found["index"]),
                canonical(_object(found["record"])),
                canonical(_object(found["private"])),
                hashes_of(found["proof"]),
            )
        case ["export", "first_index", "workspace_id"]:
            if found["export"] != EXPORT_NAME:
                raise LineError("it is an export of another kind")
            return Head(text_of(found["workspace_id"]), index_of(found["first_index"]))
        case ["checkpoint"]:
            return End(text_of(found["checkpoint"]))
    raise LineError("it holds something else")


def index_of(found: object) -> int:
    """Read an index; ``true`` is none."""
    if type(found) is not int or not 0 <= found <= INDEX_MAX:
        raise LineError("its index is none")
    return found


def text_of(found: object) -> str:
    """Read a text."""
    if not isinstance(found, str):
        raise LineError("it holds something else than text")
    return found


def hashes_of(found: object) -> tuple[bytes, ...]:
    """Read a proof; the hashes are told as hexadecimal text."""
    if not isinstance(found, list) or len(found) > _PROOF_HASHES_MAX:
        raise LineError("its proof is none")
    hashes = tuple(bytes.fromhex(text_of(each)) for each in found)
    if any(len(each) != _HASH_BYTES for each in hashes):
        raise LineError("its proof is none")
    return hashes


def _object(found: object) -> object:
    if not isinstance(found, dict):
        raise LineError("it holds something else than an object")
    return found
