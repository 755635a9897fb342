"""The handlers of ``NodeService``."""

from __future__ import annotations

from keystead.events.node_ports import Nodes
from keystead.events.nodes import Node
from keystead.gen.v1 import nodes_pb2
from keystead.keys.principal import Principal
from keystead.transport.services import conversions


class NodeHandlers:
    """Serves ``keystead.v1.NodeService``."""

    def __init__(self, nodes: Nodes) -> None:
        """Read ``nodes``."""
        self._nodes = nodes

    async def list_nodes(self, _caller: Principal, _request: nodes_pb2.ListNodesRequest) -> nodes_pb2.ListNodesResponse:
        """List the processes that may still admit a key."""
        found = await self._nodes.all()
        end = await self._nodes.log_end()
        return nodes_pb2.ListNodesResponse(nodes=[_message(node, end.seq) for node in found if node.may_admit])


def _message(node: Node, seq: int) -> nodes_pb2.Node:
    return nodes_pb2.Node(
        id=node.identity.id,
        host=node.identity.host,
        version=node.identity.version,
        started_at=conversions.moment(node.started_at_ms),
        seen_at=conversions.moment(node.seen_at_ms),
        behind_events=max(0, seq - node.applied_seq),
        silent=conversions.span_us(max(0, node.silent_ms) * 1_000),
        serves_stale=node.identity.serves_stale,
    )
