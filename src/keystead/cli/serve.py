"""``keystead serve``: the service and nothing else, for machines that a deployment has set up."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from keystead import __version__
from keystead.bootstrap import Running
from keystead.cli.application import command
from keystead.cli.flags import JSON_FLAG, LISTENER_FLAGS, PLACE_FLAGS, with_options
from keystead.cli.server_settings import settings_from
from keystead.cli.serving import serve_until_stopped


@command(
    "serve",
    examples=(
        "keystead serve --database postgresql://keystead@db.internal/keystead --insecure --grpc 0.0.0.0:50051",
        "keystead serve --tls-cert chain.pem --tls-key key.pem --grpc 0.0.0.0:50051 --http 0.0.0.0:8443",
    ),
)
@with_options(*LISTENER_FLAGS, *PLACE_FLAGS, JSON_FLAG)
def serve(*, as_json: bool, **flags: Any) -> None:
    """Run the service on a database that is set up.

    Creates and migrates nothing, so that any number of nodes can start at once; run `keystead migrate` and `keystead
    bootstrap` before. SIGTERM lets calls finish. With --json the first line of standard output is one object: http,
    grpc.
    """

    def greet(server: Running) -> None:
        if as_json:
            click.echo(json.dumps({"http": server.http, "grpc": server.grpc}))
        else:
            click.echo(f"Keystead {__version__} listens: gRPC {server.grpc}, HTTP {server.http}")
        sys.stdout.flush()

    serve_until_stopped(settings_from(flags), greet=greet)
