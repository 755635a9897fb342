"""The verdict: the order of the line, the walls, and what is told to whom."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from keystead.kernel.ids import is_id
from keystead.keys.errors import OverloadedError
from keystead.keys.model import KeyKind, KeyState, SecretStatus
from keystead.keys.ports import Lane
from keystead.scopes.errors import ScopeExpressionError
from keystead.tenants.model import Environment
from keystead.usage.errors import JournalFullError
from keystead.verification.model import Code
from keystead.verification.service import HTTP_STATUS, Verdict, VerifyRequest
from tests.fakes import BEGINNING_MS, OTHER_WORKSPACE_ID
from tests.rig import Rig, caller

LIVE, TEST, ALL = Environment.LIVE, Environment.TEST, Environment.ALL

# Each is wrong in one way more than the next, in the order of DESIGN §4.
LINE: list[tuple[str, dict[str, object]]] = [
    ("REVOKED", {"state": KeyState.REVOKED}),
    ("SUSPENDED", {"state": KeyState.SUSPENDED}),
    ("EXPIRED", {"expires_at_ms": BEGINNING_MS}),
    ("SUSPENDED", {"owner_suspended": True}),
    ("WRONG_ENVIRONMENT", {"environment": TEST}),
    ("IP_NOT_ALLOWED", {"allowed_ips": ("192.0.2.0/24",)}),
    ("INSUFFICIENT_SCOPE", {"scopes": ()}),
    ("VALID", {}),
]


@pytest.mark.parametrize("warm", (False, True))
@pytest.mark.parametrize("first", range(len(LINE)))
async def test_the_first_reason_in_the_line_is_the_answer(first: int, *, warm: bool) -> None:
    """State before environment, place and scope, in the documented order, for a cold secret and a warm one."""
    fields: dict[str, object] = {}
    for _, wrong in reversed(LINE[first:]):
        fields.update(wrong)
    rig = Rig()
    text, key = rig.mint({"environment": fields.get("environment", LIVE)} if warm else fields)
    if warm:
        await rig.ask(text, environment=key.environment)
        rig.change(key.key_id, **fields)
    verdict = await rig.ask(text, scope="read:invoices", client_ip="198.51.100.1")
    assert verdict.code.value == LINE[first][0]
    assert verdict.valid is (first == len(LINE) - 1)


@pytest.mark.parametrize("code", tuple(Code))
def test_every_code_has_a_status_for_a_gateway(code: Code) -> None:
    """A bad key is 401, a good one without the right 403, a limited one 429: never confused."""
    statuses = {Code.VALID: 200} | dict.fromkeys((Code.RATE_LIMITED, Code.QUOTA_EXCEEDED), 429)
    statuses |= dict.fromkeys((Code.IP_NOT_ALLOWED, Code.INSUFFICIENT_SCOPE, Code.FORBIDDEN), 403)
    assert HTTP_STATUS[code] == statuses.get(code, 401)


async def test_a_verdict_says_what_a_caller_needs() -> None:
    """Key, secret and what is missing, at the moment it was given."""
    rig = Rig()
    text, key = rig.mint(scopes=("read:invoices", "read:reports"))
    verdict = await rig.ask(text, scope="read:invoices AND write:invoices")
    assert (verdict.code, verdict.missing_scopes) == (Code.INSUFFICIENT_SCOPE, ("write:invoices",))
    assert verdict.entry is not None
    assert (verdict.entry.key_id, verdict.entry.secret_id) == (key.key_id, key.secrets[0].id)
    assert verdict.now_ms == rig.clock.now_ms()
    assert verdict.secret_status is SecretStatus.CURRENT
    assert (await rig.ask(text, scope="read:invoices OR write:invoices")).valid


async def test_a_wrong_expression_is_an_error_and_no_verdict() -> None:
    """Whoever asks a question that cannot be read is told where, not that the key is bad."""
    rig = Rig()
    text, _ = rig.mint()
    with pytest.raises(ScopeExpressionError):
        await rig.ask(text, scope="read:*")


async def test_verification_ids_are_unique_and_well_formed() -> None:
    """Outcomes are joined by them: every verdict has one of its own, whatever it says."""
    rig = Rig()
    text, _ = rig.mint()
    verdicts = [await rig.ask(asked) for asked in (text, text, rig.forge(), "no key", rig.compose()) * 20]
    ids = {verdict.verification_id for verdict in verdicts}
    assert len(ids) == 100
    assert all(is_id(text, "ver") for text in ids)


@pytest.mark.parametrize("kind", (KeyKind.MANAGEMENT, KeyKind.OPERATOR))
@pytest.mark.parametrize("state", (KeyState.ACTIVE, KeyState.REVOKED))
async def test_keys_for_keystead_itself_are_nobodys_to_verify(kind: KeyKind, state: KeyState) -> None:
    """A management key is NOT_FOUND, warm or cold, whatever its state: a platform's caller never holds one."""
    rig = Rig()
    text, _ = rig.mint(kind=kind, environment=ALL, state=state)
    verdict = await rig.ask(text)
    assert (verdict.code, verdict.entry) == (Code.NOT_FOUND, None)
    await rig.ask(text, by=caller(brand="keystead"))
    warm = rig.verification.begin(rig.caller, VerifyRequest(text, LIVE))
    assert warm is None or (isinstance(warm, Verdict) and (warm.code, warm.entry) == (Code.NOT_FOUND, None))
    assert (await rig.ask(text, by=caller(brand="keystead"))).code is Code.NOT_FOUND


