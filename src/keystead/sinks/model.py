"""A sink: where it carries to, how an event is written there, and how far it has come.

What it proves itself with is apart from all that (``SinkSecrets``), sealed wherever it rests: so nothing that is shown,
recorded or logged of a sink can hold it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self
from urllib.parse import urlsplit

from keystead.kernel.secret import Secret

SINK_ID_PREFIX = "snk"
SINKS_MAX = 20
"""Of one workspace."""

REFUSALS_MAX = 3
"""An event that is refused so often by itself, in separate tries, is set aside."""

FIRST_LETTERS = 20
"""So many of what was set aside are shown with a sink."""

LETTERS_MAX = 10_000
"""A sink that has set so many aside is paused: over there somebody refuses everything."""

FILE_BATCH = 500
FILE_TIMEOUT_MS = 30_000


class Payload(StrEnum):
    """How an event is written."""

    NATIVE = "native"
    OCSF = "ocsf"


class SinkState(StrEnum):
    """Whether a sink carries."""

    ACTIVE = "active"
    PAUSED = "paused"


class Kind(StrEnum):
    """What a sink carries to."""

    HTTP = "http"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class HttpDestination:
    """A service that takes CloudEvents over HTTP; certificates are PEM, and an answer may take ``timeout_ms``."""

    url: str
    batch_max: int = 100
    client_certificate: str = ""
    authorities: str = ""
    signed: bool = False
    timeout_ms: int = 10_000

    @property
    def place(self) -> str:
        """The URL without its query, which may hold what is nobody's business."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"

    @property
    def origin(self) -> tuple[str, str, int | None]:
        """Whom what is sent goes to: scheme, host and port."""
        parts = urlsplit(self.url)
        return parts.scheme, parts.hostname or "", parts.port


@dataclass(frozen=True, slots=True)
class FileDestination:
    """A file of JSON lines; full at ``rotate_bytes``, and of the full ones ``keep_files`` are kept (0: all)."""

    name: str
    rotate_bytes: int = 128 * 1024 * 1024
    keep_files: int = 0


Destination = HttpDestination | FileDestination

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----")


def fingerprints(pem: str) -> str:
    """Return the SHA-256 fingerprint of each certificate in ``pem``, which must be readable, as OpenSSL tells them."""
    found = (hashlib.sha256(base64.b64decode(text)).hexdigest() for text in _CERTIFICATE.findall(pem))
    return " ".join(f"sha256:{it}" for it in found)


def kind_of(destination: Destination) -> Kind:
    """Say what a destination is."""
    return Kind.HTTP if isinstance(destination, HttpDestination) else Kind.FILE


@dataclass(frozen=True, slots=True)
class SinkSecrets:
    """What a sink proves itself with, each empty when there is none; the signing secret is ``whsec_…``."""

    bearer_token: Secret
    client_key: Secret
    signing_secret: Secret

    @classmethod
    def none(cls) -> Self:
        """Return no secrets."""
        return cls(Secret(""), Secret(""), Secret(""))

    @property
    def given(self) -> bool:
        """Whether there is any."""
        return any(it.reveal() for it in (self.bearer_token, self.client_key, self.signing_secret))


@dataclass(frozen=True, slots=True)
class SealedSecrets:
    """Secrets as they are stored: encrypted under a subkey of the master ``master_id``."""

    master_id: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Sink:
    """A sink as people make and change it; ``strict_lag_ms`` 0 is no strict mode."""

    id: str
    workspace_id: str
    name: str
    destination: Destination
    created_at_ms: int
    updated_at_ms: int
    payload: Payload = Payload.NATIVE
    state: SinkState = SinkState.ACTIVE
    strict_lag_ms: int = 0
    secrets: SealedSecrets | None = None
    version: int = 1

    @property
    def kind(self) -> Kind:
        """What it carries to."""
        return kind_of(self.destination)

    @property
    def batch_max(self) -> int:
        """How many events go at once at most."""
        return self.destination.batch_max if isinstance(self.destination, HttpDestination) else FILE_BATCH

    @property
    def timeout_ms(self) -> int:
        """How long the destination may take for a batch."""
        return self.destination.timeout_ms if isinstance(self.destination, HttpDestination) else FILE_TIMEOUT_MS


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sink stands: the event and the size of the last checkpoint that it has carried.

    ``epoch`` grows whenever somebody makes it go back, so whoever is under way from before moves nothing. ``batch`` is
    how many are sent at once after a refusal, 0 for as many as may be; ``refusals`` how often the next one was refused
    by itself, ``failures`` how often in a row nothing was taken.
    """

    next_index: int = 0
    checkpoint_size: int = 0
    epoch: int = 0
    batch: int = 0
    refusals: int = 0
    failures: int = 0

    def past(self, index: int | None, size: int | None) -> Place:
        """Return the place after something was taken up to the event ``index`` and the checkpoint of ``size``."""
        return replace(
            self,
            next_index=self.next_index if index is None else index + 1,
            checkpoint_size=self.checkpoint_size if size is None else size,
            refusals=0,
            failures=0,
        )


@dataclass(frozen=True, slots=True)
class DueSink:
    """A sink that has something to carry now, and whether it failed the last time."""

    id: str
    workspace_id: str
    fails: bool


@dataclass(frozen=True, slots=True)
class Held:
    """A sink that one process alone carries for now, by the name of ``holder``."""

    sink: Sink
    place: Place
    holder: str


@dataclass(frozen=True, slots=True)
class Failure:
    """That nothing was taken: why, for how long nothing is tried, and how it goes on then."""

    error: str
    wait_ms: int
    failures: int
    batch: int = 0
    refusals: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What a destination refuses whenever it is asked; ``index`` is a checkpoint's size for one."""

    index: int
    event_id: str
    at_ms: int
    error: str
    is_checkpoint: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sink has come, as of one moment; ``lag_ms`` is None when nothing waits."""

    next_index: int
    waiting_events: int = 0
    lag_ms: int | None = None
    delivered_at_ms: int | None = None
    failures: int = 0
    last_error: str = ""
    retry_at_ms: int | None = None
    dead_letters: int = 0
    first_dead_letters: tuple[DeadLetter, ...] = ()


@dataclass(frozen=True, slots=True)
class StrictLag:
    """A sink in strict mode that is further behind than it may be."""

    name: str
    lag_ms: int
    strict_lag_ms: int


@dataclass(frozen=True, slots=True)
class Summary:
    """How the sinks of one kind do in the whole deployment: the largest lag, and all that was set aside."""

    sinks: int = 0
    lag_ms: int = 0
    dead_letters: int = 0
