"""Refuse fields that the contract does not know, in binary messages as in JSON.

Protobuf keeps what it does not understand and says nothing, so a caller who is newer than the server, or who mistyped a
number, would be obeyed in part. Which fields of a message hold messages is worked out once for each type: the hot path
asks the runtime for one set and looks at those fields alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from keystead.transport.errors import UnknownFieldError

_SINGULAR, _REPEATED, _MAP = range(3)
_nested: dict[type[Message], tuple[tuple[str, int], ...]] = {}
_LISTED_MAXIMUM = 10


def refuse_unknown_fields(message: Message) -> None:
    """Raise ``UnknownFieldError``, naming the numbers, when ``message`` or one inside it holds unknown fields."""
    if len(UnknownFieldSet(message)) > 0:
        raise UnknownFieldError(_paths(message, ""))
    parts = _nested.get(type(message))
    if parts is None:
        parts = _nested[type(message)] = _parts_of(message)
    for name, kind in parts:
        if kind != _SINGULAR or message.HasField(name):
            _look_into(getattr(message, name), name, kind)


def _look_into(value: object, name: str, kind: int) -> None:
    for key, item in _items(value, kind):
        try:
            refuse_unknown_fields(item)
        except UnknownFieldError as error:
            raise UnknownFieldError([f"{name}{key}.{path}" for path in error.paths]) from None


def _items(value: object, kind: int) -> list[tuple[str, Message]]:
    if kind == _SINGULAR:
        return [("", cast("Message", value))]
    if kind == _REPEATED:
        return [(f"[{index}]", item) for index, item in enumerate(cast("Sequence[Message]", value))]
    # A map's keys are the caller's and may be anything, so they are not shown.
    return [("[…]", item) for item in cast("Mapping[Any, Message]", value).values()]


def _paths(message: Message, prefix: str) -> list[str]:
    found = UnknownFieldSet(message)
    numbers = sorted({found[index].field_number for index in range(len(found))})
    return [f"{prefix}{number}" for number in numbers[:_LISTED_MAXIMUM]]


def _parts_of(message: Message) -> tuple[tuple[str, int], ...]:
    found = []
    for field in cast("Descriptor", message.DESCRIPTOR).fields:
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                found.append((field.name, _MAP))
        else:
            found.append((field.name, _REPEATED if field.is_repeated else _SINGULAR))
    return tuple(found)
