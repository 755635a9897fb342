"""Options that several commands share, each spelled and explained once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Option = Callable[[Callable[..., Any]], Callable[..., Any]]

JSON_FLAG = click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs; errors too.")
YES_FLAG = click.option("--yes", "agreed", is_flag=True, help="Do it without asking.")
WAIT_FLAG = click.option(
    "--wait",
    is_flag=True,
    help="Return when no server admits it any more; one that is gone is waited for as long as it may vouch for keys.",
)

_FILE = click.Path(path_type=Path, dir_okay=False)

# The parameters are named as the settings are: what is given here goes to `load_settings` under its own name.
PLACE_FLAGS: tuple[Option, ...] = (
    click.option(
        "--config",
        "config_file",
        type=_FILE,
        envvar="KEYSTEAD_CONFIG",
        show_envvar=True,
        help="Read settings from this TOML file; KEYSTEAD_… and flags outrank it.",
    ),
    click.option(
        "--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Keep the embedded database here. [data]"
    ),
    click.option("--database", metavar="URL", help="Use this database: sqlite:///PATH or postgresql://…"),
)
LISTENER_FLAGS: tuple[Option, ...] = (
    click.option(
        "--grpc", metavar="HOST:PORT", help="Listen here for gRPC; port 0 takes a free one. [127.0.0.1:50051]"
    ),
    click.option("--http", metavar="HOST:PORT", help="Listen here for HTTP; port 0 takes a free one. [127.0.0.1:8080]"),
    click.option("--redis", metavar="URL", help="Where all servers count limits together; in this one when absent."),
    click.option("--tls-cert", type=_FILE, help="Serve TLS with this certificate chain (PEM)."),
    click.option("--tls-key", type=_FILE, help="The private key of the certificate (PEM)."),
    click.option("--insecure", is_flag=True, default=None, help="Allow a listener off loopback without TLS."),
    click.option(
        "--engine",
        "grpc_engine",
        type=click.Choice(["auto", "native", "grpcio"]),
        help="What serves gRPC. [auto: native on loopback without TLS, else grpcio]",
    ),
)


def with_options(*options: Option) -> Option:
    """Give a function ``options``, listed in its help in this order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate
