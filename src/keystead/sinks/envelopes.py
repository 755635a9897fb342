"""An event on its way: one CloudEvent 1.0 each, with the same id whenever it is sent.

Receivers know an event by its id (and ``source``), so what comes twice is harmless. ``sequence`` is the extension of
that name: the event's place in its workspace's log, written so that it sorts as text.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from keystead.events.checkpoints import KeptCheckpoint
from keystead.events.export import Entry
from keystead.events.model import Event, canonical
from keystead.events.ocsf import VERSION, ocsf_event
from keystead.sinks.model import Payload

OCSF_SCHEMA = f"https://schema.ocsf.io/{VERSION}"
CHECKPOINT_TYPE = "keystead.checkpoint"
TEST_TYPE = "keystead.sink.test"
BATCH_BYTES = 512 * 1024
"""A batch ends before the envelope that would make it longer, unless that is its first."""

_SEQUENCE_DIGITS = 19


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is sent of one event or checkpoint: ``text`` is canonical JSON.

    ``index`` is the event's place in the log, None for a checkpoint, whose ``size`` is given then. ``action`` is what
    happened, empty for what is no event of the log.
    """

    id: str
    text: str
    index: int | None = None
    size: int | None = None
    action: str = ""

    @property
    def size_bytes(self) -> int:
        """How long the text is."""
        return len(self.text.encode())


def event_envelope(event: Event, payload: Payload) -> Envelope:
    """Write an event that has its place."""
    index = event.leaf_index or 0
    whole = _frame(event.workspace_id, event.id, f"keystead.{event.action}")
    whole |= {"time": _moment(event.occurred_at_ms), "sequence": f"{index:0{_SEQUENCE_DIGITS}d}"}
    if event.target:
        whole["subject"] = event.target
    if payload is Payload.OCSF:
        whole |= {"dataschema": OCSF_SCHEMA, "data": _ocsf(event, index)}
    else:
        whole["data"] = _native(event, index)
    return Envelope(event.id, canonical(whole), index=index, action=event.action)


def checkpoint_envelope(kept: KeptCheckpoint) -> Envelope:
    """Write a checkpoint; its id follows from its size, so one that comes again is the same."""
    name = f"{kept.workspace_id}-checkpoint-{kept.size}"
    root = base64.b64encode(kept.root_hash).decode()
    whole = _frame(kept.workspace_id, name, CHECKPOINT_TYPE)
    whole["data"] = {"checkpoint": kept.note, "size": kept.size, "root_hash": root}
    return Envelope(name, canonical(whole), size=kept.size)


def trial_envelope(workspace_id: str, sink_id: str, *, name: str, now_ms: int) -> Envelope:
    """Write what tries a sink out; it is no event of the log."""
    whole = _frame(workspace_id, name, TEST_TYPE)
    whole |= {"time": _moment(now_ms), "subject": sink_id, "data": {"sink_id": sink_id}}
    return Envelope(name, canonical(whole))


def merged(
    events: Sequence[Event], checkpoints: Sequence[KeptCheckpoint], payload: Payload, *, next_index: int, at_most: int
) -> list[Envelope]:
    """Put events and checkpoints in their order, each checkpoint behind the last event that it covers.

    ``events`` follow each other from ``next_index`` on; a checkpoint that covers more than them waits. So does what
    would be more than ``at_most`` or ``BATCH_BYTES``; the first goes however long it is.
    """
    found: list[Envelope] = []
    size_bytes = 0
    for envelope in _in_order(events, checkpoints, payload, next_index=next_index):
        size_bytes += envelope.size_bytes
        if found and size_bytes > BATCH_BYTES:
            break
        found.append(envelope)
        if len(found) == at_most:
            break
    return found


def _in_order(
    events: Sequence[Event], checkpoints: Sequence[KeptCheckpoint], payload: Payload, *, next_index: int
) -> Iterator[Envelope]:
    """Write one after the other, each when it is asked for."""
    waiting = list(checkpoints)
    for end, event in [(next_index, None), *(((it.leaf_index or 0) + 1, it) for it in events)]:
        if event is not None:
            yield event_envelope(event, payload)
        while waiting and waiting[0].size <= end:
            yield checkpoint_envelope(waiting.pop(0))


def batch_id(batch: Sequence[Envelope]) -> str:
    """Name a batch by what is in it, without a full stop: the same whenever the same is sent."""
    return "msg_" + hashlib.sha256("\n".join(it.id for it in batch).encode()).hexdigest()[:32]


def _frame(workspace_id: str, name: str, kind: str) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": name,
        "source": f"urn:keystead:{workspace_id}",
        "type": kind,
        "datacontenttype": "application/json",
    }


def _native(event: Event, index: int) -> dict[str, Any]:
    return {"index": index, "record": json.loads(event.record), "private": json.loads(event.private)}


def _ocsf(event: Event, index: int) -> dict[str, Any]:
    written = ocsf_event(Entry(index, event.record, event.private, ()))
    written["unmapped"]["keystead"].pop("proof")
    return written


def _moment(at_ms: int) -> str:
    whole_s, milliseconds = divmod(at_ms, 1_000)
    return f"{datetime.fromtimestamp(whole_s, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"
