"""Rotation (P7): it never lengthens a life, never leaves a key without a secret, and ends when it was told to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystead.keys import rotation
from keystead.keys.errors import KeyExpiredError, KeyRevokedError, NoRotationError, TooManySecretsError
from keystead.keys.model import Key, KeyKind, KeyState, SecretRecord, SecretStatus
from keystead.tenants.model import Environment

NOW = 1_000_000
HOUR = 3_600_000


def record(number: int, created_at_ms: int = NOW, retires_at_ms: int | None = None) -> SecretRecord:
    """Make the ``number``-th secret of a key."""
    return SecretRecord(f"sec_{number:04d}", f"acme_live_{number:012d}", "hash", "m", created_at_ms, retires_at_ms)


def key(*, expires_at_ms: int | None = None, state: KeyState = KeyState.ACTIVE) -> Key:
    """Make a key with one secret."""
    return Key(
        id="key_1",
        workspace_id="wsp_1",
        environment=Environment.LIVE,
        kind=KeyKind.CUSTOMER,
        owner_id="customer-1",
        name="Key",
        created_at_ms=NOW,
        created_by="key_9",
        updated_at_ms=NOW,
        secrets=(record(0),),
        expires_at_ms=expires_at_ms,
        state=state,
    )


def retirements(of: Key) -> dict[str, int | None]:
    """Return when each secret retires."""
    return {secret.id: secret.retires_at_ms for secret in of.secrets}


@pytest.mark.parametrize(
    ("expires_in_ms", "overlap_ms", "retires_in_ms"),
    ((None, HOUR, HOUR), (2 * HOUR, HOUR, HOUR), (HOUR, 2 * HOUR, HOUR), (1, HOUR, 1), (None, 0, 0), (HOUR, 0, 0)),
)
def test_the_old_secret_retires_at_its_own_end_or_the_overlaps(
    expires_in_ms: int | None, overlap_ms: int, retires_in_ms: int
) -> None:
    """Whichever is earlier: a key about to die does not live longer for being rotated."""
    before = key(expires_at_ms=None if expires_in_ms is None else NOW + expires_in_ms)
    after = rotation.rotate(before, record(1), now_ms=NOW, overlap_ms=overlap_ms)
    assert retirements(after) == {"sec_0000": NOW + retires_in_ms, "sec_0001": None}
    assert after.secrets[0].id == "sec_0001"
    assert replace(after, secrets=before.secrets) == before


def test_a_second_rotation_moves_no_earlier_retirement() -> None:
    """Rotating within an overlap retires the middle secret too and leaves the first one's end where it was."""
    once = rotation.rotate(key(), record(1), now_ms=NOW, overlap_ms=HOUR)
    twice = rotation.rotate(once, record(2), now_ms=NOW + 1, overlap_ms=10 * HOUR)
    assert retirements(twice) == {"sec_0000": NOW + HOUR, "sec_0001": NOW + 1 + 10 * HOUR, "sec_0002": None}


def test_what_is_revoked_or_expired_is_not_rotated() -> None:
    """The dead do not come back: not by a rotation, and not by cancelling one."""
    for dead, refusal in ((key(state=KeyState.REVOKED), KeyRevokedError), (key(expires_at_ms=NOW), KeyExpiredError)):
        with pytest.raises(refusal):
            rotation.rotate(dead, record(1), now_ms=NOW, overlap_ms=HOUR)
        with pytest.raises(refusal):
            rotation.cancel(dead, now_ms=NOW)
    rotation.demand_rotatable(key(expires_at_ms=NOW + 1), NOW)


def test_a_suspended_key_may_be_rotated() -> None:
    """A suspected key can have its secret replaced before it is resumed; it stays suspended."""
    after = rotation.rotate(key(state=KeyState.SUSPENDED), record(1), now_ms=NOW, overlap_ms=0)
    assert after.state is KeyState.SUSPENDED


def test_the_number_of_working_secrets_is_bounded() -> None:
    """Five may work at once; the sixth waits until one has retired."""
    now = key()
    for number in range(1, rotation.WORKING_SECRETS_MAX):
        now = rotation.rotate(now, record(number), now_ms=NOW, overlap_ms=HOUR)
    with pytest.raises(TooManySecretsError):
        rotation.rotate(now, record(9), now_ms=NOW + HOUR - 1, overlap_ms=HOUR)
    assert len(rotation.rotate(now, record(9), now_ms=NOW + HOUR, overlap_ms=HOUR).secrets) == 6


def test_finishing_retires_every_older_secret_now() -> None:
    """After a finish the current secret alone works; what had retired before keeps its date."""
    now = rotation.rotate(key(), record(1), now_ms=NOW, overlap_ms=1)
    now = rotation.rotate(now, record(2), now_ms=NOW + 5, overlap_ms=HOUR)
    done = rotation.finish(now, now_ms=NOW + 10)
    assert retirements(done) == {"sec_0000": NOW + 1, "sec_0001": NOW + 10, "sec_0002": None}
    with pytest.raises(NoRotationError):
        rotation.finish(done, now_ms=NOW + 10)


