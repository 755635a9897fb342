"""What sinks need of the world outside."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from keystead.events.checkpoints import KeptCheckpoint
from keystead.kernel.change import Change, Origin
from keystead.kernel.paging import Page, PageRequest
from keystead.kernel.walls import TenantScope
from keystead.sinks.envelopes import Envelope
from keystead.sinks.model import (
    DeadLetter,
    DueSink,
    Failure,
    Held,
    HttpDestination,
    Kind,
    Place,
    Progress,
    SealedSecrets,
    Sink,
    SinkSecrets,
    StrictLag,
    Summary,
)


class SinkRepository(Protocol):
    """The sinks inside the unit's walls."""

    async def count(self, workspace_id: str) -> int:
        """Return how many a workspace has, and keep others from adding one until the unit ends."""
        ...

    async def add(self, sink: Sink, *, next_index: int) -> None:
        """Store a new sink that begins at ``next_index``; raise ``AlreadyExistsError`` when its name is taken.

        So it does when another sink of the workspace writes to a file of that name.
        """
        ...

    async def get(self, workspace_id: str, sink_id: str, *, lock: bool = False) -> Sink | None:
        """Return one, or None; ``lock`` keeps others from changing it until the unit ends."""
        ...

    async def save(self, sink: Sink, *, reason: str | None = None) -> None:
        """Store the new state of a sink, and have it tried at once; its place stays, and ``reason`` is shown with it.

        Raises ``EtagMismatchError`` when the stored version is not the one before it, and ``AlreadyExistsError``.
        """
        ...

    async def delete(self, sink: Sink) -> None:
        """Delete a sink, its place and what it set aside."""
        ...

    async def page(self, workspace_id: str, request: PageRequest) -> Page[Sink]:
        """Return one page by time of creation; the position is ``(id,)``."""
        ...

    async def start(self, workspace_id: str, at_ms: int | None) -> int:
        """Return the index of the first event at ``at_ms`` or later, or of the next one to be placed.

        Events are placed nearly by their times; of those that are not, all are behind the index returned, as long as
        no thousand of them lie between.
        """
        ...

    async def progress(self, sink: Sink) -> Progress:
        """Return how far a sink has come, by the database's clock."""
        ...

    async def go_back(self, sink: Sink, *, next_index: int) -> None:
        """Make a sink go on from ``next_index``; what was set aside from there on is carried with the rest."""
        ...

    async def try_again(self, sink: Sink) -> int:
        """Have everything sent again that was set aside, before the sink goes on; return how much that is."""
        ...

    async def set_aside(self, held: Held, after: Place, letter: DeadLetter) -> bool:
        """Note that an event is refused, and go on after it; False, and nothing, when ``held`` holds no more."""
        ...

    async def is_full(self, sink: Sink) -> bool:
        """Say whether a sink has set aside as much as it may, which is ``LETTERS_MAX``."""
        ...

    async def behind(self, workspace_id: str) -> StrictLag | None:
        """Return a sink in strict mode that is further behind than it may be, by the database's clock; None else.

        What counts is the oldest event that it has not carried, whether it has its place yet or not, since it came
        into the log; when it happened may be long before.
        """
        ...


class SinkUnit(Protocol):
    """The part of a unit of work that sinks need."""

    @property
    def sinks(self) -> SinkRepository:
        """The sinks."""
        ...

    def record(self, change: Change) -> None:
        """Note a change; it is stored as an event when the unit commits, in the same transaction (P6)."""
        ...


class SinkUnits(Protocol):
    """Opens such units."""

    def begin(self, scope: TenantScope | None, origin: Origin) -> AbstractAsyncContextManager[SinkUnit]:
        """Open a unit that commits when its block ends and rolls back when it raises."""
        ...


