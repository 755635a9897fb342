"""Signed notes, against the vector that C2SP publishes."""

from __future__ import annotations

import base64

import pytest

from keystead.adapters.cryptography.signing import Ed25519Verifier
from keystead.events.notes import ED25519, Note, NoteError, Signature, VerifierKey, sign_note
from tests.unit.events.signers import FakeSigner, FakeVerifier

VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
TEXT = "This is an example message.\n"
SIGNED = "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM="
WRITTEN = f"{TEXT}\n\N{EM DASH} example.com/foo {SIGNED}\n"
OURS = VerifierKey("log", FakeSigner(b"ours").public_key)
THEIRS = VerifierKey("log", FakeSigner(b"theirs").public_key)


def test_the_published_note_is_read_and_verified() -> None:
    """The vector's key and note are read, written the same, and fit each other; with another text they do not."""
    key, note = VerifierKey.parse(VKEY), Note.parse(WRITTEN)
    assert (key.name, key.text(), key.key_id.hex()) == ("example.com/foo", VKEY, "530d903a")
    assert (note.text, str(note)) == (TEXT, WRITTEN)
    assert note.verified([key], Ed25519Verifier()) == [key]
    with pytest.raises(NoteError, match=r"example\.com/foo is not good"):
        Note.parse(WRITTEN.replace("example m", "example n")).verified([key], Ed25519Verifier())


def test_signing_is_undone_by_verifying() -> None:
    """What is signed under a name is verified under it; blank lines in the text are part of it."""
    for text in ("one\n", "one\n\ntwo\n", "\n\n", "\N{FOX FACE}\n"):
        note = Note.parse(str(sign_note(text, "log", FakeSigner(b"ours"))))
        assert note.text == text
        assert note.verified([THEIRS, OURS], FakeVerifier()) == [OURS]


@pytest.mark.parametrize("text", ("", "no line end", "a\r\n", "a\tb\n", "a\x00\n"))
def test_what_is_no_text_is_not_signed(text: str) -> None:
    """A text without a line end, or with control characters, cannot be a note."""
    with pytest.raises(ValueError, match="line end"):
        sign_note(text, "log", FakeSigner(b"ours"))


def test_signatures_by_others_are_left_aside() -> None:
    """Sixteen and up to a hundred signatures by unknown keys, in front or behind, of any length, change nothing."""
    own = sign_note("text\n", "log", FakeSigner(b"ours"))
    for count in (16, 99):
        others = [Signature(f"other-{number}", bytes(4), bytes(number + 1)) for number in range(count)]
        unknown = Note.parse(str(Note("text\n", others)))
        for signatures in ([*others, *own.signatures], [*own.signatures, *others]):
            note = Note.parse(str(Note("text\n", signatures)))
            assert note.verified([OURS], FakeVerifier()) == [OURS]
        with pytest.raises(NoteError, match="none of the keys"):
            unknown.verified([OURS], FakeVerifier())
    with pytest.raises(NoteError, match="more than 100"):
        Note.parse(str(Note("text\n", [*others, *own.signatures, *own.signatures])))


def test_a_known_key_that_fails_rejects() -> None:
    """A note that names a trusted key wrongly is refused, also when another trusted key has signed it well."""
    good = [sign_note("text\n", "log", FakeSigner(seed)).signatures[0] for seed in (b"ours", b"theirs")]
    assert Note("text\n", good).verified([OURS, THEIRS], FakeVerifier()) == [OURS, THEIRS]
    bad = Signature("log", THEIRS.key_id, bytes(64))
    for signatures in ([good[0], bad], [bad, good[0]]):
        with pytest.raises(NoteError, match="log is not good"):
            Note("text\n", signatures).verified([OURS, THEIRS], FakeVerifier())
        assert Note("text\n", signatures).verified([OURS], FakeVerifier()) == [OURS]
    assert Note("text\n", [good[0], good[0]]).verified([OURS], FakeVerifier()) == [OURS]


def test_a_name_belongs_to_the_key() -> None:
    """The same key under another name is another signer: its signatures are unknown to who trusts the first."""
    note = sign_note("text\n", "other", FakeSigner(b"ours"))
    assert VerifierKey("other", OURS.public_key).key_id != OURS.key_id
    with pytest.raises(NoteError, match="none of the keys"):
        note.verified([OURS], FakeVerifier())


@pytest.mark.parametrize(
    ("written", "why"),
    (
        ("", "does not end"),
        ("text\n", "does not end"),
        ("text\n\n", "does not end"),
        (WRITTEN[:-1], "does not end"),
        (WRITTEN + "\n", "does not end"),
        (WRITTEN.replace("\n", "\r\n"), "control"),
        ("x" * 65_537, "too long"),
        (WRITTEN.replace("\N{EM DASH} ", "- "), "no signature"),
        (WRITTEN.replace("\N{EM DASH} ", "\N{EM DASH}"), "no signature"),
        (WRITTEN.replace("example.com/foo ", "a+b "), "no signature"),
        (WRITTEN.replace("example.com/foo ", " "), "no signature"),
        (WRITTEN.replace("example.com/foo ", "example.com/foo  "), "no signature"),
        (WRITTEN.replace("aQM=", "aQN="), "no signature"),
        (WRITTEN.replace("aQM=", "aQM"), "no signature"),
        (WRITTEN.replace("aQM=", "aQ\N{LATIN SMALL LETTER U WITH DIAERESIS}="), "no signature"),
        (f"{TEXT}\n\N{EM DASH} name AAAAAA==\n", "no signature"),
    ),
)
def test_what_is_no_note_is_refused(written: str, why: str) -> None:
    """A note has one spelling: text, blank line, signatures; each broken one is told apart."""
    with pytest.raises(NoteError, match=why):
        Note.parse(written)


@pytest.mark.parametrize(
    ("text", "why"),
    (
        ("", "name"),
        ("example.com/foo", "name"),
        (VKEY.replace("530d903a", "530D903A"), "name"),
        (VKEY[:-1], "name"),
        (VKEY.replace("530d903a", "530d903b"), "cut or changed"),
        (VKEY.replace("foo", "bar"), "cut or changed"),
        (VKEY.replace("example.com/foo", ""), "name of a key"),
        (VKEY.replace("example.com/foo", "exam ple"), "name of a key"),
        (f"a+00000000+{base64.b64encode(bytes([2]) + bytes(32)).decode()}", "Ed25519"),
        (f"a+00000000+{base64.b64encode(ED25519 + bytes(31)).decode()}", "32 bytes"),
    ),
)
def test_what_is_no_public_key_is_refused(text: str, why: str) -> None:
    """A public key that was cut, mistyped or is of another kind is not taken for one that verifies nothing."""
    with pytest.raises(ValueError, match=why):
        VerifierKey.parse(text)


def test_a_public_key_may_be_copied_with_its_line_end() -> None:
    """Spaces around it come with copying."""
    assert VerifierKey.parse(f" {VKEY}\n") == VerifierKey.parse(VKEY)
