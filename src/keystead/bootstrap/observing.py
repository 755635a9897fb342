"""What lets an operator look in: measures and spans around the dispatcher, and the page that Prometheus reads."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import NamedTuple

from opentelemetry.trace import Tracer
from starlette.routing import BaseRoute

from keystead import __version__
from keystead.adapters.opentelemetry.exporting import exporting
from keystead.adapters.prometheus.collector import Exposition, MetricsCollector
from keystead.bootstrap.metrics import METRICS
from keystead.bootstrap.watched import Watched
from keystead.config import Settings
from keystead.transport.calls import Batch, Dispatcher, StreamDispatcher
from keystead.transport.contract import service_methods
from keystead.transport.dispatch import VERIFY_KEY, CallDispatcher
from keystead.transport.http.metrics import metrics_route
from keystead.transport.measuring import MeasuredDispatcher
from keystead.transport.tracing import TracedDispatcher


class Ways(NamedTuple):
    """The ways into the dispatcher: a call, calls of VerifyKey that came in together, a stream."""

    dispatch: Dispatcher
    batch: Batch
    stream: StreamDispatcher


async def open_tracer(stack: AsyncExitStack, settings: Settings) -> Tracer | None:
    """Begin to send traces, until ``stack`` ends; None when none are wanted."""
    if not settings.otlp_endpoint:
        return None
    return await stack.enter_async_context(exporting(settings.otlp_endpoint, version=__version__))


def observed(dispatcher: CallDispatcher, watched: Watched, tracer: Tracer | None, settings: Settings) -> Ways:
    """Measure all calls, and trace them when there is a tracer; without one nothing is in between."""
    measured = MeasuredDispatcher(
        dispatcher, dispatcher.verify_now, dispatcher.stream, watched.calls, batch_method=VERIFY_KEY.rpartition("/")[2]
    )
    for method in service_methods():
        if method.streams:
            watched.calls.streams_open[method.name] = 0
    ways = Ways(measured, measured.verify_now, measured.stream)
    if tracer is None:
        return ways
    traced = TracedDispatcher(*ways, tracer, sampling=settings.trace_sampling)
    return Ways(traced, traced.verify_now, traced.stream)


def metrics_routes(watched: Watched, settings: Settings) -> list[BaseRoute]:
    """Serve the metrics to those whom ``metrics`` names."""
    if settings.metrics == "off":
        return []
    exposition = Exposition(MetricsCollector(METRICS, watched))
    token = settings.metrics_token.get_secret_value()
    return [metrics_route(exposition.render, to_others=settings.metrics == "open", token=token)]
