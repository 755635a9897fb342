"""How a command fails: one exit code, and one text for people or one JSON object for programs, on standard error.

Exit codes are part of the contract, so that scripts branch on them: 0 done, 1 refused or an expected no, 2 a mistake in
the command line or a setting, 3 the server cannot be reached or is too busy, 4 the credential is missing or not enough.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntEnum

import click

from keystead.cli.text import harmless
from keystead.kernel.errors import FieldViolation, KeysteadError


class ExitCode(IntEnum):
    """What a command's end means; ``INTERRUPTED`` is the shell's own number for Ctrl-C."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    UNAUTHORIZED = 4
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong, for whoever asked; ``code`` is the reason in the errors' own spelling (``KEY_REVOKED``)."""

    message: str
    code: str
    exit_code: ExitCode
    violations: tuple[FieldViolation, ...] = ()
    error_id: str = ""
    hints: tuple[str, ...] = ()

    def as_json(self) -> str:
        """Write one object on one line."""
        body = {
            "error": {
                "code": self.code,
                "message": self.message,
                "violations": [{"field": item.field, "description": item.description} for item in self.violations],
                "error_id": self.error_id,
                "hints": list(self.hints),
                "exit_code": int(self.exit_code),
            }
        }
        return json.dumps(body, ensure_ascii=False)

    def as_text(self) -> str:
        """Write what a person needs, the most important first."""
        lines = [f"{click.style('error:', fg='red', bold=True)} {harmless(self.message)} ({self.code})"]
        if not self._message_says_it_all():
            lines += [f"  {harmless(item.field)}: {harmless(item.description)}" for item in self.violations]
        if self.error_id and self.error_id not in self.message:
            lines.append(f"  error id: {self.error_id}")
        lines += [f"  {hint}" for hint in self.hints]
        return "\n".join(lines)

    def _message_says_it_all(self) -> bool:
        return all(f"{item.field}: {item.description}" in self.message for item in self.violations)


class CommandError(Exception):
    """Raised to end a command with a problem."""

    def __init__(self, problem: Problem) -> None:
        """Carry ``problem`` to where it is shown."""
        super().__init__(problem.message)
        self.problem = problem


def problem_of(error: KeysteadError) -> Problem:
    """Translate what the server's own parts raise while they run in this process."""
    exit_code = ExitCode.USAGE if error.code == "bad_setting" else ExitCode.REFUSED
    return Problem(error.public, error.code.upper(), exit_code, violations=error.violations)


def usage_problem(message: str) -> Problem:
    """Make the problem of a command that was given wrongly."""
    return Problem(message, "USAGE", ExitCode.USAGE)


def report(problem: Problem, *, as_json: bool) -> None:
    """Show ``problem`` on standard error."""
    click.echo(problem.as_json() if as_json else problem.as_text(), err=True)


def warn(message: str) -> None:
    """Tell a person something on standard error that does not end the command."""
    click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {harmless(message)}", err=True)
