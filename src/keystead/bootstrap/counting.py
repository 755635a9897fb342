"""What a process counts in its data directory: verdicts in a journal, and beside it what is about no key or refused."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from keystead.adapters.files import data_directory
from keystead.adapters.files.attempts import MappedAttempts
from keystead.adapters.files.journal import MappedJournal
from keystead.adapters.files.refusals import MappedRefusals
from keystead.config import Settings
from keystead.kernel.clock import SystemClock
from keystead.usage.errors import JournalFullError


@dataclass(frozen=True, slots=True)
class Counting:
    """The counters of one process, all new."""

    journal: MappedJournal
    attempts: MappedAttempts
    refusals: MappedRefusals

    @classmethod
    def begun(cls, settings: Settings, process: str) -> Counting:
        """Begin them for the process with an id; raise ``DataDirectoryError`` when there is no room."""
        with ExitStack() as stack:
            try:
                journal = MappedJournal.open(
                    settings.data_dir,
                    process=process,
                    clock=SystemClock(),
                    segments_max=settings.journal_segments,
                    when_full=settings.journal_when_full,
                )
                stack.callback(journal.let_go)
                folder, journal_id = journal.directory.path, journal.journal_id
                attempts = MappedAttempts(folder, journal_id=journal_id, when_full=settings.journal_when_full)
                stack.callback(attempts.let_go)
                refusals = MappedRefusals(folder, journal_id=journal_id, when_full=settings.journal_when_full)
            except OSError as error:
                raise data_directory.DataDirectoryError(
                    settings.data_dir / "journal", f"cannot be written to ({error.strerror})"
                ) from error
            stack.pop_all()
            return cls(journal, attempts, refusals)

    def close(self) -> None:
        """Count no more; what is not in the stores yet can still be taken."""
        for counters in (self.journal, self.attempts, self.refusals):
            counters.close()

    def let_go(self) -> None:
        """Leave them to the next process."""
        for counters in (self.refusals, self.attempts, self.journal):
            counters.let_go()


class NotCounting:
    """Stands where a process gives no verdicts: those it would give are refused, and refusals are not counted."""

    def append(self, *_: object, **__: object) -> None:
        """Refuse the verdict."""
        raise JournalFullError

    count = append

    def room_for(self, *_: object) -> int:
        """Have no room."""
        return -1

    def add(self, *_: object) -> None:
        """Count nothing."""
