"""Whose secret is this? For whoever finds one where it should not be; nothing is used up or changed by asking."""

from __future__ import annotations

from keystead.keys import secret_format
from keystead.keys.model import Key
from keystead.keys.ports import Keyring, Lane, SecretHasher, Unit
from keystead.tenants.errors import NotFoundError


class Identifier:
    """Finds the key of a secret inside the caller's walls."""

    def __init__(self, *, keyring: Keyring, hasher: SecretHasher) -> None:
        """Believe the tag when its master key is trusted, else ask bcrypt."""
        self._keyring = keyring
        self._hasher = hasher

    async def identify(self, unit: Unit, text: str) -> tuple[Key, str]:
        """Return the key and the secret's id; raise ``NotFoundError`` when nobody inside the walls minted it."""
        unknown = NotFoundError("key", "with this secret")
        parsed = secret_format.parse(text)
        if parsed is None:
            raise unknown
        master_id = secret_format.matching_master(parsed, self._keyring.tags(parsed.signed))
        key = None if master_id is None else await unit.keys.by_prefix(parsed.prefix)
        if key is None or master_id is None:
            raise unknown
        for secret in key.secrets:
            if secret.prefix == parsed.prefix and secret.master_id == master_id:
                material = self._keyring.pepper(master_id, parsed.entropy.encode())
                if self._keyring.distrusted(master_id) and not await self._hasher.check(
                    material, secret.hash, Lane.IMPORT
                ):
                    raise unknown
                return key, secret.id
        raise unknown
