"""A message of the contract as its JSON, and what makes one safe to repeat."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

Message = dict[str, Any]


def without_empty(message: Mapping[str, Any]) -> Message:
    """Leave out what was not given: None, empty texts, lists and objects; false and 0 stay."""
    return {name: value for name, value in message.items() if value is not None and value not in ("", [], (), {})}


def new_idempotency_key() -> str:
    """Draw 128 random bits, in 22 characters."""
    return secrets.token_urlsafe(16)
