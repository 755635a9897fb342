"""A server of the tests' own that speaks Connect's JSON on a real socket, and holds every request to the contract.

What a request says is parsed against the proto, strictly, so a command that sends a field nobody knows fails its test;
a mutation must carry an idempotency key good enough for a secret, and nothing else may carry one. A method that streams
is asked in frames and answered in frames.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf import descriptor_pool, json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2

from keystead.gen.v1 import (
    audit_pb2,
    entitlements_pb2,
    keys_pb2,
    limiter_pb2,
    options_pb2,
    owners_pb2,
    plans_pb2,
    usage_pb2,
    workspaces_pb2,
)

Json = dict[str, Any]

MANAGEMENT_KEY = "keystead_live_stub"
STREAM_TYPE = "application/connect+json"
_FILES = (audit_pb2, entitlements_pb2, keys_pb2, limiter_pb2, owners_pb2, plans_pb2, usage_pb2, workspaces_pb2)
_FRAME_HEADER_BYTES = 5
_IDEMPOTENCY_CHARACTERS = 22


def method_named(path: str) -> MethodDescriptor:
    """Find a method by its path, ``/keystead.v1.KeyService/GetKey``."""
    service, name = path.strip("/").split("/")
    found = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    assert isinstance(found, MethodDescriptor)
    return found


def is_mutation(method: MethodDescriptor) -> bool:
    """Say whether the contract calls the method a mutation."""
    return bool(method.GetOptions().Extensions[options_pb2.access].mutates)


@dataclass(frozen=True)
class Answer:
    """What to answer next; ``dropped`` breaks the connection instead."""

    body: bytes = b"{}"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    dropped: bool = False


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    message: Message
    body: Json
    headers: Mapping[str, str]


def reply(message: Message) -> Answer:
    """Answer with ``message`` as the real server writes it: fields without presence are printed also when empty."""
    body = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    return Answer(json.dumps(body).encode())


def stream(messages: Sequence[Message], last: Json | None) -> Answer:
    """Answer with ``messages`` in a frame each, and ``last`` in the frame that ends them; None cuts them off."""
    written = [json_format.MessageToDict(message, always_print_fields_with_no_presence=True) for message in messages]
    frames = [_frame(0, message) for message in written]
    if last is not None:
        frames.append(_frame(2, last))
    return Answer(b"".join(frames), headers={"content-type": STREAM_TYPE})


def _frame(flags: int, content: Json) -> bytes:
    body = json.dumps(content).encode()
    return bytes([flags]) + len(body).to_bytes(4, "big") + body


def refusal(
    code: str,
    message: str,
    *,
    status: int,
    reason: str = "",
    fields: Mapping[str, str] | None = None,
    error_id: str = "",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Answer with an error in Connect's form."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain="keystead")
    if error_id:
        info.metadata["error_id"] = error_id
    details: list[Message] = [info] if reason else []
    if fields:
        bad = error_details_pb2.BadRequest()
        for name, description in fields.items():
            bad.field_violations.add(field=name, description=description)
        details.append(bad)
    packed = [
        {
            "type": detail.DESCRIPTOR.full_name,
            "value": base64.b64encode(detail.SerializeToString()).decode().rstrip("="),
        }
        for detail in details
    ]
    body = {"code": code, "message": message, "details": packed}
    return Answer(json.dumps(body).encode(), status, headers or {})


class StubServer:
    """Listens on a free port; answers what it was told to, in order, and remembers what it was asked."""

    def __init__(self) -> None:
        """Listen."""
        self.asked: list[Asked] = []
        self.answers: list[Answer] = []
        self.complaints: list[str] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def environment(self) -> dict[str, str | None]:
        """What the command line needs to call it."""
        return {
            "KEYSTEAD_URL": self.url,
            "KEYSTEAD_MANAGEMENT_KEY": MANAGEMENT_KEY,
            "KEYSTEAD_PROFILE": None,
            "COLUMNS": "80",
        }

    def will_answer(self, *answers: Answer) -> None:
        """Answer the next requests with ``answers``."""
        self.answers += answers

    def close(self) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def take(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Hold one request to the contract and choose the answer."""
        method = method_named(path)
        if method.server_streaming != (headers.get("content-type") == STREAM_TYPE):
            self.complaints.append(f"{path} is asked as {headers.get('content-type')}")
        content: Json = json.loads(body[_FRAME_HEADER_BYTES:] if method.server_streaming else body)
        message = GetMessageClass(method.input_type)()
        try:
            json_format.ParseDict(content, message)
        except json_format.ParseError as error:
            self.complaints.append(str(error))
        idempotency_key = str(content.get("idempotencyKey", ""))
        if is_mutation(method) and len(idempotency_key) < _IDEMPOTENCY_CHARACTERS and not content.get("validateOnly"):
            self.complaints.append(f"{path} carries no good idempotency key")
        if headers.get("authorization") != f"Bearer {MANAGEMENT_KEY}":
            self.complaints.append(f"{path} carries no credential")
        self.asked.append(Asked(method.name, message, content, headers))
        return self.answers.pop(0) if self.answers else Answer()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = stub.take(self.path, body, headers)
                if answer.dropped:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in {"content-type": "application/json", **answer.headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler
