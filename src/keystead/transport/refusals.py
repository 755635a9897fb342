"""What a caller is told when a call fails: one ``google.rpc.Status``, whatever the transport.

Every refusal carries exactly one ``ErrorInfo`` (AIP-193), so a program branches on ``reason`` and never on the text.
What nobody expected becomes INTERNAL with an id; what really happened is in the log under that id, as types and places,
without the exceptions' texts, because a text may quote what a caller sent (P1).
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from keystead.kernel.errors import KeysteadError
from keystead.kernel.ids import new_id
from keystead.kernel.redaction import redact
from keystead.transport.errors import TABLE, Statuses

DOMAIN = "keystead"
MESSAGE_MAXIMUM_BYTES = 1_000
DETAILS_MAXIMUM_BYTES = 2_048
"""Together they stay under the 8 KiB of metadata that gRPC clients take by default, base64 and percents included."""

COUNTS: dict[str, int] = dict.fromkeys(TABLE, 0)
"""How many calls this process has refused since it started, by code."""

_VALUE_MAXIMUM_BYTES = 256
_FRAMING_BYTES = 8
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A failed call as the wire will tell it; ``details`` are the messages inside ``status``."""

    code: str
    statuses: Statuses
    status: status_pb2.Status
    details: tuple[Message, ...]
    retry_after_ms: int | None

    @property
    def message(self) -> str:
        """The public text."""
        return str(self.status.message)

    @property
    def http_headers(self) -> dict[str, str]:
        """What HTTP says beside the body: ``retry-after`` in whole seconds, and how to authenticate."""
        headers = {}
        if self.retry_after_ms is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after_ms / 1_000)))
        if self.statuses.grpc is StatusCode.UNAUTHENTICATED:
            headers["www-authenticate"] = "Bearer"
        return headers


def refusal_of(error: Exception, path: str) -> Refusal:
    """Render ``error`` for the caller of ``path``, and write to the log what he must not see."""
    if not isinstance(error, KeysteadError) or error.code not in TABLE or error.code == "internal":
        return _unexpected(error, path)
    if error.internal:
        _log.debug("call refused", method=path, code=error.code, internal=error.internal)
    return _refusal(error)


def _unexpected(error: Exception, path: str) -> Refusal:
    error_id = new_id("err", now_ms=time.time_ns() // 1_000_000)
    internal = error.internal if isinstance(error, KeysteadError) else ""
    _log.error("unexpected error", error_id=error_id, method=path, internal=internal, traceback=outline(error))
    return _refusal(KeysteadError(public=f"Internal error; quote {error_id}.", metadata={"error_id": error_id}))


def _refusal(error: KeysteadError) -> Refusal:
    statuses = TABLE[error.code]
    COUNTS[error.code] += 1
    details = tuple(_details(error))
    status = status_pb2.Status(code=statuses.grpc.value[0], message=shorten(error.public, MESSAGE_MAXIMUM_BYTES))
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return Refusal(error.code, statuses, status, details, error.retry_after_ms)


def _details(error: KeysteadError) -> Iterator[Message]:
    left_bytes = DETAILS_MAXIMUM_BYTES
    info = error_details_pb2.ErrorInfo(reason=error.code.upper(), domain=DOMAIN)
    for key, value in error.metadata.items():
        shown = shorten(value, _VALUE_MAXIMUM_BYTES)
        left_bytes -= len(key.encode()) + len(shown.encode()) + _FRAMING_BYTES
        if left_bytes < 0:
            break
        info.metadata[key] = shown
    yield info
    if error.violations:
        yield _bad_request(error, left_bytes)
    if error.retry_after_ms is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(error.retry_after_ms)
        yield retry


def _bad_request(error: KeysteadError, left_bytes: int) -> error_details_pb2.BadRequest:
    bad = error_details_pb2.BadRequest()
    for violation in error.violations:
        field = shorten(violation.field, _VALUE_MAXIMUM_BYTES)
        description = shorten(violation.description, _VALUE_MAXIMUM_BYTES)
        left_bytes -= len(field.encode()) + len(description.encode()) + _FRAMING_BYTES
        if left_bytes < 0 and bad.field_violations:
            break
        bad.field_violations.add(field=field, description=description)
    return bad


def shorten(text: str, maximum_bytes: int) -> str:
    """Take secrets out of ``text`` and cut its UTF-8 to ``maximum_bytes``; a lone surrogate becomes a question mark."""
    encoded = redact(text).encode("utf-8", "replace")
    if len(encoded) <= maximum_bytes:
        return encoded.decode()
    return encoded[: maximum_bytes - 3].decode("utf-8", "ignore") + "…"


def outline(error: BaseException) -> str:
    """Write a traceback of types and places, causes first, without any exception's text or any variable."""
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames = traceback.StackSummary.extract(traceback.walk_tb(current.__traceback__), limit=-50)
        kind = type(current)
        parts.append("".join(frames.format()) + f"{kind.__module__}.{kind.__qualname__}\n")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n".join(reversed(parts))
