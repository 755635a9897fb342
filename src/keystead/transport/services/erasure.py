"""The handler of ``EraseEventData``, which changes events and so works inside the unit of work."""

from __future__ import annotations

from keystead.events.erasure import erase
from keystead.events.model import Erasure
from keystead.gen.v1 import audit_pb2
from keystead.kernel.errors import invalid
from keystead.keys.addresses import parse_address
from keystead.tenants.model import Environment
from keystead.transport.context import Context
from keystead.transport.services import conversions


class ErasureHandlers:
    """Serves what of ``keystead.v1.AuditService`` changes something."""

    async def erase_event_data(
        self, context: Context, request: audit_pb2.EraseEventDataRequest
    ) -> audit_pb2.EraseEventDataResponse:
        """Erase what is private beside events."""
        context.caller.demand_environment(Environment.ALL)
        wanted = Erasure(
            owner_id=conversions.demand_owner_id(request.owner_id) if request.owner_id else "",
            key_id=conversions.demand_id("key_id", request.key_id, "key") if request.key_id else "",
            client_ip=_address(request.client_ip) if request.client_ip else "",
            before_ms=conversions.moment_ms("before", request, request.before),
        )
        walls = conversions.own_walls(context.caller)
        erased = await erase(context.unit, walls.workspace_id, wanted, reason=request.reason)
        return audit_pb2.EraseEventDataResponse(erased=erased.count, more=erased.more)


def _address(text: str) -> str:
    address = parse_address(text)
    if address is None:
        raise invalid("client_ip", "must be an address")
    return str(address)
