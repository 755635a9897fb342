"""A string that never shows itself."""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """Plaintext on its one way from mint to reply (P1): ``repr`` and ``str`` hide it, and it does not pickle."""

    __slots__ = ("_plaintext",)

    def __init__(self, plaintext: str) -> None:
        """Hold ``plaintext``."""
        self._plaintext = plaintext

    def reveal(self) -> str:
        """Return the plaintext; the caller answers for where it goes."""
        return self._plaintext

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        message = "a Secret does not pickle"
        raise TypeError(message)
