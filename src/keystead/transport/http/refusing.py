"""A refusal in Connect's clothes.

Connect sends details as base64, which nobody reads with ``curl``, and shows a ``debug`` member beside those it has a
type for. Its types are of another protobuf library than ours; so a detail shows itself as a ``Struct``, whose JSON is
any object, and a person sees ``"reason": "KEY_REVOKED"``.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError, ErrorDetail
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from grpc import StatusCode
from protobuf.wkt import Any as PackedAny
from protobuf.wkt import Struct

from keystead.transport.refusals import Refusal

_TYPE_PREFIX = "type.googleapis.com/"


class ReadableDetail(ErrorDetail):
    """A detail of any google.protobuf type, packed as usual and readable beside it."""

    def __init__(self, message: Message) -> None:
        """Pack ``message``."""
        super().__init__(
            PackedAny(type_url=_TYPE_PREFIX + message.DESCRIPTOR.full_name, value=message.SerializeToString())
        )
        self._readable = MessageToDict(message, preserving_proto_field_name=False)

    def value(self, desc_or_registry: Any = None) -> Any:  # as the overloads that it overrides
        """Without an argument the readable form, which Connect prints as ``debug``; otherwise as any detail."""
        if desc_or_registry is None:
            return Struct.from_python(self._readable)
        return super().value(desc_or_registry)


def connect_code(status: StatusCode) -> Code:
    """Translate gRPC's name of a status into Connect's."""
    return Code.CANCELED if status is StatusCode.CANCELLED else Code[status.name]


def connect_error(refusal: Refusal) -> ConnectError:
    """Make what connectrpc turns into a body, or into gRPC-Web's trailers."""
    details = [ReadableDetail(detail) for detail in refusal.details]
    return ConnectError(connect_code(refusal.statuses.grpc), refusal.message, details)


def connect_body(refusal: Refusal) -> dict[str, Any]:
    """Write the same body for what is refused before connectrpc sees it."""
    details = [
        {
            "type": detail.DESCRIPTOR.full_name,
            "value": b64encode(detail.SerializeToString()).decode().rstrip("="),
            "debug": MessageToDict(detail),
        }
        for detail in refusal.details
    ]
    return {"code": connect_code(refusal.statuses.grpc).value, "message": refusal.message, "details": details}
