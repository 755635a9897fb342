"""Checkpoints: their text, and that one of a log never passes for one of another."""

from __future__ import annotations

import pytest

from keystead.events.checkpoints import (
    SIZE_MAX,
    Checkpoint,
    KeptCheckpoint,
    grown,
    open_checkpoint,
    origin_of,
    sign_checkpoint,
    verifier_key,
)
from keystead.events.merkle import Tree, leaf_hash
from keystead.events.notes import NoteError, sign_note
from tests.unit.events.signers import FakeSigner, FakeVerifier

SIGNER = FakeSigner(b"log")
ROOT = bytes(range(32))
LARGE = Checkpoint(origin_of("wsp_1"), SIZE_MAX, ROOT)
BODY = "keystead/wsp_1\n20852163\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"


def test_a_checkpoint_is_three_lines() -> None:
    """Origin, size in decimal, root in base64, as C2SP says; and it is read back."""
    assert Checkpoint("keystead/wsp_1", 20_852_163, ROOT).body() == BODY
    for it in (Checkpoint.parse(BODY), LARGE, Checkpoint("a", 0, ROOT)):
        assert Checkpoint.parse(it.body()) == it


@pytest.mark.parametrize(
    "text",
    (
        "",
        BODY[:-1],
        f"{BODY}more\n",
        BODY.replace("20852163", "020852163"),
        BODY.replace("20852163", "-1"),
        BODY.replace("20852163", "1 "),
        BODY.replace("20852163", "1_0"),
        BODY.replace("20852163", str(SIZE_MAX + 1)),
        BODY.replace("AAEC", "AAE"),
        BODY.replace("Hh8=", "Hh9="),
        BODY.replace("Hh8=", ""),
        BODY.replace("Hh8=", "\N{LATIN SMALL LETTER U WITH DIAERESIS}"),
        BODY.replace("keystead/wsp_1", ""),
    ),
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    """A checkpoint has one spelling, so a signed text means one thing."""
    with pytest.raises(NoteError, match="no checkpoint"):
        Checkpoint.parse(text)


def test_a_signed_checkpoint_is_opened_with_the_key_of_its_workspace() -> None:
    """The key of the workspace opens it; that of another workspace, which is the same key, does not."""
    note = sign_checkpoint(LARGE, SIGNER)
    assert open_checkpoint(note, verifier_key("wsp_1", SIGNER.public_key), FakeVerifier()) == LARGE
    for other in (verifier_key("wsp_2", SIGNER.public_key), verifier_key("wsp_1", FakeSigner(b"other").public_key)):
        with pytest.raises(NoteError, match="none of the keys"):
            open_checkpoint(note, other, FakeVerifier())


def test_a_checkpoint_of_another_log_is_refused_whoever_signed_it() -> None:
    """A text that names another log than its signer's is not believed."""
    note = str(sign_note(LARGE.body(), origin_of("wsp_2"), SIGNER))
    with pytest.raises(NoteError, match="wsp_1"):
        open_checkpoint(note, verifier_key("wsp_2", SIGNER.public_key), FakeVerifier())


def test_a_frontier_grows_to_the_root_of_the_whole() -> None:
    """Leaves that are appended in two parts make the tree of all of them."""
    leaves = [leaf_hash(bytes([number])) for number in range(21)]
    for cut in range(22):
        kept = KeptCheckpoint("wsp_1", 21, grown(grown(b"", 0, leaves[:cut]), cut, leaves[cut:]), "", 0)
        assert kept.root_hash == Tree(leaves).root(21)
