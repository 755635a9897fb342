"""A small Audit-Log service: takes a workspace's event log as CloudEvents, each event once, and says what is missing.

The one idea: an event is the pair of its ``source`` and ``id``, and ``sequence`` is its place in that source's log. So
one that comes again was taken already, and a place that is empty while a later one is not is a gap.

It keeps everything in memory, or with ``--file`` in a file of its own, one event a line, and needs Python alone.

    POST /events      application/cloudevents-batch+json, with the bearer token of ``RECEIVER_TOKEN`` and, where
                      ``RECEIVER_SECRET`` (whsec_…) is given, signed by Standard Webhooks; answers 204
    GET  /report      by source: how many events, from which index to which, what is missing; and how much came in all
    GET  /events      every event in the order in which it first came, one a line
    POST /misbehave   what goes wrong next, in the query: fail=N answers 500 N times, hang=N takes N batches and answers
                      them after the sender gave up, cut=N hangs up in the midst of N answers, refuse=TYPE answers 400
                      to batches with an event of this type; a number or text left out is as before
"""

from __future__ import annotations

import argparse
import base64
import hmac
import json
import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

BATCH = "application/cloudevents-batch+json"
BODY_BYTES_MAX = 64 * 1024 * 1024
HANG_S_MAX = 60.0
TOLERANCE_S = 300


class BadEventError(ValueError):
    """Raised for what is no CloudEvent of an event log."""


class Chronicle:
    """What was taken: different events, in the order in which each first came."""

    def __init__(self, file: Path | None = None) -> None:
        """Go on with what ``file`` holds."""
        self._lock = threading.Lock()
        self._seen: set[tuple[str, str]] = set()
        self._places: dict[str, list[int]] = {}
        self._checkpoints: dict[str, int] = {}
        self._events: list[dict[str, Any]] = []
        self._file = file
        self.received = 0
        if file is not None and file.exists():
            for line in file.read_text(encoding="utf-8").splitlines():
                self._take(json.loads(line))

    def take(self, batch: list[Any]) -> None:
        """Take the events of a batch that did not come before."""
        with self._lock:
            self.received += len(batch)
            new = [event for event in batch if self._take(event)]
            if self._file is not None and new:
                with self._file.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(event) + "\n" for event in new)
                    file.flush()
                    os.fsync(file.fileno())

    def report(self) -> dict[str, Any]:
        """Say what is here and what is missing, by source."""
        with self._lock:
            return {"sources": {it: self._report(it) for it in sorted(self._places)}, "received": self.received}

    def events(self) -> list[dict[str, Any]]:
        """Return all events."""
        with self._lock:
            return list(self._events)

    def _report(self, source: str) -> dict[str, Any]:
        places = self._places[source]
        first, last = min(places, default=0), max(places, default=-1)
        return {
            "events": len(places),
            "first_index": first,
            "last_index": last,
            "missing": last + 1 - first - len(places),
            "in_order": places == sorted(places),
            "checkpoints": self._checkpoints.get(source, 0),
        }

    def _take(self, event: dict[str, Any]) -> bool:
        name = (event["source"], event["id"])
        if name in self._seen:
            return False
        self._seen.add(name)
        self._events.append(event)
        places = self._places.setdefault(event["source"], [])
        if "sequence" in event:
            places.append(int(event["sequence"]))
        elif event["type"] == "keystead.checkpoint":
            self._checkpoints[event["source"]] = self._checkpoints.get(event["source"], 0) + 1
        return True


def read_batch(body: bytes, *, refused: str) -> list[Any]:
    """Read a batch; raise ``ValueError`` when one of it is no event, or of the type ``refused``."""
    batch = json.loads(body)
    if not isinstance(batch, list):
        raise BadEventError("the body must be an array")
    for event in batch:
        check(event)
        if event["type"] == refused:
            raise BadEventError(f"{event['id']} is of the type {refused}")
    return batch


def check(event: Any) -> None:
    """Raise ``BadEventError`` unless ``event`` can be taken."""
    if not isinstance(event, dict) or event.get("specversion") != "1.0":
        raise BadEventError("specversion must be 1.0")
    for name in ("id", "source", "type"):
        if not isinstance(event.get(name), str) or not event[name]:
            raise BadEventError(f"{name} must be given")
    sequence = event.get("sequence", "0")
    if not isinstance(sequence, str) or not (sequence.isascii() and sequence.isdigit()):
        raise BadEventError("sequence must be a decimal text")


def is_signed(secret: str, headers: Any, body: bytes) -> bool:
    """Say whether a request is signed with ``secret`` by Standard Webhooks, and not old."""
    name, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not at.isdigit() or abs(time.time() - int(at)) > TOLERANCE_S:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    wanted = base64.b64encode(hmac.digest(key, f"{name}.{at}.".encode() + body, "sha256")).decode()
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(it.encode(), f"v1,{wanted}".encode()) for it in given)


class Behaviour:
    """What goes wrong on purpose."""

    def __init__(self) -> None:
        """Begin well-behaved."""
        self._lock = threading.Lock()
        self._left = {"fail": 0, "hang": 0, "cut": 0}
        self.refused = ""
        self.ended = threading.Event()

    def change(self, query: str) -> None:
        """Read what is to go wrong; raises ``ValueError`` for what is no number."""
        given = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
        with self._lock:
            self._left |= {name: int(given[name]) for name in self._left if name in given}
            self.refused = given.get("refuse", self.refused)

    def next(self, name: str) -> bool:
        """Say whether this time it goes wrong in this way."""
        with self._lock:
            left = self._left[name]
            self._left[name] = max(0, left - 1)
            return left > 0


class Receiver(ThreadingHTTPServer):
    """The service."""

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], *, token: str = "", secret: str = "", file: Path | None = None
    ) -> None:
        """Listen on ``address``; an empty ``token`` lets everybody in, an empty ``secret`` asks for no signature."""
        super().__init__(address, _Handler)
        self.token = token
        self.secret = secret
        self.chronicle = Chronicle(file)
        self.behaviour = Behaviour()

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Receiver
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """Show what was taken."""
        if self.path == "/report":
            self._answer(200, self.server.chronicle.report())
        elif self.path == "/events":
            lines = "".join(json.dumps(event) + "\n" for event in self.server.chronicle.events())
            self._send(200, "application/x-ndjson", lines.encode())
        else:
            self._answer(404, {"error": "there are GET /report and GET /events"})

    def do_POST(self) -> None:
        """Take events, or be told to misbehave."""
        parts = urlsplit(self.path)
        body = self._body()
        if body is None:
            self._answer(413, {"error": f"must be at most {BODY_BYTES_MAX} bytes"})
        elif parts.path == "/misbehave":
            self.server.behaviour.change(parts.query)
            self._answer(204)
        elif parts.path != "/events":
            self._answer(404, {"error": "there is POST /events"})
        elif not self._let_in(body):
            self._answer(401, {"error": "the bearer token or the signature is wrong"})
        elif self.headers.get("content-type", "").partition(";")[0] != BATCH:
            self._answer(415, {"error": f"must be {BATCH}"})
        else:
            self._take(body)

    def _take(self, body: bytes) -> None:
        server, behaviour = self.server, self.server.behaviour
        if behaviour.next("fail"):
            self._answer(500, {"error": "told to fail"})
            return
        try:
            server.chronicle.take(read_batch(body, refused=behaviour.refused))
        except ValueError as error:
            self._answer(400, {"error": str(error)})
            return
        if behaviour.next("hang"):
            behaviour.ended.wait(HANG_S_MAX)
            self.close_connection = True
            return
        if behaviour.next("cut"):
            self.wfile.write(b"HTTP/1.1 20")
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self._answer(204)

    def _let_in(self, body: bytes) -> bool:
        given = self.headers.get("authorization", "").removeprefix("Bearer ")
        if self.server.token and not hmac.compare_digest(given.encode(), self.server.token.encode()):
            return False
        return not self.server.secret or is_signed(self.server.secret, self.headers, body)

    def _body(self) -> bytes | None:
        length = int(self.headers.get("content-length") or 0)
        return self.rfile.read(length) if 0 <= length <= BODY_BYTES_MAX else None

    def _answer(self, status: int, content: dict[str, Any] | None = None) -> None:
        body = b"" if content is None else json.dumps(content, indent=2).encode() + b"\n"
        self._send(status, "application/json", body)

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        if body:
            self.send_header("content-type", kind)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name is http.server's
        """Write one line a request."""
        sys.stderr.write(f"{format % args}\n")


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", default="127.0.0.1:8091", metavar="HOST:PORT", help="port 0 takes a free one")
    parser.add_argument("--file", type=Path, help="keep the events in this file")
    parser.add_argument("--misbehave", default="", metavar="QUERY", help="as POST /misbehave, from the start")
    options = parser.parse_args()
    host, _, port = options.listen.rpartition(":")
    token, secret = os.environ.get("RECEIVER_TOKEN", ""), os.environ.get("RECEIVER_SECRET", "")
    with Receiver((host, int(port)), token=token, secret=secret, file=options.file) as receiver:
        receiver.behaviour.change(options.misbehave)
        sys.stdout.write(f"{receiver.url}\n")
        sys.stdout.flush()
        try:
            receiver.serve_forever()
        except KeyboardInterrupt:
            receiver.behaviour.ended.set()


if __name__ == "__main__":
    main()
