"""Who calls: management and operator keys alone, and one answer for every reason to refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keystead.keys.errors import Proven, RefusedFor, UnauthenticatedError
from keystead.keys.model import KeyKind, KeyState
from keystead.tenants.model import Environment
from keystead.verification import authentication
from keystead.verification.errors import StaleError
from tests.fakes import FakeSource
from tests.rig import STALENESS_MS, Rig

ANYWHERE = FakeSource("198.51.100.1")
MANAGEMENT: dict[str, object] = {"kind": KeyKind.MANAGEMENT, "environment": Environment.ALL, "scopes": ("write:keys",)}


async def refusal_of(rig: Rig, authorization: str, source: FakeSource = ANYWHERE) -> UnauthenticatedError:
    """Call with ``authorization`` and return why it was refused."""
    with pytest.raises(UnauthenticatedError) as caught:
        await rig.authenticator.authenticate(authorization, source)
    return caught.value


@pytest.mark.parametrize("kind", (KeyKind.MANAGEMENT, KeyKind.OPERATOR))
@pytest.mark.parametrize("environment", (Environment.ALL, Environment.LIVE, Environment.TEST))
async def test_a_management_or_operator_key_is_its_caller(kind: KeyKind, environment: Environment) -> None:
    """The principal is what the key is: its workspace, environment and scopes."""
    rig = Rig()
    text, key = rig.mint(MANAGEMENT, kind=kind, environment=environment)
    caller = await rig.authenticator.authenticate(f"Bearer {text}", ANYWHERE)
    assert (caller.key_id, caller.kind, caller.environment) == (key.key_id, kind, environment)
    assert (caller.workspace_id, caller.brand, caller.grants.scopes) == (key.workspace_id, "acme", ("write:keys",))


@pytest.mark.parametrize("kind", (KeyKind.CUSTOMER, KeyKind.SERVICE))
async def test_no_other_key_authenticates(kind: KeyKind) -> None:
    """A customer's or a service's key is none for Keystead's API, whatever scopes the platform gave it."""
    rig = Rig()
    text, _ = rig.mint(kind=kind, scopes=("*:*",))
    assert (await refusal_of(rig, f"Bearer {text}")).internal == "not_management"
    assert rig.work == (0, 0)


async def test_a_customers_key_under_keysteads_brand_authenticates_nobody() -> None:
    """The kind in the store decides, not what the secret says of itself."""
    rig = Rig()
    text, key = rig.mint(MANAGEMENT)
    rig.store.change(key.key_id, kind=KeyKind.CUSTOMER)
    await refusal_of(rig, f"Bearer {text}")


async def test_every_refusal_answers_alike() -> None:
    """Missing, malformed, forged, unknown, revoked, suspended, expired, from elsewhere: one public text (P8)."""
    rig = Rig()
    management = [rig.mint(MANAGEMENT, **fields)[0] for fields in (
        {"state": KeyState.REVOKED}, {"state": KeyState.SUSPENDED}, {"owner_suspended": True},
        {"expires_at_ms": rig.clock.now_ms()}, {"allowed_ips": ("192.0.2.0/24",)},
    )]  # fmt: skip
    customer, _ = rig.mint()
    headers = [
        "", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Bearer x", "\ud800", f"Bearer {rig.forge()}",
        f"Bearer {rig.compose(brand='keystead')}", f"Bearer {customer}", *(f"Bearer {text}" for text in management),
    ]  # fmt: skip
    refusals = [await refusal_of(rig, header) for header in headers]
    assert len({(str(error), error.public, error.code, tuple(error.metadata)) for error in refusals}) == 1
    assert {error.retry_after_ms for error in refusals} == {None}
    for error, header in zip(refusals, headers, strict=True):
        assert header[-20:] not in error.internal or not header


@pytest.mark.parametrize(
    ("authorization", "reason"),
    (("", "missing"), ("Basic x", "not_bearer"), ("Bearer x", "malformed"), ("Bearer", "not_bearer")),
)
async def test_the_reason_is_kept_for_the_counters(authorization: str, reason: str) -> None:
    """An operator sees why calls were refused; the reason holds nothing of the credential (P1)."""
    assert (await refusal_of(Rig(), authorization)).internal == reason


async def test_however_the_header_is_spelled_a_secret_is_proven_once() -> None:
    """Case of the scheme and spaces around the token cost no further bcrypt."""
    rig = Rig()
    text, _ = rig.mint(MANAGEMENT)
    for header in (f"Bearer {text}", f"bearer {text}", f"BEARER   {text}", f"Bearer {text}  "):
        assert (await rig.authenticator.authenticate(header, ANYWHERE)).key_id == "key_1"
    assert rig.work == (1, 1)


async def test_a_known_caller_needs_no_waiting() -> None:
    """What was proven before is answered synchronously and counts as a use; what was not is sent the long way."""
    rig = Rig()
    text, key = rig.mint(MANAGEMENT)
    header = f"Bearer {text}"
    assert rig.authenticator.warm(header, ANYWHERE) is None
    first = await rig.authenticator.authenticate(header, ANYWHERE)
    rig.wait(5)
    assert rig.authenticator.warm(header, ANYWHERE) is first
    assert rig.uses.take(10) == {key.secrets[0].id: (key.key_id, rig.clock.now_ms())}


