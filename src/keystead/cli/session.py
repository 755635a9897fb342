"""One command's talk with the server: the calls, and how their replies are shown."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import click

from keystead.cli.connection import find_connection
from keystead.cli.flags import JSON_FLAG
from keystead.cli.message import Message, new_idempotency_key, without_empty
from keystead.cli.output import print_json
from keystead.cli.parameters import DURATION
from keystead.cli.problems import CommandError, ExitCode, Problem

PAGES_MAX = 1_000
PAGE_SIZE_MAX = 1_000

_PROFILE = click.option(
    "--profile",
    envvar=None,
    metavar="NAME",
    help="Use this profile of ~/.config/keystead/profiles.toml instead of KEYSTEAD_URL and KEYSTEAD_MANAGEMENT_KEY.",
)
_IDEMPOTENCY_KEY = click.option(
    "--idempotency-key",
    metavar="TEXT",
    help="Repeat an earlier call safely: the key that its error named. Drawn at random when not given.",
)
_PAGE_SIZE = click.option(
    "--page-size", type=click.IntRange(1, PAGE_SIZE_MAX), help="List at most so many at once. [50]"
)
_PAGE_TOKEN = click.option("--page-token", default="", metavar="TOKEN", help="Go on where an earlier page ended.")
_ALL = click.option("--all", "every_page", is_flag=True, help="List every page.")


class Caller(Protocol):
    """What a session needs of a client."""

    def call(self, service: str, method: str, message: Mapping[str, Any]) -> Message:
        """Call a method and return its reply."""
        ...

    def stream(self, service: str, method: str, message: Mapping[str, Any]) -> Iterator[Message]:
        """Call a method that streams."""
        ...


class Session:
    """Calls a server for one command."""

    def __init__(self, client: Caller, *, as_json: bool, idempotency_key: str | None = None) -> None:
        """Show replies as JSON when ``as_json``."""
        self._client = client
        self._idempotency_key = idempotency_key
        self.as_json = as_json

    def call(self, service: str, method: str, message: Mapping[str, Any]) -> Message:
        """Ask for something; what is empty in ``message`` is left out."""
        return self._client.call(service, method, without_empty(message))

    def change(self, service: str, method: str, message: Mapping[str, Any]) -> Message:
        """Change something, at most once however often the call is sent."""
        once = self._idempotency_key or new_idempotency_key()
        return self._client.call(service, method, {**without_empty(message), "idempotencyKey": once})

    def stream(self, service: str, method: str, message: Mapping[str, Any]) -> Iterator[Message]:
        """Ask for a stream; what is empty in ``message`` is left out."""
        return self._client.stream(service, method, without_empty(message))

    def pages(self, service: str, method: str, message: Mapping[str, Any], *, field: str) -> Message:
        """Fetch one page, or every page when ``message`` says ``everyPage``, as one reply."""
        asked = dict(message)
        if not asked.pop("everyPage"):
            return self.call(service, method, asked)
        asked.setdefault("pageSize", PAGE_SIZE_MAX)
        asked["pageSize"] = asked["pageSize"] or PAGE_SIZE_MAX
        found: list[Any] = []
        for _ in range(PAGES_MAX):
            reply = self.call(service, method, asked)
            found += reply.get(field, [])
            asked["pageToken"] = reply.get("nextPageToken", "")
            if not asked["pageToken"]:
                return {**reply, field: found}
        raise CommandError(
            Problem(f"More than {PAGES_MAX} pages; narrow the list.", "TOO_MANY_PAGES", ExitCode.REFUSED)
        )

    def show(self, reply: Message, render: Callable[[Message], None]) -> None:
        """Print ``reply`` as it is for a program, or as ``render`` does for a person."""
        if self.as_json:
            print_json(reply)
        else:
            render(reply)


def speaks_to_server(
    *, mutates: bool = False, timeout: str = "30s"
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Open a session for a command, which takes it as its first argument; ``timeout`` is what a call has by default."""
    timeout_option = click.option(
        "--timeout", "timeout_ms", type=DURATION, default=timeout, show_default=True, help="Give each call so long."
    )

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(
            *, profile: str | None, timeout_ms: int, as_json: bool, idempotency_key: str | None = None, **given: Any
        ) -> None:
            from keystead.cli.client import Client  # noqa: PLC0415 -- only a call has to wait for an HTTP client

            client = Client(find_connection(os.environ, profile=profile), timeout_ms=timeout_ms)
            try:
                function(Session(client, as_json=as_json, idempotency_key=idempotency_key), **given)
            finally:
                client.close()

        options = [_IDEMPOTENCY_KEY] if mutates else []
        for option in reversed([*options, _PROFILE, timeout_option, JSON_FLAG]):
            run = option(run)
        return run

    return decorate


def in_pages(function: Callable[..., None]) -> Callable[..., None]:
    """Give a list its options: ``page``, what they say in the contract's own words."""

    @functools.wraps(function)
    def run(*arguments: Any, page_size: int | None, page_token: str, every_page: bool, **given: Any) -> None:
        page = {"pageSize": page_size, "pageToken": page_token, "everyPage": every_page}
        function(*arguments, page=page, **given)

    for option in (_PAGE_TOKEN, _PAGE_SIZE, _ALL):
        run = option(run)
    return run


def ask_before(question: str, *, agreed: bool) -> None:
    """Go on when the person agrees; without a terminal to ask on, ``--yes`` must have been given."""
    if agreed:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this cannot be taken back and there is no terminal to ask on: give --yes")
    if not click.confirm(question, err=True):
        raise CommandError(Problem("Nothing was done.", "NOT_AGREED", ExitCode.REFUSED))
