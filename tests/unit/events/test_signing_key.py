"""The one key that signs checkpoints: whoever is first makes it, and it follows the newest master key."""

from __future__ import annotations

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.adapters.cryptography.signing import SigningKeyVault
from keystead.adapters.memory.checkpoints import MemoryAuditKeys
from keystead.adapters.memory.store import MemoryStore
from keystead.events.ports import SealedKey
from keystead.events.signing_key import CheckpointKey

OLD, NEW = b"o" * 32, b"n" * 32


class Hesitating(MemoryAuditKeys):
    """A store that answers the first question as it was before another process made the key."""

    def __init__(self, store: MemoryStore) -> None:
        """Begin unasked."""
        super().__init__(store)
        self.asked = 0

    async def get(self) -> SealedKey | None:
        """Return the key, or nothing the first time."""
        self.asked += 1
        return None if self.asked == 1 else await super().get()


async def test_all_processes_sign_with_the_key_of_the_first() -> None:
    """The second process finds the key of the first, also when it began before that was stored."""
    store, vault = MemoryStore(), SigningKeyVault(MasterKeyring([OLD]))
    first = await CheckpointKey(MemoryAuditKeys(store), vault).signer()
    kept = store.committed.audit_key
    for keys in (MemoryAuditKeys(store), Hesitating(store)):
        second = CheckpointKey(keys, vault)
        assert (await second.signer()).public_key == first.public_key
        assert await second.signer() is await second.signer()
    assert store.committed.audit_key == kept


async def test_the_key_is_sealed_anew_under_the_newest_master() -> None:
    """It stays the same key; afterwards the old master is needed no more, and nothing more is written."""
    store = MemoryStore()
    keys = MemoryAuditKeys(store)
    first = await CheckpointKey(keys, SigningKeyVault(MasterKeyring([OLD]))).signer()
    both, newest = MasterKeyring([NEW, OLD]), MasterKeyring([NEW])
    assert (await CheckpointKey(keys, SigningKeyVault(both)).signer()).public_key == first.public_key
    kept = await keys.get()
    assert kept is not None
    assert kept.master_id == newest.current_id
    assert (await CheckpointKey(keys, SigningKeyVault(newest)).signer()).sign(b"text") == first.sign(b"text")
    assert await keys.get() == kept
