"""Makes exports for the tests: a log of events with personal data, its tree, and a key that signs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from keystead.events.checkpoints import Checkpoint, open_checkpoint, origin_of, sign_checkpoint, verifier_key
from keystead.events.export import End, Entry, Form, Head, JsonLines, Part
from keystead.events.merkle import Tree
from keystead.events.model import Event, make_event
from keystead.events.ocsf import Ocsf
from keystead.events.spreadsheet import Spreadsheet
from keystead.events.verification import Report, verify_export
from keystead.kernel.change import Action, Actor, ActorType, Change, Origin
from tests.fakes import BEGINNING_MS, FixedRandom

WORKSPACE = "wsp_1"
FORMS: tuple[Form, ...] = (JsonLines(), Ocsf(), Spreadsheet())
_ACTIONS = (Action.KEY_CREATED, Action.KEY_UPDATED, Action.KEY_SUSPENDED, Action.PLAN_DELETED, Action.OWNER_ENTITLED)


class TestKey:
    """An Ed25519 key made of a number."""

    __test__ = False

    def __init__(self, number: int) -> None:
        """Make the key."""
        self._key = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)

    @property
    def public_key(self) -> bytes:
        """Its public half."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Sign."""
        return self._key.sign(message)

    @staticmethod
    def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Say whether it is a signature."""
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        except InvalidSignature:
            return False
        return True


KEY = TestKey(1)


def events_of(count: int) -> list[Event]:
    """Make events of all kinds: by keys and by the system, with and without addresses, reasons and owners."""
    random = FixedRandom()
    made = []
    for number in range(count):
        by_system = number % 7 == 3
        change = Change(
            WORKSPACE,
            _ACTIONS[number % len(_ACTIONS)],
            f"key_{number}",
            touches=(f"key_{number}",),
            environment="live" if number % 2 else "",
            owner_id=f"customer-{number % 13}",
            changes={"name": (None, f'Zoë "{number}"'), "cost": (0.5, number)},
            reason="=asked,\nfor" if number % 3 == 0 else "",
        )
        origin = Origin(
            Actor(ActorType.SYSTEM, "plan") if by_system else Actor(ActorType.KEY, "key_9"),
            client_ip="" if by_system else "203.0.113.7",
            user_agent="" if by_system else "curl/8",
            request_id=f"req-{number}" if number % 5 else "",
        )
        event = make_event(
            change, origin, event_id=f"evt_{number}", occurred_at_ms=BEGINNING_MS + number, random_bytes=random.bytes
        )
        made.append(replace(event, leaf_index=number))
    return made


def entries_of(events: Sequence[Event]) -> list[Entry]:
    """Prove each event in the tree of all."""
    tree = Tree([event.leaf_hash for event in events])
    size = len(events)
    return [Entry(it, event.record, event.private, tuple(tree.inclusion(it, size))) for it, event in enumerate(events)]


def note_of(events: Sequence[Event], *, workspace_id: str = WORKSPACE, key: TestKey = KEY) -> str:
    """Sign the checkpoint of all events."""
    root = Tree([event.leaf_hash for event in events]).root(len(events))
    return sign_checkpoint(Checkpoint(origin_of(workspace_id), len(events), root), key)


@dataclass
class Export:
    """An export as its lines, which a test changes, and what may be found in it."""

    lines: list[bytes]
    form: Form = field(default_factory=JsonLines)

    def verified(self, *, key: TestKey = KEY, workspace_id: str = WORKSPACE) -> Report:
        """Check it as the command does: from its bytes, with the public key of a workspace."""
        content = b"".join(self.lines)
        opened = partial(open_checkpoint, key=verifier_key(workspace_id, key.public_key), verifier=key)
        return verify_export(lambda: io.BytesIO(content), opened, FORMS)

    def with_lines(self, lines: Sequence[bytes]) -> Export:
        """Make one with other lines."""
        return Export(list(lines), self.form)


def export_of(events: Sequence[Event], form: Form | None = None, *, first_index: int = 0) -> Export:
    """Write the events from ``first_index`` on."""
    form = form or JsonLines()
    parts: list[Part] = [Head(WORKSPACE, first_index), *entries_of(events)[first_index:], End(note_of(events))]
    return Export([form.write(part).encode() for part in parts], form)
