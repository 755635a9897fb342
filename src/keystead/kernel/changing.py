"""Changing a part of what is stored: which fields a caller names, and on which version his change is based."""

from __future__ import annotations

from collections.abc import Set

from keystead.kernel.errors import EtagMismatchError, invalid


def demand_fields(mask: Set[str], known: Set[str]) -> None:
    """Raise unless the update mask names something and nothing but ``known`` fields."""
    if not mask:
        raise invalid("update_mask", f"must name at least one of {', '.join(sorted(known))}")
    if wrong := sorted(mask - known):
        raise invalid("update_mask", f"{', '.join(wrong)[:200]} cannot be changed; only {', '.join(sorted(known))} can")


def demand_version(what: str, name: str, *, etag: str, version: int) -> None:
    """Raise ``EtagMismatchError`` when ``etag`` was given and is not that of ``version``."""
    if etag and etag != etag_of(version):
        raise EtagMismatchError(what, name)


def etag_of(version: int) -> str:
    """Return the quoted etag of a version."""
    return f'"{version}"'
