"""``keystead audit checkpoint``, ``proof`` and ``public-key``: what an auditor keeps, and a receipt for one event."""

from __future__ import annotations

import base64
from typing import Any

import click

from keystead.cli.application import command
from keystead.cli.message import Message
from keystead.cli.parameters import Identifier
from keystead.cli.problems import CommandError, ExitCode, Problem
from keystead.cli.session import Session, speaks_to_server
from keystead.events.checkpoints import Checkpoint
from keystead.events.merkle import leaf_hash, root_from_inclusion
from keystead.events.notes import Note

_SERVICE = "AuditService"
_PROOF_HEADING = "c2sp.org/tlog-proof@v1"


@command("checkpoint", examples=("keystead audit checkpoint", "keystead audit checkpoint --make"))
@click.option("--make", is_flag=True, help="Make one of the log as it is now, if there is news since the last.")
@speaks_to_server()
def checkpoint(session: Session, *, make: bool) -> None:
    """Print the latest signed checkpoint: how many events there are, and the root of their tree.

    Keep it elsewhere, as it is. Whoever holds one can never be shown another past: `keystead audit proof --from-size`
    proves that the log still begins with what it covers.
    """
    reply = session.call(_SERVICE, "GetCheckpoint", {"make": make})
    session.show(reply, lambda found: click.echo(found["checkpoint"], nl=False))


@command("public-key", examples=("keystead audit public-key",))
@speaks_to_server()
def public_key(session: Session) -> None:
    """Print what checkpoints are verified with.

    Keep it where nobody who could rewrite the log can, and give it to `keystead audit verify`.
    """
    reply = session.call(_SERVICE, "GetAuditPublicKey", {})
    session.show(reply, lambda found: click.echo(found["publicKey"]))


@command(
    "proof",
    examples=("keystead audit proof evt_01HZX…", "keystead audit proof --from-size 1200 --json"),
)
@click.argument("event_id", type=Identifier(), required=False)
@click.option("--from-size", type=click.IntRange(0), help="Prove instead that the log of this size is its beginning.")
@speaks_to_server()
def proof(session: Session, *, event_id: str | None, from_size: int | None) -> None:
    """Print a receipt that EVENT_ID is in the log (C2SP tlog-proof).

    The receipt holds the record, its place, the hashes that lead to a signed checkpoint, and the checkpoint. It is
    checked before it is printed; the signature is not, since that takes a key that the server had no part in.
    """
    if (event_id is None) == (from_size is None):
        raise click.UsageError("give either EVENT_ID or --from-size")
    asked = {"eventId": event_id} if event_id else {"fromSize": str(from_size)}
    reply = session.call(_SERVICE, "GetAuditProof", asked)
    if event_id:
        _demand_proof(reply)
    session.show(reply, _print_proof)


def _demand_proof(reply: Message) -> None:
    """Refuse a proof that does not lead to its own checkpoint."""
    try:
        signed = Checkpoint.parse(Note.parse(reply["checkpoint"]).text)
        leaf = leaf_hash(reply["record"].encode())
        root = root_from_inclusion(leaf, int(reply["index"]), signed.size, _hashes(reply))
    except ValueError as error:
        raise CommandError(_unproven(str(error))) from None
    if root != signed.root_hash:
        raise CommandError(_unproven("the hashes lead to another root"))


def _unproven(why: str) -> Problem:
    return Problem(f"The proof that the server sent proves nothing: {why}.", "NOT_PROVEN", ExitCode.REFUSED)


def _hashes(reply: Message) -> list[bytes]:
    return [base64.b64decode(found) for found in reply.get("hashes", [])]


def _print_proof(reply: Message) -> None:
    """Write the receipt; the record stands in the line for what a log wants to add."""
    lines: list[Any] = [_PROOF_HEADING]
    if reply.get("record"):
        lines += [f"extra {base64.b64encode(reply['record'].encode()).decode()}", f"index {reply['index']}"]
    lines += [base64.b64encode(found).decode() for found in _hashes(reply)]
    click.echo("\n".join(lines) + "\n\n" + reply["checkpoint"], nl=False)
