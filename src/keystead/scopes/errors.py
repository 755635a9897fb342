"""What can be refused about scopes and the expressions over them."""

from __future__ import annotations

from keystead.kernel.errors import FieldViolation, KeysteadError


class ScopeExpressionError(KeysteadError):
    """Raised when a scope expression cannot be read; says at which character."""

    code = "bad_scope_expression"

    def __init__(self, position: int, expected: str) -> None:
        """Point at the character (counted from 1) and say what was expected there."""
        super().__init__(
            public=f"scope_expression: {expected} at character {position}.",
            violations=[FieldViolation("scope_expression", f"{expected} at character {position}")],
            metadata={"position": str(position)},
        )