async def test_another_workspaces_keys_are_unknown() -> None:
    """Warm or cold, a key of another workspace answers exactly as one that does not exist (P8)."""
    rig = Rig()
    text, _ = rig.mint()
    stranger = caller(workspace_id=OTHER_WORKSPACE_ID, brand="other")
    cold = await rig.ask(text, by=stranger)
    assert rig.work == (0, 0)
    assert await rig.code(text) == "VALID"
    warm = await rig.ask(text, by=stranger)
    unknown = await rig.ask(rig.compose(brand="other"), by=stranger)
    same_brand = await rig.ask(text, by=caller(workspace_id=OTHER_WORKSPACE_ID))
    for verdict in (cold, warm, unknown, same_brand):
        assert (verdict.code, verdict.entry, verdict.missing_scopes) == (Code.NOT_FOUND, None, ())


@pytest.mark.parametrize("warm", (False, True))
async def test_a_caller_for_one_environment_is_told_nothing_of_the_other(*, warm: bool) -> None:
    """He learns WRONG_ENVIRONMENT and no more, whether the key exists, works or was revoked (P8)."""
    rig = Rig()
    bound = caller(TEST)
    working, _ = rig.mint()
    revoked, _ = rig.mint(state=KeyState.REVOKED)
    if warm:
        assert [await rig.code(text) for text in (working, revoked)] == ["VALID", "REVOKED"]
    before = rig.work
    for text in (working, revoked, rig.compose()):
        verdict = await rig.ask(text, by=bound, environment=TEST)
        assert (verdict.code, verdict.entry) == (Code.WRONG_ENVIRONMENT, None)
    assert rig.work == before
    mine, _ = rig.mint(environment=TEST)
    assert (await rig.ask(mine, by=bound, environment=TEST)).valid


async def test_a_caller_for_both_environments_is_told_which_key_was_wrong() -> None:
    """To him the key is no secret: the verdict names it, and its own environment lets it in."""
    rig = Rig()
    text, key = rig.mint(environment=TEST)
    verdict = await rig.ask(text, environment=LIVE)
    assert verdict.code is Code.WRONG_ENVIRONMENT
    assert verdict.entry is not None
    assert verdict.entry.key_id == key.key_id
    assert (await rig.ask(text, environment=TEST)).valid


async def test_a_key_expires_to_the_millisecond_also_from_the_cache() -> None:
    """Expiry is compared at each call: the last millisecond is good, the next is not."""
    rig = Rig()
    text, _ = rig.mint(expires_at_ms=rig.clock.now_ms() + 10)
    assert await rig.code(text) == "VALID"
    rig.wait(9)
    assert await rig.code(text) == "VALID"
    rig.wait(1)
    assert await rig.code(text) == "EXPIRED"
    assert rig.work == (1, 1)


