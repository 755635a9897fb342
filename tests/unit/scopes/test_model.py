"""Grants: what they allow, and what they cover."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystead.kernel.bounds import Bounds
from keystead.kernel.errors import InvalidRequestError
from keystead.scopes.model import Grants, check_granted, covering, is_asked_scope, is_granted_scope

ACTIONS = ("read", "write")
RESOURCES = ("invoices", "reports")
ASKED = [f"{action}:{resource}" for action in ACTIONS for resource in RESOURCES]
GRANTABLE = [f"{action}:{resource}" for action in (*ACTIONS, "*") for resource in (*RESOURCES, "*")]


def allows(granted: str, asked: str) -> bool:
    """Say whether one grant allows one scope, part by part: the meaning of wildcards, written another way."""
    return all(mine in {"*", wanted} for mine, wanted in zip(granted.split(":"), asked.split(":"), strict=True))


@given(st.lists(st.sampled_from(GRANTABLE), unique=True), st.sampled_from(ASKED))
def test_grants_allow_what_any_of_them_allows(granted: list[str], asked: str) -> None:
    """A wildcard stands for every action or every resource, and for nothing else."""
    assert Grants(granted).allow(asked) is any(allows(grant, asked) for grant in granted)


@given(st.lists(st.sampled_from(GRANTABLE), unique=True), st.sampled_from(GRANTABLE))
def test_what_is_covered_gives_nothing_new(granted: list[str], scope: str) -> None:
    """Whoever hands on a covered scope hands on nothing he does not hold (P8); what is not covered is named."""
    grants = Grants(granted)
    if grants.cover(scope):
        assert all(grants.allow(asked) for asked in ASKED if allows(scope, asked))
        assert grants.lacking([scope]) == []
    else:
        assert grants.lacking([scope]) == [scope]


@pytest.mark.parametrize(
    ("granted", "scope", "covered"),
    (
        ("*:*", "read:*", True),
        ("*:*", "*:*", True),
        ("read:*", "read:invoices", True),
        ("read:*", "read:*", True),
        ("*:invoices", "read:invoices", True),
        ("read:invoices", "read:invoices", True),
        ("read:*", "*:*", False),
        ("read:*", "*:invoices", False),
        ("read:invoices", "read:*", False),
        ("*:invoices", "read:*", False),
        ("read:invoices", "read:invoice", False),
    ),
)
def test_covering_by_example(granted: str, scope: str, *, covered: bool) -> None:
    """Narrower is covered by wider, never the other way round."""
    assert Grants([granted]).cover(scope) is covered


@pytest.mark.parametrize("scope", ("read:invoices", "a:b", "Read.all:in/vo-ices_2", "9:9", "a" * 63 + ":" + "b" * 64))
def test_scopes_that_may_be_asked_for(scope: str) -> None:
    """``action:resource`` of letters, digits and ``._/-``, up to 128 characters."""
    assert is_asked_scope(scope)
    assert is_granted_scope(scope)


@pytest.mark.parametrize(
    "scope",
    ("", "read", "read:", ":invoices", "read:invoices:all", "read: invoices", "réad:x", "-a:b", "a:b\n", "a:b\x00",
     "a:" + "b" * 127, "re*d:x", "read:in*", "**:x"),
)  # fmt: skip
def test_what_is_no_scope(scope: str) -> None:
    """Half scopes, three parts, spaces, other letters and half wildcards are neither granted nor asked."""
    assert not is_asked_scope(scope)
    assert not is_granted_scope(scope)


@pytest.mark.parametrize("scope", ("*:*", "read:*", "*:invoices"))
def test_wildcards_are_granted_but_not_asked(scope: str) -> None:
    """``*`` is legal in what a key is granted, not in what a call asks for."""
    assert is_granted_scope(scope)
    assert not is_asked_scope(scope)


def fields_of(scopes: list[str]) -> list[str]:
    """Return which fields are refused when a key is to be granted ``scopes``."""
    bounds = Bounds()
    check_granted(bounds, "scopes", scopes)
    try:
        bounds.raise_if_any()
    except InvalidRequestError as error:
        return [item.field for item in error.violations]
    return []


def test_a_key_holds_at_most_100_scopes_each_once() -> None:
    """The bound is exact; a wrong scope is named by its place, a repeated one as such."""
    hundred = [f"read:r{number}" for number in range(100)]
    assert fields_of(hundred) == []
    assert fields_of([*hundred, "read:more"]) == ["scopes"]
    assert fields_of(["read:*", "wrong", "read:*"]) == ["scopes[1]", "scopes"]


@given(asked=st.sampled_from(ASKED), granted=st.sampled_from(GRANTABLE))
def test_what_covers_a_scope_is_what_grants_it(asked: str, granted: str) -> None:
    """The grants that cover a scope are those that allow it, part by part."""
    assert (granted in covering(asked)) is allows(granted, asked)
