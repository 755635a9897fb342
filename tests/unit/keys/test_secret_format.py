"""A secret, byte by byte (DESIGN §3), against an independent reading of the format."""

from __future__ import annotations

import hashlib
import hmac
import re
import string
import zlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystead.keys import secret_format
from keystead.keys.secret_format import (
    ALPHABET,
    base62,
    checksum,
    complaint,
    compose,
    is_brand,
    is_prefix,
    matching_master,
    parse,
    random_text,
    tag_text,
)
from tests.fakes import FixedRandom

TAG_KEY = b"k" * 32
BRANDS = st.text(string.ascii_lowercase + string.digits, min_size=2, max_size=16)
ENVIRONMENTS = st.sampled_from(["live", "test"])


def mac(signed: bytes) -> bytes:
    """Return the HMAC that stands for a master key's."""
    return hmac.digest(TAG_KEY, signed, "sha256")


def secret(brand: str = "acme", environment: str = "live", seed: int = 0) -> str:
    """Compose the same secret in every run."""
    return compose(brand=brand, environment=environment, tag=mac, draw=FixedRandom(seed).text)


def number_of(text: str) -> int:
    """Read base62 by the definition."""
    value = 0
    for character in text:
        value = value * 62 + "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".index(character)
    return value


@given(brand=BRANDS, environment=ENVIRONMENTS, seed=st.integers(0, 1_000))
def test_the_layout_is_that_of_the_design(brand: str, environment: str, seed: int) -> None:
    """Brand, environment, 12 lookup, 32 entropy, 8 tag, 6 CRC, each computed here from the definition alone."""
    text = secret(brand, environment, seed)
    shape = re.fullmatch(
        r"([a-z0-9]{2,16})_(live|test)_([0-9A-Za-z]{12})([0-9A-Za-z]{32})([0-9A-Za-z]{8})([0-9A-Za-z]{6})", text
    )
    assert shape is not None
    found_brand, found_environment, lookup, entropy, tag, crc = shape.groups()
    signed = f"{brand}_{environment}_{lookup}{entropy}"
    full = hmac.new(TAG_KEY, signed.encode(), hashlib.sha256).digest()
    assert (found_brand, found_environment) == (brand, environment)
    assert number_of(tag) == int.from_bytes(full[:8], "big") % 62**8
    assert number_of(crc) == zlib.crc32(text[:-6].encode("ascii"))
    parsed = parse(text)
    assert parsed is not None
    assert (parsed.brand, parsed.environment, parsed.entropy, parsed.tag) == (brand, environment, entropy, tag)
    assert (parsed.prefix, parsed.signed) == (f"{brand}_{environment}_{lookup}", signed.encode())
    assert complaint(text) is None


def test_the_alphabet_is_base62_in_order() -> None:
    """Digits, upper case, lower case: a double click selects all of a body."""
    assert string.digits + string.ascii_uppercase + string.ascii_lowercase == ALPHABET


def test_the_checksum_agrees_with_the_published_vector() -> None:
    """Scanners that know the form GitHub and npm use compute the same six characters."""
    assert checksum("zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ") == "0mLq17"
    assert base62(0xFFFF_FFFF, 6) == "4gfFC3"


def test_numbers_are_padded_on_the_left() -> None:
    """A small number keeps its width, and the tag is reduced modulo 62^8, not cut off."""
    assert base62(0, 6) == "000000"
    assert base62(61, 2) == "0z"
    assert tag_text((62**8).to_bytes(8, "big") + b"\xff" * 24) == "00000000"
    assert tag_text((62**8 + 61).to_bytes(8, "big")) == "0000000z"
    assert tag_text(b"\xff" * 8) == base62((2**64 - 1) % 62**8, 8)


def test_every_single_changed_character_is_noticed() -> None:
    """A mistyped secret is told offline, whichever character it is and whatever it became."""
    text = secret()
    for place in range(len(text)):
        for character in ALPHABET + "_-ß":
            if character != text[place]:
                assert parse(text[:place] + character + text[place + 1 :]) is None


def test_what_is_cut_off_or_run_together_is_refused() -> None:
    """Nothing shorter, longer or wrapped in something passes for a secret."""
    text = secret()
    for wrong in (text[:-1], text[1:], text + "0", " " + text, text + " ", text + "\n", text + "\x00", f'"{text}"'):
        assert parse(wrong) is None
        assert complaint(wrong) is not None
    assert all(parse(text[:length]) is None for length in range(len(text)))


