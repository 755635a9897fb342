"""The keys of a benchmark, in a file that the server's process and the load generator's both look into.

One line of one width for each key, so that the n-th is found by counting: its secret, its id and its secret's id. The
secrets are plaintext; the master key that made them is the benchmark's own, and file and key go with the benchmark.
"""

from __future__ import annotations

import mmap
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from keystead.kernel.ids import new_id
from keystead.keys import secret_format

BRAND = "acme"
SCOPES = ("read:invoices", "write:invoices", "read:reports")
MADE_AT_MS = 1_790_000_000_000
_LINE = "{text} {key_id} {secret_id}\n"
_TEXT_CHARACTERS = 68
_PREFIX_CHARACTERS = len(f"{BRAND}_live_") + secret_format.LOOKUP_CHARACTERS
_ID_CHARACTERS = 30
LINE_BYTES = _TEXT_CHARACTERS + 2 * _ID_CHARACTERS + 3


def write(path: Path, *, keys: int, tag: secret_format.TagFunction, seed: int = 1) -> None:
    """Make ``keys`` keys whose secrets carry ``tag``; the first of more keys are the same ones."""
    source = random.Random(seed)

    def draw(characters: int) -> str:
        return "".join(source.choices(secret_format.ALPHABET, k=characters))

    with path.open("w", encoding="ascii", newline="\n") as file:
        for place in range(keys):
            file.write(
                _LINE.format(
                    text=secret_format.compose(brand=BRAND, environment="live", tag=tag, draw=draw),
                    key_id=new_id("key", now_ms=MADE_AT_MS + place, random_bits=source.getrandbits),
                    secret_id=new_id("sec", now_ms=MADE_AT_MS + place, random_bits=source.getrandbits),
                )
            )


def owner_id_of(place: int) -> str:
    """Return whose key it is: each has an owner of its own, which costs the most memory."""
    return f"customer-{place}"


def name_of(place: int) -> str:
    """Return the key's name."""
    return f"Key {place}"


def metadata_of(place: int) -> dict[str, str]:
    """Return two entries whose values no other key shares in memory."""
    return {"plan": f"plan-{place % 3}", "account": f"account-{place}"}


class Population:
    """The keys in a file."""

    def __init__(self, content: mmap.mmap) -> None:
        """Use ``open`` instead."""
        self._content = content

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """Look into what ``write`` wrote."""
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield cls(content)

    def text(self, place: int) -> str:
        """Return the secret of the key at ``place``."""
        return self._column(place, 0, _TEXT_CHARACTERS)

    def prefix(self, place: int) -> str:
        """Return the beginning of that secret which is stored in plaintext."""
        return self._column(place, 0, _PREFIX_CHARACTERS)

    def key_id(self, place: int) -> str:
        """Return the id of the key at ``place``."""
        return self._column(place, _TEXT_CHARACTERS + 1, _ID_CHARACTERS)

    def secret_id(self, place: int) -> str:
        """Return the id of the secret of the key at ``place``."""
        return self._column(place, _TEXT_CHARACTERS + _ID_CHARACTERS + 2, _ID_CHARACTERS)

    def _column(self, place: int, offset: int, width: int) -> str:
        begin = place * LINE_BYTES + offset
        return self._content[begin : begin + width].decode("ascii")
