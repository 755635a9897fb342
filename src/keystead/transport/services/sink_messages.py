"""Between the contract's sinks and the domain's; what a sink proves itself with is read and never written."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from keystead.gen.v1 import sinks_pb2
from keystead.kernel.changing import etag_of
from keystead.kernel.secret import Secret
from keystead.sinks.drafts import SinkDraft
from keystead.sinks.model import (
    DeadLetter,
    Destination,
    FileDestination,
    HttpDestination,
    Payload,
    Progress,
    Sink,
    SinkState,
)
from keystead.transport.services import conversions, tiers

PAYLOAD_NUMBERS = {Payload.NATIVE: sinks_pb2.Sink.NATIVE, Payload.OCSF: sinks_pb2.Sink.OCSF}
STATE_NUMBERS = {SinkState.ACTIVE: sinks_pb2.Sink.ACTIVE, SinkState.PAUSED: sinks_pb2.Sink.PAUSED}
_PAYLOADS = {int(number): value for value, number in PAYLOAD_NUMBERS.items()}
_STATES = {int(number): value for value, number in STATE_NUMBERS.items()}


def draft_of(wanted: sinks_pb2.Sink) -> SinkDraft:
    """Read what a caller says of a sink; what is absent is its default."""
    return SinkDraft(
        name=wanted.name,
        destination=_destination_of(wanted),
        payload=conversions.chosen("sink.payload", wanted.payload, _PAYLOADS) or Payload.NATIVE,
        state=conversions.chosen("sink.state", wanted.state, _STATES) or SinkState.ACTIVE,
        strict_lag_ms=_strict_lag_ms(wanted),
        bearer_token=Secret(wanted.http.bearer_token),
        client_key=Secret(wanted.http.client_key),
    )


def _strict_lag_ms(wanted: sinks_pb2.Sink) -> int:
    """Read how far a sink may be behind; one that is given and 0 is out of bounds rather than absent."""
    if not wanted.HasField("strict_lag"):
        return 0
    return tiers.whole_ms("sink.strict_lag", wanted.strict_lag) or -1


def _destination_of(wanted: sinks_pb2.Sink) -> Destination | None:
    match wanted.WhichOneof("destination"):
        case "http":
            http = wanted.http
            default = HttpDestination(http.url)
            return HttpDestination(
                url=http.url,
                batch_max=http.batch_max or default.batch_max,
                client_certificate=http.client_certificate,
                authorities=http.authorities,
                signed=http.signed,
                timeout_ms=(
                    tiers.whole_ms("sink.http.timeout", http.timeout)
                    if http.HasField("timeout")
                    else default.timeout_ms
                ),
            )
        case "file":
            file = wanted.file
            kept = FileDestination(file.name).rotate_bytes
            return FileDestination(file.name, file.rotate_bytes or kept, file.keep_files)
        case _:
            return None


def sink_message(sink: Sink, progress: Progress) -> sinks_pb2.Sink:
    """Write a sink, and how far it has come."""
    message = sinks_pb2.Sink(
        id=sink.id,
        name=sink.name,
        payload=PAYLOAD_NUMBERS[sink.payload],
        state=STATE_NUMBERS[sink.state],
        strict_lag=_span(sink.strict_lag_ms) if sink.strict_lag_ms else None,
        created_at=conversions.moment(sink.created_at_ms),
        updated_at=conversions.moment(sink.updated_at_ms),
        etag=etag_of(sink.version),
        progress=_progress_message(progress),
    )
    match sink.destination:
        case HttpDestination() as http:
            message.http.CopyFrom(
                sinks_pb2.HttpDestination(
                    url=http.url,
                    batch_max=http.batch_max,
                    client_certificate=http.client_certificate,
                    authorities=http.authorities,
                    signed=http.signed,
                    timeout=_span(http.timeout_ms),
                )
            )
        case FileDestination() as file:
            message.file.CopyFrom(
                sinks_pb2.FileDestination(name=file.name, rotate_bytes=file.rotate_bytes, keep_files=file.keep_files)
            )
    return message


def _progress_message(progress: Progress) -> sinks_pb2.SinkProgress:
    return sinks_pb2.SinkProgress(
        next_index=progress.next_index,
        waiting_events=progress.waiting_events,
        lag=None if progress.lag_ms is None else _span(progress.lag_ms),
        delivered_at=conversions.timestamp(progress.delivered_at_ms),
        failures=progress.failures,
        last_error=progress.last_error,
        retry_at=conversions.timestamp(progress.retry_at_ms),
        dead_letters=progress.dead_letters,
        first_dead_letters=[_letter_message(letter) for letter in progress.first_dead_letters],
    )


def _letter_message(letter: DeadLetter) -> sinks_pb2.DeadLetter:
    return sinks_pb2.DeadLetter(
        index=letter.index, event_id=letter.event_id, at=conversions.moment(letter.at_ms), error=letter.error
    )


def _span(found_ms: int) -> Duration:
    return Duration(seconds=found_ms // 1_000, nanos=found_ms % 1_000 * 1_000_000)
