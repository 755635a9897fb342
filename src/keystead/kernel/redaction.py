"""Take secrets out of texts that people will see: callers put them anywhere, and errors repeat what was sent.

What stands for a secret is its shape alone (DESIGN §3), so a mistyped or a cut-off one is taken out as well; its public
prefix stays, which says whose it is.
"""

from __future__ import annotations

import re

_SHAPE = re.compile(
    r"([a-z0-9]{2,16}_(?:live|test)_[0-9A-Za-z]{12})[0-9A-Za-z]{8,}(?:_(?:live|test)_[0-9A-Za-z]+)*", re.ASCII
)


def redact(text: str) -> str:
    """Return ``text`` with everything after the prefix of each secret in it replaced by an ellipsis."""
    return _SHAPE.sub(r"\1…", text)


def holds_secret(text: str) -> bool:
    """Say whether ``text`` holds something that looks like a secret, whole or cut off after its prefix."""
    return _SHAPE.search(text) is not None
