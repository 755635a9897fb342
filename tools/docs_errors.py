"""The page of errors: every code that can reach a caller, and every one that keeps a server from starting."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import keystead
from keystead.kernel.errors import StartError
from keystead.transport.errors import TABLE, Statuses
from tools.docs_markdown import anchor, code, table
from tools.docs_texts import ADVICE

_OPENING = """# Errors

An expected "no" of a verification is a reply, not an error: see `Code` in [the API](api.md). Everything here is a
call that failed, or a server that did not start.

Over gRPC an error carries `google.rpc.ErrorInfo` with `domain` `keystead` and the code in upper case as `reason`;
where it helps also `BadRequest` (each broken field) and `RetryInfo` (when to try again). Over HTTP the same stands
in `details`, and the delay in `retry-after`. Branch on the reason, never on the text. The command line prints the
reason in brackets.

A call may be repeated as it is when the answer names a delay (`overloaded`, `stale`, `unavailable`) and after
a deadline; a mutation only with the same idempotency key.

"""
_STARTING = """
## When a server does not start

These never reach a caller: `keystead up`, `serve` and the other commands that work on an installation print them
and exit, with 2 for a setting that cannot be used and 1 for the rest.
"""


def page() -> str:
    """Write the page."""
    rows = [
        (f"[{code(name)}](#{anchor(name)})", code(said.grpc.name), str(said.http), said.meaning)
        for name, said in TABLE.items()
    ]
    calls = [_section(name, said) for name, said in TABLE.items()]
    starts = [_start_section(kind) for kind in start_errors()]
    headings = ("code", "gRPC", "HTTP", "meaning")
    return _OPENING + table(headings, rows) + "\n" + "\n".join(calls) + _STARTING + "\n" + "\n".join(starts)


def start_errors() -> list[type[StartError]]:
    """Return every kind of error that keeps a server from starting, by its code."""
    for module in pkgutil.walk_packages(keystead.__path__, "keystead."):
        if ".migrations" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return sorted(set(_heirs(StartError)), key=lambda kind: kind.code)


def _heirs(kind: type[StartError]) -> Iterator[type[StartError]]:
    for heir in kind.__subclasses__():
        yield heir
        yield from _heirs(heir)


def _section(name: str, said: Statuses) -> str:
    statuses = f"gRPC {code(said.grpc.name)} · HTTP {said.http}"
    return f"### {name}\n\n{statuses}\n\n{said.meaning} {ADVICE[name]}\n"


def _start_section(kind: type[StartError]) -> str:
    meaning = (inspect.getdoc(kind) or "").partition("\n")[0].removeprefix("Raised when ")
    return f"### {kind.code}\n\n{meaning[:1].upper()}{meaning[1:]} {ADVICE[kind.code]}\n"
