"""Outcomes that were matched to their calls, where the two are kept in different stores: a batch on its way.

A batch is written down whole before anything of it is added anywhere, so whoever takes it over adds the same again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

Name = tuple[str, str, str]
"""Which outcome waits: workspace, verification id, and the reporter's environment, empty for one that has both."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An outcome as it waits. ``kept_at_ms`` is when it was reported, ``called_at_ms`` what its id says of the call."""

    workspace_id: str
    verification_id: str
    environment: str
    called_at_ms: int
    http_status: int
    latency_us: int | None
    kept_at_ms: int

    @property
    def name(self) -> Name:
        """What tells it from others."""
        return self.workspace_id, self.verification_id, self.environment

    @property
    def position(self) -> tuple[int, str, str, str]:
        """Where it stands among those that wait."""
        return self.kept_at_ms, *self.name


@dataclass(frozen=True, slots=True)
class Ending:
    """How one call ended, and what names the sums that the call is in."""

    workspace_id: str
    at_ms: int
    verification_id: str
    environment: str
    key_id: str
    secret_id: str
    owner_id: str
    operation: str
    code: int
    tags: tuple[str, ...]
    http_status: int
    latency_us: int | None


@dataclass(frozen=True, slots=True)
class Batch:
    """``endings`` are to be added, once; when they are, those named in ``settled`` wait no more.

    ``id`` is of no other batch. ``dropped`` of the settled ones had no call.
    """

    id: str
    endings: tuple[Ending, ...]
    settled: tuple[Name, ...]
    dropped: int

    def written(self) -> str:
        """Return it as ASCII text."""
        return json.dumps([self.id, [asdict(it) for it in self.endings], self.settled, self.dropped])

    @classmethod
    def read(cls, text: str) -> Batch:
        """Return what ``written`` made a text of."""
        identifier, rows, settled, dropped = json.loads(text)
        endings = tuple(Ending(**{**row, "tags": tuple(row["tags"])}) for row in rows)
        return cls(identifier, endings, tuple((it[0], it[1], it[2]) for it in settled), dropped)
