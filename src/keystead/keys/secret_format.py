"""A secret, byte by byte (DESIGN §3): ``<brand>_<env>_<lookup><entropy><tag><crc>``.

The tag is a truncated HMAC over everything before it, so a forged secret dies here without any I/O (P2); the CRC lets
scanners and the command line tell a mistyped one offline. Both are base62, big-endian, left-padded with ``0``.
"""

from __future__ import annotations

import hmac
import re
import secrets
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LOOKUP_CHARACTERS = 12
ENTROPY_CHARACTERS = 32
TAG_CHARACTERS = 8
CRC_CHARACTERS = 6
MAX_CHARACTERS = 80

_BODY = LOOKUP_CHARACTERS + ENTROPY_CHARACTERS + TAG_CHARACTERS + CRC_CHARACTERS
_SHAPE = re.compile(rf"([a-z0-9]{{2,16}})_(live|test)_([0-9A-Za-z]{{{_BODY}}})", re.ASCII)
_BRAND = re.compile(r"[a-z0-9]{2,16}", re.ASCII)
_PREFIX = re.compile(rf"[a-z0-9]{{2,16}}_(live|test)_[0-9A-Za-z]{{0,{LOOKUP_CHARACTERS}}}", re.ASCII)
_TAG_SPACE = len(ALPHABET) ** TAG_CHARACTERS

RandomText = Callable[[int], str]
TagFunction = Callable[[bytes], bytes]


def random_text(characters: int) -> str:
    """Draw ``characters`` of base62, each uniformly and independently, from the system's secure source."""
    return "".join([secrets.choice(ALPHABET) for _ in range(characters)])


def base62(value: int, characters: int) -> str:
    """Write ``value`` in base62, most significant first, left-padded with ``0`` to ``characters``."""
    digits = []
    for _ in range(characters):
        value, digit = divmod(value, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def checksum(text: str) -> str:
    """Return the six characters that end a secret: CRC-32 (zlib) of the ASCII of everything before them."""
    return base62(zlib.crc32(text.encode()), CRC_CHARACTERS)


def tag_text(mac: bytes) -> str:
    """Shorten an HMAC to eight characters: its first 64 bits, big-endian, modulo 62^8."""
    return base62(int.from_bytes(mac[:8], "big") % _TAG_SPACE, TAG_CHARACTERS)


@dataclass(frozen=True, slots=True)
class SecretText:
    """A well-formed secret taken apart. ``signed`` is what the tag is over, ``prefix`` what is stored in plaintext."""

    brand: str
    environment: str
    prefix: str
    entropy: str = field(repr=False)
    tag: str = field(repr=False)
    signed: bytes = field(repr=False)


def parse(text: str) -> SecretText | None:
    """Take a secret apart; None when its shape or its CRC is wrong. Says nothing of the tag."""
    if len(text) > MAX_CHARACTERS:
        return None
    shape = _SHAPE.fullmatch(text)
    if shape is None or checksum(text[:-CRC_CHARACTERS]) != text[-CRC_CHARACTERS:]:
        return None
    brand, environment, body = shape.groups()
    end_of_entropy = LOOKUP_CHARACTERS + ENTROPY_CHARACTERS
    return SecretText(
        brand=brand,
        environment=environment,
        prefix=f"{brand}_{environment}_{body[:LOOKUP_CHARACTERS]}",
        entropy=body[LOOKUP_CHARACTERS:end_of_entropy],
        tag=body[end_of_entropy : end_of_entropy + TAG_CHARACTERS],
        signed=text[: -TAG_CHARACTERS - CRC_CHARACTERS].encode(),
    )


def complaint(text: str) -> str | None:
    """Say for people why ``text`` is no well-formed secret; None when it is one. Never quotes it."""
    if len(text) > MAX_CHARACTERS:
        return f"it has {len(text)} characters; a secret has at most {MAX_CHARACTERS}"
    if not re.match(r"[a-z0-9]{2,16}_(live|test)_", text, re.ASCII):
        return "it does not begin with <brand>_live_ or <brand>_test_ (brand: 2 to 16 of a-z and 0-9)"
    body = text.split("_", 2)[2]
    if body and not (body.isascii() and body.isalnum()):
        return "it holds a character other than 0-9, A-Z and a-z after the second underscore"
    if len(body) != _BODY:
        return f"it has {len(body)} characters after the second underscore, not {_BODY}: cut off, or run into something"
    if checksum(text[:-CRC_CHARACTERS]) != text[-CRC_CHARACTERS:]:
        return "its checksum is wrong: at least one character is mistyped"
    return None


def matching_master(text: SecretText, macs: Mapping[str, bytes]) -> str | None:
    """Return the id of the master key whose tag the secret carries, or None: nobody minted it."""
    for master_id, mac in macs.items():
        if hmac.compare_digest(tag_text(mac), text.tag):
            return master_id
    return None


def compose(*, brand: str, environment: str, tag: TagFunction, draw: RandomText = random_text) -> str:
    """Mint a secret for ``brand`` and ``environment`` (``live`` or ``test``), tagged by ``tag``."""
    signed = f"{brand}_{environment}_{draw(LOOKUP_CHARACTERS)}{draw(ENTROPY_CHARACTERS)}"
    tagged = signed + tag_text(tag(signed.encode()))
    return tagged + checksum(tagged)


def is_brand(text: str) -> bool:
    """Say whether ``text`` may be a workspace's brand."""
    return _BRAND.fullmatch(text) is not None


def is_prefix(text: str) -> bool:
    """Say whether ``text`` begins a secret's prefix, at least with brand and environment."""
    return _PREFIX.fullmatch(text) is not None
