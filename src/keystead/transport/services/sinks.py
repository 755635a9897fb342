"""The handlers of ``SinkService``. A sink carries what happens in both environments, so its callers are for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from keystead.gen.v1 import sinks_pb2
from keystead.kernel.clock import Clock
from keystead.kernel.errors import KeysteadError, invalid
from keystead.kernel.ids import IdSource
from keystead.kernel.paging import PageTokens
from keystead.keys.ports import Units
from keystead.keys.principal import Principal
from keystead.sinks.envelopes import trial_envelope
from keystead.sinks.model import SINK_ID_PREFIX, Sink
from keystead.sinks.ports import Delivery, Destinations, Reception
from keystead.sinks.service import Replay, SinkService, Start
from keystead.tenants.model import Environment
from keystead.transport.context import Context
from keystead.transport.errors import OverloadedError
from keystead.transport.services import conversions
from keystead.transport.services.sink_messages import draft_of, sink_message

_TEST_ID_PREFIX = "tst"


class SinkHandlers:
    """Serves the methods of ``keystead.v1.SinkService`` that stay in the database."""

    def __init__(self, sinks: SinkService, page_tokens: PageTokens) -> None:
        """Call ``sinks``."""
        self._sinks = sinks
        self._page_tokens = page_tokens

    async def create_sink(self, context: Context, request: sinks_pb2.CreateSinkRequest) -> sinks_pb2.CreateSinkResponse:
        """Make a sink."""
        context.caller.demand_environment(Environment.ALL)
        sink, secret = await self._sinks.create(
            context.unit, context.caller.workspace_id, draft_of(request.sink), _start_of(request)
        )
        return sinks_pb2.CreateSinkResponse(
            sink=await _message(context, sink), secret="" if secret is None else secret.reveal()
        )

    async def get_sink(self, context: Context, request: sinks_pb2.GetSinkRequest) -> sinks_pb2.GetSinkResponse:
        """Return a sink."""
        context.caller.demand_environment(Environment.ALL)
        sink = await self._sinks.get(context.unit, context.caller.workspace_id, _demand_id(request.sink_id))
        return sinks_pb2.GetSinkResponse(sink=await _message(context, sink))

    async def list_sinks(self, context: Context, request: sinks_pb2.ListSinksRequest) -> sinks_pb2.ListSinksResponse:
        """List sinks, the oldest first."""
        context.caller.demand_environment(Environment.ALL)
        question = conversions.question_of(request, context.caller)
        page_request = self._page_tokens.request(
            page_size=request.page_size, page_token=request.page_token, question=question, ascending=True
        )
        page = await context.unit.sinks.page(context.caller.workspace_id, page_request)
        return sinks_pb2.ListSinksResponse(
            sinks=[await _message(context, sink) for sink in page.items],
            next_page_token=self._page_tokens.token(page.next_position, question),
        )

    async def update_sink(self, context: Context, request: sinks_pb2.UpdateSinkRequest) -> sinks_pb2.UpdateSinkResponse:
        """Change a sink."""
        context.caller.demand_environment(Environment.ALL)
        sink = await self._sinks.update(
            context.unit,
            context.caller.workspace_id,
            _demand_id(request.sink.id, "sink.id"),
            draft_of(request.sink),
            mask=frozenset(request.update_mask.paths),
            etag=request.sink.etag,
        )
        return sinks_pb2.UpdateSinkResponse(sink=await _message(context, sink))

    async def delete_sink(self, context: Context, request: sinks_pb2.DeleteSinkRequest) -> sinks_pb2.DeleteSinkResponse:
        """Delete a sink."""
        context.caller.demand_environment(Environment.ALL)
        await self._sinks.delete(
            context.unit, context.caller.workspace_id, _demand_id(request.sink_id), etag=request.etag
        )
        return sinks_pb2.DeleteSinkResponse()

    async def replay_sink(self, context: Context, request: sinks_pb2.ReplaySinkRequest) -> sinks_pb2.ReplaySinkResponse:
        """Make a sink go back, or try again what it set aside."""
        context.caller.demand_environment(Environment.ALL)
        sink = await self._sinks.replay(
            context.unit, context.caller.workspace_id, _demand_id(request.sink_id), _replay_of(request)
        )
        return sinks_pb2.ReplaySinkResponse(sink=await _message(context, sink))


TRIALS_MAX = 32
TRIALS_OF_ONE_MAX = 2
"""So many tests are under way at once, of all workspaces and of one: a service that hangs takes no room for calls."""


class SinkTrialHandlers:
    """Serves ``TestSink``, which asks somebody else and so holds no unit of work meanwhile."""

    def __init__(
        self, sinks: SinkService, units: Units, destinations: Destinations, ids: IdSource, clock: Clock
    ) -> None:
        """Find the sink in ``units`` and send to it through ``destinations``."""
        self._sinks = sinks
        self._units = units
        self._destinations = destinations
        self._ids = ids
        self._clock = clock
        self._under_way: Counter[str] = Counter()

    async def test_sink(self, caller: Principal, request: sinks_pb2.TestSinkRequest) -> sinks_pb2.TestSinkResponse:
        """Send one event that is none of the log's, and say what was answered."""
        caller.demand_environment(Environment.ALL)
        sink_id = _demand_id(request.sink_id)
        async with self._units.read(caller.scope) as unit:
            sink = await self._sinks.get(unit, caller.workspace_id, sink_id)
        began_ms = self._clock.monotonic_ms()
        with self._room_for(caller.workspace_id):
            delivery = await self._sent(sink)
        return sinks_pb2.TestSinkResponse(
            delivered=delivery.reception is Reception.ACCEPTED,
            http_status=delivery.http_status,
            error=delivery.reason,
            took=conversions.span_us((self._clock.monotonic_ms() - began_ms) * 1_000),
        )

    @contextmanager
    def _room_for(self, workspace_id: str) -> Iterator[None]:
        if self._under_way[workspace_id] >= TRIALS_OF_ONE_MAX or self._under_way.total() >= TRIALS_MAX:
            raise OverloadedError("As many sinks are being tested as may be at once; try again.")
        self._under_way[workspace_id] += 1
        try:
            yield
        finally:
            self._under_way -= Counter((workspace_id,))  # without those that are at nothing

    async def _sent(self, sink: Sink) -> Delivery:
        if sink.kind not in self._destinations.kinds():
            return Delivery(Reception.FAILED, "this server has no directory for files")
        envelope = trial_envelope(
            sink.workspace_id, sink.id, name=self._ids.new(_TEST_ID_PREFIX), now_ms=self._clock.now_ms()
        )
        try:
            async with self._destinations.open(sink, self._sinks.secrets_of(sink)) as channel:
                return await channel.send([envelope])
        except (ValueError, KeysteadError) as error:
            return Delivery(Reception.FAILED, error.public if isinstance(error, KeysteadError) else str(error))


async def _message(context: Context, sink: Sink) -> sinks_pb2.Sink:
    return sink_message(sink, await context.unit.sinks.progress(sink))


def _demand_id(text: str, field: str = "sink_id") -> str:
    return conversions.demand_id(field, text, SINK_ID_PREFIX)


def _start_of(request: sinks_pb2.CreateSinkRequest) -> Start:
    at_ms = conversions.moment_ms("start_at", request, request.start_at)
    if at_ms is not None and request.start:
        raise invalid("start_at", "takes the place of start; give one of them")
    if request.start not in sinks_pb2.CreateSinkRequest.Start.values():
        raise invalid("start", f"has no value {request.start}")
    return Start(now=request.start == sinks_pb2.CreateSinkRequest.NOW, at_ms=at_ms)


def _replay_of(request: sinks_pb2.ReplaySinkRequest) -> Replay:
    match request.WhichOneof("from"):
        case "from_index":
            return Replay(index=request.from_index)
        case "from_time":
            return Replay(at_ms=conversions.moment_ms("from_time", request, request.from_time))
        case "dead_letters" if request.dead_letters:
            return Replay()
        case _:
            raise invalid("from", "must be one of from_index, from_time and dead_letters (true)")
