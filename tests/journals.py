"""Verdicts to write into journals, and what must be read back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keystead.adapters.files.journal import MappedJournal, WhenFull
from keystead.adapters.files.journal_reading import MappedStretches
from keystead.kernel.ids import SequentialIds
from keystead.usage.model import Call, Subject
from tests.fakes import BEGINNING_MS, FixedRandom, ManualClock

SEGMENT_BYTES = 65_536


@dataclass
class CountedKey:
    """A key whose verdicts are written down."""

    workspace_id: str = "wsp_1"
    environment: str = "live"
    key_id: str = "key_1"
    secret_id: str = "sec_1"
    owner_id: str = "owner"
    journal_mark: int = 0

    @property
    def subject(self) -> Subject:
        """What is read back of it."""
        return Subject(self.workspace_id, self.environment, self.key_id, self.secret_id, self.owner_id)


class JournalWorld:
    """A journal in a directory, its ids and its clock, and the calls that were written down."""

    def __init__(
        self,
        path: Path,
        *,
        seed: int = 0,
        segment_bytes: int = SEGMENT_BYTES,
        segments_max: int = 64,
        when_full: WhenFull = "refuse",
    ) -> None:
        """Begin a journal in ``path``."""
        self.path = path
        self.clock = ManualClock()
        self.ids = SequentialIds("ver", FixedRandom(seed).bits)
        self.calls: list[Call] = []
        self.journal = MappedJournal.open(
            path,
            process=self.ids.process,
            clock=self.clock,
            segment_bytes=segment_bytes,
            segments_max=segments_max,
            when_full=when_full,
        )
        self.stretches = MappedStretches(self.journal, self.clock)

    @property
    def journal_id(self) -> str:
        """The journal's id."""
        return self.journal.journal_id

    def verdict(
        self,
        counted: CountedKey,
        *,
        code: int = 1,
        cost: int = 1,
        operation: str = "",
        client_ip: str = "",
        scope_expression: str = "",
        tags: tuple[str, ...] = (),
    ) -> Call:
        """Write one verdict down."""
        at_ms = self.clock.now_ms()
        verification_id = self.ids.next(at_ms)
        self.journal.append(
            counted,
            code=code,
            at_ms=at_ms,
            ordinal=self.ids.last_ordinal,
            cost=cost,
            operation=operation,
            client_ip=client_ip,
            scope_expression=scope_expression,
            tags="\n".join(tags),
        )
        said = (operation, client_ip, scope_expression, tags)
        call = Call(verification_id, at_ms, counted.subject, code, cost, *said)
        self.calls.append(call)
        return call

    def verdicts(self, count: int, counted: CountedKey | None = None) -> list[Call]:
        """Write ``count`` verdicts down, of one key, a millisecond apart."""
        key = counted or CountedKey()
        made = []
        for number in range(count):
            self.clock.advance(1)
            made.append(
                self.verdict(
                    key, operation=f"operation {number % 3}", client_ip=f"10.0.0.{number % 5}", tags=TAGS[number % 3]
                )
            )
        return made


TAGS: tuple[tuple[str, ...], ...] = ((), ("region:eu",), ("région:eu", "team \u2603"))


def drained(stretches: MappedStretches, journal_id: str, *, at_most: int = 100, rounds: int = 10_000) -> list[Call]:
    """Count everything that a journal holds; its places must be a chain."""
    calls: list[Call] = []
    end: int | None = None
    for _ in range(rounds):
        stretch = stretches.next(journal_id, at_most=at_most)
        if stretch is None:
            if stretches.finished(journal_id) or stretches.idle(journal_id):
                return calls
            continue
        assert end in {None, stretch.begin}
        assert stretch.begin < stretch.end
        assert len(stretch.calls) <= at_most
        end = stretch.end
        calls += stretch.calls
        stretches.release(stretch)
    raise AssertionError("the journal does not end")


__all__ = ["BEGINNING_MS", "SEGMENT_BYTES", "CountedKey", "JournalWorld", "drained"]
