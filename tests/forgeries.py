"""Texts that stand for no key, made fast: for floods."""

from __future__ import annotations

from random import Random

from keystead.adapters.cryptography.keyring import MasterKeyring, decode_master_key
from keystead.keys import secret_format
from keystead.keys.secret_format import ALPHABET

BRAND = "acme"
FORGED, UNKNOWN, MALFORMED = "forged", "unknown", "malformed"
CODE_OF = {FORGED: "NOT_FOUND", UNKNOWN: "NOT_FOUND", MALFORMED: "MALFORMED"}


class Forger:
    """Makes texts with random prefixes, all different; those that are ``UNKNOWN`` carry the server's own tag."""

    def __init__(self, master_key: str, *, seed: int = 0) -> None:
        """Know ``master_key``, as a leak would let somebody."""
        self._random = Random(seed)
        self._own = MasterKeyring([decode_master_key(master_key)])
        self._strange = MasterKeyring([b"another master key, of somebody."])

    def text(self, kind: str) -> str:
        """Make one text of a kind; half of those that are not ``UNKNOWN`` have random brands."""
        if kind == UNKNOWN:
            return secret_format.compose(brand=BRAND, environment="live", tag=self._own.tag, draw=self._draw)
        brand = BRAND if self._random.random() < 0.5 else self._draw(8).lower()
        text = secret_format.compose(brand=brand, environment="live", tag=self._strange.tag, draw=self._draw)
        return text if kind == FORGED else text[:-1] + ("0" if text[-1] != "0" else "1")

    def address(self) -> str:
        """Make a random address of either kind."""
        if self._random.random() < 0.5:
            return ".".join(str(self._random.randrange(256)) for _ in range(4))
        return ":".join(f"{self._random.randrange(0x10000):x}" for _ in range(8))

    def _draw(self, characters: int) -> str:
        return "".join(self._random.choices(ALPHABET, k=characters))
