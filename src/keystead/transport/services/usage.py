"""The handlers of ``UsageService``: they read the times and filters, and write the sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import tzinfo
from itertools import groupby

from google.protobuf.timestamp_pb2 import Timestamp

from keystead.gen.v1 import usage_pb2, verification_pb2
from keystead.kernel.bounds import Bounds
from keystead.kernel.clock import Clock
from keystead.kernel.errors import invalid
from keystead.kernel.paging import PageTokens
from keystead.keys.principal import Principal
from keystead.tenants.model import Environment, TenantScope
from keystead.transport.services import conversions
from keystead.transport.services.days import calendar_of, series_by_days, zone_of
from keystead.transport.services.latency import Latencies, latencies_of, latency_of_key
from keystead.usage.model import (
    CODES,
    INTERVAL_MS,
    VALID_NUMBER,
    Call,
    Dimension,
    Interval,
    Point,
    UsageFilter,
)
from keystead.usage.ports import UsageStore
from keystead.usage.retention import Retention

OPERATION_CHARACTERS = 100
TAG_CHARACTERS = 64
POINTS_MAX = 50_000
TOP_DEFAULT = 10
TOP_MAX = 100
_DAY_MS = INTERVAL_MS[Interval.DAY]
_SPAN_MAX_MS = {Interval.MINUTE: 31 * _DAY_MS, Interval.HOUR: 400 * _DAY_MS, Interval.DAY: 4_000 * _DAY_MS}

_Query = usage_pb2.QueryUsageRequest
_INTERVALS = {int(_Query.MINUTE): Interval.MINUTE, int(_Query.HOUR): Interval.HOUR, int(_Query.DAY): Interval.DAY}
_DIMENSIONS = {
    int(_Query.KEY): Dimension.KEY,
    int(_Query.SECRET): Dimension.SECRET,
    int(_Query.OWNER): Dimension.OWNER,
    int(_Query.OPERATION): Dimension.OPERATION,
    int(_Query.CODE): Dimension.CODE,
    int(_Query.ENVIRONMENT): Dimension.ENVIRONMENT,
    int(_Query.TAG): Dimension.TAG,
}
_CODES = {number: verification_pb2.VerifyKeyResponse.Code.Value(code) for number, code in enumerate(CODES) if code}
_NUMBERS = {int(value): number for number, value in _CODES.items()}
_ENVIRONMENTS = {str(name): number for name, number in conversions.ENVIRONMENT_NUMBERS.items()}

Spanned = (
    usage_pb2.QueryUsageRequest | usage_pb2.GetKeyUsageRequest | usage_pb2.TopUsageRequest | usage_pb2.ListCallsRequest
)


class UsageHandlers:
    """Serves ``keystead.v1.UsageService``; reads counts, which stand outside the units of work."""

    def __init__(self, store: UsageStore, page_tokens: PageTokens, retention: Retention, clock: Clock) -> None:
        """Ask ``store``, which keeps usage as ``retention`` says."""
        self._store = store
        self._retention = retention
        self._page_tokens = page_tokens
        self._clock = clock

    async def query_usage(
        self, caller: Principal, request: usage_pb2.QueryUsageRequest
    ) -> usage_pb2.QueryUsageResponse:
        """Return sums over time."""
        interval = conversions.chosen("interval", request.interval, _INTERVALS) or Interval.HOUR
        dimension = conversions.chosen("group_by", request.group_by, _DIMENSIONS)
        zone = zone_of("time_zone", request.time_zone)
        walls = walls_of(caller, request.filter)
        if zone is not None and interval is Interval.DAY:
            return await self._usage_by_days(walls, request, zone, dimension)
        wanted = wanted_of(request.filter, *self._span(request, interval))
        if interval is Interval.MINUTE and (wanted.tag or dimension is Dimension.TAG):
            raise invalid("interval", "must be HOUR or DAY: labels are not summed by the minute")
        complete_until = await self._complete_until()
        points = await self._store.series(walls, wanted, interval=interval, by=dimension, limit=POINTS_MAX + 1)
        _demand_few(points)
        latencies = await latencies_of(self._store, walls, wanted, points, interval=interval, by=dimension)
        return usage_pb2.QueryUsageResponse(series=_series(points, dimension, latencies), complete_until=complete_until)

    async def get_key_usage(
        self, caller: Principal, request: usage_pb2.GetKeyUsageRequest
    ) -> usage_pb2.GetKeyUsageResponse:
        """Return what one key did."""
        key_id = conversions.demand_id("key_id", request.key_id, "key")
        span = self._span(request, Interval.MINUTE, span_max_ms=_SPAN_MAX_MS[Interval.HOUR])
        from_ms, to_ms = self._whole(span)
        complete_until = await self._complete_until()
        wanted = UsageFilter(from_ms, to_ms, key_id=key_id)
        totals = await self._store.key_totals(_own(caller), wanted)
        admitted = totals.by_code.get(VALID_NUMBER, 0)
        reply = usage_pb2.GetKeyUsageResponse(
            calls=totals.calls,
            admitted=admitted,
            denied=totals.calls - admitted,
            by_code={_code_named(number): calls for number, calls in totals.by_code.items()},
            cost=totals.cost,
            last_used_at=conversions.timestamp(totals.last_used_at_ms),
            last_used_ip=totals.last_used_ip,
            last_operation=totals.last_operation,
            complete_until=complete_until,
            outcomes=totals.outcomes,
            errors=totals.errors,
            latency=await latency_of_key(self._store, _own(caller), wanted),
        )
        if totals.calls:
            reply.denial_rate = (totals.calls - admitted) / totals.calls
        if totals.outcomes:
            reply.error_rate = totals.errors / totals.outcomes
        return reply

    async def top_usage(self, caller: Principal, request: usage_pb2.TopUsageRequest) -> usage_pb2.TopUsageResponse:
        """Return the groups with the most calls."""
        if request.limit < 0:
            raise invalid("limit", "must not be negative")
        dimension = conversions.chosen("group_by", request.group_by, _DIMENSIONS) or Dimension.KEY
        wanted = wanted_of(request.filter, *self._whole(self._span(request, Interval.MINUTE)))
        complete_until = await self._complete_until()
        limit = min(request.limit or TOP_DEFAULT, TOP_MAX)
        points = await self._store.top(walls_of(caller, request.filter), wanted, by=dimension, limit=limit)
        totals = [
            usage_pb2.UsageTotal(
                group=_group(point, dimension),
                calls=point.calls,
                cost=point.cost,
                outcomes=point.outcomes,
                errors=point.errors,
            )
            for point in points
        ]
        return usage_pb2.TopUsageResponse(totals=totals, complete_until=complete_until)

    async def list_calls(self, caller: Principal, request: usage_pb2.ListCallsRequest) -> usage_pb2.ListCallsResponse:
        """List single calls."""
        question = conversions.question_of(request, caller)
        page_request = self._page_tokens.request(
            page_size=request.page_size, page_token=request.page_token, question=question, ascending=False
        )
        wanted = wanted_of(request.filter, *self._span(request, None))
        complete_until = await self._complete_until()
        page = await self._store.calls(walls_of(caller, request.filter), wanted, page_request)
        return usage_pb2.ListCallsResponse(
            calls=[call_of(call) for call in page.items],
            next_page_token=self._page_tokens.token(page.next_position, question),
            complete_until=complete_until,
        )

    async def _usage_by_days(
        self, walls: TenantScope, request: usage_pb2.QueryUsageRequest, zone: tzinfo, dimension: Dimension | None
    ) -> usage_pb2.QueryUsageResponse:
        span = self._span(request, None, span_max_ms=_SPAN_MAX_MS[Interval.DAY])
        calendar = calendar_of(wanted_of(request.filter, *span), zone)
        complete_until = await self._complete_until()
        kept = self._retention.kept(self._clock.now_ms())
        points = await series_by_days(self._store, walls, calendar, kept, by=dimension, limit=POINTS_MAX + 1)
        _demand_few(points)
        days = calendar.beginnings
        latencies = await latencies_of(
            self._store, walls, calendar.wanted, points, interval=Interval.DAY, by=dimension, days=days
        )
        return usage_pb2.QueryUsageResponse(series=_series(points, dimension, latencies), complete_until=complete_until)

    def _whole(self, span: tuple[int, int]) -> tuple[int, int]:
        """Widen a span to the sums that are still kept around its ends."""
        return self._retention.kept(self._clock.now_ms()).widened(*span)

    async def _complete_until(self) -> Timestamp | None:
        return conversions.timestamp(await self._store.complete_until())

    def _span(self, request: Spanned, interval: Interval | None, *, span_max_ms: int | None = None) -> tuple[int, int]:
        """Read from when to when, in whole intervals; the day before now when nothing is said."""
        now_ms = self._clock.now_ms()
        to_ms = conversions.moment_ms("to", request, request.to)
        to_ms = now_ms if to_ms is None else to_ms
        from_ms = conversions.moment_ms("from", request, getattr(request, "from"))
        from_ms = to_ms - _DAY_MS if from_ms is None else from_ms
        if from_ms >= to_ms:
            raise invalid("from", "must be before `to`")
        longest_ms = span_max_ms or _SPAN_MAX_MS[interval or Interval.HOUR]
        if to_ms - from_ms > longest_ms:
            raise invalid("from", f"must be at most {longest_ms // _DAY_MS} days before `to`")
        width_ms = INTERVAL_MS[interval] if interval else 1
        return from_ms // width_ms * width_ms, -(-to_ms // width_ms) * width_ms


def _demand_few(points: Sequence[Point]) -> None:
    if len(points) > POINTS_MAX:
        raise invalid("interval", f"makes more than {POINTS_MAX} points; take a wider one, or a narrower filter")


def _own(caller: Principal) -> TenantScope:
    scope = caller.scope
    if scope is None:  # operators are refused before a handler is called
        message = "an operator has no usage"
        raise ValueError(message)
    return scope


def walls_of(caller: Principal, asked: usage_pb2.UsageFilter) -> TenantScope:
    """Narrow the caller's walls to the environment asked for."""
    environment = conversions.chosen("filter.environment", asked.environment, conversions.ENVIRONMENTS)
    if environment is None:
        return _own(caller)
    if environment is Environment.ALL:
        raise invalid("filter.environment", "must be LIVE or TEST")
    caller.demand_environment(environment)
    return replace(_own(caller), environments=frozenset({environment}))


