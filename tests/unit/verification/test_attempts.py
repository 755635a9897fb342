"""Verdicts about no key: every answer is counted, in the journal or here (P5), and no text goes anywhere (P1)."""

from __future__ import annotations

import pytest

from keystead.keys.model import KeyKind
from keystead.tenants.model import Environment
from keystead.usage.errors import JournalFullError
from keystead.verification.model import Code
from keystead.verification.service import VerifyRequest
from tests.fakes import OTHER_WORKSPACE_ID, WORKSPACE_ID
from tests.rig import Rig, caller

LIVE, TEST, ALL = Environment.LIVE, Environment.TEST, Environment.ALL


async def test_what_fails_before_a_key_is_found_is_counted() -> None:
    """By the caller's workspace, the environment asked for, what stands in a well-formed text, code and address."""
    rig = Rig()
    for text in ("no key", rig.forge(), rig.compose(brand="other", environment="test"), rig.compose()):
        await rig.ask(text, client_ip="192.0.2.7")
    await rig.ask(rig.compose(environment="live"), by=caller(TEST), environment=TEST)
    asked = (WORKSPACE_ID, "live")
    assert rig.attempts.counted == [
        (*asked, "", "", "MALFORMED", "192.0.2.7"),
        (*asked, "acme", "live", "NOT_FOUND", "192.0.2.7"),
        (*asked, "other", "test", "NOT_FOUND", "192.0.2.7"),
        (*asked, "acme", "live", "NOT_FOUND", "192.0.2.7"),
        (WORKSPACE_ID, "test", "acme", "live", "WRONG_ENVIRONMENT", ""),
    ]
    assert rig.journal.written == []


@pytest.mark.parametrize("warm", (False, True))
async def test_a_key_that_the_caller_may_not_know_of_is_counted_as_none(*, warm: bool) -> None:
    """Another workspace's, a management key, or one of the other environment: for the caller, as if it were unknown."""
    rig = Rig()
    text, _ = rig.mint()
    own, _ = rig.mint(kind=KeyKind.MANAGEMENT, environment=ALL)
    if warm:
        await rig.ask(text)
        await rig.ask(own, by=caller(brand="keystead"))
    before = len(rig.attempts.counted)
    await rig.ask(text, by=caller(workspace_id=OTHER_WORKSPACE_ID))
    await rig.ask(text, by=caller(TEST), environment=TEST)
    await rig.ask(own)
    assert rig.attempts.counted[before:] == [
        (OTHER_WORKSPACE_ID, "live", "acme", "live", "NOT_FOUND", ""),
        (WORKSPACE_ID, "test", "acme", "live", "WRONG_ENVIRONMENT", ""),
        (WORKSPACE_ID, "live", "keystead", "live", "NOT_FOUND", ""),
    ]


async def test_every_answer_is_counted_once() -> None:
    """Also in a batch: what is written down and what is counted here together are the answers."""
    rig = Rig()
    text, _ = rig.mint()
    asked = [text, "no key", rig.forge(), text, rig.compose()] * 20
    verdicts = await rig.verification.verify_batch(rig.caller, [VerifyRequest(it, LIVE) for it in asked])
    assert len(verdicts) == len(rig.journal.written) + len(rig.attempts.counted)
    assert len(rig.attempts.counted) == 60


async def test_a_peek_is_not_counted() -> None:
    """Whoever only looks is told the same, and nothing is counted."""
    rig = Rig()
    for text, code in (("no key", Code.MALFORMED), (rig.forge(), Code.NOT_FOUND)):
        assert (await rig.verification.verify(rig.caller, VerifyRequest(text, LIVE, peek=True))).code is code
    assert rig.attempts.counted == []


async def test_no_answer_goes_uncounted() -> None:
    """When there is no room to count it, the call fails; a good key's call does not."""
    rig = Rig()
    text, _ = rig.mint()
    rig.attempts.full = True
    for refused in ("no key", rig.forge()):
        with pytest.raises(JournalFullError):
            await rig.ask(refused)
    assert (await rig.ask(text)).valid


async def test_no_text_goes_anywhere() -> None:
    """Of a text that was presented, what is counted holds no more than its brand and its environment (P1)."""
    rig = Rig()
    texts = [rig.forge(), rig.compose(), f"{rig.forge()}x", "sk_live_somebody_elses_secret"]
    for text in texts:
        await rig.ask(text)
    said = {part for counted in rig.attempts.counted for part in counted}
    assert said == {WORKSPACE_ID, "live", "acme", "NOT_FOUND", "MALFORMED", ""}