@pytest.mark.parametrize(
    "text",
    (
        "",
        "\x00",
        "a" * 1_000_000,
        "acme_live_" + "0" * 57 + "\u0660",
        "acme_live_" + "0" * 57 + "\uff10",
        "\uff41cme_live_" + "0" * 58,
        "acme_l\u0131ve_" + "0" * 58,
        "acme_live_" + "0" * 57 + "\udc80",
        "acme_live_" + "0" * 58,
        "ACME_live_" + "0" * 58,
        "a_live_" + "0" * 58,
        "abcdefghijklmnopq_live_" + "0" * 58,
        "acme_prod_" + "0" * 58,
        "acme_live_" + "0" * 50 + "_" + "0" * 7,
    ),
)
def test_hostile_texts_are_refused(text: str) -> None:
    """Digits of other scripts, full-width letters, NUL, surrogates, endless input: refused without a crash."""
    assert parse(text) is None
    described = complaint(text)
    assert described is not None
    assert len(described) < 150


GOOD = secret()


@pytest.mark.parametrize(
    ("text", "said"),
    (
        pytest.param(GOOD + "0" * 20, "88 characters", id="far too long"),
        pytest.param("Acme" + GOOD[4:], "does not begin", id="no brand"),
        pytest.param(GOOD[:30] + "-" + GOOD[31:], "a character other than", id="a dash inside"),
        pytest.param(GOOD[:-1], "57 characters", id="cut off"),
        pytest.param(GOOD[:10], "0 characters", id="prefix alone"),
        pytest.param(GOOD[:-1] + ("0" if GOOD[-1] != "0" else "1"), "checksum", id="mistyped"),
    ),
)
def test_complaints_say_what_is_wrong_and_quote_nothing(text: str, said: str) -> None:
    """Whoever mistypes a secret is told how, and the answer may be logged: it holds no part of the secret (P1)."""
    described = complaint(text)
    assert described is not None
    assert said in described
    assert not any(text[place : place + 8] in described for place in range(len(text) - 8))


def test_a_parsed_secret_does_not_show_itself() -> None:
    """``repr`` of the parts shows what is stored in plaintext anyway, never entropy or tag (P1)."""
    text = secret()
    parsed = parse(text)
    assert parsed is not None
    assert parsed.prefix in repr(parsed)
    assert parsed.entropy not in repr(parsed)
    assert parsed.tag not in repr(parsed)


def test_the_master_that_tagged_a_secret_is_found_among_several() -> None:
    """Secrets minted under an older master still carry its tag; a tag by none of them was minted by nobody (P2)."""
    text = secret()
    parsed = parse(text)
    assert parsed is not None
    other = hmac.digest(b"x" * 32, parsed.signed, "sha256")
    assert matching_master(parsed, {"new": other, "old": mac(parsed.signed)}) == "old"
    assert matching_master(parsed, {"new": other}) is None
    assert matching_master(parsed, {}) is None


def test_a_tag_is_for_its_own_prefix_and_entropy() -> None:
    """Parts of two good secrets do not make a third: the tag is over everything before it."""
    one, two = secret(seed=1), secret(seed=2)
    for mixed in (one[:22] + two[22:62], one[:54] + two[54:62], two[:4] + one[4:54] + two[54:62]):
        text = mixed + checksum(mixed)
        parsed = parse(text)
        assert parsed is not None
        assert (matching_master(parsed, {"m": mac(parsed.signed)}) is None) == (text not in {one, two})


def test_random_text_uses_the_whole_alphabet_evenly() -> None:
    """No character is likelier than another: 32 of them hold 190 bits (chi-squared, 61 degrees of freedom)."""
    drawn = random_text(62_000)
    counts = Counter(drawn)
    assert set(counts) == set(ALPHABET)
    assert sum((counts[character] - 1_000) ** 2 / 1_000 for character in ALPHABET) < 150


def test_secrets_are_drawn_anew_each_time() -> None:
    """Two mints never share lookup or entropy."""
    texts = [compose(brand="acme", environment="live", tag=mac) for _ in range(100)]
    assert len({text[10:22] for text in texts}) == len({text[22:54] for text in texts}) == 100


@pytest.mark.parametrize(
    ("brand", "good"),
    (
        ("ab", True),
        ("a" * 16, True),
        ("a1", True),
        ("a", False),
        ("a" * 17, False),
        ("Ab", False),
        ("a_b", False),
        ("é1", False),
        ("ab\n", False),
        ("", False),
    ),
)
def test_brands(brand: str, *, good: bool) -> None:
    """2 to 16 of a-z and 0-9: what a scanner can match on."""
    assert is_brand(brand) is good


@pytest.mark.parametrize(
    ("text", "good"),
    (
        ("acme_live_", True),
        ("acme_test_0Az", True),
        ("acme_live_" + "0" * 12, True),
        ("acme_live_" + "0" * 13, False),
        ("acme", False),
        ("acme_live", False),
        ("acme_live_é", False),
        ("", False),
    ),
)
def test_prefixes(text: str, *, good: bool) -> None:
    """What keys may be looked up by is public: brand, environment and at most the 12 characters after them."""
    assert is_prefix(text) is good


def test_the_longest_secret_fits() -> None:
    """The bound on what is looked at is exactly the longest secret there is."""
    assert len(secret("a" * 16)) == secret_format.MAX_CHARACTERS
    assert parse(secret("a" * 16)) is not None