class SinkPlaces(Protocol):
    """The places of all sinks, outside the units of work: who carries which, and from where.

    Leases and delays are by the database's clock. What ``held`` changes is changed only while the sink is held by that
    holder and stands where it stood: whoever was frozen meanwhile moves nothing.
    """

    async def due(self, *, kinds: Collection[Kind], limit: int) -> Sequence[DueSink]:
        """Return sinks that have something to carry now and are held by nobody.

        Those that do not fail come first, and of them the one whose turn is longest ago.
        """
        ...

    async def hold(self, sink_id: str, holder: str, *, lease_ms: int) -> Held | None:
        """Take or keep a sink for ``lease_ms``; None when another has it, or it is gone or paused."""
        ...

    async def let_go(self, holder: str, sink_id: str) -> None:
        """Give a sink back, if ``holder`` has it."""
        ...

    async def free(self, holder: str) -> None:
        """Give every sink back that ``holder`` has: it is dead."""
        ...

    async def checkpoints(self, workspace_id: str, *, after: int, to: int, limit: int) -> Sequence[KeptCheckpoint]:
        """Return the checkpoints of a size past ``after``, and up to ``to``, the smallest first."""
        ...

    async def again(self, sink_id: str, *, limit: int) -> Sequence[DeadLetter]:
        """Return what is to be sent again, in the log's order."""
        ...

    async def carried(self, held: Held, after: Place) -> bool:
        """Note that the sink stands at ``after`` and does not fail; False, and nothing, when ``held`` holds no more."""
        ...

    async def taken(self, held: Held, event_ids: Collection[str]) -> bool:
        """Forget what was set aside and has been taken now; False, and nothing, when ``held`` holds no more."""
        ...

    async def refused(self, held: Held, letter: DeadLetter) -> bool:
        """Set aside once more what was tried again; False, and nothing, when ``held`` holds no more."""
        ...

    async def failed(self, held: Held, failure: Failure) -> bool:
        """Note a failure, and when to try again; False, and nothing, when ``held`` holds no more."""
        ...

    async def summary(self) -> Mapping[Kind, Summary]:
        """Say how the sinks do, by their kind."""
        ...

    async def least_next_index(self, workspace_id: str) -> int | None:
        """Return the least index that a sink of the workspace carries next, or has set aside; None without sinks.

        Nothing from there on may be forgotten, also while the sink is paused.
        """
        ...

    async def sealed_under_others(
        self, master_id: str, *, after: str = "", limit: int
    ) -> Sequence[tuple[str, SealedSecrets]]:
        """Return sinks past the id ``after`` whose secrets are sealed under another master, by id."""
        ...

    async def seal_anew(self, sink_id: str, secrets: SealedSecrets, *, was: SealedSecrets) -> None:
        """Store the same secrets sealed anew, unless they have changed since."""
        ...


class SecretVault(Protocol):
    """Seals what sinks prove themselves with, each for its sink alone."""

    @property
    def current_id(self) -> str:
        """The master that it seals under."""
        ...

    def seal(self, sink_id: str, secrets: SinkSecrets) -> SealedSecrets:
        """Encrypt under the newest master."""
        ...

    def open(self, sink_id: str, sealed: SealedSecrets) -> SinkSecrets:
        """Undo ``seal``; raise ``SinkSecretsLostError`` when no configured master opens it."""
        ...


class CertificateExaminer(Protocol):
    """Looks at certificates and keys before they are stored."""

    def wrong(self, destination: HttpDestination, client_key: str) -> tuple[str, str] | None:
        """Return which field cannot be used, and why; None when all can."""
        ...


class Reception(Enum):
    """What a destination made of a batch."""

    ACCEPTED = auto()
    REFUSED = auto()
    """It is about what was sent: the same will be refused again."""
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Delivery:
    """The answer to a batch; ``reason`` holds no secret. ``retry_after_ms`` is what the destination asks for."""

    reception: Reception
    reason: str = ""
    http_status: int = 0
    retry_after_ms: int | None = None


class Channel(Protocol):
    """The way to one destination."""

    async def send(self, batch: Sequence[Envelope]) -> Delivery:
        """Send a batch and wait for the answer, within the sink's time; what goes wrong is a failed delivery."""
        ...


class Destinations(Protocol):
    """Opens the way to sinks' destinations."""

    def kinds(self) -> Collection[Kind]:
        """Say which kinds of destination this process reaches."""
        ...

    def open(self, sink: Sink, secrets: SinkSecrets) -> AbstractAsyncContextManager[Channel]:
        """Open the way to a sink's destination; nothing is connected to yet."""
        ...
