"""Master keys: what is derived from them, what seals under them, and what they never give away."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from keystead.adapters.cryptography.keyring import MasterKeyring, decode_master_key, derive

ONE, TWO = b"1" * 32, b"2" * 32
IDEMPOTENCY_KEY = "5f0c4a4e-4b1f-4d52-9b63-0d2f6ce7a9b1"


def hkdf(secret: bytes, info: bytes, length: int) -> bytes:
    """Derive by RFC 5869 written out, without salt."""
    pseudorandom = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    block, made, counter = b"", b"", 1
    while len(made) < length:
        block = hmac.new(pseudorandom, block + info + bytes([counter]), hashlib.sha256).digest()
        made, counter = made + block, counter + 1
    return made[:length]


@pytest.mark.parametrize("length", (4, 32, 64))
def test_subkeys_are_derived_by_hkdf(length: int) -> None:
    """RFC 5869 with SHA-256, one subkey per use; none of them is another's beginning."""
    assert derive(ONE, "tag", length) == hkdf(ONE, b"keystead/v1/tag", length)
    assert derive(ONE, "tag") != derive(ONE, "pepper")
    assert derive(ONE, "tag") != derive(TWO, "tag")


def test_tag_and_pepper_are_those_of_the_design() -> None:
    """The tag is HMAC-SHA256 under the tag subkey; bcrypt is given base64 of HMAC-SHA256 under the pepper."""
    keyring = MasterKeyring([ONE])
    tag = hmac.new(hkdf(ONE, b"keystead/v1/tag", 32), b"signed", hashlib.sha256).digest()
    pepper = hmac.new(hkdf(ONE, b"keystead/v1/pepper", 32), b"entropy", hashlib.sha256).digest()
    assert keyring.tag(b"signed") == tag
    assert keyring.tags(b"signed") == {keyring.current_id: tag}
    assert keyring.pepper(keyring.current_id, b"entropy") == base64.b64encode(pepper)
    assert len(keyring.pepper(keyring.current_id, b"")) == 44


def test_the_newest_master_mints_and_all_are_believed() -> None:
    """The first of several is the current one; tags are told under each, the newest first."""
    old, both = MasterKeyring([ONE]), MasterKeyring([TWO, ONE])
    assert both.current_id == MasterKeyring([TWO]).current_id != old.current_id
    assert list(both.tags(b"x")) == list(both.checks) == [both.current_id, old.current_id]
    assert both.tags(b"x")[old.current_id] == old.tag(b"x")
    assert both.pepper(old.current_id, b"x") == old.pepper(old.current_id, b"x")
    with pytest.raises(KeyError):
        old.pepper(both.current_id, b"x")


def test_ids_and_checks_belong_to_their_master() -> None:
    """An id is 8 hex digits of the master itself, so no configuration can name one wrongly; checks differ."""
    one, two = MasterKeyring([ONE]), MasterKeyring([TWO])
    assert len(one.current_id) == 8
    assert int(one.current_id, 16) >= 0
    assert one.checks != two.checks
    assert one.checks == MasterKeyring([ONE, ONE]).checks


def test_a_distrusted_master_is_believed_no_more_and_never_mints() -> None:
    """It is named as distrusted; a configuration in which it would mint is refused."""
    old = MasterKeyring([ONE]).current_id
    keyring = MasterKeyring([TWO, ONE], distrusted={old})
    assert keyring.distrusted(old)
    assert not keyring.distrusted(keyring.current_id)
    with pytest.raises(ValueError, match="distrusted"):
        MasterKeyring([ONE, TWO], distrusted={old})


def test_without_a_master_there_is_no_keyring() -> None:
    """No keys, no service."""
    with pytest.raises(ValueError, match="at least one"):
        MasterKeyring([])


@pytest.mark.parametrize(
    "text",
    (
        ONE.hex(),
        ONE.hex().upper(),
        base64.b64encode(ONE).decode(),
        f"  {ONE.hex()}\n",
        base64.urlsafe_b64encode(ONE).decode().rstrip("="),
    ),
)
def test_master_keys_are_read_in_hex_or_base64(text: str) -> None:
    """Whatever ``openssl rand`` prints, with the line end that comes with it."""
    assert decode_master_key(text) == ONE


@pytest.mark.parametrize(
    "text", ("", "short", "z" * 64, ONE.hex()[:-2], base64.b64encode(ONE + b"1").decode(), "é" * 44, "A" * 42)
)
def test_a_wrong_master_key_is_refused_and_not_quoted(text: str) -> None:
    """The error says what is asked for and holds nothing of what was given (P1)."""
    with pytest.raises(ValueError, match="32 bytes") as caught:
        decode_master_key(text)
    assert not text or text not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_sealed_reply_opens_with_its_idempotency_key_alone() -> None:
    """What was sealed opens to the same; with a wrong key, a changed byte or its end cut off it gives nothing."""
    keyring = MasterKeyring([ONE])
    sealed = keyring.seal(IDEMPOTENCY_KEY, b"reply")
    assert keyring.open(IDEMPOTENCY_KEY, sealed) == b"reply"
    assert keyring.seal(IDEMPOTENCY_KEY, b"reply") != sealed
    assert b"reply" not in sealed
    assert keyring.open(IDEMPOTENCY_KEY + "x", sealed) is None
    for place in range(len(sealed)):
        changed = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        assert keyring.open(IDEMPOTENCY_KEY, changed) is None
    for length in (0, 3, 4, 15, 16, 20, len(sealed) - 1):
        assert keyring.open(IDEMPOTENCY_KEY, sealed[:length]) is None


def test_a_sealed_reply_outlives_a_new_master_but_not_its_own() -> None:
    """While the old master is configured its replies open; the new one alone opens nothing of it."""
    sealed = MasterKeyring([ONE]).seal(IDEMPOTENCY_KEY, b"reply")
    assert MasterKeyring([TWO, ONE]).open(IDEMPOTENCY_KEY, sealed) == b"reply"
    assert MasterKeyring([TWO]).open(IDEMPOTENCY_KEY, sealed) is None


def test_idempotency_keys_are_stored_as_hmacs_by_every_master() -> None:
    """The newest first, so that a reply from before a rotation is found as well; the key itself is in none of them."""
    old, both = MasterKeyring([ONE]), MasterKeyring([TWO, ONE])
    assert both.slot_hmacs("key")[1] == old.slot_hmacs("key")[0]
    assert len(set(both.slot_hmacs("key") + both.slot_hmacs("kez"))) == 4
    assert {len(found) for found in both.slot_hmacs("key")} == {32}


def test_page_tokens_have_a_secret_of_their_own() -> None:
    """It follows the newest master and is none of the subkeys used elsewhere."""
    keyring = MasterKeyring([ONE])
    assert len(keyring.page_token_secret) == 32
    assert keyring.page_token_secret != MasterKeyring([TWO]).page_token_secret
    assert keyring.page_token_secret not in {derive(ONE, use) for use in ("tag", "pepper", "page-tokens")}
