"""How messages are written in a body: Connect's two codecs, with what its own leave out.

Its JSON codec drops ``false`` and 0 and swallows unknown fields; these print every field without presence and refuse
what the contract does not know. A handler may also return a reply that is serialised already.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from connectrpc.codec import Codec
from connectrpc.errors import ConnectError
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from keystead.kernel.errors import KeysteadError
from keystead.transport.binary import read_binary
from keystead.transport.http.json_reading import read_json
from keystead.transport.http.json_writing import write_numbers
from keystead.transport.http.refusing import connect_error
from keystead.transport.refusals import refusal_of

_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Reply:
    """What a handler returned, and the type it is of."""

    kind: type[Message]
    content: Message | bytes

    def message(self) -> Message:
        """The reply as a message."""
        return self.kind.FromString(self.content) if isinstance(self.content, bytes) else self.content


class BinaryCodec(Codec[Reply, Message]):
    """``application/proto``."""

    def name(self) -> str:
        """Return what stands behind ``application/``."""
        return "proto"

    def encode(self, message: Reply) -> bytes:
        """Serialise, unless the handler did."""
        return message.content if isinstance(message.content, bytes) else message.content.SerializeToString()

    def decode(self, data: bytes | bytearray, message_class: type[Message]) -> Message:
        """Parse; raises ``ConnectError``."""
        try:
            return read_binary(message_class, bytes(data))
        except KeysteadError as error:
            raise _refused(error, message_class) from None


class JsonCodec(Codec[Reply, Message]):
    """``application/json``: protobuf's JSON mapping, compact, in ``lowerCamelCase``."""

    def name(self) -> str:
        """Return what stands behind ``application/``."""
        return "json"

    def encode(self, message: Reply) -> bytes:
        """Write every field that has no presence, also when it is false, 0 or empty."""
        body = MessageToDict(message.message(), always_print_fields_with_no_presence=True)
        write_numbers(message.kind.DESCRIPTOR, body)
        return _COMPACT.encode(body).encode()

    def decode(self, data: bytes | bytearray, message_class: type[Message]) -> Message:
        """Parse; raises ``ConnectError``."""
        try:
            return read_json(message_class, bytes(data))
        except KeysteadError as error:
            raise _refused(error, message_class) from None


def _refused(error: KeysteadError, kind: type[Message]) -> ConnectError:
    return connect_error(refusal_of(error, kind.DESCRIPTOR.full_name))
