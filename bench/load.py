"""The load generator, a process of its own: ``python -m bench.load`` takes a ``Load`` on stdin and prints a ``Result``.

h2load and its like send the same body with each call, and a benchmark of one key would measure a server whose one key
never leaves the processor's cache.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, Self

from bench.access import Access, draw
from bench.conversation import Conversation
from bench.driving import Heard, Lines, closed_loop, open_loop
from bench.http1 import Http1Conversation
from bench.http2 import Http2Conversation
from bench.population import Population
from bench.summary import percentile
from keystead.gen.v1 import keys_pb2, verification_pb2
from keystead.keys.installation import SAMPLE_OWNER_ID

Asked = Literal["nothing", "verify", "create", "rotate"]

BODIES_MAX = 1 << 18
"""Bodies drawn beforehand: more than a run makes calls, so that uniform access is not one lap over few keys."""

_VALID = verification_pb2.VerifyKeyResponse(valid=True, code=verification_pb2.VerifyKeyResponse.VALID)
_EXPECTED: dict[Asked, bytes] = {"nothing": b"", "verify": _VALID.SerializeToString(), "create": b"\n", "rotate": b"\n"}
_SCOPE = "read:invoices"
_NS_PER_MS = 1_000_000
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to do: an open loop of ``keys`` calls with ``per_second``, else a closed one of ``at_once`` a connection."""

    port: int
    path: str
    asked: Asked = "verify"
    wire: Literal["grpc", "json", "get"] = "grpc"
    management_key: str = field(default="", repr=False)
    population: str = ""
    keys: int = 1
    access: Access = "first"
    seed: int = 1
    connections: int = 8
    at_once: int = 16
    per_second: float = 0.0
    warm_up_s: float = 1.0
    seconds: float = 3.0

    @property
    def lasts_s(self) -> float:
        """How long it takes when nothing goes wrong."""
        return self.keys / self.per_second if self.per_second else self.warm_up_s + self.seconds

    def to_json(self) -> str:
        """Write it for the other process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what ``to_json`` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it. ``busy`` is this process's own share of a processor: near 1, the server was not the limit."""

    calls: int
    failed: int
    failure: str
    ended: int
    per_second: float
    p50_ms: float
    p99_ms: float
    maximum_ms: float
    busy: float

    @classmethod
    def of(cls, heard: Heard) -> Self:
        """Sum up."""
        latencies_ns = heard.latencies_ns
        return cls(
            calls=len(latencies_ns),
            failed=heard.failed,
            failure=heard.failure,
            ended=heard.ended,
            per_second=len(latencies_ns) * _NS / heard.lasted_ns,
            p50_ms=percentile(latencies_ns, 50) / _NS_PER_MS,
            p99_ms=percentile(latencies_ns, 99) / _NS_PER_MS,
            maximum_ms=percentile(latencies_ns, 100) / _NS_PER_MS,
            busy=heard.busy_ns / heard.lasted_ns,
        )


def run(load: Load) -> Result:
    """Make the calls."""
    bodies = make_bodies(load)
    conversations = [_conversation(load) for _ in range(load.connections)]
    gc.collect()
    gc.disable()
    with Lines(load.port, conversations) as lines:
        if load.per_second:
            return Result.of(open_loop(lines, bodies, per_second=load.per_second))
        at_once = load.at_once if load.wire == "grpc" else 1
        return Result.of(closed_loop(lines, bodies, at_once=at_once, warm_up_s=load.warm_up_s, seconds=load.seconds))


def make_bodies(load: Load) -> Sequence[bytes]:
    """Write the messages of as many calls as will be told apart."""
    if load.asked == "nothing":
        return [b""]
    if load.asked == "create":
        return [_create().SerializeToString()]
    count = 1 if load.access == "first" else BODIES_MAX
    places = draw(load.access, keys=load.keys, count=count, seed=load.seed)
    with Population.open(Path(load.population)) as population:
        if load.asked == "rotate":
            return [keys_pb2.RotateKeyRequest(key_id=population.key_id(place)).SerializeToString() for place in places]
        write = _verify_json if load.wire == "json" else _verify
        return [write(population.text(place)) for place in places]


def _verify(text: str) -> bytes:
    return verification_pb2.VerifyKeyRequest(
        key=text, environment=keys_pb2.Key.LIVE, scope_expression=_SCOPE
    ).SerializeToString()


def _verify_json(text: str) -> bytes:
    return json.dumps({"key": text, "environment": "LIVE", "scopeExpression": _SCOPE}).encode()


def _create() -> keys_pb2.CreateKeyRequest:
    return keys_pb2.CreateKeyRequest(
        owner_id=SAMPLE_OWNER_ID,
        name="Made by the benchmark",
        environment=keys_pb2.Key.LIVE,
        scopes=["read:invoices", "write:invoices", "read:reports"],
        metadata={"plan": "pro", "region": "eu-1"},
    )


def _conversation(load: Load) -> Conversation:
    make: Callable[[Load], Conversation] = _grpc if load.wire == "grpc" else _http
    return make(load)


def _grpc(load: Load) -> Conversation:
    target = [(":method", "POST"), (":scheme", "http"), (":path", load.path), (":authority", f"127.0.0.1:{load.port}")]
    return Http2Conversation([*target, *headers_of(load)], expected=_EXPECTED[load.asked])


def headers_of(load: Load) -> list[tuple[str, str]]:
    """Return the headers that every gRPC call of ``load`` carries."""
    headers = [("te", "trailers"), ("content-type", "application/grpc"), ("user-agent", "keystead-bench/1")]
    if load.management_key:
        headers.append(("authorization", f"Bearer {load.management_key}"))
    return headers


def _http(load: Load) -> Conversation:
    headers = [("host", f"127.0.0.1:{load.port}"), ("user-agent", "keystead-bench/1")]
    if load.wire == "get":
        return Http1Conversation("GET", load.path, headers, expected=b"")
    headers += [("content-type", "application/json"), ("authorization", f"Bearer {load.management_key}")]
    return Http1Conversation("POST", load.path, headers, expected=b'"code":"VALID"')


def main() -> int:
    """Do what stdin says."""
    print(json.dumps(asdict(run(Load.from_json(sys.stdin.read())))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
