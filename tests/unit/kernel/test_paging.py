"""Pages: bounded, and continued only by their own list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystead.kernel.errors import InvalidRequestError
from keystead.kernel.paging import Page, PageRequest, PageTokens, cut

TOKENS = PageTokens(b"s" * 32)
QUESTION = {"owner_id": "customer-1", "workspace": "wsp_1"}


def ask(token: str, question: dict[str, object] | None = None, *, size: int = 10) -> PageRequest:
    """Ask for a page in descending order."""
    return TOKENS.request(page_size=size, page_token=token, question=question or {**QUESTION}, ascending=False)


@pytest.mark.parametrize(("asked", "given_size"), ((0, 50), (1, 1), (1_000, 1_000), (1_001, 1_000), (2**31 - 1, 1_000)))
def test_page_sizes_are_coerced(asked: int, given_size: int) -> None:
    """Nothing asked means 50, and more than 1,000 means 1,000."""
    assert ask("", size=asked) == PageRequest(size=given_size)


def test_negative_page_sizes_are_refused() -> None:
    """A size below zero is a mistake of the caller and told as one."""
    with pytest.raises(InvalidRequestError):
        ask("", size=-1)


@given(st.lists(st.text(), max_size=3))
def test_a_token_brings_its_position_back(position: list[str]) -> None:
    """The next page begins exactly where the last one ended, whatever the sort key holds."""
    token = TOKENS.token(tuple(position), QUESTION)
    assert ask(token).position == tuple(position)


def test_the_last_page_has_no_token() -> None:
    """An empty token says that there is nothing more."""
    assert TOKENS.token(None, QUESTION) == ""


def test_a_token_is_good_for_its_own_question_alone() -> None:
    """With other filters, or in another workspace, a token is refused: it opens no view into another list."""
    token = TOKENS.token(("key_1",), QUESTION)
    with pytest.raises(InvalidRequestError):
        ask(token, {**QUESTION, "workspace": "wsp_2"})
    with pytest.raises(InvalidRequestError):
        PageTokens(b"t" * 32).request(page_size=1, page_token=token, question=QUESTION, ascending=False)


def test_no_character_of_a_token_can_be_changed() -> None:
    """A position cannot be made by hand: every changed character is noticed."""
    token = TOKENS.token(("key_1",), QUESTION)
    for place, character in enumerate(token):
        changed = token[:place] + ("A" if character != "A" else "B") + token[place + 1 :]
        with pytest.raises(InvalidRequestError):
            ask(changed)


@pytest.mark.parametrize("token", ("x", "!!!!", "é", "A" * 21, "AAAA" * 5, "\x00", "=", "🔑"))
def test_what_is_no_token_is_refused(token: str) -> None:
    """Whatever is sent as a token gets the one coded error, never a crash."""
    with pytest.raises(InvalidRequestError):
        ask(token)


def test_a_page_is_cut_where_it_is_full() -> None:
    """One item more than fits says that there is a next page, which begins after the last one shown."""
    assert cut(["a", "b"], 2, lambda item: (item,)) == Page(["a", "b"])
    assert cut(["a", "b", "c"], 2, lambda item: (item,)) == Page(["a", "b"], ("b",))
