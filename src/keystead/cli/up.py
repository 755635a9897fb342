"""``keystead up``: from nothing to a running service, and what to try with it.

What the first run makes is written down before it is committed, so no key can be lost to a full disk, a taken port or a
closed terminal.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any

import click

from keystead.bootstrap import FirstRun, Running, first_run, migrate
from keystead.cli.application import command
from keystead.cli.demo import Demo
from keystead.cli.flags import JSON_FLAG, LISTENER_FLAGS, PLACE_FLAGS, with_options
from keystead.cli.problems import CommandError, ExitCode, Problem, warn
from keystead.cli.saved_keys import KeyFiles, SavedKeys, database_name
from keystead.cli.server_settings import settings_from
from keystead.cli.serving import Background, serve_until_stopped
from keystead.cli.welcome import Welcome, print_welcome
from keystead.config import Settings


@command(
    "up",
    examples=(
        "keystead up",
        "keystead up --demo",
        "keystead up --http 127.0.0.1:9000 --data-dir /var/lib/keystead --json",
    ),
)
@with_options(
    *LISTENER_FLAGS,
    *PLACE_FLAGS,
    click.option("--demo", is_flag=True, help="Drive about five sample calls a second, good and bad ones."),
    JSON_FLAG,
)
def up(*, demo: bool, as_json: bool, **flags: Any) -> None:
    """Set up what is missing, run the service, and show what to try.

    Migrates the database; on the first run makes a workspace, a management key and a sample customer key, and keeps
    them in DATA/first-run.json and DATA/env (mode 0600). Runs in the foreground until Ctrl-C. With --json the first
    line of standard output is one object: workspace_id, sample_key_id, http, grpc, and on the first run
    management_key and sample_key.
    """
    settings = settings_from(flags)
    files = KeyFiles(settings.data_dir)
    migrate(settings, alone=True)
    asyncio.run(_make_what_is_missing(settings, files))
    saved = files.read(database_name(settings))
    serve_until_stopped(settings, greet=_Greeting(settings, files, saved, as_json=as_json, demo=demo))


async def _make_what_is_missing(settings: Settings, files: KeyFiles) -> None:
    def keep(made: FirstRun) -> None:
        saved = SavedKeys(
            workspace_id=made.workspace_id,
            management_key=made.management_key.reveal(),
            sample_key=made.sample_key.reveal(),
            sample_key_id=made.sample_key_id,
            sample_owner_id=made.sample_owner_id,
            database=database_name(settings),
        )
        try:
            files.write(saved)
        except OSError as error:
            message = f"{files.json} cannot be written ({error.strerror}); nothing was made, so no key is lost."
            raise CommandError(Problem(message, "KEYS_NOT_KEPT", ExitCode.REFUSED)) from None

    await first_run(settings, keep=keep)


class _Greeting:
    """Tells where the server is and what to try, once it listens."""

    def __init__(
        self, settings: Settings, files: KeyFiles, saved: SavedKeys | None, *, as_json: bool, demo: bool
    ) -> None:
        self._settings = settings
        self._files = files
        self._saved = saved
        self._as_json = as_json
        self._demo = demo

    def __call__(self, server: Running) -> Background | None:
        first = self._saved is not None and not self._saved.shown
        saved = self._announce(server)
        if self._as_json:
            click.echo(json.dumps(announcement(server, saved, with_keys=first)))
        else:
            print_welcome(
                Welcome(
                    server=server,
                    settings=self._settings,
                    files=self._files,
                    saved=saved,
                    first=first,
                    show_keys=first and sys.stdout.isatty(),
                    demo=self._demo and saved is not None,
                )
            )
        sys.stdout.flush()
        if not self._demo:
            return None
        if saved is None:
            warn(f"--demo needs the management key, and {self._files.json} has none for this database")
            return None
        return Demo(saved.management_key, tls_cert=self._settings.tls_cert)

    def _announce(self, server: Running) -> SavedKeys | None:
        if self._saved is None:
            return None
        try:
            return self._files.announce(self._saved, http=server.http, grpc=server.grpc)
        except OSError as error:
            warn(
                f"{self._files.env} cannot be brought up to date ({error.strerror}); the keys in {self._files.json} are"
            )
            return self._saved


def announcement(server: Running, saved: SavedKeys | None, *, with_keys: bool) -> Mapping[str, str | None]:
    """Make the object that ``--json`` prints."""
    keys = {"management_key": saved.management_key, "sample_key": saved.sample_key} if saved and with_keys else {}
    return {
        "workspace_id": saved.workspace_id if saved else None,
        **keys,
        "sample_key_id": saved.sample_key_id if saved else None,
        "http": server.http,
        "grpc": server.grpc,
    }