@pytest.mark.parametrize(
    "changes", ({"state": KeyState.REVOKED}, {"state": KeyState.SUSPENDED}, {"owner_suspended": True})
)
async def test_a_revoked_caller_is_refused_at_once(changes: dict[str, object]) -> None:
    """Although his principal is cached: the very next call is refused (P3), on either way."""
    rig = Rig()
    text, key = rig.mint(MANAGEMENT)
    await rig.authenticator.authenticate(f"Bearer {text}", ANYWHERE)
    rig.change(key.key_id, **changes)
    assert rig.authenticator.warm(f"Bearer {text}", ANYWHERE) is None
    await refusal_of(rig, f"Bearer {text}")
    assert rig.authenticator.warm(f"Bearer {text}", ANYWHERE) is None


async def test_a_callers_rights_are_the_latest() -> None:
    """After an update the next call has the new scopes, not the cached ones."""
    rig = Rig()
    text, key = rig.mint(MANAGEMENT)
    await rig.authenticator.authenticate(f"Bearer {text}", ANYWHERE)
    rig.change(key.key_id, scopes=("read:keys",))
    caller = await rig.authenticator.authenticate(f"Bearer {text}", ANYWHERE)
    assert caller.grants.scopes == ("read:keys",)
    assert rig.authenticator.warm(f"Bearer {text}", ANYWHERE) is caller


async def test_a_caller_expires_to_the_millisecond() -> None:
    """Also a warm one, and also by the retirement of his secret."""
    for field in ("key", "secret"):
        rig = Rig()
        text, key = rig.mint(MANAGEMENT)
        ends = rig.clock.now_ms() + 10
        secrets = (replace(key.secrets[0], retires_at_ms=ends),)
        rig.change(key.key_id, **({"expires_at_ms": ends} if field == "key" else {"secrets": secrets}))
        await rig.authenticator.authenticate(f"Bearer {text}", ANYWHERE)
        rig.wait(9)
        assert rig.authenticator.warm(f"Bearer {text}", ANYWHERE) is not None
        rig.wait(1)
        assert rig.authenticator.warm(f"Bearer {text}", ANYWHERE) is None
        await refusal_of(rig, f"Bearer {text}")


async def test_a_caller_bound_to_addresses_calls_from_there_alone() -> None:
    """The peer's address is compared at each call, warm or cold; a call without one is refused."""
    rig = Rig()
    text, _ = rig.mint(MANAGEMENT, allowed_ips=("192.0.2.0/24",))
    header, home = f"Bearer {text}", FakeSource("192.0.2.7")
    for peer in ("198.51.100.1", "", "unix:/socket"):
        await refusal_of(rig, header, FakeSource(peer))
    await rig.authenticator.authenticate(header, home)
    assert rig.authenticator.warm(header, home) is not None
    assert rig.authenticator.warm(header, ANYWHERE) is None
    await refusal_of(rig, header, ANYWHERE)


async def test_a_lapsed_lease_authenticates_nobody() -> None:
    """A node that cannot vouch for keys cannot for its callers' either: unavailable, not unauthenticated (P3)."""
    rig = Rig()
    text, _ = rig.mint(MANAGEMENT)
    await rig.authenticator.authenticate(f"Bearer {text}", ANYWHERE)
    rig.clock.advance(STALENESS_MS)
    with pytest.raises(StaleError):
        rig.authenticator.warm(f"Bearer {text}", ANYWHERE)
    with pytest.raises(StaleError):
        await rig.authenticator.authenticate(f"Bearer {text}", ANYWHERE)


@pytest.mark.parametrize(
    ("fields", "reason"),
    (
        ({"state": KeyState.REVOKED}, RefusedFor.REVOKED),
        ({"state": KeyState.SUSPENDED}, RefusedFor.SUSPENDED),
        ({"owner_suspended": True}, RefusedFor.SUSPENDED),
        ({"expires_at_ms": 1}, RefusedFor.EXPIRED),
        ({"allowed_ips": ("192.0.2.0/24",)}, RefusedFor.WRONG_ADDRESS),
        ({"kind": KeyKind.CUSTOMER}, RefusedFor.NOT_MANAGEMENT),
    ),
)
async def test_a_proven_key_that_is_refused_is_known(fields: dict[str, object], reason: RefusedFor) -> None:
    """The log tells which key it was, whose it is, and why it was refused; its caller is told neither (P8)."""
    rig = Rig()
    text, key = rig.mint(MANAGEMENT)
    rig.store.change(key.key_id, **fields)
    error = await refusal_of(rig, f"Bearer {text}")
    assert error.refused_for is reason
    assert error.proven == Proven(key.key_id, key.workspace_id, "all")
    assert (await refusal_of(rig, f"Bearer {rig.forge()}")).proven is None
    assert key.key_id not in error.public


async def test_known_callers_are_bounded() -> None:
    """However many spellings of one header are sent, what is kept of them stays bounded, and callers stay known."""
    rig = Rig()
    text, _ = rig.mint(MANAGEMENT)
    for number in range(authentication._PRINCIPALS_KEPT + 10):
        await rig.authenticator.authenticate("Bearer " + " " * (number % 12_000) + text, ANYWHERE)
    assert len(rig.authenticator._principals) <= authentication._PRINCIPALS_KEPT
    assert rig.work == (1, 1)
