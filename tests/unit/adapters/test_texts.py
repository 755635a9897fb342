"""What is searched, the same in every store."""

from __future__ import annotations

import pytest

from keystead.adapters.texts import fold, owner_position
from keystead.tenants.model import Owner


@pytest.mark.parametrize(
    ("one", "other"), (("Straße", "STRASSE"), ("ΣΊΣΥΦΟΣ", "σίσυφος"), ("İ", "i̇"), ("ǅ", "ǆ"), ("100%_\\", "100%_\\"))
)
def test_case_is_ignored_in_every_script(one: str, other: str) -> None:
    """Two spellings that differ by case alone are the same to a person who searches."""
    assert fold(one) == fold(other)


def test_accents_are_kept() -> None:
    """Searching for one letter does not find another."""
    assert fold("é") != fold("e")


def test_positions_sort_as_moments_do() -> None:
    """Texts of positions sort by time of creation, also when the number of digits grows."""
    moments = [0, 9, 10, 999_999_999_999, 1_000_000_000_000, 99_999_999_999_999]
    positions = [owner_position(Owner("wsp_1", "a", "", moment, 0)) for moment in moments]
    assert positions == sorted(positions)
