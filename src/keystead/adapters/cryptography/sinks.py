"""What sinks prove themselves with, sealed by AES-256-GCM under a subkey of a master key, each for its sink alone."""

from __future__ import annotations

import json

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.kernel.secret import Secret
from keystead.sinks.errors import SinkSecretsLostError
from keystead.sinks.model import SealedSecrets, SinkSecrets


class SinkVault:
    """The ``SecretVault`` of the configured master keys."""

    def __init__(self, keyring: MasterKeyring) -> None:
        """Seal under ``keyring``."""
        self._keyring = keyring

    @property
    def current_id(self) -> str:
        """The master that it seals under."""
        return self._keyring.current_id

    def seal(self, sink_id: str, secrets: SinkSecrets) -> SealedSecrets:
        """Encrypt under the newest master."""
        plain = [it.reveal() for it in (secrets.bearer_token, secrets.client_key, secrets.signing_secret)]
        return SealedSecrets(*self._keyring.seal_for_sink(sink_id, json.dumps(plain).encode()))

    def open(self, sink_id: str, sealed: SealedSecrets) -> SinkSecrets:
        """Undo ``seal``; raise ``SinkSecretsLostError`` when no configured master opens it."""
        plain = self._keyring.open_for_sink(sink_id, sealed.master_id, sealed.sealed)
        if plain is None:
            raise SinkSecretsLostError(sink_id)
        token, key, signing = json.loads(plain)
        return SinkSecrets(Secret(token), Secret(key), Secret(signing))
