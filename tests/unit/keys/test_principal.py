"""Who may do what (P8): nobody gains a right through a key that he makes, widens, sees or changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystead.keys.errors import PermissionDeniedError
from keystead.keys.model import Key, KeyKind
from keystead.keys.principal import Held, Principal
from keystead.scopes.model import Grants
from keystead.tenants.model import BOTH_ENVIRONMENTS, Environment, TenantScope
from keystead.verification.cache import compiled_networks

SCOPES = [f"{action}:{resource}" for action in ("read", "write", "*") for resource in ("keys", "owners", "*")]
ENVIRONMENTS = list(Environment)


def caller(*scopes: str, environment: Environment = Environment.ALL, kind: KeyKind = KeyKind.MANAGEMENT) -> Principal:
    """Make a caller who holds ``scopes``."""
    return Principal("key_9", kind, "wsp_1", "acme", environment, Grants(scopes))


def key(kind: KeyKind, *scopes: str, environment: Environment = Environment.LIVE) -> Key:
    """Make a key of ``kind`` that holds ``scopes``."""
    return Key("key_1", "wsp_1", environment, kind, "", "Key", 1, "key_9", 1, (), scopes=scopes)


def may(check: object) -> bool:
    """Say whether ``check`` raises nothing."""
    assert callable(check)
    try:
        check()
    except PermissionDeniedError:
        return False
    return True


def test_the_walls_are_the_callers_own() -> None:
    """A caller sees his workspace alone, and of it the environments that his key is for; an operator all workspaces."""
    assert caller().scope == TenantScope("wsp_1", BOTH_ENVIRONMENTS)
    for environment in (Environment.LIVE, Environment.TEST):
        assert caller(environment=environment).scope == TenantScope("wsp_1", frozenset({environment}))
    assert caller(kind=KeyKind.OPERATOR).scope is None


def test_a_missing_scope_is_named() -> None:
    """A refused caller is told which scope to ask for, in the text and as data."""
    with pytest.raises(PermissionDeniedError) as caught:
        caller("read:keys").demand("write:keys")
    assert caught.value.metadata == {"missing_scopes": "write:keys"}
    caller("*:keys").demand("write:keys")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_caller_for_one_environment_reaches_no_other(environment: Environment) -> None:
    """Bound to ``live``, a caller may do nothing in ``test`` and nothing that is for both."""
    assert may(lambda: caller(environment=Environment.ALL).demand_environment(environment))
    bound = caller(environment=Environment.LIVE)
    assert may(lambda: bound.demand_environment(environment)) is (environment is Environment.LIVE)


@given(
    held=st.lists(st.sampled_from(SCOPES), unique=True),
    wanted=st.lists(st.sampled_from(SCOPES), unique=True),
    mine=st.sampled_from(ENVIRONMENTS),
    theirs=st.sampled_from(ENVIRONMENTS),
)
def test_a_management_key_is_changed_only_by_who_holds_all_of_it(
    held: list[str], wanted: list[str], mine: Environment, theirs: Environment
) -> None:
    """All its scopes and its environment: whoever may see its next secret could have called with the rights himself."""
    me = caller(*held, environment=mine)
    allowed = mine in {Environment.ALL, theirs} and all(me.grants.cover(scope) for scope in wanted)
    assert may(lambda: me.demand_may_change(key(KeyKind.MANAGEMENT, *wanted, environment=theirs))) is allowed
    assert may(lambda: me.demand_cover(Held(tuple(wanted), theirs, (), None))) is allowed


def test_lacking_scopes_are_named() -> None:
    """The refusal says which of the key's scopes the caller does not hold, and only those."""
    with pytest.raises(PermissionDeniedError) as caught:
        caller("read:*").demand_cover(Held(("read:keys", "write:keys", "*:owners"), Environment.LIVE, (), None))
    assert caught.value.metadata == {"missing_scopes": "write:keys *:owners"}


@pytest.mark.parametrize(
    ("mine_ms", "theirs_ms", "allowed"),
    ((None, None, True), (None, 5, True), (5, 5, True), (5, 4, True), (5, 6, False), (5, None, False)),
)
def test_nobody_makes_a_management_key_that_outlives_his_own(
    mine_ms: int | None, theirs_ms: int | None, *, allowed: bool
) -> None:
    """A caller whose key ends acts for no management key that ends later or never."""
    me = replace(caller("*:*"), expires_at_ms=mine_ms)
    assert may(lambda: me.demand_cover(Held(("read:keys",), Environment.LIVE, (), theirs_ms))) is allowed


@pytest.mark.parametrize(
    ("mine", "theirs", "allowed"),
    (
        ((), (), True),
        ((), ("192.0.2.1",), True),
        (("192.0.2.0/24",), ("192.0.2.1", "192.0.2.128/25"), True),
        (("192.0.2.0/24", "2001:db8::/32"), ("2001:db8::1", "192.0.2.9"), True),
        (("192.0.2.0/24",), (), False),
        (("192.0.2.0/24",), ("192.0.0.0/16",), False),
        (("192.0.2.0/24",), ("192.0.2.1", "198.51.100.1"), False),
        (("192.0.2.0/24",), ("2001:db8::1",), False),
        (("192.0.2.0/24",), ("no address",), False),
    ),
)
def test_nobody_makes_a_management_key_for_more_addresses_than_his_own(
    mine: tuple[str, ...], theirs: tuple[str, ...], *, allowed: bool
) -> None:
    """A caller whose key is bound to addresses acts for no management key that works from others."""
    me = replace(caller("*:*"), networks=compiled_networks(mine))
    assert may(lambda: me.demand_cover(Held(("read:keys",), Environment.LIVE, theirs, None))) is allowed


def test_customers_and_services_keys_are_changed_by_the_methods_scope_alone() -> None:
    """Their scopes are the platform's own words and no right in Keystead, so the caller need not hold them."""
    for kind in (KeyKind.CUSTOMER, KeyKind.SERVICE):
        assert may(lambda kind=kind: caller().demand_may_change(key(kind, "read:invoices")))


def test_operator_keys_are_never_changed_by_the_api() -> None:
    """Not even by a caller who holds everything, and not by an operator."""
    operators = key(KeyKind.OPERATOR, "*:workspaces", environment=Environment.ALL)
    for me in (caller("*:*"), replace(caller("*:*"), kind=KeyKind.OPERATOR)):
        assert not may(lambda me=me: me.demand_may_change(operators))
