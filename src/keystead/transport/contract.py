"""The services of the contract, in the order in which they are documented."""

from __future__ import annotations

from google.protobuf.descriptor import ServiceDescriptor

from keystead.gen.v1 import (
    audit_pb2,
    entitlements_pb2,
    keys_pb2,
    limiter_pb2,
    nodes_pb2,
    owners_pb2,
    plans_pb2,
    sinks_pb2,
    usage_pb2,
    verification_pb2,
    workspaces_pb2,
)
from keystead.transport.calls import Method, methods_of

SERVICES: tuple[ServiceDescriptor, ...] = (
    workspaces_pb2.DESCRIPTOR.services_by_name["WorkspaceService"],
    owners_pb2.DESCRIPTOR.services_by_name["OwnerService"],
    keys_pb2.DESCRIPTOR.services_by_name["KeyService"],
    plans_pb2.DESCRIPTOR.services_by_name["PlanService"],
    limiter_pb2.DESCRIPTOR.services_by_name["LimitService"],
    verification_pb2.DESCRIPTOR.services_by_name["VerificationService"],
    usage_pb2.DESCRIPTOR.services_by_name["UsageService"],
    entitlements_pb2.DESCRIPTOR.services_by_name["EntitlementService"],
    audit_pb2.DESCRIPTOR.services_by_name["AuditService"],
    sinks_pb2.DESCRIPTOR.services_by_name["SinkService"],
    nodes_pb2.DESCRIPTOR.services_by_name["NodeService"],
)


def service_methods() -> list[Method]:
    """Return every method of the contract."""
    return [method for service in SERVICES for method in methods_of(service)]