def wanted_of(asked: usage_pb2.UsageFilter, from_ms: int, to_ms: int) -> UsageFilter:
    """Read a filter; raise when it breaks a bound. The environment is not in it: ``walls_of`` reads that."""
    bounds = Bounds()
    if asked.owner_id:
        bounds.owner_id("filter.owner_id", asked.owner_id)
    bounds.text("filter.tag", asked.tag, at_most=TAG_CHARACTERS)
    bounds.text("filter.operation", asked.operation, at_most=OPERATION_CHARACTERS)
    bounds.raise_if_any()
    return UsageFilter(
        from_ms,
        to_ms,
        key_id=conversions.demand_id("filter.key_id", asked.key_id, "key") if asked.key_id else "",
        secret_id=conversions.demand_id("filter.secret_id", asked.secret_id, "sec") if asked.secret_id else "",
        owner_id=asked.owner_id,
        operation=asked.operation or None,
        code=conversions.chosen("filter.code", asked.code, _NUMBERS),
        tag=asked.tag,
    )


def _series(points: Sequence[Point], dimension: Dimension | None, latencies: Latencies) -> list[usage_pb2.UsageSeries]:
    ordered = sorted(points, key=lambda point: (_group(point, dimension), point.begins_at_ms))
    return [
        usage_pb2.UsageSeries(
            group=group,
            points=[
                usage_pb2.UsagePoint(
                    begins_at=conversions.moment(it.begins_at_ms),
                    calls=it.calls,
                    cost=it.cost,
                    outcomes=it.outcomes,
                    errors=it.errors,
                    latency=latencies.get((it.begins_at_ms, it.group)),
                )
                for it in members
            ],
        )
        for group, members in groupby(ordered, key=lambda point: _group(point, dimension))
    ]


def _group(point: Point, dimension: Dimension | None) -> str:
    """Name a group as the contract does: codes and environments by their names there."""
    if dimension is Dimension.CODE:
        return _code_named(int(point.group))
    return point.group.upper() if dimension is Dimension.ENVIRONMENT else point.group


def _code_named(number: int) -> str:
    """Name a verdict; one that only a newer version knows is written by its number."""
    return CODES[number] if number < len(CODES) else f"CODE_{number}"


def call_of(call: Call) -> usage_pb2.UsageCall:
    """Write one call."""
    subject = call.subject
    return usage_pb2.UsageCall(
        verification_id=call.verification_id,
        called_at=conversions.moment(call.at_ms),
        key_id=subject.key_id,
        secret_id=subject.secret_id,
        owner_id=subject.owner_id,
        environment=_ENVIRONMENTS[subject.environment],
        code=_CODES.get(call.code, verification_pb2.VerifyKeyResponse.CODE_UNSPECIFIED),
        operation=call.operation,
        client_ip=call.client_ip,
        cost=call.cost,
        scope_expression=call.scope_expression,
        tags=call.tags,
        http_status=call.http_status,
        latency=conversions.span_us(call.latency_us),
    )
