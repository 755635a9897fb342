"""What was refused is counted once, with what tells it apart; what succeeds, and what is only looked at, is not."""

from __future__ import annotations

import pytest

from keystead.events.refusals import Refusing
from keystead.kernel.change import Action
from keystead.keys.errors import PermissionDeniedError, Proven, RefusedFor, UnauthenticatedError
from keystead.keys.model import KeyState
from keystead.tenants.model import SYSTEM_WORKSPACE_ID, Environment
from keystead.usage.errors import JournalFullError
from keystead.verification.failures import RefusedCalls
from keystead.verification.service import VerifyRequest
from tests.fakes import WORKSPACE_ID, FakeRefusals, ManualClock
from tests.rig import Rig, caller

LIVE, TEST, ALL = Environment.LIVE, Environment.TEST, Environment.ALL


def failed(reason: str, **more: str) -> Refusing:
    """Return what a failed authentication is counted as."""
    return Refusing(WORKSPACE_ID, "live", Action.AUTHENTICATION_FAILED, reason, **more)


@pytest.mark.parametrize("warm", (False, True))
@pytest.mark.parametrize(
    ("changes", "reason"),
    (
        ({"state": KeyState.REVOKED}, "REVOKED"),
        ({"state": KeyState.SUSPENDED}, "SUSPENDED"),
        ({"owner_suspended": True}, "SUSPENDED"),
        ({"expires_at_ms": 1}, "EXPIRED"),
        ({"allowed_ips": ("198.51.100.0/24",)}, "IP_NOT_ALLOWED"),
    ),
)
async def test_a_key_that_is_refused_is_known(changes: dict[str, object], reason: str, *, warm: bool) -> None:
    """Of a proven key whose use fails: which one, why, from where, and what its text began with; usage has it too."""
    rig = Rig()
    text, key = rig.mint()
    if warm:
        await rig.ask(text)
    rig.change(key.key_id, **changes)
    await rig.ask(text, client_ip="192.0.2.7")
    assert rig.refusals.counted == [
        failed(reason, client_ip="192.0.2.7", target=key.key_id, presented="acme_live"),
    ]
    assert [code for _, code, *_ in rig.journal.written][-1] == reason
    assert rig.attempts.counted == []


async def test_the_other_environment_of_a_key_for_both() -> None:
    """A key presented where it does not belong is not named: others read that environment's events (P8)."""
    rig = Rig()
    text, _ = rig.mint()
    await rig.ask(text, by=caller(ALL), environment=TEST)
    assert rig.refusals.counted == [failed("WRONG_ENVIRONMENT", presented="acme_live")._replace(environment="test")]


async def test_what_is_no_key_is_counted_beside_usage() -> None:
    """By reason and by what a well-formed text began with; never by the text (P1)."""
    rig = Rig()
    for text in ("no key", rig.forge(), rig.compose(brand="other", environment="test")):
        await rig.ask(text, client_ip="::1")
    assert rig.refusals.counted == [
        failed("MALFORMED", client_ip="::1"),
        failed("NOT_FOUND", client_ip="::1", presented="acme_live"),
        failed("NOT_FOUND", client_ip="::1", presented="other_test"),
    ]
    assert len(rig.attempts.counted) == 3


async def test_who_was_authenticated_did_not_fail() -> None:
    """A good key, one without the scope, one over its limit, and whatever is only looked at: none is counted."""
    rig = Rig()
    text, _ = rig.mint()
    assert (await rig.ask(text)).valid
    await rig.verification.verify(rig.caller, VerifyRequest(text, LIVE, "write:everything"))
    await rig.verification.verify(rig.caller, VerifyRequest(rig.forge(), LIVE, peek=True))
    assert rig.refusals.counted == []


async def test_what_cannot_be_counted_is_counted_nowhere() -> None:
    """Without room for the refusal there is no answer, and no usage of it; without room in usage no refusal."""
    rig = Rig()
    text, key = rig.mint()
    rig.change(key.key_id, state=KeyState.REVOKED)
    rig.refusals.full = True
    for refused in (text, "no key"):
        with pytest.raises(JournalFullError):
            await rig.ask(refused)
    assert (rig.journal.written, rig.attempts.counted) == ([], [])
    rig.refusals.full, rig.journal.full, rig.attempts.full = False, True, True
    for refused in (text, "no key"):
        with pytest.raises(JournalFullError):
            await rig.ask(refused)
    assert rig.refusals.counted == []


def test_calls_are_counted_by_who_is_proven() -> None:
    """A caller without a right counts in his workspace, a refused key in its own, and nobody in the system's."""
    counters = FakeRefusals()
    calls = RefusedCalls(counters, ManualClock())
    known = caller(LIVE)
    denied = PermissionDeniedError("no", missing_scopes=["write:keys"])
    revoked = UnauthenticatedError(RefusedFor.REVOKED, Proven("key_9", "wsp_9", "test"))
    unknown = UnauthenticatedError(RefusedFor.UNKNOWN)
    for refused, by in ((denied, known), (revoked, None), (unknown, None), (unknown, known), (denied, None)):
        calls.count(refused, caller=by, method="CreateKey", client_ip="::1")
    whose = [(it.workspace_id, it.environment, it.actor_id, it.reason) for it in counters.counted]
    assert whose == [
        (known.workspace_id, "live", known.key_id, "scope"),
        ("wsp_9", "test", "key_9", "revoked"),
        (SYSTEM_WORKSPACE_ID, "", "", "unknown"),
        (SYSTEM_WORKSPACE_ID, "", "", "unknown"),
        (SYSTEM_WORKSPACE_ID, "", "", "scope"),
    ]
    assert {(it.action, it.method, it.client_ip) for it in counters.counted} == {
        (Action.CALL_REFUSED, "CreateKey", "::1")
    }
    assert calls.by_reason == {RefusedFor.SCOPE: 2, RefusedFor.REVOKED: 1, RefusedFor.UNKNOWN: 2}
