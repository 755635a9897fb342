"""The handlers of ``AuditService`` that prove: checkpoints, proofs of events and of older logs, the public key."""

from __future__ import annotations

from keystead.events.checkpointing import Checkpointer
from keystead.events.checkpoints import verifier_key
from keystead.events.model import Event
from keystead.events.ports import Leaves
from keystead.events.proving import Prover
from keystead.events.signing_key import CheckpointKey
from keystead.gen.v1 import audit_pb2
from keystead.kernel.errors import NotFoundError, UnavailableError, invalid
from keystead.keys.principal import Principal
from keystead.transport.services import conversions


class AuditProofHandlers:
    """Serves the proofs of ``keystead.v1.AuditService``, which stand outside the units of work."""

    def __init__(self, checkpointer: Checkpointer, leaves: Leaves, key: CheckpointKey) -> None:
        """Prove from ``leaves`` what ``checkpointer`` has signed with ``key``."""
        self._checkpointer = checkpointer
        self._leaves = leaves
        self._prover = Prover(leaves)
        self._key = key

    async def get_checkpoint(
        self, caller: Principal, request: audit_pb2.GetCheckpointRequest
    ) -> audit_pb2.GetCheckpointResponse:
        """Return the last checkpoint, or make one."""
        workspace_id = conversions.own_walls(caller).workspace_id
        if request.make:
            await self._checkpointer.place()
            found = await self._checkpointer.make(workspace_id)
        else:
            found = await self._checkpointer.covering(workspace_id, 0)
        return audit_pb2.GetCheckpointResponse(
            checkpoint=found.note,
            size=found.size,
            root_hash=found.root_hash,
            made_at=conversions.moment(found.made_at_ms),
        )

    async def get_audit_proof(
        self, caller: Principal, request: audit_pb2.GetAuditProofRequest
    ) -> audit_pb2.GetAuditProofResponse:
        """Prove an event, or that an older log is the beginning of the present one."""
        subject = request.WhichOneof("subject")
        if subject == "event_id":
            return await self._prove_event(caller, request.event_id)
        if subject == "from_size":
            return await self._prove_beginning(caller, request.from_size)
        raise invalid("subject", "must be given: event_id or from_size")

    async def get_audit_public_key(
        self, caller: Principal, _: audit_pb2.GetAuditPublicKeyRequest
    ) -> audit_pb2.GetAuditPublicKeyResponse:
        """Return what the caller's checkpoints are verified with."""
        signer = await self._key.signer()
        key = verifier_key(conversions.own_walls(caller).workspace_id, signer.public_key)
        return audit_pb2.GetAuditPublicKeyResponse(public_key=key.text())

    async def _prove_event(self, caller: Principal, event_id: str) -> audit_pb2.GetAuditProofResponse:
        event, index = await self._placed(caller, conversions.demand_id("event_id", event_id, "evt"))
        checkpoint = await self._checkpointer.covering(event.workspace_id, index + 1)
        return audit_pb2.GetAuditProofResponse(
            index=index,
            hashes=await self._prover.inclusion(checkpoint, index, event.leaf_hash),
            leaf_hash=event.leaf_hash,
            checkpoint=checkpoint.note,
            record=event.record,
        )

    async def _prove_beginning(self, caller: Principal, size: int) -> audit_pb2.GetAuditProofResponse:
        workspace_id = conversions.own_walls(caller).workspace_id
        checkpoint = await self._checkpointer.covering(workspace_id, size)
        if checkpoint.size < size:
            raise invalid("from_size", f"is larger than the log, which has {checkpoint.size} events")
        hashes = await self._prover.consistency(size, checkpoint)
        return audit_pb2.GetAuditProofResponse(hashes=hashes, checkpoint=checkpoint.note)

    async def _placed(self, caller: Principal, event_id: str) -> tuple[Event, int]:
        """Return an event that the caller may see, and its place, which a new one is given now."""
        walls = conversions.own_walls(caller)
        event = await self._leaves.find(walls, event_id)
        if event is not None and event.leaf_index is None:
            await self._checkpointer.place()
            event = await self._leaves.find(walls, event_id)
        if event is None:
            raise NotFoundError("event", event_id)
        if event.leaf_index is None:
            raise UnavailableError("The event has no place in the log yet; try again.")
        return event, event.leaf_index
