"""What a call needs, as an expression over scopes: ``read:invoices AND (write:reports OR admin:reports)``.

AND binds tighter than OR; both are written in any case. An expression is parsed once and kept; evaluating answers what
would have to be granted, and an empty answer means yes. Depth, length and the number of kept expressions are bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from keystead.scopes.errors import ScopeExpressionError
from keystead.scopes.model import Grants, is_asked_scope

EXPRESSION_CHARACTERS = 1_000
DEPTH_MAX = 32
_KEPT = 4_096

_TOKEN = re.compile(r"\s*(?:(?P<punctuation>[()])|(?P<word>[^\s()]+))", re.ASCII)


@dataclass(frozen=True, slots=True)
class Ask:
    """One scope."""

    scope: str

    def missing(self, grants: Grants) -> tuple[str, ...]:
        """Return the scope when it is not granted."""
        return () if grants.allow(self.scope) else (self.scope,)


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part."""

    parts: tuple[Expression, ...]

    def missing(self, grants: Grants) -> tuple[str, ...]:
        """Return what is missing of all parts, each scope once."""
        return tuple(dict.fromkeys(scope for part in self.parts for scope in part.missing(grants)))


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Any one part."""

    parts: tuple[Expression, ...]

    def missing(self, grants: Grants) -> tuple[str, ...]:
        """Return what is missing of the part that lacks least; the first of them on a tie."""
        return min((part.missing(grants) for part in self.parts), key=len)


Expression = Ask | AllOf | AnyOf


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    position: int

    @property
    def operator(self) -> str:
        word = self.text.upper()
        return word if word in {"AND", "OR"} else ""


def _tokens(text: str) -> list[_Token]:
    found = []
    end = 0
    while match := _TOKEN.match(text, end):
        start = match.start("punctuation") if match["punctuation"] else match.start("word")
        found.append(_Token(match["punctuation"] or match["word"], start + 1))
        end = match.end()
    return found


class _Parser:
    """Recursive descent over the tokens; ``any_of → all_of (OR all_of)*``, ``all_of → one (AND one)*``."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = 0
        self._end = len(text) + 1

    def parse(self) -> Expression:
        expression = self._any_of(0)
        if (token := self._peek()) is not None:
            raise ScopeExpressionError(token.position, "expected AND, OR or the end")
        return expression

    def _peek(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _takes(self, operator: str) -> bool:
        token = self._peek()
        if token is None or token.operator != operator:
            return False
        self._next += 1
        return True

    def _any_of(self, depth: int) -> Expression:
        parts = [self._all_of(depth)]
        while self._takes("OR"):
            parts.append(self._all_of(depth))
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _all_of(self, depth: int) -> Expression:
        parts = [self._one(depth)]
        while self._takes("AND"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _one(self, depth: int) -> Expression:
        token = self._peek()
        if token is None:
            raise ScopeExpressionError(self._end, "expected a scope or (")
        self._next += 1
        if token.text == "(":
            return self._group(token, depth)
        if "*" in token.text:
            raise ScopeExpressionError(token.position + token.text.index("*"), "expected a scope without *")
        if not is_asked_scope(token.text):
            raise ScopeExpressionError(token.position, "expected a scope (action:resource) or (")
        return Ask(token.text)

    def _group(self, opening: _Token, depth: int) -> Expression:
        if depth >= DEPTH_MAX:
            raise ScopeExpressionError(opening.position, f"expected at most {DEPTH_MAX} parentheses inside one another")
        inner = self._any_of(depth + 1)
        closing = self._peek()
        if closing is None or closing.text != ")":
            position = self._end if closing is None else closing.position
            raise ScopeExpressionError(position, f"expected ) for the ( at character {opening.position}")
        self._next += 1
        return inner


@lru_cache(maxsize=_KEPT)
def parse(text: str) -> Expression:
    """Read an expression of at most 1,000 characters; raise ``ScopeExpressionError`` that points at the character."""
    if len(text) > EXPRESSION_CHARACTERS:
        raise ScopeExpressionError(
            EXPRESSION_CHARACTERS + 1, f"expected the end: at most {EXPRESSION_CHARACTERS} characters"
        )
    return _Parser(text).parse()


def missing(text: str, grants: Grants) -> tuple[str, ...]:
    """Return what ``grants`` lacks for the expression ``text``: nothing when it is satisfied or empty."""
    if not text or (text in grants.exact and "*" not in text):
        return ()
    return parse(text).missing(grants)


def asked(text: str) -> frozenset[str]:
    """Return every scope that the expression ``text`` names; raise ``ScopeExpressionError`` when it is none."""
    return _named(parse(text)) if text else frozenset()


def _named(expression: Expression) -> frozenset[str]:
    if isinstance(expression, Ask):
        return frozenset((expression.scope,))
    return frozenset().union(*[_named(part) for part in expression.parts])
