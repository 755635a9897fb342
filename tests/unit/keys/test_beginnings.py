"""Where secrets and installations begin: minting, the first run, master keys, and whose a found secret is."""

from __future__ import annotations

import pytest

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.kernel.change import Action
from keystead.kernel.ids import is_id
from keystead.keys import secret_format
from keystead.keys.errors import UnauthenticatedError
from keystead.keys.identification import Identifier
from keystead.keys.masters import WrongMasterKeyError, demand_masters
from keystead.keys.minting import Minter
from keystead.keys.model import Key, KeyKind
from keystead.keys.ports import Lane
from keystead.keys.principal import Principal
from keystead.keys.service import KeyDraft
from keystead.tenants.errors import NotFoundError
from keystead.tenants.model import BOTH_ENVIRONMENTS, SYSTEM_WORKSPACE_ID, Environment, TenantScope
from tests.fakes import FakeSource, FixedRandom
from tests.world import MASTER, ORIGIN, World, narrowed

DRAFT = KeyDraft(name="Key", owner_id="customer-1", environment=Environment.LIVE)


def minter_of(world: World) -> Minter:
    """Return a minter that draws the same in every run."""
    return Minter(keyring=world.keyring, hasher=world.hasher, ids=world.ids, clock=world.clock, draw=FixedRandom().text)


@pytest.mark.parametrize(
    ("kind", "environment", "begins"),
    (
        (KeyKind.CUSTOMER, Environment.LIVE, "acme_live_"),
        (KeyKind.SERVICE, Environment.TEST, "acme_test_"),
        (KeyKind.MANAGEMENT, Environment.TEST, "keystead_test_"),
        (KeyKind.MANAGEMENT, Environment.ALL, "keystead_live_"),
        (KeyKind.OPERATOR, Environment.ALL, "keystead_live_"),
    ),
)
async def test_a_minted_secret_says_whose_it_is(
    world: World, kind: KeyKind, environment: Environment, begins: str
) -> None:
    """Brand and environment are read from a secret without any look-up; it is tagged by the newest master."""
    minted = await minter_of(world).mint(brand="acme", kind=kind, environment=environment)
    parsed = secret_format.parse(minted.secret.reveal())
    assert parsed is not None
    assert minted.secret.reveal().startswith(begins)
    assert secret_format.matching_master(parsed, world.keyring.tags(parsed.signed)) == minted.record.master_id
    assert minted.record.prefix == parsed.prefix
    assert is_id(minted.record.id, "sec")
    assert (minted.record.created_at_ms, minted.record.retires_at_ms) == (world.clock.now_ms(), None)


async def test_what_is_hashed_is_the_peppered_entropy(world: World) -> None:
    """Neither the database nor the pepper alone checks a guess: the hash is over both (DESIGN §3)."""
    minted = await minter_of(world).mint(brand="acme", kind=KeyKind.CUSTOMER, environment=Environment.LIVE)
    entropy = minted.secret.reveal()[22:54].encode()
    assert minted.record.hash == world.hasher.of(world.keyring.pepper(minted.record.master_id, entropy))
    assert minted.record.hash not in repr(minted)
    assert minted.secret.reveal()[22:] not in repr(minted)


async def test_a_brand_that_breaks_the_format_mints_nothing(world: World) -> None:
    """A defect of ours is stopped before it makes secrets that nobody could use."""
    with pytest.raises(ValueError, match="well-formed"):
        await minter_of(world).mint(brand="Ac_me", kind=KeyKind.CUSTOMER, environment=Environment.LIVE)
    assert world.hasher.calls == 0


async def test_the_first_operator_brings_the_systems_workspace(world: World) -> None:
    """It is made once and recorded; further operators join it."""
    for name in ("first", "second"):
        async with world.units.begin(None, ORIGIN) as unit:
            key, secret = await world.installation.mint_operator(unit, name=name)
        assert (key.kind, key.workspace_id, key.name) == (KeyKind.OPERATOR, SYSTEM_WORKSPACE_ID, name)
        caller = await world.authenticator.authenticate(f"Bearer {secret.reveal()}", FakeSource())
        assert (caller.kind, caller.scope, caller.grants.scopes) == (KeyKind.OPERATOR, None, ("*:workspaces",))
    assert world.recorded() == [Action.WORKSPACE_CREATED, Action.KEY_CREATED, Action.KEY_CREATED]


async def test_replacing_the_operators_revokes_those_before(world: World) -> None:
    """Whoever lost an operator key makes a new one that ends all others; asking for one more ends none."""
    secrets = []
    for replace in (False, False, True):
        async with world.units.begin(None, ORIGIN) as unit:
            _, secret = await world.installation.mint_operator(unit, name="operator", replace=replace)
        secrets.append(f"Bearer {secret.reveal()}")
    for lost in secrets[:2]:
        with pytest.raises(UnauthenticatedError):
            await world.authenticator.authenticate(lost, FakeSource())
    assert (await world.authenticator.authenticate(secrets[2], FakeSource())).kind is KeyKind.OPERATOR
    assert world.recorded()[-3:] == [Action.KEY_REVOKED, Action.KEY_REVOKED, Action.KEY_CREATED]


async def test_the_first_run_makes_what_there_is_to_try(world: World) -> None:
    """A workspace, a management key that authenticates, an owner and a key that verifies: all in one unit."""
    async with world.units.begin(TenantScope("wsp_first", BOTH_ENVIRONMENTS), ORIGIN) as unit:
        made = await world.installation.first_run(unit, "wsp_first")
    caller = await world.authenticator.authenticate(f"Bearer {made.management_key.reveal()}", FakeSource())
    assert (caller.workspace_id, made.workspace_id) == ("wsp_first", "wsp_first")
    assert await world.code(caller, made.sample_key) == "VALID"
    sample = await world.get(caller, made.sample_key_id)
    assert sample.owner_id == made.sample_owner_id
    assert world.recorded() == [
        Action.WORKSPACE_CREATED,
        Action.PLAN_CREATED,
        Action.PLAN_CREATED,
        Action.KEY_CREATED,
        Action.OWNER_CREATED,
        Action.KEY_CREATED,
    ]
    for secret in (made.management_key, made.sample_key):
        assert secret.reveal()[30:] not in repr(made)


