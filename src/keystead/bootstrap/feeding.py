"""The Entitlements feed on its adapters: started when there is somebody to tell."""

from __future__ import annotations

from contextlib import AsyncExitStack

from keystead.adapters.outbound.entitlements import HttpEntitlements
from keystead.bootstrap.core import Core
from keystead.config import ConfigError, Settings
from keystead.kernel.secret import Secret
from keystead.usage.meters import changed_meanings, parse_meters
from keystead.worker.entitlements import EntitlementsFeed, FeedBounds
from keystead.worker.loop import Loop

_FEED_INTERVAL_MS = 2_000


async def start_feed(stack: AsyncExitStack, served: Core, settings: Settings) -> EntitlementsFeed | None:
    """Begin to tell what is used, until ``stack`` ends; None when nobody is to be told.

    Raises ``ConfigError`` when a meter's name was told with another meaning.
    """
    if not settings.entitlements_url:
        return None
    meters = parse_meters(settings.entitlements_meters)
    if changed := changed_meanings(meters, await served.ledger.meters()):
        raise ConfigError([f"entitlements_meters (KEYSTEAD_ENTITLEMENTS_METERS): {it}" for it in changed])
    since = settings.entitlements_from
    await served.ledger.begin(
        meters, since_ms=served.clock.now_ms() if since is None else int(since.timestamp()) * 1_000
    )
    receiver = HttpEntitlements(
        settings.entitlements_url,
        token=Secret(settings.entitlements_token.get_secret_value()),
        timeout_ms=settings.entitlements_timeout_ms,
    )
    await stack.enter_async_context(receiver)
    for name in served.waking.dead:
        await served.ledger.let_go(name)
    feed = EntitlementsFeed(
        ledger=served.ledger,
        usage=served.usage,
        receiver=receiver,
        clock=served.clock,
        holder=served.waking.name,
        meters=[meter.name for meter in meters],
        bounds=FeedBounds(settings.entitlements_timeout_ms, settings.entitlements_retry_max_ms),
    )
    stack.push_async_callback(feed.stop)
    loop = Loop("tell entitlements", feed.turn, interval_ms=_FEED_INTERVAL_MS)
    loop.start()
    stack.push_async_callback(loop.stop)
    return feed
