"""64-bit numbers in JSON as a browser reads them: numbers, as long as it can hold them exactly.

Protobuf's mapping writes them as texts, and lets every reader take either.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

EXACT_MAX = 2**53 - 1
_WIDE = frozenset(
    {
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_UINT64,
        FieldDescriptor.TYPE_SINT64,
        FieldDescriptor.TYPE_FIXED64,
        FieldDescriptor.TYPE_SFIXED64,
    }
)


def write_numbers(descriptor: Any, body: dict[str, Any]) -> None:
    """Turn the 64-bit numbers of ``body``, a message of this type as JSON, from texts into numbers, in place."""
    for name, field in _wide_fields(descriptor):
        if name in body:
            body[name] = _written(field, body[name])


@cache
def _wide_fields(descriptor: Any) -> tuple[tuple[str, FieldDescriptor], ...]:
    """Return the fields that are such a number or may hold one."""
    return tuple((field.json_name, field) for field in descriptor.fields if _may_be_wide(field, ()))


def _may_be_wide(field: FieldDescriptor, above: tuple[Descriptor, ...]) -> bool:
    inner = field.message_type
    if inner is None:
        return field.type in _WIDE
    if inner in above or inner.file.package.startswith("google."):
        return False
    return any(_may_be_wide(it, (*above, inner)) for it in inner.fields)


def _written(field: FieldDescriptor, value: Any) -> Any:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        values = inner.fields_by_name["value"]
        return {key: _written(values, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_written(field, item) for item in value]
    if inner is not None:
        write_numbers(inner, value)
        return value
    return int(value) if abs(int(value)) <= EXACT_MAX else value
