"""JSON to message, strictly, and in words that help.

google.protobuf reads JSON well and explains badly: its texts quote values, and a value may be a secret (P1). So it only
says yes or no; when it says no, the object is walked beside the descriptor, and each field is tried by itself, to name
the ones that are wrong and what they should have been. Nothing here ever quotes a value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, NoReturn, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from keystead.kernel.errors import FieldViolation, InvalidRequestError
from keystead.transport.errors import MalformedMessageError, UnknownFieldError
from keystead.transport.refusals import shorten

DEPTH_MAXIMUM = 32
"""Objects and arrays in one another. Free JSON takes three levels of messages for one, and protobuf reads back 100."""
_RECURSION_MAXIMUM = 100
_PROBLEMS_MAXIMUM = 20
_NAME_MAXIMUM_BYTES = 100
_EXPECTED = {
    FieldDescriptor.CPPTYPE_BOOL: "must be true or false",
    FieldDescriptor.CPPTYPE_DOUBLE: "must be a number",
    FieldDescriptor.CPPTYPE_FLOAT: "must be a number",
    FieldDescriptor.CPPTYPE_INT32: "must be a whole number of 32 bits",
    FieldDescriptor.CPPTYPE_INT64: "must be a whole number of 64 bits, as a number or a string",
    FieldDescriptor.CPPTYPE_UINT32: "must be a whole number of 32 bits, not negative",
    FieldDescriptor.CPPTYPE_UINT64: "must be a whole number of 64 bits, not negative, as a number or a string",
    FieldDescriptor.CPPTYPE_STRING: "must be a string",
}
_WELL_KNOWN = {
    "google.protobuf.Duration": 'must be a number of seconds as a string, for example "86400s"',
    "google.protobuf.FieldMask": 'must be field names in one string, for example "name,tags"',
    "google.protobuf.ListValue": "must be an array",
    "google.protobuf.Struct": "must be an object",
    "google.protobuf.Timestamp": 'must be a time as a string, for example "2027-01-31T12:00:00Z"',
    "google.protobuf.Value": "must be JSON",
}
_PARSE_ERRORS = (ParseError, ValueError, TypeError, OverflowError, RecursionError, AttributeError)
"""What google.protobuf raises for JSON that is not the message's; found by fuzzing, since it is nowhere documented."""


class _ProblemError(Exception):
    """What is wrong with a JSON text, in our words."""


def read_json(kind: type[Message], data: bytes) -> Message:
    """Parse ``data``, empty standing for ``{}``.

    Raises ``MalformedMessageError``, ``UnknownFieldError`` or ``InvalidRequestError``; fields have the proto's names.
    """
    body = _object(data)
    message = kind()
    try:
        ParseDict(body, message, max_recursion_depth=_RECURSION_MAXIMUM)
    except _PARSE_ERRORS:
        _explain(body, cast("Descriptor", kind.DESCRIPTOR))
    if b"_" in data and (twice := list(_given_twice(body, cast("Descriptor", kind.DESCRIPTOR), ""))):
        raise InvalidRequestError([FieldViolation(path, "is given twice") for path in twice[:_PROBLEMS_MAXIMUM]])
    return message


