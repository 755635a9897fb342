"""JSON Schemas of protobuf messages, after protobuf's own JSON mapping.

A schema says how a message looks on the wire: ``lowerCamelCase`` names, 64-bit numbers as strings, a Timestamp as
RFC 3339. Nested messages and enums are referred to, so each appears once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

Json = dict[str, object]

REFERENCE = "#/components/schemas/"

_SCALARS: Mapping[int, Json] = {
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_INT64: {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 4_294_967_295},
    FieldDescriptor.TYPE_UINT64: {"type": "string", "format": "uint64", "pattern": "^[0-9]+$"},
}

_WELL_KNOWN: Mapping[str, Json] = {
    "google.protobuf.Duration": {
        "type": "string",
        "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$",
        "examples": ["86400s"],
    },
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.FieldMask": {
        "type": "string",
        "description": "Names of fields in lowerCamelCase, separated by commas.",
        "examples": ["name,expiresAt"],
    },
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Value": {"description": "Any JSON value."},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time", "examples": ["2026-01-31T12:00:00Z"]},
}


class UnmappedTypeError(Exception):
    """Raised for a protobuf type whose JSON mapping is not written down above: add it there."""


@dataclass(slots=True)
class Schemas:
    """Makes the schemas of messages and of everything they refer to, each once.

    ``comments`` has the proto's leading comments by full name. The schemas are collected in ``made``.
    """

    comments: Mapping[str, str]
    made: dict[str, Json] = field(default_factory=dict)

    def reference(self, message: Descriptor) -> Json:
        """Refer to the schema of ``message``, which is made if it is not there yet."""
        return self._reference(message.full_name, lambda: self._message(message))

    def _reference(self, name: str, make: Callable[[], Json]) -> Json:
        if name not in self.made:
            self.made[name] = {}  # before making it, so that a message may refer to itself
            self.made[name] = make()
        return {"$ref": REFERENCE + name}

    def _message(self, message: Descriptor) -> Json:
        text = " ".join([self.comments.get(message.full_name, ""), *one_of_notes(message)]).strip()
        schema: Json = {"type": "object", "description": text}
        schema["properties"] = {member.json_name: self._field(member) for member in message.fields}
        if message.name.endswith("Request"):
            schema["additionalProperties"] = False
        return schema

    def _field(self, member: FieldDescriptor) -> Json:
        entry = map_entry(member)
        if entry is not None:
            schema: Json = {"type": "object", "additionalProperties": self._value(entry.fields_by_name["value"])}
        elif member.is_repeated:
            schema = {"type": "array", "items": self._value(member)}
        else:
            schema = self._value(member)
        description = self.comments.get(member.full_name)
        if description:
            schema = {**schema, "description": description}
        return {**schema, **redaction(member)}

    def _value(self, member: FieldDescriptor) -> Json:
        enum, message = member.enum_type, member.message_type
        if enum is not None:
            return self._reference(enum.full_name, lambda: self._enum(enum))
        if message is None:
            return _known(_SCALARS.get(member.type), member)
        if message.full_name.startswith("google.protobuf."):
            return _known(_WELL_KNOWN.get(message.full_name), member)
        return self.reference(message)

    def _enum(self, enum: EnumDescriptor) -> Json:
        """Allow every name, but explain only those that a caller would write: the zero value means "not given"."""
        lines = [self.comments.get(enum.full_name, "")]
        lines += [f"- `{value.name}`: {self._comment_of(enum, value.name)}" for value in enum.values if value.number]
        return {"type": "string", "enum": [value.name for value in enum.values], "description": "\n".join(lines)}

    def _comment_of(self, enum: EnumDescriptor, value: str) -> str:
        return self.comments.get(f"{enum.full_name}.{value}", "")


def _known(schema: Json | None, member: FieldDescriptor) -> Json:
    """Copy an entry of one of the tables above; there must be one."""
    if schema is None:
        raise UnmappedTypeError(member.full_name)
    return dict(schema)


def map_entry(member: FieldDescriptor) -> Descriptor | None:
    """Return the entry type of a map, which protobuf keeps as repeated entries; None for any other field."""
    message = member.message_type
    return message if message is not None and message.GetOptions().map_entry else None


def redaction(member: FieldDescriptor) -> Json:
    """Flag what must not be shown: a secret only goes in with a request and only comes out with a reply."""
    message = member.containing_type
    if message is None or not member.GetOptions().debug_redact:
        return {}
    return {"format": "password", "writeOnly" if message.name.endswith("Request") else "readOnly": True}


def one_of_notes(message: Descriptor) -> Iterator[str]:
    """Say which fields exclude one another; a lone `optional` field is a oneof to protobuf alone."""
    for group in message.oneofs:
        names = [f"`{member.json_name}`" for member in group.fields]
        if len(names) > 1:
            yield f"Only one of {', '.join(names)} may be given."
