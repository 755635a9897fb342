"""Rotation as arithmetic (P7): it never lengthens a life, and the old secret works until the overlap ends."""

from __future__ import annotations

from dataclasses import replace

from keystead.keys.errors import (
    KeyExpiredError,
    KeyRevokedError,
    NoRotationError,
    TooManySecretsError,
)
from keystead.keys.model import Key, KeyState, SecretRecord, SecretStatus

WORKING_SECRETS_MAX = 5
RETIRED_SECRETS_KEPT = 20
OVERLAP_DEFAULT_MS = 24 * 60 * 60 * 1_000
OVERLAP_MAX_MS = 90 * 24 * 60 * 60 * 1_000


def demand_rotatable(key: Key, now_ms: int) -> None:
    """Raise unless ``key`` can be rotated: what is revoked or expired cannot."""
    _demand_alive(key, now_ms)
    working = [secret for secret in key.secrets if secret.status(now_ms) is not SecretStatus.RETIRED]
    if len(working) >= WORKING_SECRETS_MAX:
        raise TooManySecretsError(key.id, WORKING_SECRETS_MAX)


def demand_not_revoked(key: Key) -> None:
    """Raise ``KeyRevokedError`` when ``key`` is revoked: revocation is final."""
    if key.state is KeyState.REVOKED:
        raise KeyRevokedError(key.id)


def rotate(key: Key, fresh: SecretRecord, *, now_ms: int, overlap_ms: int) -> Key:
    """Make ``fresh`` current; the old one retires at the earlier of its own end and ``now + overlap``."""
    demand_rotatable(key, now_ms)
    ends = [now_ms + overlap_ms]
    if key.expires_at_ms is not None:
        ends.append(key.expires_at_ms)
    retires_at_ms = min(ends)
    older = [
        replace(secret, retires_at_ms=retires_at_ms) if secret.retires_at_ms is None else secret
        for secret in key.secrets
    ]
    return replace(key, secrets=(fresh, *_kept(older, now_ms)))


def finish(key: Key, *, now_ms: int) -> Key:
    """Retire every retiring secret now; raise ``NoRotationError`` when there is none."""
    demand_not_revoked(key)
    if not _retiring(key, now_ms):
        raise NoRotationError(key.id)
    return replace(
        key,
        secrets=tuple(
            replace(secret, retires_at_ms=now_ms) if secret.status(now_ms) is SecretStatus.RETIRING else secret
            for secret in key.secrets
        ),
    )


def cancel(key: Key, *, now_ms: int) -> Key:
    """Retire the current secret now and make the newest retiring one current again; raise when there is none."""
    _demand_alive(key, now_ms)
    retiring = _retiring(key, now_ms)
    if not retiring:
        raise NoRotationError(key.id)
    back = retiring[0]
    retired = [
        replace(secret, retires_at_ms=now_ms) if secret.retires_at_ms is None else secret
        for secret in key.secrets
        if secret.id != back.id
    ]
    return replace(key, secrets=(replace(back, retires_at_ms=None), *retired))


def _demand_alive(key: Key, now_ms: int) -> None:
    demand_not_revoked(key)
    if key.expires_at_ms is not None and now_ms >= key.expires_at_ms:
        raise KeyExpiredError(key.id)


def _kept(older: list[SecretRecord], now_ms: int) -> list[SecretRecord]:
    """Leave out the oldest of too many retired secrets; the event log remembers them, a verification need not."""
    retired = [secret for secret in older if secret.status(now_ms) is SecretStatus.RETIRED]
    gone = {secret.id for secret in sorted(retired, key=_age, reverse=True)[RETIRED_SECRETS_KEPT:]}
    return [secret for secret in older if secret.id not in gone]


def _age(secret: SecretRecord) -> tuple[int, str]:
    return secret.created_at_ms, secret.id


def _retiring(key: Key, now_ms: int) -> list[SecretRecord]:
    found = [secret for secret in key.secrets if secret.status(now_ms) is SecretStatus.RETIRING]
    return sorted(found, key=_age, reverse=True)
