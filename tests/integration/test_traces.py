"""Traces arrive at a collector, by the real protocol, and tell nothing that is secret."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from keystead.transport.http.server import HttpServer
from keystead.transport.http.settings import HttpSettings
from keystead.transport.listening import Address
from tests.clients import client_for
from tests.servers import ServerFarm

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


class Collector:
    """Takes traces as an OpenTelemetry collector does, and keeps the bytes."""

    def __init__(self) -> None:
        """Begin with none."""
        self.bodies: list[bytes] = []
        self._server = HttpServer(
            Starlette(routes=[Route("/v1/traces", self._take, methods=["POST"])]),
            HttpSettings(address=Address("127.0.0.1", 0)),
        )
        self.url = ""

    async def start(self) -> None:
        """Listen on a free port."""
        self.url = f"http://127.0.0.1:{await self._server.start()}"

    async def stop(self) -> None:
        """Stop listening."""
        await self._server.stop(0)

    async def _take(self, request: Request) -> Response:
        body = await request.body()
        self.bodies.append(gzip.decompress(body) if request.headers.get("content-encoding") == "gzip" else body)
        return Response(b"", media_type="application/x-protobuf")

    @property
    def spans(self) -> list[Span]:
        """Every span that arrived."""
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return [
            span
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """Lend a collector that listens."""
    made = Collector()
    await made.start()
    yield made
    await made.stop()


def attributes_of(span: Span) -> dict[str, str]:
    """Return the texts that a span tells."""
    return {it.key: it.value.string_value for it in span.attributes}


async def test_a_traced_call_is_one_span_with_its_cold_way_inside(servers: ServerFarm, collector: Collector) -> None:
    """The caller's trace shows the call, its verdict, the read and the hash; a warm call has no children (P1)."""
    server = servers.start(otlp_endpoint=collector.url, trace_sampling=0)
    async with client_for(server) as client:
        made = (
            await client.call(
                "CreateKey",
                owner_id="o",
                create_owner=True,
                name="n",
                environment="LIVE",
                plan_id="enterprise",
                scopes=[],
            )
        ).must()
        cold = (await client.call("VerifyKey", headers=SAMPLED, key=made.secret, environment="LIVE")).must()
        warm = (await client.call("VerifyKey", headers=SAMPLED, key=made.secret, environment="LIVE")).must()
        await client.call("VerifyKey", headers=SAMPLED, key=made.secret, environment="LIVE", client_ip="no address")
        await client.call("VerifyKey", key=made.secret, environment="LIVE")
    await asyncio.to_thread(server.stop)  # the collector, which is told the rest, runs on this loop
    roots = [span for span in collector.spans if span.parent_span_id.hex() == PARENT]
    assert [attributes_of(span).get("keystead.verification_id") for span in roots] == [
        cold.verification_id,
        warm.verification_id,
        None,
    ]
    assert attributes_of(roots[0])["keystead.code"] == "VALID"
    assert attributes_of(roots[2])["keystead.error_code"] == "invalid_request"
    children = {span.name: span.parent_span_id for span in collector.spans if span not in roots}
    assert children == {"lookup": roots[0].span_id, "bcrypt": roots[0].span_id}
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    hidden = (made.secret, server.management_key, made.key.owner_id + ".", made.key.id)
    assert [text for text in hidden if any(text.encode() in body for body in collector.bodies)] == []


async def test_a_log_line_of_a_traced_call_names_its_trace(servers: ServerFarm, collector: Collector) -> None:
    """From a line in the log one gets to the trace, and lines of other calls name none."""
    server = servers.start(otlp_endpoint=collector.url, trace_sampling=0)
    async with client_for(server) as client:
        await client.call("GetKey", token="keystead_live_traced", headers=SAMPLED, key_id="key_1")
        await client.call("GetKey", token="keystead_live_untraced", key_id="key_1")
    await asyncio.to_thread(server.stop)  # the collector, which is told the rest, runs on this loop
    lines = [json.loads(line) for line in server.log_text().splitlines() if '"call refused"' in line]
    assert [line.get("trace_id") for line in lines] == [TRACE, None]


async def test_a_collector_that_is_away_costs_no_call(servers: ServerFarm, collector: Collector) -> None:
    """Traces are dropped rather than waited for (P10)."""
    await collector.stop()
    server = servers.start(otlp_endpoint=collector.url, trace_sampling=1)
    async with client_for(server) as client:
        for _ in range(50):
            assert await client.verify("nonsense") == "MALFORMED"
    assert await asyncio.to_thread(server.stop) == 0
