"""Fills a resolver's cache as if every key had been verified once, without the hours of bcrypt that this would take.

An entry gets in by the same ``put`` and from the same snapshot as by a first verification; only the proof is left out. That
door is private on purpose: nothing but a benchmark may call a secret proven that was not.
"""

from __future__ import annotations

from bench.population import BRAND, Population
from keystead.keys.model import KeyKind, KeyState
from keystead.tenants.model import Environment
from keystead.verification.cache import Entry
from keystead.verification.freshness import Touches
from keystead.verification.model import KeySnapshot, SecretSnapshot
from keystead.verification.resolver import SecretResolver

SCOPES = ("read:invoices", "write:invoices", "read:reports")


def owner_id_of(place: int) -> str:
    """Return whose key it is: each has an owner of its own, which costs the most memory."""
    return f"customer-{place}"


def name_of(place: int) -> str:
    """Return the key's name."""
    return f"Key {place}"


def metadata_of(place: int) -> dict[str, str]:
    """Return two entries whose values no other key shares in memory."""
    return {"plan": f"plan-{place % 3}", "account": f"account-{place}"}


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


def warm(
    resolver: SecretResolver, touches: Touches, population: Population, *, keys: int, workspace_id: str, master_id: str
) -> None:
    """Make the first ``keys`` keys of ``population`` proven and good as of now."""
    for place in range(keys):
        key = snapshot(population, place, workspace_id=workspace_id, master_id=master_id)
        entry = Entry(key, key.secrets[0], touches.epoch)
        resolver._cache.put(resolver.digest(population.text(place)), entry)  # noqa: SLF001  # see above
