"""The expression language: how it is read, what it answers, and how it says what is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystead.scopes import expression
from keystead.scopes.errors import ScopeExpressionError
from keystead.scopes.expression import AllOf, AnyOf, Ask, Expression, asked, missing, parse
from keystead.scopes.model import Grants

SCOPES = [f"{action}:{resource}" for action in ("read", "write") for resource in ("a", "b", "and", "or")]
WILDCARDS = ["*:*", "read:*", "*:a"]
A, B, C = Ask("read:a"), Ask("read:b"), Ask("read:c")

Node = str | tuple[str, list["Node"]]


def trees() -> st.SearchStrategy[Node]:
    """Draw expressions as plain lists: ``("AND", [...])``, ``("OR", [...])`` or a scope."""
    return st.recursive(
        st.sampled_from(SCOPES),
        lambda inner: st.tuples(st.sampled_from(["AND", "OR"]), st.lists(inner, min_size=2, max_size=3)),
        max_leaves=12,
    )


def write(tree: Node, draw: st.DataObject) -> str:
    """Write ``tree`` as a person might: operators in any case, spaces at will, parentheses where they are needed."""
    if isinstance(tree, str):
        return tree
    operator, parts = tree
    spelled = draw.draw(st.sampled_from([operator, operator.lower(), operator.title()]))
    space = draw.draw(st.sampled_from([" ", "  ", "\t", "\n "]))
    return f"{space}{spelled}{space}".join(
        part if isinstance(part, str) else f"({space}{write(part, draw)})" for part in parts
    )


def holds(tree: Node, granted: list[str]) -> bool:
    """Evaluate ``tree`` by Python's own ``all`` and ``any``."""
    if isinstance(tree, str):
        action, resource = tree.split(":")
        return bool({tree, f"{action}:*", f"*:{resource}", "*:*"} & set(granted))
    operator, parts = tree
    results = [holds(part, granted) for part in parts]
    return all(results) if operator == "AND" else any(results)


GRANTED = st.lists(st.sampled_from([*SCOPES, *WILDCARDS]), unique=True, max_size=5)


@given(tree=trees(), granted=GRANTED, draw=st.data())
def test_an_expression_means_what_it_says(tree: Node, granted: list[str], draw: st.DataObject) -> None:
    """Nothing is missing exactly when an independent evaluator says that the grants satisfy the expression."""
    text = write(tree, draw)
    assert (missing(text, Grants(granted)) == ()) is holds(tree, granted)


@given(tree=trees(), granted=GRANTED, draw=st.data())
def test_granting_what_is_missing_satisfies(tree: Node, granted: list[str], draw: st.DataObject) -> None:
    """What a refusal names as missing is enough: with it granted, the same call is let in; none of it was held."""
    text = write(tree, draw)
    lacking = missing(text, Grants(granted))
    assert missing(text, Grants([*granted, *lacking])) == ()
    assert not any(Grants(granted).allow(scope) for scope in lacking)
    assert len(set(lacking)) == len(lacking)


