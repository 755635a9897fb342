"""Between the contract's messages and the domain's values; nothing is decided here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from keystead.gen.v1 import keys_pb2
from keystead.kernel.bounds import Bounds
from keystead.kernel.errors import NotAvailableYetError, invalid
from keystead.kernel.ids import is_id
from keystead.keys.model import KeyKind, KeyState, SecretStatus
from keystead.keys.principal import Principal
from keystead.tenants.model import BOTH_ENVIRONMENTS, Environment, TenantScope

Value = TypeVar("Value")

_TIMESTAMP_MS_MAX = 253_402_300_799_000

ENVIRONMENT_NUMBERS = {
    Environment.LIVE: keys_pb2.Key.LIVE,
    Environment.TEST: keys_pb2.Key.TEST,
    Environment.ALL: keys_pb2.Key.ALL,
}
KIND_NUMBERS = {
    KeyKind.CUSTOMER: keys_pb2.Key.CUSTOMER,
    KeyKind.SERVICE: keys_pb2.Key.SERVICE,
    KeyKind.MANAGEMENT: keys_pb2.Key.MANAGEMENT,
    KeyKind.OPERATOR: keys_pb2.Key.OPERATOR,
}
STATE_NUMBERS = {
    KeyState.ACTIVE: keys_pb2.Key.ACTIVE,
    KeyState.SUSPENDED: keys_pb2.Key.SUSPENDED,
    KeyState.REVOKED: keys_pb2.Key.REVOKED,
    KeyState.EXPIRED: keys_pb2.Key.EXPIRED,
}
STATUS_NUMBERS = {
    SecretStatus.CURRENT: keys_pb2.Secret.CURRENT,
    SecretStatus.RETIRING: keys_pb2.Secret.RETIRING,
    SecretStatus.RETIRED: keys_pb2.Secret.RETIRED,
}
ENVIRONMENTS = {int(number): value for value, number in ENVIRONMENT_NUMBERS.items()}
KINDS = {int(number): value for value, number in KIND_NUMBERS.items()}
STATES = {int(number): value for value, number in STATE_NUMBERS.items()}


def chosen(field: str, number: int, known: Mapping[int, Value]) -> Value | None:
    """Return what an enum's number means, None when it was not given; raise for a number nobody knows."""
    if number == 0:
        return None
    value = known.get(number)
    if value is None:
        raise invalid(field, f"has no value {number}")
    return value


def refuse_set(request: Message, *fields: str) -> None:
    """Raise ``NotAvailableYetError`` when the caller gave a field that a later version will understand."""
    given = {descriptor.name for descriptor, _ in request.ListFields()}
    if used := [field for field in fields if field in given]:
        raise NotAvailableYetError(used)


def demand_id(field: str, text: str, prefix: str) -> str:
    """Return ``text`` when it has the form of an id with ``prefix``; raise otherwise."""
    if not is_id(text, prefix):
        raise invalid(field, f"must be an id that begins with {prefix}_")
    return text


def demand_owner_id(text: str) -> str:
    """Return ``text`` when it has the form of an owner's id; raise otherwise."""
    bounds = Bounds()
    bounds.owner_id("owner_id", text)
    bounds.raise_if_any()
    return text


def moment_ms(field: str, message: Message, value: Timestamp) -> int | None:
    """Read a moment to the millisecond, rounded down; None when it was not given. ``field`` may be a path."""
    if not message.HasField(field.rsplit(".", 1)[-1]):
        return None
    found_ms = value.seconds * 1_000 + value.nanos // 1_000_000
    if not 0 <= value.nanos < 1_000_000_000 or not 0 <= found_ms <= _TIMESTAMP_MS_MAX:
        raise invalid(field, "must be a moment between 1970 and 9999")
    return found_ms


def duration_ms(field: str, message: Message, value: Duration) -> int | None:
    """Read a duration to the millisecond, rounded down; None when it was not given."""
    if not message.HasField(field):
        return None
    if value.seconds < 0 or not 0 <= value.nanos < 1_000_000_000:
        raise invalid(field, "must not be negative")
    return value.seconds * 1_000 + value.nanos // 1_000_000


def demand_walls(caller: Principal) -> TenantScope:
    """Return the walls around a caller who is no operator; operators are refused before a handler is called."""
    if caller.scope is None:
        message = "an operator has no walls"
        raise ValueError(message)
    return caller.scope


def own_walls(caller: Principal) -> TenantScope:
    """Return the walls around the log that is the caller's: an operator's is the system's own workspace."""
    return caller.scope or TenantScope(caller.workspace_id, BOTH_ENVIRONMENTS)


def timestamp(found_ms: int | None) -> Timestamp | None:
    """Write a moment; None stays absent."""
    return None if found_ms is None else moment(found_ms)


def moment(found_ms: int) -> Timestamp:
    """Write a moment."""
    return Timestamp(seconds=found_ms // 1_000, nanos=found_ms % 1_000 * 1_000_000)


def span_us(found_us: int | None) -> Duration | None:
    """Write microseconds as a span of time."""
    return None if found_us is None else Duration(seconds=found_us // 1_000_000, nanos=found_us % 1_000_000 * 1_000)


def question_of(request: Message, caller: Principal) -> dict[str, object]:
    """Tell one list from another: everything asked but the page, and who asks within which walls."""
    asked = type(request)()
    asked.CopyFrom(request)
    for field in ("page_size", "page_token"):
        asked.ClearField(field)
    return {
        "method": request.DESCRIPTOR.full_name,
        "asked": asked.SerializeToString(deterministic=True).hex(),
        "workspace": caller.workspace_id,
        "environment": caller.environment,
    }
