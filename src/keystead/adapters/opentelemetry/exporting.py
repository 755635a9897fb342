"""Sends spans to a collector by OTLP over HTTP, from a thread of its own and a bounded queue: a full one drops spans.

Who is traced is decided before a span is made, so every span that is made is sent. The library's own variables count
as well: ``OTEL_EXPORTER_OTLP_HEADERS`` for the collector's password, ``OTEL_SERVICE_NAME`` for another name.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Tracer

_TIMEOUT_S = 5.0


@asynccontextmanager
async def exporting(endpoint: str, *, version: str) -> AsyncIterator[Tracer]:
    """Lend a tracer whose spans go to ``endpoint``/v1/traces; on exit what waits is sent, within five seconds."""
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_TIMEOUT_S)
    named = {SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", "keystead"), SERVICE_VERSION: version}
    provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource.create(named), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield provider.get_tracer("keystead")
    finally:
        await asyncio.to_thread(provider.shutdown)
