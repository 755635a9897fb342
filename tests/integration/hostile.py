"""What nobody should send: made out of the contract's own descriptors, so that a new field is attacked as well."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.clients import METHODS

INT32_MAX, INT64_MAX = 2**31 - 1, 2**63 - 1
TEXTS = {
    "NUL": "a\0b",
    "escape": "\x1b[31mred",
    "newline": "a\r\nb: c",
    "DEL": "\x7f",
    "C1": "\x9b31m",
    "line separator": "\u2028",
    "override": "\u202egnp.exe",
    "long": "x" * 20_000,
    "quote": "'; DROP TABLE keys; --" + "x" * 1_000,
}
# Fields whose every value has a verdict: what no secret ever looked like is MALFORMED, and not an error.
VERDICTS = {("VerifyKey", "key"), ("BatchVerify", "requests.key")}
_VALUES: dict[int, tuple[Any, ...]] = {
    FieldDescriptor.TYPE_BOOL: (True, False),
    FieldDescriptor.TYPE_ENUM: (0, 1, 2, 3, 4, 5, 99, -1, INT32_MAX),
    FieldDescriptor.TYPE_INT32: (0, 1, 7, 1_000, INT32_MAX, -(2**31)),
    FieldDescriptor.TYPE_UINT32: (0, 1, 7, 1_000, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (0, 1, -1, 1_700_000_000, 4_000_000_000, INT64_MAX, -(2**63)),
    FieldDescriptor.TYPE_UINT64: (0, 1, 1_000, 2**64 - 1),
    FieldDescriptor.TYPE_DOUBLE: (0.0, 1.5, -1.0, float("inf"), float("nan")),
}
_UPDATED = {"key", "owner", "workspace", "plan", "sink"}
_OF_A_SINK = ("sink.progress", "sink.id", "sink.etag")
_PARTS = ("id", "owner_id", "key_id", "workspace_id")


@dataclass(frozen=True)
class Known:
    """What is there, so that a hostile request gets as far as it can."""

    key_id: str
    owner_id: str
    workspace_id: str
    secret: str
    sink_id: str


def base_of(name: str, known: Known) -> Message:
    """Return a request that the method would take."""
    request: Any = METHODS[name].request()
    fields = request.DESCRIPTOR.fields_by_name
    for field, value in (
        ("key_id", known.key_id),
        ("owner_id", known.owner_id),
        ("workspace_id", known.workspace_id),
        ("name", "Name"),
        ("brand", "brand"),
        ("plan_id", "free"),
    ):
        if field in fields:
            setattr(request, field, value)
    if name == "CreateKey":
        request.environment = 1
    if name in {"VerifyKey", "IdentifyKey"}:
        request.key = known.secret
    if name == "VerifyKey":
        request.environment = 1
    if name == "BatchVerify":
        request.requests.add(key=known.secret, environment=1)
    if name == "RevokeKeys":
        request.validate_only = True
    _fill_new(name, request, known)
    if "update_mask" in fields:
        _fill_update(request, known)
    return request  # type: ignore[no-any-return]  # a message of whichever method


def _fill_new(name: str, request: Any, known: Known) -> None:
    if name == "CreateOwner":
        request.owner_id = "new-owner"
    if name == "CreatePlan":
        request.name = "new-plan"
    if name == "CreateSink":
        request.sink.name, request.sink.http.url, request.sink.state = "New", "https://audit.invalid/", 2
    if name in {"GetSink", "DeleteSink", "ReplaySink"}:
        request.sink_id = known.sink_id
    if name == "CheckLimit":
        request.subject = "somebody"
        request.environment = 1
        request.limits.add(name="calls").sliding_window.window.seconds = 60


def _fill_update(request: Any, known: Known) -> None:
    inner = next(field.name for field in request.DESCRIPTOR.fields if field.name in _UPDATED)
    wanted = getattr(request, inner)
    if inner == "owner":
        wanted.owner_id = known.owner_id
    else:
        ids = {"key": known.key_id, "workspace": known.workspace_id, "plan": "free", "sink": known.sink_id}
        wanted.id = ids[inner]
    wanted.name = "free" if inner == "plan" else "Name"
    if inner == "sink":
        wanted.http.url = "https://audit.invalid/"
    masks = {
        "key": ["name", "description", "scopes", "metadata", "tags", "allowed_ips", "expires_at", "plan_id", "limits"],
        "owner": ["name", "metadata", "plan_id", "limits"],
        "workspace": ["name", "default_plan_id"],
        "sink": ["name", "http"],
        "plan": ["name", "description", "limits", "max_keys_per_owner", "rotate_every", "suspend_overdue"],
    }
    request.update_mask.paths.extend(masks[inner])


def hostile_texts(name: str, known: Known) -> Iterator[tuple[str, Message]]:
    """Yield, for each text that a request of ``name`` can hold, requests with something hostile in its place."""
    for path in text_paths(METHODS[name].request.DESCRIPTOR):
        for kind, text in TEXTS.items():
            request = base_of(name, known)
            _put(request, path, text)
            yield f"{'.'.join(path)}: {kind}", request


def text_paths(descriptor: Any, depth: int = 2) -> Iterator[tuple[str, ...]]:
    """Yield the paths of everything textual in a message that a caller may fill in."""
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_STRING or _is_map(field):
            yield (field.name,)
        elif (
            field.type == FieldDescriptor.TYPE_MESSAGE and depth and field.message_type.full_name.startswith("keystead")
        ):
            for rest in text_paths(field.message_type, depth - 1):
                yield (field.name, *rest)


def _put(message: Any, path: tuple[str, ...], text: str) -> None:
    field = message.DESCRIPTOR.fields_by_name[path[0]]
    if len(path) > 1:
        inner = getattr(message, path[0])
        if field.is_repeated:
            inner = inner[0] if len(inner) else inner.add()
        _put(inner, path[1:], text)
    elif _is_map(field):
        getattr(message, path[0])[text[:30] if len(text) < 1_000 else text] = text
    elif field.is_repeated:
        getattr(message, path[0]).append(text)
    else:
        setattr(message, path[0], text)


def _is_map(field: Any) -> bool:
    return bool(field.message_type is not None and field.message_type.GetOptions().map_entry)


def read_only(name: str, place: str) -> bool:
    """Say whether a field is the server's to fill in, and so ignored, whatever stands in it."""
    if name.endswith("Sink") and place.startswith(_OF_A_SINK if name == "CreateSink" else _OF_A_SINK[:1]):
        return True
    last = place.partition(":")[0].split(".")[-1]
    return name.startswith("Update") and (
        ".secrets." in place
        or last in {"created_by", "state_reason", "brand", "entitled_plan_id"}
        or place.startswith("key.owner_id")
    )


