"""The key that signs checkpoints: Ed25519, sealed under a master key, and never shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.adapters.cryptography.signing import Ed25519Verifier, SigningKeyVault
from keystead.keys.masters import WrongMasterKeyError

OLD, NEW = b"o" * 32, b"n" * 32
# RFC 8032 §7.1, test 2.
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_signatures_are_verified() -> None:
    """The RFC's signature is one; with another text, signature or key, also of another length, it is none."""
    verifier = Ed25519Verifier()
    assert verifier.verify(PUBLIC, b"\x72", SIGNATURE)
    assert not verifier.verify(PUBLIC, b"\x73", SIGNATURE)
    for number in (0, 31, 63):
        changed = bytearray(SIGNATURE)
        changed[number] ^= 1
        assert not verifier.verify(PUBLIC, b"\x72", bytes(changed))
    for public, signature in ((PUBLIC[:-1], SIGNATURE), (PUBLIC, SIGNATURE[:-1]), (b"", b""), (bytes(32), SIGNATURE)):
        assert not verifier.verify(public, b"\x72", signature)


def test_a_key_signs_what_its_public_half_verifies() -> None:
    """Every key is random, signs alike each time, and shows nothing of itself."""
    vault = SigningKeyVault(MasterKeyring([OLD]))
    one, other = vault.make(), vault.make()
    assert one.public_key != other.public_key
    signer = vault.open(one)
    assert signer.public_key == one.public_key
    assert signer.sign(b"text") == vault.open(one).sign(b"text")
    assert Ed25519Verifier().verify(one.public_key, b"text", signer.sign(b"text"))
    private = MasterKeyring([OLD]).open_audit_key(one.master_id, one.sealed, one.public_key)
    assert private is not None
    for shown in (repr(one), repr(signer), str(vars(one) if hasattr(one, "__dict__") else one)):
        assert private.hex() not in shown
        assert repr(private)[2:-1] not in shown
    assert private not in one.sealed


def test_a_sealed_key_is_opened_by_its_master_alone() -> None:
    """Another master, another public half, and any changed or missing byte are refused."""
    vault = SigningKeyVault(MasterKeyring([OLD]))
    key = vault.make()
    broken = [
        replace(key, master_id=MasterKeyring([NEW]).current_id),
        replace(key, public_key=PUBLIC),
        replace(key, sealed=key.sealed[:-1]),
        replace(key, sealed=b""),
        *[replace(key, sealed=key.sealed[:at] + bytes([key.sealed[at] ^ 1]) + key.sealed[at + 1 :]) for at in (0, 20)],
    ]
    for wrong in broken:
        for reader in (vault, SigningKeyVault(MasterKeyring([NEW, OLD]))):
            with pytest.raises(WrongMasterKeyError, match="signs checkpoints"):
                reader.open(wrong)
    with pytest.raises(WrongMasterKeyError):
        SigningKeyVault(MasterKeyring([NEW])).open(key)


def test_sealing_anew_keeps_the_key() -> None:
    """Under a newer master it is the same key, which the older one then no longer opens."""
    old, both = SigningKeyVault(MasterKeyring([OLD])), SigningKeyVault(MasterKeyring([NEW, OLD]))
    key = old.make()
    assert old.sealed_anew(key) is None
    newer = both.sealed_anew(key)
    assert newer is not None
    assert both.sealed_anew(newer) is None
    assert SigningKeyVault(MasterKeyring([NEW])).open(newer).sign(b"text") == old.open(key).sign(b"text")
    with pytest.raises(WrongMasterKeyError):
        old.open(newer)