REGISTERED = {"aaaa": b"1", "bbbb": b"2"}


@pytest.mark.parametrize(
    ("configured", "in_use"),
    (
        (REGISTERED, ("aaaa", "bbbb")),
        ({"cccc": b"3", "aaaa": b"1"}, ("aaaa",)),
        ({"bbbb": b"2"}, ()),
    ),
)
def test_fitting_masters_let_a_node_start(configured: dict[str, bytes], in_use: tuple[str, ...]) -> None:
    """A new one beside a known one is a rotation; one that nothing refers to may be dropped."""
    demand_masters(configured=configured, registered=REGISTERED, in_use=in_use)


def test_the_first_node_registers_its_own_masters() -> None:
    """A database that knows none yet takes any."""
    demand_masters(configured={"cccc": b"3"}, registered={}, in_use=())


@pytest.mark.parametrize(
    ("configured", "in_use", "named"),
    (
        ({"cccc": b"3"}, (), "aaaa, bbbb"),
        ({}, (), "aaaa, bbbb"),
        ({"aaaa": b"9", "bbbb": b"2"}, (), "aaaa"),
        ({"aaaa": b"1"}, ("aaaa", "bbbb"), "bbbb"),
    ),
)
def test_wrong_masters_stop_a_node_from_starting(
    configured: dict[str, bytes], in_use: tuple[str, ...], named: str
) -> None:
    """None that the database knows, another under a known name, one that working secrets need missing: told by id."""
    with pytest.raises(WrongMasterKeyError) as caught:
        demand_masters(configured=configured, registered=REGISTERED, in_use=in_use)
    assert named in caught.value.public
    assert "KEYSTEAD_MASTER_KEYS" in caught.value.public


async def identify(world: World, caller: Principal, text: str, keyring: MasterKeyring | None = None) -> tuple[Key, str]:
    """Ask whose secret ``text`` is, on a node with ``keyring``."""
    identifier = Identifier(keyring=keyring or world.keyring, hasher=world.hasher)
    async with world.units.read(caller.scope) as unit:
        return await identifier.identify(unit, text)


async def test_a_found_secret_is_identified_without_using_it(world: World, root: Principal) -> None:
    """Key and secret are named, also after rotation and revocation, without a hash and without a last use."""
    key, old = await world.create(root, DRAFT)
    rotated, new = await world.change(root, lambda unit: world.keys.rotate(unit, root, key.id, overlap_ms=0))
    await world.change(root, lambda unit: world.keys.revoke(unit, root, key.id, reason="leaked"))
    hashed = world.hasher.calls
    for secret, record in ((new, rotated.secrets[0]), (old, rotated.secrets[1])):
        found, secret_id = await identify(world, root, secret.reveal())
        assert (found.id, secret_id) == (key.id, record.id)
    assert world.hasher.calls == hashed
    assert world.uses.take(10) == {}


async def test_what_is_not_the_callers_is_not_identified(world: World, root: Principal) -> None:
    """Malformed, forged, another workspace's, another environment's: one and the same answer (P8)."""
    _, secret = await world.create(root, DRAFT)
    _, stranger, _ = await world.workspace("other")
    forged = secret_format.compose(brand="acme", environment="live", tag=lambda _: bytes(32))
    for caller, text in (
        (root, "acme_live_x"),
        (root, forged),
        (stranger, secret.reveal()),
        (narrowed(root, environment=Environment.TEST), secret.reveal()),
    ):
        with pytest.raises(NotFoundError) as caught:
            await identify(world, caller, text)
        assert caught.value.public == "There is no key with this secret."


async def test_behind_a_distrusted_master_the_hash_decides(world: World, root: Principal) -> None:
    """Who holds a stolen master can make tags, so identifying asks bcrypt, in the import lane."""
    _, secret = await world.create(root, DRAFT)
    fresh = MasterKeyring([b"n" * 32, MASTER], distrusted={world.keyring.current_id})
    assert (await identify(world, root, secret.reveal(), fresh))[0].name == "Key"
    prefix = secret.reveal()[:22]
    forged = prefix + "0" * 32
    tagged = forged + secret_format.tag_text(world.keyring.tag(forged.encode()))
    with pytest.raises(NotFoundError):
        await identify(world, root, tagged + secret_format.checksum(tagged), fresh)
    assert world.hasher.checks == {Lane.IMPORT: 2}


async def test_a_stolen_masters_tag_on_anothers_prefix_identifies_nothing(world: World, root: Principal) -> None:
    """A secret counts only under the master that made it."""
    _, secret = await world.create(root, DRAFT)
    old = MasterKeyring([b"o" * 32])
    signed = secret.reveal()[:54]
    tagged = signed + secret_format.tag_text(old.tag(signed.encode()))
    with pytest.raises(NotFoundError):
        await identify(world, root, tagged + secret_format.checksum(tagged), MasterKeyring([MASTER, b"o" * 32]))


async def test_management_keys_are_identified_too(world: World) -> None:
    """Whoever finds a management key of his own workspace learns which one to revoke."""
    _, caller, secret = await world.workspace()
    found, _ = await identify(world, caller, secret.reveal())
    assert (found.id, found.kind) == (caller.key_id, KeyKind.MANAGEMENT)
