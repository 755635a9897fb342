"""The bounds of what people send, checked field by field so that one reply names everything that is wrong.

Texts may not hold control characters or halves of surrogate pairs: they end in logs, terminals and headers.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

from keystead.kernel.errors import FieldViolation, InvalidRequestError
from keystead.kernel.redaction import holds_secret

METADATA_ENTRIES = 50
METADATA_KEY_CHARACTERS = 40
METADATA_VALUE_CHARACTERS = 500
OWNER_ID_CHARACTERS = 128
REASON_CHARACTERS = 500
NAME_CHARACTERS = 100

_OVERRIDES = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_OWNER_ID = re.compile(r"[A-Za-z0-9._:@-]{1,128}")


def has_control_characters(text: str) -> bool:
    """Say whether ``text`` holds a control character, a line separator, a lone surrogate or a direction override."""
    if text.isascii() and text.isprintable():
        return False
    return any(
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or character in _OVERRIDES for character in text
    )


class Bounds:
    """Collects what is wrong with a request; ``raise_if_any`` ends the check."""

    def __init__(self) -> None:
        """Begin with nothing wrong."""
        self._violations: list[FieldViolation] = []

    def add(self, field: str, description: str) -> None:
        """Note that ``field`` must be changed as ``description`` says."""
        self._violations.append(FieldViolation(field, description))

    def text(self, field: str, value: str, *, at_least: int = 0, at_most: int) -> None:
        """Demand ``at_least`` to ``at_most`` characters, none of them a control character."""
        if not at_least <= len(value) <= at_most:
            self.add(field, f"must be {at_least} to {at_most} characters, not {len(value)}")
        elif has_control_characters(value):
            self.add(field, "must not hold control characters")
        elif holds_secret(value):
            self.add(field, "must not hold a secret")

    def owner_id(self, field: str, value: str) -> None:
        """Demand 1 to 128 of ``[A-Za-z0-9._:@-]``."""
        if not _OWNER_ID.fullmatch(value):
            self.add(field, "must be 1 to 128 characters of [A-Za-z0-9._:@-]")
        elif holds_secret(value):
            self.add(field, "must not hold a secret")

    def metadata(self, field: str, value: Mapping[str, str]) -> None:
        """Demand at most 50 entries of 1 to 40 and at most 500 characters."""
        if len(value) > METADATA_ENTRIES:
            self.add(field, f"must have at most {METADATA_ENTRIES} entries, not {len(value)}")
            return
        for key, text in value.items():
            if has_control_characters(key) or holds_secret(key) or not 1 <= len(key) <= METADATA_KEY_CHARACTERS:
                self.add(
                    field,
                    f"every name must be 1 to {METADATA_KEY_CHARACTERS} characters, no control character, no secret",
                )
            else:
                self.text(f"{field}[{key}]", text, at_most=METADATA_VALUE_CHARACTERS)

    def texts(self, field: str, values: Sequence[str], *, at_most_items: int, at_most: int) -> None:
        """Demand at most ``at_most_items`` different texts of 1 to ``at_most`` characters."""
        if len(values) > at_most_items:
            self.add(field, f"must have at most {at_most_items} entries, not {len(values)}")
            return
        for index, value in enumerate(values):
            self.text(f"{field}[{index}]", value, at_least=1, at_most=at_most)
        if len(set(values)) != len(values):
            self.add(field, "must not name anything twice")

    def raise_if_any(self) -> None:
        """Raise ``InvalidRequestError`` with everything noted, or return when nothing was."""
        if self._violations:
            raise InvalidRequestError(self._violations)
