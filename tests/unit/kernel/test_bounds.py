"""Bounds: what is refused, field by field, and said in one reply."""

from __future__ import annotations

import pytest

from keystead.kernel.bounds import Bounds, has_control_characters
from keystead.kernel.errors import FieldViolation, InvalidRequestError


def violations_of(bounds: Bounds) -> list[str]:
    """Return the fields that ``bounds`` names; none when it is content."""
    try:
        bounds.raise_if_any()
    except InvalidRequestError as error:
        return [item.field for item in error.violations]
    return []


@pytest.mark.parametrize(
    "text",
    ("", "plain", "Zoë's key", "鍵", "👩‍👩‍👧", "שלום"),
)
def test_ordinary_texts_hold_no_control_characters(text: str) -> None:
    """Every script and emoji is welcome, joiners included."""
    assert not has_control_characters(text)


@pytest.mark.parametrize(
    "character",
    ("\x00", "\n", "\t", "\x1b", "\x7f", "\x85", "\ud800", "\u202e", "\u2066", "\u2028", "\u2029"),
)
def test_characters_that_forge_logs_and_terminals_are_found(character: str) -> None:
    """Controls, line separators, halves of surrogate pairs and direction overrides never reach a log or a header."""
    assert has_control_characters("é" + character)
    assert has_control_characters(character)


def test_texts_are_counted_in_characters() -> None:
    """Exactly the bound is taken, one more or one less is not."""
    bounds = Bounds()
    bounds.text("exact", "éé", at_least=2, at_most=2)
    bounds.text("short", "é", at_least=2, at_most=2)
    bounds.text("long", "ééé", at_least=2, at_most=2)
    bounds.text("control", "\x00a", at_least=2, at_most=2)
    assert violations_of(bounds) == ["short", "long", "control"]


@pytest.mark.parametrize("owner_id", ("a", "A" * 128, "user@example.com", "a.b_c-d:e"))
def test_owner_ids_of_the_alphabet_are_taken(owner_id: str) -> None:
    """Whatever platforms use as ids: numbers, UUIDs, addresses, paths with colons."""
    bounds = Bounds()
    bounds.owner_id("owner_id", owner_id)
    assert violations_of(bounds) == []


@pytest.mark.parametrize("owner_id", ("", "A" * 129, "a b", "a/b", "é", "a\n", "１"))  # noqa: RUF001 -- a full-width digit
def test_owner_ids_outside_the_alphabet_are_refused(owner_id: str) -> None:
    """An owner id stands in URLs, logs and touch subjects: nothing else may be in it."""
    bounds = Bounds()
    bounds.owner_id("owner_id", owner_id)
    assert violations_of(bounds) == ["owner_id"]


def test_metadata_is_bounded_in_number_and_size() -> None:
    """50 entries of 40 and 500 characters are taken; more, longer and nameless ones are not."""
    good = {f"{number:040d}": "v" * 500 for number in range(50)}
    bounds = Bounds()
    bounds.metadata("metadata", good)
    assert violations_of(bounds) == []
    bounds.metadata("metadata", {**good, "one more": ""})
    assert violations_of(bounds) == ["metadata"]
    bounds = Bounds()
    bounds.metadata("metadata", {"": "a", "n" * 41: "b", "\x07": "c", "long": "v" * 501, "fine": "v"})
    assert violations_of(bounds) == ["metadata", "metadata", "metadata", "metadata[long]"]


def test_lists_of_texts_are_bounded_and_without_repetition() -> None:
    """Too many, empty, too long and repeated entries are told apart, each by its place."""
    bounds = Bounds()
    bounds.texts("tags", ["a", "b"], at_most_items=2, at_most=1)
    assert violations_of(bounds) == []
    bounds.texts("many", ["a", "b", "c"], at_most_items=2, at_most=1)
    bounds.texts("tags", ["", "bb", "c", "c"], at_most_items=4, at_most=1)
    assert violations_of(bounds) == ["many", "tags[0]", "tags[1]", "tags"]


def test_one_reply_names_everything_that_is_wrong() -> None:
    """A caller corrects a request once, not field by field; the text stays short however much is wrong."""
    bounds = Bounds()
    for number in range(30):
        bounds.add(f"field{number}", "is wrong")
    with pytest.raises(InvalidRequestError) as caught:
        bounds.raise_if_any()
    assert len(caught.value.violations) == 30
    assert caught.value.violations[29] == FieldViolation("field29", "is wrong")
    assert caught.value.public.count("is wrong") == 10
