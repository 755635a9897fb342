"""TypeIDs: a prefix that says what a thing is, and a UUIDv7 that sorts by when it was made.

The suffix is the 128 bits of the UUID in Crockford's base32, 26 characters, lower case (TypeID 0.3; RFC 9562 §5.7).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

from keystead.kernel.clock import Clock

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
_SUFFIX = r"[0-7][0-9a-hjkmnp-tv-z]{25}"

RandomBits = Callable[[int], int]


def encode_base32(value: int, characters: int) -> str:
    """Write the low ``5 * characters`` bits of ``value``, most significant first; ``characters`` must be even."""
    return "".join([_PAIRS[(value >> shift) & 0x3FF] for shift in range(5 * characters - 10, -1, -10)])


def new_id(prefix: str, *, now_ms: int, random_bits: RandomBits = secrets.randbits) -> str:
    """Make an id such as ``key_01h455vb4pex5vsknk084sn02q`` for the moment ``now_ms``."""
    random = random_bits(74)
    value = (now_ms & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7 << 76 | (random >> 62) << 64
    value |= 0b10 << 62 | random & 0x3FFF_FFFF_FFFF_FFFF
    return f"{prefix}_{encode_base32(value, 26)}"


def is_id(text: str, prefix: str) -> bool:
    """Say whether ``text`` has the form of an id with ``prefix``."""
    return re.fullmatch(f"{prefix}_{_SUFFIX}", text) is not None


def dated_ms(text: str) -> int:
    """Return the moment for which an id was made; ``text`` must have the form of one."""
    number = 0
    for character in text[-26:-16]:
        number = number << 5 | _ALPHABET.index(character)
    return number


class IdSource:
    """Mints ids at the clock's time."""

    def __init__(self, clock: Clock, random_bits: RandomBits = secrets.randbits) -> None:
        """Take time from ``clock`` and randomness from ``random_bits``."""
        self._clock = clock
        self._random_bits = random_bits

    def new(self, prefix: str) -> str:
        """Make an id with ``prefix``."""
        return new_id(prefix, now_ms=self._clock.now_ms(), random_bits=self._random_bits)


class SequentialIds:
    """Mints ids on the hot path: UUIDv7 with the method of RFC 9562 §6.2 (counter), unique per process and cheap.

    The 12 bits after the version and 22 of the random ones are drawn once per process: ``process``, 8 characters.
    The last 40 count up: ``last_ordinal``. So the time, the process and the ordinal are enough to write an id again.
    """

    __slots__ = ("_at_ms", "_head", "_lead", "last_ordinal", "process")

    def __init__(self, prefix: str, random_bits: RandomBits = secrets.randbits, *, process: str | None = None) -> None:
        """Draw the process's own bits from ``random_bits``, or take over those of another in ``process``."""
        self._lead = prefix + "_"
        drawn = process or encode_base32(0x7 << 36 | random_bits(12) << 24 | 0b10 << 22 | random_bits(22), 8)
        self.process = drawn
        self.last_ordinal = random_bits(32)
        self._at_ms = -1
        self._head = ""

    def next(self, now_ms: int) -> str:
        """Make the next id, dated ``now_ms``."""
        if now_ms != self._at_ms:
            self._at_ms = now_ms
            self._head = self._lead + encode_base32(now_ms, 10) + self.process
        count = self.last_ordinal = (self.last_ordinal + 1) & 0xFF_FFFF_FFFF
        pairs = _PAIRS
        high, low = count >> 20, count & 0xF_FFFF
        return f"{self._head}{pairs[high >> 10]}{pairs[high & 0x3FF]}{pairs[low >> 10]}{pairs[low & 0x3FF]}"

    def again(self, at_ms: int, ordinal: int) -> str:
        """Write the id again that was the ``ordinal``-th, dated ``at_ms``; the next one counts on from it."""
        self.last_ordinal = ordinal - 1
        return self.next(at_ms)
