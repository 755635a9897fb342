"""What is counted: one verdict, with everything that is asked of it later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

CODES = (
    "",
    "VALID",
    "MALFORMED",
    "NOT_FOUND",
    "REVOKED",
    "SUSPENDED",
    "EXPIRED",
    "WRONG_ENVIRONMENT",
    "IP_NOT_ALLOWED",
    "INSUFFICIENT_SCOPE",
    "FORBIDDEN",
    "RATE_LIMITED",
    "QUOTA_EXCEEDED",
)
"""A code's place here is its number in the journal and in stores: only ever added to."""

CODE_NUMBERS = {code: number for number, code in enumerate(CODES)}
VALID_NUMBER = CODE_NUMBERS["VALID"]
ERROR_STATUS = 500
"""An HTTP status from which on an outcome is an error."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose verdict it was. ``owner_id`` is empty for keys without one."""

    workspace_id: str
    environment: str
    key_id: str
    secret_id: str
    owner_id: str


@dataclass(slots=True)
class Call:
    """One verdict, never changed once it is made. ``code`` is a number of ``CODES``; ``cost`` is 0 to 2^32 - 1.

    It is not frozen because that costs as long again as reading a call from its journal.

    ``http_status`` and ``latency_us`` say how the call ended, when somebody reported it; a journal never knows.
    """

    verification_id: str
    at_ms: int
    subject: Subject
    code: int
    cost: int
    operation: str
    client_ip: str
    scope_expression: str = ""
    tags: tuple[str, ...] = ()
    http_status: int | None = None
    latency_us: int | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """Verdicts of one journal between two of its places, in order: what is flushed in one step, the same for ever.

    Places are ``segment * 2^32 + byte``; a stretch begins where the one before it ended. ``seen_at_ms`` is the moment
    at which the journal held nothing more, when the stretch reaches its end, else None: usage is complete up to it.
    """

    journal_id: str
    begin: int
    end: int
    calls: tuple[Call, ...]
    seen_at_ms: int | None


class Interval(StrEnum):
    """How wide the points of a series are."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


INTERVAL_MS = {Interval.MINUTE: 60_000, Interval.HOUR: 3_600_000, Interval.DAY: 86_400_000}


class Dimension(StrEnum):
    """What a series is grouped by."""

    KEY = "key"
    SECRET = "secret"  # noqa: S105 -- a word, not one
    OWNER = "owner"
    OPERATION = "operation"
    CODE = "code"
    ENVIRONMENT = "environment"
    TAG = "tag"


RANKED_BY_NAME = frozenset({Dimension.KEY, Dimension.SECRET, Dimension.OWNER})
"""Where calls that are of none are no group of a top: a flood of texts that are no key would lead every list."""


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Which verdicts are meant; everything given must hold. Times are milliseconds, from inclusive, to exclusive."""

    from_ms: int
    to_ms: int
    key_id: str = ""
    secret_id: str = ""
    owner_id: str = ""
    operation: str | None = None
    code: int | None = None
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """Sums of one group in one interval; ``begins_at_ms`` is the interval's beginning.

    ``outcomes`` are the calls it was reported for how they ended, ``errors`` those that ended with 500 or more.
    """

    begins_at_ms: int
    group: str
    calls: int
    cost: int
    outcomes: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True)
class LatencyPoint:
    """How long answers took in one group and interval, as a sketch: how many fell into each bucket (``latency``)."""

    begins_at_ms: int
    group: str
    buckets: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class KeyTotals:
    """What a key did in a span of time."""

    calls: int = 0
    cost: int = 0
    by_code: Mapping[int, int] = field(default_factory=dict)
    last_used_at_ms: int | None = None
    last_used_ip: str = ""
    last_operation: str = ""
    outcomes: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True)
class SecretUse:
    """What was done with one secret: how many verdicts, and from which addresses, the most frequent first."""

    secret_id: str
    calls: int
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one call ended, as it was reported: an HTTP status, 100 to 599, and how long the answer took, if known."""

    verification_id: str
    http_status: int
    latency_us: int | None


OUTCOME_WAITS_MAX_MS = 3_600_000
"""So long does an outcome wait for its call."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What became of outcomes that waited: added to their calls, reported before, or dropped after their hour."""

    joined: int = 0
    repeated: int = 0
    dropped: int = 0

    @property
    def settled(self) -> int:
        """How many are not waiting any more."""
        return self.joined + self.repeated + self.dropped


@dataclass(frozen=True, slots=True)
class Attempt:
    """Verdicts of one kind about no key of the workspace, in one minute: forged, unknown or malformed texts.

    ``environment`` is the one that was asked for; ``brand`` and ``secret_environment`` stand in the text when it is
    well-formed, else both are empty. What does not fit into the groups of a minute is summed under ``OTHER_ADDRESS``.
    """

    workspace_id: str
    environment: str
    minute_ms: int
    brand: str
    secret_environment: str
    code: int
    client_ip: str
    count: int
    first_at_ms: int
    last_at_ms: int


OTHER_ADDRESS = "other"


@dataclass(frozen=True, slots=True)
class AttemptPage:
    """What one process counted between two turns: like a stretch, fixed before it is sent, and counted once.

    ``number`` is 1 for a journal's first page, and one more for each that follows.
    """

    journal_id: str
    number: int
    attempts: tuple[Attempt, ...]
