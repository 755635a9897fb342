"""Making, changing and deleting sinks, and carrying again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from keystead.cli.application import command
from keystead.cli.flags import YES_FLAG, with_options
from keystead.cli.message import Message
from keystead.cli.output import print_secret
from keystead.cli.parameters import DURATION, Moment, Name, duration_json
from keystead.cli.secret_input import read_secret
from keystead.cli.session import Session, ask_before, speaks_to_server
from keystead.cli.sinks.reading import SERVICE, SINK
from keystead.cli.sinks.rendering import print_sink

_PEM_BYTES_MAX = 65_536
_PATH = click.Path(path_type=Path, dir_okay=False)
_RULES = (
    click.option("--payload", type=Name(["NATIVE", "OCSF"]), help="How an event is written. [native]"),
    click.option(
        "--strict-lag", "strict_lag_ms", type=DURATION, help="Refuse changes while it is further behind; 0s never does."
    ),
    click.option("--url", help="Carry to this service, over HTTP."),
    click.option("--token-file", type=_PATH, help="Read the bearer token from this file; - is standard input."),
    click.option("--client-certificate", type=_PATH, help="Prove itself with this certificate chain (PEM)."),
    click.option("--client-key", type=_PATH, help="The certificate's private key (PEM)."),
    click.option("--authorities", type=_PATH, help="Who may have signed the service's certificate (PEM)."),
    click.option("--batch-max", type=click.IntRange(1, 1_000), help="Send so many events at once at most. [100]"),
    click.option("--answer-within", "answer_within_ms", type=DURATION, help="How long an answer may take. [10s]"),
    click.option("--rotate-bytes", type=click.IntRange(65_536), help="A file is full with so many. [128 MiB]"),
    click.option("--keep-files", type=click.IntRange(0), help="Keep so many full files; 0 for all. [0]"),
)


@command(
    "create",
    examples=(
        "keystead sinks create siem --url https://siem.example/events --token-file token.txt",
        "keystead sinks create archive --to-file audit.jsonl --rotate-bytes 1073741824 --start now",
        "keystead sinks create strict --url https://siem.example/events --signed --strict-lag 60s",
    ),
)
@click.argument("name")
@click.option("--to-file", help="Carry to a file of this name, in the server's directory for them.")
@click.option("--signed", is_flag=True, help="Sign requests by Standard Webhooks; the secret is shown once.")
@click.option("--start", metavar="WHEN", help="Begin with the first event kept, now, or a time. [beginning]")
@with_options(*_RULES)
@speaks_to_server(mutates=True)
def create(session: Session, *, name: str, to_file: str | None, signed: bool, start: str | None, **given: Any) -> None:
    """Make a sink and begin to carry.

    NAME is for people. WHEN is beginning, now, a time like 2027-01-31T12:00:00Z, or a duration back from now, as 30d.
    """
    if (to_file is None) == (given["url"] is None):
        raise click.UsageError("give either --url or --to-file")
    sink: dict[str, Any] = {"name": name, **_common(given)}
    if to_file is None:
        sink["http"] = _http(given) | {"signed": signed}
    else:
        sink["file"] = _file(given) | {"name": to_file}
    reply = session.change(SERVICE, "CreateSink", {"sink": sink, **_start(start)})
    session.show(reply, lambda made: _print_made(made, signed=signed))


@command(
    "update",
    examples=(
        "keystead sinks update snk_01HZX… --pause",
        "keystead sinks update snk_01HZX… --token-file new-token.txt",
        "keystead sinks update snk_01HZX… --strict-lag 0s",
    ),
)
@SINK
@click.option("--name", help="Call it so from now on.")
@click.option("--pause/--resume", "paused", default=None, help="Wait where it is, or go on.")
@with_options(
    *_RULES, click.option("--etag", default="", help="Refuse when the sink was changed since it had this etag.")
)
@speaks_to_server(mutates=True)
def update(session: Session, *, sink_id: str, name: str | None, paused: bool | None, etag: str, **given: Any) -> None:
    """Change a sink; it goes on from where it is.

    Only what is given changes. A bearer token has to be given anew when the host of the URL changes.
    """
    changed: dict[str, Any] = {**({} if name is None else {"name": name}), **_common(given)}
    if paused is not None:
        changed["state"] = "PAUSED" if paused else "ACTIVE"
    mask = list(changed)
    if given["strict_lag_ms"] == 0:
        mask.append("strictLag")
    for kind, fields in (("http", _http(given)), ("file", _file(given))):
        if fields:
            before = session.call(SERVICE, "GetSink", {"sinkId": sink_id})["sink"]
            changed[kind] = {**(before.get(kind) or {}), **fields}
            etag = etag or before["etag"]
            mask.append(kind)
    if not mask:
        raise click.UsageError("nothing to change was given")
    message = {"sink": {"id": sink_id, "etag": etag, **changed}, "updateMask": ",".join(mask)}
    session.show(session.change(SERVICE, "UpdateSink", message), lambda reply: print_sink(reply["sink"]))


@command("delete", examples=("keystead sinks delete snk_01HZX…",))
@SINK
@click.option("--etag", default="", help="Refuse when the sink was changed since it had this etag.")
@YES_FLAG
@speaks_to_server(mutates=True)
def delete(session: Session, *, sink_id: str, etag: str, agreed: bool) -> None:
    """Delete a sink for good.

    Its place in the log is forgotten; the events are not.
    """
    ask_before(f"Delete the sink {sink_id} for good?", agreed=agreed)
    reply = session.change(SERVICE, "DeleteSink", {"sinkId": sink_id, "etag": etag})
    session.show(reply, lambda _: click.echo("Deleted."))


@command(
    "replay",
    examples=(
        "keystead sinks replay snk_01HZX… --from-index 0",
        "keystead sinks replay snk_01HZX… --from-time 2027-01-31",
        "keystead sinks replay snk_01HZX… --set-aside",
    ),
)
@SINK
@click.option("--from-index", type=click.IntRange(0), help="From this event on; not beyond where the sink is.")
@click.option("--from-time", type=Moment(past=True), help="From the first event at this time or later.")
@click.option("--set-aside", is_flag=True, help="What the destination refused, and no more.")
@speaks_to_server(mutates=True)
def replay(session: Session, *, sink_id: str, from_index: int | None, from_time: str | None, set_aside: bool) -> None:
    """Carry again from an earlier place, or what was refused.

    Whoever takes the events knows them by their ids, so what comes twice is harmless.
    """
    wanted: dict[str, Any] = {"fromIndex": from_index, "fromTime": from_time, "deadLetters": set_aside or None}
    given = {field: value for field, value in wanted.items() if value is not None}
    if len(given) != 1:
        raise click.UsageError("give one of --from-index, --from-time and --set-aside")
    reply = session.change(SERVICE, "ReplaySink", {"sinkId": sink_id, **given})
    session.show(reply, lambda shown: print_sink(shown["sink"]))


def _common(given: dict[str, Any]) -> dict[str, Any]:
    fields = {
        "payload": given["payload"],
        "strictLag": duration_json(given["strict_lag_ms"]) if given["strict_lag_ms"] else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _http(given: dict[str, Any]) -> dict[str, Any]:
    fields = {
        "url": given["url"],
        "bearerToken": None if given["token_file"] is None else read_secret((), given["token_file"]),
        "clientCertificate": _pem(given["client_certificate"]),
        "clientKey": _pem(given["client_key"]),
        "authorities": _pem(given["authorities"]),
        "batchMax": given["batch_max"],
        "timeout": None if given["answer_within_ms"] is None else duration_json(given["answer_within_ms"]),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _file(given: dict[str, Any]) -> dict[str, Any]:
    fields = {"rotateBytes": given["rotate_bytes"], "keepFiles": given["keep_files"]}
    return {name: value for name, value in fields.items() if value is not None}


def _start(start: str | None) -> dict[str, Any]:
    if start is None:
        return {}
    if start.lower() in {"beginning", "now"}:
        return {"start": start.upper()}
    return {"startAt": Moment(past=True).convert(start, None, None)}


def _pem(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            return file.read(_PEM_BYTES_MAX + 1)
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read: {error.strerror}") from None


def _print_made(reply: Message, *, signed: bool) -> None:
    print_sink(reply["sink"])
    if signed:
        print_secret(reply.get("secret", ""), what="signing secret")
