"""A small Entitlements service: takes usage as CloudEvents, counts each once, and adds up what to bill.

The one idea: an event is the pair of its ``source`` and ``id``. One that comes again, after a timeout, from a second
node or twice in one batch, was counted already, so the sender may repeat itself as often as it likes.

It keeps everything in memory, or with ``--file`` in a file of its own, one event a line, and needs Python alone.

    POST /api/v1/events   application/cloudevents-batch+json, with the bearer token of ``RECEIVER_TOKEN``; answers 204
    GET  /totals          sums by subject and type, and how often it was asked
    POST /misbehave       what goes wrong next, in the query: fail=N answers 500 N times, hang=N counts N batches and
                          answers them after the sender gave up, twice=1 takes every batch two times over, refuse=TEXT
                          answers 400 to batches with a subject TEXT; a number or text left out is as before
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

BATCH = "application/cloudevents-batch+json"
BODY_BYTES_MAX = 4 * 1024 * 1024
HANG_S_MAX = 60.0


class BadEventError(ValueError):
    """Raised for what is no CloudEvent of a meter."""


class Totals:
    """What was counted: sums of the different events, by subject and type."""

    def __init__(self, file: Path | None = None) -> None:
        """Go on with what ``file`` holds."""
        self._lock = threading.Lock()
        self._seen: set[tuple[str, str]] = set()
        self._sums: dict[tuple[str, str], int] = {}
        self._file = file
        self.received = 0
        if file is not None and file.exists():
            for line in file.read_text(encoding="utf-8").splitlines():
                self._count(json.loads(line))

    def take(self, batch: list[Any]) -> None:
        """Count the events of a batch that were not counted before."""
        with self._lock:
            self.received += len(batch)
            new = [event for event in batch if self._count(event)]
            if self._file is not None and new:
                with self._file.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(event) + "\n" for event in new)

    def report(self) -> dict[str, Any]:
        """Return the sums."""
        with self._lock:
            subjects: dict[str, dict[str, int]] = {}
            for (subject, kind), value in sorted(self._sums.items()):
                subjects.setdefault(subject, {})[kind] = value
            return {"totals": subjects, "events": len(self._seen), "received": self.received}

    def _count(self, event: dict[str, Any]) -> bool:
        name = (event["source"], event["id"])
        if name in self._seen:
            return False
        self._seen.add(name)
        place = (event["subject"], event["type"])
        self._sums[place] = self._sums.get(place, 0) + int(event["data"]["value"])
        return True


def read_batch(body: bytes, *, refused: str) -> list[Any]:
    """Read a batch; raise ``ValueError`` when one of it cannot be counted, or is about ``refused``."""
    batch = json.loads(body)
    if not isinstance(batch, list):
        raise BadEventError("the body must be an array")
    for event in batch:
        check(event)
        if event["subject"] == refused:
            raise BadEventError(f"nobody knows {refused}")
    return batch


def check(event: Any) -> None:
    """Raise ``BadEventError`` unless ``event`` can be counted."""
    if not isinstance(event, dict) or event.get("specversion") != "1.0":
        raise BadEventError("specversion must be 1.0")
    for name in ("id", "source", "type", "subject", "time"):
        if not isinstance(event.get(name), str) or not event[name]:
            raise BadEventError(f"{name} must be given")
    data = event.get("data")
    value = data.get("value") if isinstance(data, dict) else None
    if not isinstance(value, str) or not value.isascii() or not value.isdigit():
        raise BadEventError("data.value must be a decimal text")


class Behaviour:
    """What goes wrong on purpose."""

    def __init__(self) -> None:
        """Begin well-behaved."""
        self._lock = threading.Lock()
        self._left = {"fail": 0, "hang": 0}
        self.twice = False
        self.refused = ""
        self.ended = threading.Event()

    def change(self, query: str) -> None:
        """Read what is to go wrong; raises ``ValueError`` for what is no number."""
        given = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
        with self._lock:
            self._left |= {name: int(given[name]) for name in self._left if name in given}
            self.twice = given.get("twice", str(int(self.twice))) == "1"
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

    def __init__(self, address: tuple[str, int], *, token: str = "", file: Path | None = None) -> None:
        """Listen on ``address``; an empty ``token`` lets everybody in."""
        super().__init__(address, _Handler)
        self.token = token
        self.totals = Totals(file)
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
        """Show the sums."""
        if self.path == "/totals":
            self._answer(200, self.server.totals.report())
        else:
            self._answer(404, {"error": "there is GET /totals"})

    def do_POST(self) -> None:
        """Take events, or be told to misbehave."""
        parts = urlsplit(self.path)
        body = self._body()
        if body is None:
            self._answer(413, {"error": f"must be at most {BODY_BYTES_MAX} bytes"})
        elif parts.path == "/misbehave":
            self.server.behaviour.change(parts.query)
            self._answer(204)
        elif parts.path != "/api/v1/events":
            self._answer(404, {"error": "there is POST /api/v1/events"})
        elif not self._let_in():
            self._answer(401, {"error": "the bearer token is wrong"})
        elif self.headers.get("content-type") != BATCH:
            self._answer(415, {"error": f"must be {BATCH}"})
        else:
            self._take(body)

    def _take(self, body: bytes) -> None:
        server, behaviour = self.server, self.server.behaviour
        if behaviour.next("fail"):
            self._answer(500, {"error": "told to fail"})
            return
        try:
            batch = read_batch(body, refused=behaviour.refused)
            server.totals.take(batch)
            if behaviour.twice:
                server.totals.take(batch)
        except ValueError as error:
            self._answer(400, {"error": str(error)})
            return
        if behaviour.next("hang"):
            behaviour.ended.wait(HANG_S_MAX)
            self.close_connection = True
            return
        self._answer(204)

    def _let_in(self) -> bool:
        given = self.headers.get("authorization", "").removeprefix("Bearer ")
        return not self.server.token or hmac.compare_digest(given.encode(), self.server.token.encode())

    def _body(self) -> bytes | None:
        length = int(self.headers.get("content-length") or 0)
        return self.rfile.read(length) if 0 <= length <= BODY_BYTES_MAX else None

    def _answer(self, status: int, content: dict[str, Any] | None = None) -> None:
        body = b"" if content is None else json.dumps(content, indent=2).encode() + b"\n"
        self.send_response(status)
        if body:
            self.send_header("content-type", "application/json")
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
    parser.add_argument("--listen", default="127.0.0.1:8090", metavar="HOST:PORT", help="port 0 takes a free one")
    parser.add_argument("--file", type=Path, help="keep the events in this file")
    parser.add_argument("--misbehave", default="", metavar="QUERY", help="as POST /misbehave, from the start")
    options = parser.parse_args()
    host, _, port = options.listen.rpartition(":")
    with Receiver((host, int(port)), token=os.environ.get("RECEIVER_TOKEN", ""), file=options.file) as receiver:
        receiver.behaviour.change(options.misbehave)
        sys.stdout.write(f"{receiver.url}\n")
        sys.stdout.flush()
        try:
            receiver.serve_forever()
        except KeyboardInterrupt:
            receiver.behaviour.ended.set()


if __name__ == "__main__":
    main()
