"""How attempts get from the counters to the store: each page once, whatever fails on the way."""

from __future__ import annotations

import pytest

from keystead.kernel.errors import UnavailableError
from keystead.usage.model import Attempt, AttemptPage
from keystead.worker.attempts import AttemptFlusher


def page(journal_id: str, number: int, count: int = 1) -> AttemptPage:
    """Make a page of one group."""
    return AttemptPage(journal_id, number, (Attempt("wsp_1", "live", 0, "", "", 2, "", count, 0, 0),))


class FakePages:
    """Pages that wait."""

    def __init__(self, *pages: AttemptPage) -> None:
        """Begin with ``pages``."""
        self.waiting = list(pages)

    def journals(self) -> list[str]:
        """Return the journals of the pages, and one that has none."""
        return [*dict.fromkeys(it.journal_id for it in self.waiting), "jrn_idle"]

    def next(self, journal_id: str) -> AttemptPage | None:
        """Return the first page of a journal."""
        return next((it for it in self.waiting if it.journal_id == journal_id), None)

    def release(self, page: AttemptPage) -> None:
        """Forget a page."""
        self.waiting.remove(page)


class FakeStore:
    """Counts pages; ``away`` fails, ``loses`` counts and fails all the same."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.counted: list[AttemptPage] = []
        self.away = self.loses = False

    async def count_attempts(self, page: AttemptPage) -> bool:
        """Count a page once."""
        if self.away:
            raise UnavailableError("away")
        new = page not in self.counted
        self.counted += [page] * new
        if self.loses:
            raise UnavailableError("nobody knows")
        return new

    async def attempts_counted_to(self, journal_id: str) -> int:
        """Return the last number."""
        return max((it.number for it in self.counted if it.journal_id == journal_id), default=0)


async def test_every_page_is_carried() -> None:
    """Of all journals, in order; a turn takes two of each, what was sealed before and what came since."""
    pages = [page("jrn_1", 1, 3), page("jrn_1", 2), page("jrn_1", 3), page("jrn_2", 8)]
    waiting, store = FakePages(*pages), FakeStore()
    flusher = AttemptFlusher(waiting, store)
    await flusher.turn()
    assert store.counted == [pages[0], pages[1], pages[3]]
    await flusher.turn()
    assert (store.counted[3:], waiting.waiting) == ([pages[2]], [])
    assert flusher.attempts_counted == 6


@pytest.mark.parametrize("name", ("away", "loses"))
async def test_a_page_waits_until_it_is_known_to_be_counted(name: str) -> None:
    """Nothing is released on a failure, and a retry of what was counted after all is counted once."""
    waiting, store = FakePages(page("jrn_1", 1)), FakeStore()
    flusher = AttemptFlusher(waiting, store)
    setattr(store, name, True)
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await flusher.turn()
        assert waiting.waiting == [page("jrn_1", 1)]
    setattr(store, name, False)
    await flusher.turn()
    assert (store.counted, waiting.waiting) == ([page("jrn_1", 1)], [])
    assert flusher.attempts_counted == (name == "away")
