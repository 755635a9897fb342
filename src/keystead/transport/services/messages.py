"""Keys, owners and workspaces as the contract's messages; nothing is decided here."""

from __future__ import annotations

from keystead.gen.v1 import keys_pb2, owners_pb2, workspaces_pb2
from keystead.kernel.changing import etag_of
from keystead.keys.model import Key, SecretRecord
from keystead.tenants.model import Owner, Workspace
from keystead.transport.services import conversions, tiers


def key_message(key: Key, now_ms: int) -> keys_pb2.Key:
    """Write a key as it is at ``now_ms``."""
    return keys_pb2.Key(
        id=key.id,
        owner_id=key.owner_id,
        name=key.name,
        description=key.description,
        environment=conversions.ENVIRONMENT_NUMBERS[key.environment],
        state=conversions.STATE_NUMBERS[key.state_at(now_ms)],
        kind=conversions.KIND_NUMBERS[key.kind],
        scopes=key.scopes,
        metadata=key.metadata,
        tags=key.tags,
        allowed_ips=key.allowed_ips,
        created_at=conversions.timestamp(key.created_at_ms),
        created_by=key.created_by,
        updated_at=conversions.timestamp(key.updated_at_ms),
        expires_at=conversions.timestamp(key.expires_at_ms),
        revoked_at=conversions.timestamp(key.revoked_at_ms),
        last_used_at=conversions.timestamp(key.last_used_at_ms),
        etag=etag_of(key.version),
        secrets=[secret_message(secret, now_ms) for secret in key.secrets],
        state_reason=key.state_reason,
        plan_id=key.plan_id,
        limits=tiers.limit_messages(key.limits),
    )


def secret_message(secret: SecretRecord, now_ms: int) -> keys_pb2.Secret:
    """Write the public part of a secret as it is at ``now_ms``."""
    return keys_pb2.Secret(
        id=secret.id,
        prefix=secret.prefix,
        status=conversions.STATUS_NUMBERS[secret.status(now_ms)],
        created_at=conversions.timestamp(secret.created_at_ms),
        retires_at=conversions.timestamp(secret.retires_at_ms),
        last_used_at=conversions.timestamp(secret.last_used_at_ms),
    )


def owner_message(owner: Owner) -> owners_pb2.Owner:
    """Write an owner."""
    return owners_pb2.Owner(
        owner_id=owner.owner_id,
        name=owner.name,
        metadata=owner.metadata,
        suspended=owner.suspended,
        created_at=conversions.timestamp(owner.created_at_ms),
        updated_at=conversions.timestamp(owner.updated_at_ms),
        etag=etag_of(owner.version),
        plan_id=owner.plan_id,
        limits=tiers.limit_messages(owner.limits),
        entitled_plan_id=owner.entitled_plan_id,
        entitled_until=conversions.timestamp(owner.entitled_until_ms),
    )


def workspace_message(workspace: Workspace) -> workspaces_pb2.Workspace:
    """Write a workspace."""
    return workspaces_pb2.Workspace(
        id=workspace.id,
        brand=workspace.brand,
        name=workspace.name,
        created_at=conversions.timestamp(workspace.created_at_ms),
        updated_at=conversions.timestamp(workspace.updated_at_ms),
        etag=etag_of(workspace.version),
        default_plan_id=workspace.default_plan_id,
        audit_retention_days=workspace.audit_retention_days,
    )