async def test_a_retiring_secret_works_until_its_end_from_the_cache() -> None:
    """The overlap's end is honoured without anybody being asked; the key's other secret goes on."""
    rig = Rig()
    text, key = rig.mint()
    newer = rig.compose()
    old = replace(key.secrets[0], retires_at_ms=rig.clock.now_ms() + 10)
    rig.change(key.key_id, secrets=(rig.record_of(newer), old))
    verdict = await rig.ask(text)
    assert (verdict.code, verdict.secret_status) == (Code.VALID, SecretStatus.RETIRING)
    assert (await rig.ask(newer)).secret_status is SecretStatus.CURRENT
    rig.wait(10)
    retired = await rig.ask(text)
    assert (retired.code, retired.secret_status) == (Code.EXPIRED, SecretStatus.RETIRED)
    assert (await rig.ask(newer)).valid
    assert rig.work == (2, 2)


def test_a_verdict_without_a_key_has_no_secret() -> None:
    """What was not found has no status either."""
    verdict = Rig().verification.begin(caller(), VerifyRequest("no key", LIVE))
    assert verdict is None


async def test_an_unknown_secret_has_no_status() -> None:
    """A NOT_FOUND tells nothing of any secret."""
    assert (await Rig().ask("no key")).secret_status is None


@pytest.mark.parametrize(
    ("client_ip", "code"),
    (
        ("192.0.2.7", "VALID"),
        ("::ffff:192.0.2.7", "VALID"),
        ("2001:db8::1", "VALID"),
        ("198.51.100.1", "IP_NOT_ALLOWED"),
        ("", "IP_NOT_ALLOWED"),
        ("192.0.2.7, 198.51.100.1", "IP_NOT_ALLOWED"),
        ("unknown", "IP_NOT_ALLOWED"),
    ),
)
async def test_allowed_addresses(client_ip: str, code: str) -> None:
    """The end user's address decides; a missing or unreadable one is not allowed, it is never guessed."""
    rig = Rig()
    text, _ = rig.mint(allowed_ips=("192.0.2.0/24", "2001:db8::1"))
    assert (await rig.ask(text, client_ip=client_ip)).code.value == code


async def test_a_key_without_ranges_is_good_everywhere() -> None:
    """No ranges, no question; an unreadable address changes nothing then."""
    rig = Rig()
    text, _ = rig.mint()
    for client_ip in ("", "192.0.2.7", "unknown"):
        assert (await rig.ask(text, client_ip=client_ip)).valid


async def test_only_valid_uses_count_as_uses_each_secret_once() -> None:
    """The last use is the last call let in; refused calls leave it, and many calls are one write."""
    rig = Rig()
    text, key = rig.mint()
    other, _ = rig.mint(state=KeyState.REVOKED)
    for _ in range(5):
        await rig.ask(text)
        rig.wait(1)
    used_at_ms = rig.clock.now_ms() - 1
    for refused in (
        rig.ask(text, scope="write:invoices"),
        rig.ask(text, environment=TEST),
        rig.ask(other),
        rig.ask(rig.forge()),
    ):
        assert not (await refused).valid
    assert rig.uses.take(10) == {key.secrets[0].id: (key.key_id, used_at_ms)}


async def test_a_batch_answers_in_order() -> None:
    """Warm, cold, refused and forged side by side, each in its place, each secret proven once."""
    rig = Rig()
    warm, _ = rig.mint()
    cold, _ = rig.mint()
    revoked, _ = rig.mint(state=KeyState.REVOKED)
    await rig.ask(warm)
    asked = [cold, warm, rig.forge(), revoked, cold, "no key"]
    verdicts = await rig.verification.verify_batch(rig.caller, [VerifyRequest(text, LIVE) for text in asked])
    assert [verdict.code.value for verdict in verdicts] == [
        "VALID",
        "VALID",
        "NOT_FOUND",
        "REVOKED",
        "VALID",
        "MALFORMED",
    ]
    assert rig.work == (3, 2)
    assert await rig.verification.verify_batch(rig.caller, []) == []