def _object(data: bytes) -> dict[str, Any]:
    if not data.strip():
        return {}
    try:
        body = _DECODER.decode(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise MalformedMessageError("The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise MalformedMessageError(f"The body is not JSON (line {error.lineno}, column {error.colno}).") from None
    except _ProblemError as error:
        raise MalformedMessageError(str(error)) from None
    except RecursionError:
        raise MalformedMessageError(f"The body is nested deeper than {DEPTH_MAXIMUM} levels.") from None
    except ValueError:  # a whole number of thousands of digits
        raise MalformedMessageError("The body holds a number that is too long.") from None
    if not isinstance(body, dict):
        raise MalformedMessageError("The body must be a JSON object.")
    if _depth_exceeds(body, DEPTH_MAXIMUM):
        raise MalformedMessageError(f"The body is nested deeper than {DEPTH_MAXIMUM} levels.")
    return body


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _ProblemError(f"The body has {_shown(name)} twice in one object.")
            seen.add(name)
    return found


def _refuse_constant(_text: str) -> NoReturn:
    raise _ProblemError("The body holds NaN or Infinity, which are not JSON.")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _ProblemError("The body holds a number that is too large.")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)


def _depth_exceeds(value: object, maximum: int) -> bool:
    level: list[object] = [value]
    for _ in range(maximum):
        level = [item for parent in level for item in _children(parent)]
        if not level:
            return False
    return True


def _children(value: object) -> list[object]:
    children: Iterator[object]
    if isinstance(value, dict):
        children = iter(value.values())
    elif isinstance(value, list):
        children = iter(value)
    else:
        return []
    return [child for child in children if isinstance(child, dict | list)]


def _explain(body: dict[str, Any], descriptor: Descriptor) -> NoReturn:
    unknown: list[str] = []
    wrong: list[FieldViolation] = []
    for path, problem in _problems(body, descriptor, ""):
        if problem:
            wrong.append(FieldViolation(path, problem))
        else:
            unknown.append(path)
        if len(unknown) + len(wrong) >= _PROBLEMS_MAXIMUM:
            break
    if unknown:
        raise UnknownFieldError(unknown)
    if wrong:
        raise InvalidRequestError(wrong)
    raise MalformedMessageError(f"The body is no {descriptor.full_name}.")


def _given_twice(body: dict[str, Any], descriptor: Descriptor, prefix: str) -> Iterator[str]:
    """Yield the fields that are there under both their names, of which google.protobuf takes whichever comes last."""
    for field in descriptor.fields:
        path = prefix + field.name
        if field.name != field.json_name and field.name in body and field.json_name in body:
            yield path
        kind = field.message_type
        if kind is None or kind.full_name in _WELL_KNOWN or kind.GetOptions().map_entry:
            continue
        value = body.get(field.json_name, body.get(field.name))
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                yield from _given_twice(item, kind, path + ".")


def _problems(body: dict[str, Any], descriptor: Descriptor, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield each problem of ``body`` as its path and what should have been; "" for a field that does not exist."""
    names = {name: field for field in descriptor.fields for name in (field.json_name, field.name)}
    taken: dict[str, str] = {}
    for name, value in body.items():
        field = names.get(name)
        if field is None:
            yield prefix + _shown(name), ""
            continue
        path = prefix + field.name
        oneof = field.containing_oneof
        place = oneof.full_name if oneof is not None and value is not None else field.full_name
        if place in taken:
            yield path, "is given twice" if taken[place] == field.name else f"excludes {taken[place]}, also given"
            continue
        taken[place] = field.name
        yield from _field_problems(field, value, path)


def _field_problems(field: FieldDescriptor, value: object, path: str) -> Iterator[tuple[str, str]]:
    if value is None or _parses(field, value):
        return
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        if isinstance(value, dict):
            for item in value.values():
                yield from _item_problems(entry.fields_by_name["value"], item, f"{path}[…]")
        else:
            yield path, "must be an object"
    elif field.is_repeated:
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from _item_problems(field, item, f"{path}[{index}]", repeated=True)
        else:
            yield path, "must be an array"
    else:
        yield from _item_problems(field, value, path)


def _item_problems(
    field: FieldDescriptor, value: object, path: str, *, repeated: bool = False
) -> Iterator[tuple[str, str]]:
    if repeated and value is not None and _parses(field, [value]):
        return
    kind = field.message_type
    if kind is None or kind.full_name in _WELL_KNOWN or not isinstance(value, dict):
        yield path, _expected(field)
        return
    found = False
    for problem in _problems(value, kind, path + "."):
        found = True
        yield problem
    if not found:
        yield path, _expected(field)


def _parses(field: FieldDescriptor, value: object) -> bool:
    scratch = GetMessageClass(field.containing_type)()  # type: ignore[arg-type]  # a field of a message has one
    try:
        ParseDict({field.name: value}, scratch, max_recursion_depth=_RECURSION_MAXIMUM)
    except _PARSE_ERRORS:
        return False
    return True


def _expected(field: FieldDescriptor) -> str:
    if field.enum_type is not None:
        names = [value.name for value in field.enum_type.values if value.number != 0]
        return f"must be one of {', '.join(names)}"
    if field.message_type is not None:
        return _WELL_KNOWN.get(field.message_type.full_name, "must be an object")
    if field.type == FieldDescriptor.TYPE_BYTES:
        return "must be a string in base64"
    return _EXPECTED.get(field.cpp_type, "is of the wrong type")


def _shown(name: str) -> str:
    return shorten("".join([letter if letter.isprintable() else "?" for letter in name]), _NAME_MAXIMUM_BYTES)
