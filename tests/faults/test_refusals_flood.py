"""A flood of failed attempts is told in few events whose counts add up to all of it, naming nobody (P6)."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.adapters.files.counter_pages import MappedPages
from keystead.events.model import Event, EventFilter
from keystead.events.refusals import MINUTE_MS
from keystead.gen.v1 import audit_pb2
from keystead.kernel.change import Action
from keystead.kernel.paging import PageRequest
from keystead.keys import secret_format
from keystead.tenants.model import BOTH_ENVIRONMENTS, Environment, TenantScope
from keystead.transport.services.events import event_of
from keystead.verification.service import VerifyRequest
from keystead.worker.refusals import RefusalStager
from tests.cores import Bench, bench
from tests.fakes import FixedRandom

pytestmark = pytest.mark.alone

ATTEMPTS = 200_000
ADDRESSES = [f"203.0.113.{number}" for number in range(50)]
PREFIXES = 20
BATCH = 1_000
# A group of a minute is one address with one prefix.
EVENTS_PER_MINUTE_MAX = len(ADDRESSES) * PREFIXES


def forged() -> list[str]:
    """Make texts of our form under as many prefixes, whose tags nobody made."""
    strange, random = MasterKeyring([b"another master key, of somebody."]), FixedRandom()
    return [
        secret_format.compose(brand=f"brand{number}", environment="live", tag=strange.tag, draw=random.text)
        for number in range(PREFIXES)
    ]


async def flooded(flooding: Bench, texts: list[str], stager: RefusalStager) -> Counter[tuple[str, str]]:
    """Try every prefix from every address, and stage as a server does; return how often each pair was refused."""
    refused: Counter[tuple[str, str]] = Counter()
    for begin in range(0, ATTEMPTS, BATCH):
        asked = []
        for number in range(begin, begin + BATCH):
            place, address = number % PREFIXES, ADDRESSES[number // PREFIXES % len(ADDRESSES)]
            asked.append(VerifyRequest(texts[place], Environment.LIVE, client_ip=address))
            refused[f"brand{place}_live", address] += 1
        verdicts = await flooding.core.verification.verify_batch(flooding.caller, asked)
        assert not any(verdict.valid for verdict in verdicts)
        await flooding.follower.turn()
        if begin % (20 * BATCH) == 0:
            await stager.turn()
    await stager.turn()
    return refused


async def told(flooding: Bench, action: Action) -> list[Event]:
    """Return all events of an action, page by page as an auditor reads them."""
    walls = TenantScope(flooding.caller.workspace_id, BOTH_ENVIRONMENTS)
    found: list[Event] = []
    position: tuple[str, ...] = ()
    while True:
        request = PageRequest(1_000, position)
        page = await flooding.core.audit.page(walls, EventFilter(action=action), request)
        found += page.items
        if page.next_position is None:
            return found
        position = page.next_position


async def test_a_flood_is_told_exactly_in_few_events(tmp_path: Path) -> None:
    """200,000 failed attempts from 50 addresses over 20 prefixes: at most a thousand events for each minute it takes,
    which add up to 200,000, also by address and prefix; no secret in them, no address in what cannot be erased; and
    each address is told of once as one that passed the threshold.
    """
    texts = forged()
    async with bench(tmp_path) as flooding:
        core = flooding.core
        assert core.counting is not None
        stager = RefusalStager(MappedPages(core.counting.refusals, core.clock), core.refusals)
        began_s, began_ms = time.monotonic(), core.clock.now_ms()
        refused = await flooded(flooding, texts, stager)
        flood_s = time.monotonic() - began_s
        while await core.refusals.tell(before_ms=core.clock.now_ms() + MINUTE_MS, limit=500):
            pass
        minutes = core.clock.now_ms() // MINUTE_MS - began_ms // MINUTE_MS + 1
        events = await told(flooding, Action.AUTHENTICATION_FAILED)
        alerts = await told(flooding, Action.AUTHENTICATION_THRESHOLD_REACHED)
    messages = [event_of(event) for event in events]
    counted: Counter[tuple[str, str]] = Counter()
    for message in messages:
        counted[message.presented, message.client_ip] += message.count
        assert message.result == audit_pb2.Event.REFUSED
        assert message.first_at.ToMilliseconds() <= message.occurred_at.ToMilliseconds()
    assert counted == refused
    assert counted.total() == ATTEMPTS
    assert len(events) <= minutes * EVENTS_PER_MINUTE_MAX
    for event in (*events, *alerts):
        assert not any(address in event.record for address in ADDRESSES)
        assert not any(text in event.record + event.private for text in texts)
    whom = Counter(json.loads(event.private)["client_ip"]["value"] for event in alerts)
    assert whom.keys() == set(ADDRESSES)
    assert max(whom.values()) <= 2  # a second time only when the flood goes on into the next ten minutes
    sys.stdout.write(
        f"\n{ATTEMPTS} failed attempts in {flood_s:.1f} s ({ATTEMPTS / flood_s:.0f}/s): {len(events)} events\n"
    )
