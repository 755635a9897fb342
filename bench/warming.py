"""Fills a cache as if every key had been verified once, without the hours of bcrypt that this takes; and weighs it.

An entry gets in by the same ``put`` and from the same snapshot as by a first verification; only the proof is left out.
That door is private on purpose: nothing but a benchmark may call a secret proven that was not.
"""

from __future__ import annotations

import random
import sys

from bench.population import BRAND, MADE_AT_MS, SCOPES, Population, metadata_of, name_of, owner_id_of
from keystead.bootstrap.core import Core
from keystead.kernel.ids import new_id
from keystead.keys import secret_format
from keystead.keys.model import KeyKind, KeyState
from keystead.tenants.model import RESERVED_BRAND, Environment
from keystead.verification.cache import Entry
from keystead.verification.model import KeySnapshot, SecretSnapshot

_SAMPLE = 1_000
_AN_HOUR_MS = 3_600_000
_OWN_TEXTS = ("key_id", "secret_id", "owner_id", "name")


def warm(core: Core, population: Population, *, keys: int, workspace_id: str) -> None:
    """Make the first ``keys`` keys of ``population`` proven and good as of now."""
    resolver, epoch, master_id = core.resolver, core.touches.epoch, core.keyring.current_id
    for place in range(keys):
        key = snapshot(population, place, workspace_id=workspace_id, master_id=master_id)
        digest = resolver.digest(population.text(place))
        entry = Entry(key, key.secrets[0], epoch)
        entry.last_used_at_ms = core.clock.now_ms() - _AN_HOUR_MS  # a number of its own, as after every use
        resolver._cache.put(digest, entry)  # noqa: SLF001  # see above


def warm_management_key(core: Core, *, workspace_id: str) -> str:
    """Make a management key that is in no database, proven and good as of now; return its ``authorization`` header."""
    text = secret_format.compose(brand=RESERVED_BRAND, environment="live", tag=core.keyring.tag)
    secret = SecretSnapshot(new_id("sec", now_ms=MADE_AT_MS), "", "", core.keyring.current_id, None)
    key = KeySnapshot(
        key_id=new_id("key", now_ms=MADE_AT_MS),
        workspace_id=workspace_id,
        workspace_brand=BRAND,
        environment=Environment.ALL,
        kind=KeyKind.MANAGEMENT,
        owner_id="",
        owner_suspended=False,
        name="Management key",
        state=KeyState.ACTIVE,
        scopes=("*:*",),
        metadata={},
        allowed_ips=(),
        expires_at_ms=None,
        secrets=(secret,),
    )
    entry = Entry(key, secret, core.touches.epoch)
    core.resolver._cache.put(core.resolver.digest(text), entry)  # noqa: SLF001  # see above
    return f"Bearer {text}"


def snapshot(population: Population, place: int, *, workspace_id: str, master_id: str) -> KeySnapshot:
    """Return the key at ``place`` as a store would read it."""
    secret = SecretSnapshot(population.secret_id(place), population.prefix(place), "", master_id, None)
    return KeySnapshot(
        key_id=population.key_id(place),
        workspace_id=workspace_id,
        workspace_brand=BRAND,
        environment=Environment.LIVE,
        kind=KeyKind.CUSTOMER,
        owner_id=owner_id_of(place),
        owner_suspended=False,
        name=name_of(place),
        state=KeyState.ACTIVE,
        scopes=SCOPES,
        metadata=metadata_of(place),
        allowed_ips=(),
        expires_at_ms=None,
        secrets=(secret,),
    )


def object_bytes_per_key(core: Core) -> float:
    """Weigh a sample of the entries and what they alone refer to, with their share of the tables around them."""
    cache = core.resolver._cache  # noqa: SLF001  # see above
    entries = cache.entries
    digests = random.Random(1).sample(list(entries), min(_SAMPLE, len(entries)))
    own_bytes = sum(sys.getsizeof(digest) + _entry_bytes(entries[digest]) for digest in digests) / len(digests)
    tables_bytes = sys.getsizeof(entries) + sys.getsizeof(cache._digests)  # noqa: SLF001  # see above
    return own_bytes + tables_bytes / len(entries)


def _entry_bytes(entry: Entry) -> int:
    """Return the bytes of an entry and of the texts and tuples that no other entry shares."""
    parts: list[object] = [entry, entry.metadata_values, *entry.metadata_values, entry.last_used_at_ms]
    parts += [getattr(entry, name) for name in _OWN_TEXTS]
    return sum(sys.getsizeof(part) for part in parts)