async def test_a_batch_of_first_uses_leaves_room_for_others() -> None:
    """A thousand cold secrets in one batch are proven a hundred at a time, so they neither fill a lane nor are shed."""
    rig = Rig()
    texts = [rig.mint()[0] for _ in range(250)]
    rig.store.gate.close()
    batch = asyncio.create_task(
        rig.verification.verify_batch(rig.caller, [VerifyRequest(text, LIVE) for text in texts])
    )
    await rig.store.gate.arrival()
    for _ in range(10):
        await asyncio.sleep(0)
    assert rig.store.reads == 100
    rig.store.gate.open()
    assert {verdict.code for verdict in await batch} == {Code.VALID}
    assert rig.work == (250, 250)


async def test_a_batch_fails_as_one() -> None:
    """When one of its secrets cannot be decided, the whole batch is to be asked again."""
    rig = Rig()
    warm, _ = rig.mint()
    cold, _ = rig.mint()
    await rig.ask(warm)
    rig.hasher.full.add(Lane.VERIFY)
    with pytest.raises(OverloadedError):
        await rig.verification.verify_batch(rig.caller, [VerifyRequest(text, LIVE) for text in (warm, cold)])


async def test_a_warm_verdict_needs_no_waiting() -> None:
    """What was proven before is answered synchronously; what was not is sent the long way."""
    rig = Rig()
    text, _ = rig.mint()
    request = VerifyRequest(text, LIVE)
    assert rig.verification.begin(rig.caller, request) is None
    await rig.ask(text)
    verdict = rig.verification.begin(rig.caller, request)
    assert isinstance(verdict, Verdict)
    assert verdict.valid


async def test_every_verdict_of_a_key_is_written_down() -> None:
    """Good or not, with what it was named and where it came from, before the answer leaves (P5)."""
    rig = Rig()
    text, _ = rig.mint({})
    assert (
        await rig.verification.verify(rig.caller, VerifyRequest(text, LIVE, "", "192.0.2.1", "invoices.list"))
    ).valid
    assert not (await rig.verification.verify(rig.caller, VerifyRequest(text, LIVE, "admin:everything"))).valid
    assert [it[1:] for it in rig.journal.written] == [
        ("VALID", "invoices.list", "192.0.2.1"),
        ("INSUFFICIENT_SCOPE", "", ""),
    ]


async def test_what_a_call_says_of_itself_is_written_down() -> None:
    """Cost, scopes and labels go where they are billed and reported from, a free call's too."""
    rig = Rig()
    text, _ = rig.mint({"scopes": ("read:invoices",)})
    for cost in (0, 7):
        request = VerifyRequest(text, LIVE, "read:invoices", "", "", cost, "eu\nteam:a")
        assert (await rig.verification.verify(rig.caller, request)).valid
    assert rig.journal.labels == [(0, "read:invoices", "eu\nteam:a"), (7, "read:invoices", "eu\nteam:a")]


async def test_a_peek_counts_nothing() -> None:
    """Whoever only looks neither spends nor uses: the verdict is the same, good or not, cold or warm."""
    rig = Rig()
    text, _ = rig.mint({})
    for _ in range(2):
        assert (await rig.verification.verify(rig.caller, VerifyRequest(text, LIVE, peek=True))).valid
        refused = await rig.verification.verify(rig.caller, VerifyRequest(text, LIVE, "admin:all", peek=True))
        assert refused.code is Code.INSUFFICIENT_SCOPE
    assert rig.journal.written == []
    assert rig.uses.take(10) == {}


async def test_no_verdict_is_given_that_cannot_be_written_down() -> None:
    """With a full journal the call fails, warm or cold, rather than going uncounted (P5)."""
    rig = Rig()
    text, _ = rig.mint({})
    rig.journal.full = True
    for _ in range(2):
        with pytest.raises(JournalFullError):
            await rig.verification.verify(rig.caller, VerifyRequest(text, LIVE))