@pytest.mark.parametrize(
    ("text", "tree"),
    (
        ("read:a", A),
        ("((read:a))", A),
        ("read:a OR read:b AND read:c", AnyOf((A, AllOf((B, C))))),
        ("read:a AND read:b OR read:c", AnyOf((AllOf((A, B)), C))),
        ("(read:a OR read:b) AND read:c", AllOf((AnyOf((A, B)), C))),
        ("read:a and read:b And read:c", AllOf((A, B, C))),
        ("read:a or(read:b)oR read:c", AnyOf((A, B, C))),
        ("  read:a  ", A),
        ("and:or AND or:and", AllOf((Ask("and:or"), Ask("or:and")))),
    ),
)
def test_and_binds_tighter_than_or(text: str, tree: Expression) -> None:
    """Precedence, parentheses, chains, and operators in any case, beside scopes that look like operators."""
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "position"),
    (
        ("", 1),
        ("   ", 4),
        ("AND", 1),
        ("read:a AND", 11),
        ("read:a AND ", 12),
        ("read:a read:b", 8),
        ("read:a OR OR read:b", 11),
        ("(read:a", 8),
        ("(read:a read:b)", 9),
        ("read:a)", 7),
        ("()", 2),
        ("read:a AND read", 12),
        ("read:*", 6),
        ("read:a OR *:b", 11),
        ("read:a AND (write:b OR delete:*)", 31),
        ("read:a && read:b", 8),
        ("read:a\u00a0AND read:b", 1),
        ("read:a AND réad:b", 12),
        ("read:a\x00", 1),
        (" read:a AND write", 13),
    ),
)
def test_errors_point_at_the_character(text: str, position: int) -> None:
    """Whoever wrote a wrong expression is told the place, counted from 1, in the text and as data."""
    with pytest.raises(ScopeExpressionError) as caught:
        parse(text)
    assert caught.value.metadata == {"position": str(position)}
    assert caught.value.public.endswith(f"at character {position}.")
    assert caught.value.violations[0].field == "scope_expression"


def test_an_open_parenthesis_is_named_with_its_place() -> None:
    """The error for a missing ``)`` says which ``(`` it belongs to."""
    with pytest.raises(ScopeExpressionError) as caught:
        parse("read:a AND (read:b OR (read:c)")
    assert "for the ( at character 12" in caught.value.public


def test_depth_is_bounded() -> None:
    """32 parentheses inside one another are read, one more is refused at its place: nothing recurses without end."""
    assert parse("(" * 32 + "read:a" + ")" * 32) == A
    with pytest.raises(ScopeExpressionError) as caught:
        parse("(" * 33 + "read:a" + ")" * 33)
    assert caught.value.metadata == {"position": "33"}
    with pytest.raises(ScopeExpressionError):
        parse("(" * 1_000)


def test_length_is_bounded() -> None:
    """1,000 characters are read, one more is refused before it is looked at."""
    assert parse("read:a" + " " * 994) == A
    with pytest.raises(ScopeExpressionError) as caught:
        parse("read:a" + " " * 995)
    assert caught.value.metadata == {"position": "1001"}


def test_what_is_asked_never_holds_a_wildcard() -> None:
    """A wildcard in the question is an error for every key, also for one that was granted that very wildcard."""
    for granted in ([], ["read:*"], ["*:*"]):
        with pytest.raises(ScopeExpressionError):
            missing("read:*", Grants(granted))


def test_asking_for_nothing_is_always_satisfied() -> None:
    """An empty expression asks for no scope, also of a key without any."""
    assert missing("", Grants([])) == ()


def test_the_cheapest_way_is_named() -> None:
    """Of several ways to be let in, the one that lacks least is named; each scope once."""
    grants = Grants(["read:a"])
    assert missing("(read:b AND read:c) OR (read:a AND write:a)", grants) == ("write:a",)
    assert missing("read:b OR read:c", grants) == ("read:b",)
    assert missing("read:b AND (read:b AND read:c)", grants) == ("read:b", "read:c")


def test_parsed_expressions_are_kept_and_bounded() -> None:
    """An expression is parsed once, and a flood of different ones cannot fill the memory."""
    assert parse("read:kept AND read:once") is parse("read:kept AND read:once")
    for number in range(5_000):
        parse(f"read:flood{number}")
    assert parse.cache_info().currsize <= expression._KEPT


@given(tree=trees(), draw=st.data())
def test_every_scope_that_an_expression_names_is_asked(tree: Node, draw: st.DataObject) -> None:
    """What an expression names is found, whichever part of it would have been enough."""

    def leaves(node: Node) -> set[str]:
        return {node} if isinstance(node, str) else set().union(*[leaves(part) for part in node[1]])

    assert asked(write(tree, draw)) == leaves(tree)


def test_an_empty_expression_asks_for_nothing() -> None:
    """A call without an expression names no scope; a broken one is told."""
    assert asked("") == frozenset()
    with pytest.raises(ScopeExpressionError):
        asked("read:")