def test_a_rotation_without_overlap_leaves_nothing_to_finish_or_cancel() -> None:
    """With overlap 0 the old secret is gone at once, so there is no rotation under way."""
    now = rotation.rotate(key(), record(1), now_ms=NOW, overlap_ms=0)
    for end in (rotation.finish, rotation.cancel):
        with pytest.raises(NoRotationError):
            end(now, now_ms=NOW)


def test_cancelling_brings_the_secret_before_it_back() -> None:
    """The new secret is dropped at once, the one before it is current again, older ones keep their ends."""
    now = rotation.rotate(key(), record(1, NOW + 1), now_ms=NOW + 1, overlap_ms=HOUR)
    now = rotation.rotate(now, record(2, NOW + 2), now_ms=NOW + 2, overlap_ms=HOUR)
    back = rotation.cancel(now, now_ms=NOW + 10)
    assert retirements(back) == {"sec_0001": None, "sec_0000": NOW + 1 + HOUR, "sec_0002": NOW + 10}
    assert back.secrets[0].id == "sec_0001"
    again = rotation.cancel(back, now_ms=NOW + 11)
    assert retirements(again) == {"sec_0000": None, "sec_0001": NOW + 11, "sec_0002": NOW + 10}


def test_an_expired_keys_rotation_can_be_finished_but_a_revoked_ones_not() -> None:
    """Finishing only takes away, so expiry does not stand in its way; revocation is final."""
    rotating = rotation.rotate(key(), record(1), now_ms=NOW, overlap_ms=HOUR)
    assert rotation.finish(replace(rotating, expires_at_ms=NOW), now_ms=NOW + 1).secrets[1].retires_at_ms == NOW + 1
    with pytest.raises(KeyRevokedError):
        rotation.finish(replace(rotating, state=KeyState.REVOKED), now_ms=NOW)


def test_a_secret_knows_where_it_is_in_its_life() -> None:
    """Current, retiring up to the last millisecond, then retired."""
    assert record(1).status(NOW) is SecretStatus.CURRENT
    assert record(1, retires_at_ms=NOW + 1).status(NOW) is SecretStatus.RETIRING
    assert record(1, retires_at_ms=NOW).status(NOW) is SecretStatus.RETIRED


@pytest.mark.parametrize(
    ("state", "expires_at_ms", "told"),
    (
        (KeyState.ACTIVE, None, KeyState.ACTIVE),
        (KeyState.ACTIVE, NOW + 1, KeyState.ACTIVE),
        (KeyState.ACTIVE, NOW, KeyState.EXPIRED),
        (KeyState.SUSPENDED, NOW, KeyState.SUSPENDED),
        (KeyState.REVOKED, NOW, KeyState.REVOKED),
    ),
)
def test_expiry_is_derived_and_outranked(state: KeyState, expires_at_ms: int | None, told: KeyState) -> None:
    """A key is expired from its last millisecond on, unless something stronger is true of it."""
    assert key(state=state, expires_at_ms=expires_at_ms).state_at(NOW) is told


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("rotate"), st.integers(0, 20)),
        st.tuples(st.sampled_from(["finish", "cancel"]), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 15)),
    ),
    max_size=25,
)


@given(steps=STEPS, life_ms=st.one_of(st.none(), st.integers(1, 60)))
def test_no_sequence_breaks_the_promises(steps: list[tuple[str, int]], life_ms: int | None) -> None:
    """Whatever is done and when: one secret is current, and no retirement moves later but a cancelled one's."""
    now_ms, made = NOW, 1
    before = key(expires_at_ms=None if life_ms is None else NOW + life_ms)
    for step, amount in steps:
        now_ms += amount if step == "wait" else 1
        try:
            if step == "rotate":
                after = rotation.rotate(before, record(made, now_ms), now_ms=now_ms, overlap_ms=amount)
                made += 1
            elif step == "finish":
                after = rotation.finish(before, now_ms=now_ms)
            elif step == "cancel":
                after = rotation.cancel(before, now_ms=now_ms)
            else:
                continue
        except (KeyExpiredError, NoRotationError, TooManySecretsError):
            continue
        check_step(before, after, cancelled=step == "cancel", now_ms=now_ms)
        before = after


def check_step(before: Key, after: Key, *, cancelled: bool, now_ms: int) -> None:
    """Assert what must hold after each step."""
    current = [secret.id for secret in after.secrets if secret.status(now_ms) is SecretStatus.CURRENT]
    assert current == [after.secrets[0].id]
    assert after.expires_at_ms == before.expires_at_ms
    later = retirements(after)
    for secret_id, retires_at_ms in retirements(before).items():
        if retires_at_ms is None:
            limit = after.expires_at_ms
            moved = later[secret_id]
            assert moved is None or limit is None or moved <= max(limit, now_ms)
        elif cancelled and later[secret_id] is None:
            assert retires_at_ms > now_ms
        else:
            moved = later[secret_id]
            assert moved is not None
            assert moved <= retires_at_ms
