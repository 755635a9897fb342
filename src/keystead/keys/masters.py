"""Whether the configured master keys are the ones that the database was built with.

A node with the wrong master key would refuse every secret and mint ones that no other node knows, so it must not start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from keystead.kernel.errors import StartError


class WrongMasterKeyError(StartError):
    """Raised when a master key is missing, or is not the one that the database knows."""

    code = "wrong_master_key"

    def __init__(self, description: str) -> None:
        """Say what is wrong, by the master keys' ids."""
        super().__init__(public=f"{description} Check KEYSTEAD_MASTER_KEYS, or the data directory's master.key.")


def demand_masters(*, configured: Mapping[str, bytes], registered: Mapping[str, bytes], in_use: Iterable[str]) -> None:
    """Raise ``WrongMasterKeyError`` unless the configured masters (check values by id) fit the database's.

    At least one must be known there, unless the database knows none yet; each that is known must have the same check
    value; and none that a working secret, or the key that signs checkpoints, still refers to may be missing.
    """
    if registered and not registered.keys() & configured.keys():
        names = ", ".join(sorted(registered))
        raise WrongMasterKeyError(f"The database was built with the master key {names}, which is not configured.")
    for master_id, check in configured.items():
        if registered.get(master_id, check) != check:
            raise WrongMasterKeyError(f"The master key {master_id} is not the one that the database knows by that id.")
    if missing := sorted(set(in_use) - configured.keys()):
        raise WrongMasterKeyError(
            f"Working secrets, or the key that signs checkpoints, still refer to the master key {', '.join(missing)}. "
            "Rotate the secrets first; the key is sealed under the newest when a server starts with both."
        )
