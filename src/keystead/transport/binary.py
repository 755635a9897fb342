"""Bytes to message, strictly: for gRPC and for binary bodies over HTTP."""

from __future__ import annotations

from google.protobuf.message import DecodeError, Message

from keystead.transport.errors import MalformedMessageError
from keystead.transport.unknown_fields import refuse_unknown_fields


def read_binary(kind: type[Message], payload: bytes) -> Message:
    """Parse ``payload``; raises ``MalformedMessageError`` or ``UnknownFieldError``, neither of which quotes it."""
    try:
        message = kind.FromString(payload)
    except DecodeError:
        raise MalformedMessageError(f"The bytes are no {kind.DESCRIPTOR.full_name}.") from None
    refuse_unknown_fields(message)
    return message