class Fuzz:
    """Draws random requests in which every field has a value of its type, now and then one that is there."""

    def __init__(self, seed: int, known: Known) -> None:
        """Draw by ``seed``."""
        self.chooser = random.Random(seed)
        self.known = known

    def request(self, name: str) -> Message:
        """Draw one request; half of the time a good one with a few fields changed."""
        kind = METHODS[name].request
        request = base_of(name, self.known) if self.chooser.random() < 0.5 else kind()
        self._fill(request, share=self.chooser.choice((0.1, 0.4, 0.9)), depth=3)
        return request

    def _fill(self, message: Any, *, share: float, depth: int) -> None:
        for field in message.DESCRIPTOR.fields:
            if self.chooser.random() > share:
                continue
            if _is_map(field):
                if field.message_type.fields_by_name["value"].type == FieldDescriptor.TYPE_STRING:
                    getattr(message, field.name)[self._text(field.name)] = self._text(field.name)
            elif field.type == FieldDescriptor.TYPE_MESSAGE:
                if depth:
                    inner = getattr(message, field.name)
                    for _ in range(self.chooser.choice((1, 1, 3)) if field.is_repeated else 1):
                        self._fill(inner.add() if field.is_repeated else inner, share=share, depth=depth - 1)
            elif field.is_repeated:
                count = self.chooser.choice((1, 2, 150))
                getattr(message, field.name).extend([self._value(field) for _ in range(count)])
            else:
                setattr(message, field.name, self._value(field))

    def _value(self, field: Any) -> Any:
        if field.type == FieldDescriptor.TYPE_STRING:
            return self._text(field.name)
        return self.chooser.choice(_VALUES[field.type])

    def _text(self, name: str) -> str:
        chooser = self.chooser
        known = (self.known.key_id, self.known.owner_id, self.known.workspace_id, self.known.secret, "read:a", "name")
        letters = "".join(
            chr(chooser.choice((chooser.randrange(32, 127), chooser.randrange(1, 0xD800)))) for _ in "1234"
        )
        texts = (
            "",
            "a",
            "*",
            "*:*",
            "acme_live_",
            "127.0.0.1/33",
            "created_at asc",
            letters,
            "\0",
            "x" * 600,
            "%",
            "_",
        )
        if name in _PARTS and chooser.random() < 0.7:
            return chooser.choice(known[:3])
        return chooser.choice((*texts, *known, *TEXTS.values()))
