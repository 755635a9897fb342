"""What a refused call tells beside its text: the reason, the fields, the id in the log.

Connect packs each detail as the protobuf message it is; the readable form beside it is for people and promises nothing.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2

from keystead.kernel.errors import FieldViolation

_TYPE_PREFIX = "type.googleapis.com/"


@dataclass(frozen=True, slots=True)
class Details:
    """The details of one refusal; empty where there were none."""

    reason: str = ""
    violations: tuple[FieldViolation, ...] = ()
    error_id: str = ""


def read_details(details: object) -> Details:
    """Read the ``details`` of Connect's error; what is not understood is left out."""
    reason, error_id = "", ""
    violations: list[FieldViolation] = []
    for detail in details if isinstance(details, list) else []:
        kind, content = _unpack(detail)
        try:
            if kind == "google.rpc.ErrorInfo":
                info = error_details_pb2.ErrorInfo.FromString(content)
                reason, error_id = info.reason, info.metadata.get("error_id", "")
            elif kind == "google.rpc.BadRequest":
                bad = error_details_pb2.BadRequest.FromString(content)
                violations += [FieldViolation(item.field, item.description) for item in bad.field_violations]
        except DecodeError:
            continue
    return Details(reason, tuple(violations), error_id)


def _unpack(detail: object) -> tuple[str, bytes]:
    if not isinstance(detail, dict):
        return "", b""
    value = str(detail.get("value", ""))
    try:
        content = base64.b64decode(value + "=" * (-len(value) % 4))
    except (binascii.Error, ValueError):
        return "", b""
    return str(detail.get("type", "")).removeprefix(_TYPE_PREFIX), content
