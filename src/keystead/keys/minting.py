"""How a secret comes into the world: drawn, tagged by the newest master key, and hashed for storage."""

from __future__ import annotations

from dataclasses import dataclass

from keystead.kernel.clock import Clock
from keystead.kernel.ids import IdSource
from keystead.kernel.secret import Secret
from keystead.keys import secret_format
from keystead.keys.model import KeyKind, SecretRecord
from keystead.keys.ports import Keyring, SecretHasher
from keystead.tenants.model import RESERVED_BRAND, Environment


@dataclass(frozen=True, slots=True)
class Minted:
    """A new secret: the plaintext for the one reply, and what is stored of it."""

    secret: Secret
    record: SecretRecord


class Minter:
    """Mints secrets; the only place where plaintext begins (P1)."""

    def __init__(
        self,
        *,
        keyring: Keyring,
        hasher: SecretHasher,
        ids: IdSource,
        clock: Clock,
        draw: secret_format.RandomText = secret_format.random_text,
    ) -> None:
        """Draw randomness from ``draw``; hash in ``hasher``'s lane for minting."""
        self._keyring = keyring
        self._hasher = hasher
        self._ids = ids
        self._clock = clock
        self._draw = draw

    async def mint(self, *, brand: str, kind: KeyKind, environment: Environment) -> Minted:
        """Mint one secret; keys for Keystead itself carry its own brand, and ``live`` when they are for both worlds."""
        own = kind in {KeyKind.MANAGEMENT, KeyKind.OPERATOR}
        text = secret_format.compose(
            brand=RESERVED_BRAND if own else brand,
            environment="test" if environment is Environment.TEST else "live",
            tag=self._keyring.tag,
            draw=self._draw,
        )
        parsed = secret_format.parse(text)
        if parsed is None:  # a brand that broke the format would mint secrets nobody could use
            message = f"brand {brand!r} does not make a well-formed secret"
            raise ValueError(message)
        master_id = self._keyring.current_id
        stored = await self._hasher.hash(self._keyring.pepper(master_id, parsed.entropy.encode()))
        record = SecretRecord(
            id=self._ids.new("sec"),
            prefix=parsed.prefix,
            hash=stored,
            master_id=master_id,
            created_at_ms=self._clock.now_ms(),
        )
        return Minted(Secret(text), record)
