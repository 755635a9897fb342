"""The handlers of ``KeyService``."""

from __future__ import annotations

from keystead.gen.v1 import keys_pb2
from keystead.kernel.bounds import Bounds
from keystead.kernel.clock import Clock
from keystead.kernel.errors import invalid
from keystead.kernel.paging import PageRequest, PageTokens
from keystead.keys import secret_format
from keystead.keys.identification import Identifier
from keystead.keys.model import VERIFIED_KINDS, Key, KeyFilter, KeyKind
from keystead.keys.secret_format import is_prefix
from keystead.keys.service import REVOKED_AT_ONCE_MAX, KeyDraft, KeyService
from keystead.scopes.model import SCOPE_CHARACTERS
from keystead.transport.context import Context
from keystead.transport.services import conversions, messages, tiers
from keystead.usage.ports import UsageStore

_QUERY_CHARACTERS = 100
_DAY_MS = 86_400_000
_ORDERS = {"": False, "created_at desc": False, "created_at asc": True}

AnyFilter = keys_pb2.ListKeysRequest | keys_pb2.RevokeKeysRequest


class KeyHandlers:
    """Serves ``keystead.v1.KeyService``."""

    def __init__(
        self, keys: KeyService, identifier: Identifier, usage: UsageStore, page_tokens: PageTokens, clock: Clock
    ) -> None:
        """Call ``keys`` and ``identifier``; ask ``usage`` what a key's secrets are still used for."""
        self._keys = keys
        self._identifier = identifier
        self._usage = usage
        self._page_tokens = page_tokens
        self._clock = clock

    async def create_key(self, context: Context, request: keys_pb2.CreateKeyRequest) -> keys_pb2.CreateKeyResponse:
        """Make a key."""
        key, secret = await self._keys.create(context.unit, context.caller, _draft_of(request))
        return keys_pb2.CreateKeyResponse(key=self._message(key), secret=secret.reveal())

    async def get_key(self, context: Context, request: keys_pb2.GetKeyRequest) -> keys_pb2.GetKeyResponse:
        """Return a key."""
        key = await self._keys.get(context.unit, conversions.demand_id("key_id", request.key_id, "key"))
        message = self._message(key)
        if key.kind in VERIFIED_KINDS and any(it.status == keys_pb2.Secret.RETIRING for it in message.secrets):
            await self._tell_uses(context, message)
        return keys_pb2.GetKeyResponse(key=message)

    async def list_keys(self, context: Context, request: keys_pb2.ListKeysRequest) -> keys_pb2.ListKeysResponse:
        """List keys."""
        wanted = self._list_filter(request)
        page_request, question = self._page(context, request)
        page = await context.unit.keys.page(wanted, page_request)
        return keys_pb2.ListKeysResponse(
            keys=[self._message(key) for key in page.items],
            next_page_token=self._page_tokens.token(page.next_position, question),
        )

    async def update_key(self, context: Context, request: keys_pb2.UpdateKeyRequest) -> keys_pb2.UpdateKeyResponse:
        """Change a key."""
        wanted = request.key
        key = await self._keys.update(
            context.unit,
            context.caller,
            conversions.demand_id("key.id", wanted.id, "key"),
            _patch_of(wanted),
            mask=frozenset(request.update_mask.paths),
            etag=wanted.etag,
        )
        return keys_pb2.UpdateKeyResponse(key=self._message(key))

    async def rotate_key(self, context: Context, request: keys_pb2.RotateKeyRequest) -> keys_pb2.RotateKeyResponse:
        """Give a key a new secret."""
        key_id = conversions.demand_id("key_id", request.key_id, "key")
        overlap_ms = conversions.duration_ms("overlap", request, request.overlap)
        key, secret = await self._keys.rotate(context.unit, context.caller, key_id, overlap_ms=overlap_ms)
        return keys_pb2.RotateKeyResponse(key=self._message(key), secret=secret.reveal())

    async def finish_rotation(
        self, context: Context, request: keys_pb2.FinishRotationRequest
    ) -> keys_pb2.FinishRotationResponse:
        """End a rotation's overlap."""
        key_id = conversions.demand_id("key_id", request.key_id, "key")
        key = await self._keys.finish_rotation(context.unit, context.caller, key_id)
        return keys_pb2.FinishRotationResponse(key=self._message(key))

    async def cancel_rotation(
        self, context: Context, request: keys_pb2.CancelRotationRequest
    ) -> keys_pb2.CancelRotationResponse:
        """Take a rotation back."""
        key_id = conversions.demand_id("key_id", request.key_id, "key")
        key = await self._keys.cancel_rotation(context.unit, context.caller, key_id)
        return keys_pb2.CancelRotationResponse(key=self._message(key))

    async def suspend_key(self, context: Context, request: keys_pb2.SuspendKeyRequest) -> keys_pb2.SuspendKeyResponse:
        """Suspend a key."""
        key_id = conversions.demand_id("key_id", request.key_id, "key")
        key = await self._keys.suspend(context.unit, context.caller, key_id, reason=request.reason)
        return keys_pb2.SuspendKeyResponse(key=self._message(key))

    async def resume_key(self, context: Context, request: keys_pb2.ResumeKeyRequest) -> keys_pb2.ResumeKeyResponse:
        """End a key's suspension."""
        key_id = conversions.demand_id("key_id", request.key_id, "key")
        key = await self._keys.resume(context.unit, context.caller, key_id)
        return keys_pb2.ResumeKeyResponse(key=self._message(key))

    async def revoke_key(self, context: Context, request: keys_pb2.RevokeKeyRequest) -> keys_pb2.RevokeKeyResponse:
        """Revoke a key."""
        key_id = conversions.demand_id("key_id", request.key_id, "key")
        key = await self._keys.revoke(context.unit, context.caller, key_id, reason=request.reason)
        return keys_pb2.RevokeKeyResponse(key=self._message(key))

    async def revoke_keys(self, context: Context, request: keys_pb2.RevokeKeysRequest) -> keys_pb2.RevokeKeysResponse:
        """Revoke every key that matches."""
        found = await self._keys.revoke_matching(
            context.unit,
            context.caller,
            self._revoke_filter(request),
            reason=request.reason,
            validate_only=request.validate_only,
            expected_count=request.expected_count if request.HasField("expected_count") else None,
        )
        return keys_pb2.RevokeKeysResponse(count=len(found), key_ids=[key.id for key in found])

    async def identify_key(
        self, context: Context, request: keys_pb2.IdentifyKeyRequest
    ) -> keys_pb2.IdentifyKeyResponse:
        """Say whose secret it is."""
        if (complaint := secret_format.complaint(request.key)) is not None:
            raise invalid("key", f"is no secret of ours: {complaint}")
        key, secret_id = await self._identifier.identify(context.unit, request.key)
        return keys_pb2.IdentifyKeyResponse(key=self._message(key), secret_id=secret_id)

    async def _tell_uses(self, context: Context, message: keys_pb2.Key) -> None:
        """Say of each secret how much it was used, so that whoever rotates knows who still has the old one."""
        walls = conversions.demand_walls(context.caller)
        uses = await self._usage.secret_uses(walls, message.id, since_ms=self._clock.now_ms() - _DAY_MS)
        known = {use.secret_id: use for use in uses}
        for secret in message.secrets:
            use = known.get(secret.id)
            secret.calls_last_day = use.calls if use else 0
            secret.addresses_last_day.extend(use.addresses if use else ())

    def _message(self, key: Key) -> keys_pb2.Key:
        return messages.key_message(key, self._clock.now_ms())

    def _page(self, context: Context, request: keys_pb2.ListKeysRequest) -> tuple[PageRequest, dict[str, object]]:
        if request.order_by not in _ORDERS:
            raise invalid("order_by", "must be `created_at desc` or `created_at asc`")
        question = conversions.question_of(request, context.caller)
        page_request = self._page_tokens.request(
            page_size=request.page_size,
            page_token=request.page_token,
            question=question,
            ascending=_ORDERS[request.order_by],
        )
        return page_request, question

    def _list_filter(self, request: keys_pb2.ListKeysRequest) -> KeyFilter:
        bounds = _filter_bounds(request)
        bounds.text("query", request.query, at_most=_QUERY_CHARACTERS)
        bounds.raise_if_any()
        return KeyFilter(
            now_ms=self._clock.now_ms(),
            owner_id=request.owner_id,
            environment=conversions.chosen("environment", request.environment, conversions.ENVIRONMENTS),
            state=conversions.chosen("state", request.state, conversions.STATES),
            kind=conversions.chosen("kind", request.kind, conversions.KINDS),
            scope=request.scope,
            tag=request.tag,
            prefix=request.prefix,
            unused_since_ms=conversions.moment_ms("unused_since", request, request.unused_since),
            expires_before_ms=conversions.moment_ms("expires_before", request, request.expires_before),
            query=request.query,
        )

    def _revoke_filter(self, request: keys_pb2.RevokeKeysRequest) -> KeyFilter:
        bounds = _filter_bounds(request)
        if len(request.key_ids) > REVOKED_AT_ONCE_MAX:
            bounds.add("key_ids", f"must have at most {REVOKED_AT_ONCE_MAX} entries, not {len(request.key_ids)}")
        bounds.raise_if_any()
        for index, key_id in enumerate(request.key_ids):
            conversions.demand_id(f"key_ids[{index}]", key_id, "key")
        wanted = KeyFilter(
            now_ms=self._clock.now_ms(),
            owner_id=request.owner_id,
            environment=conversions.chosen("environment", request.environment, conversions.ENVIRONMENTS),
            kind=conversions.chosen("kind", request.kind, conversions.KINDS),
            scope=request.scope,
            tag=request.tag,
            prefix=request.prefix,
            key_ids=tuple(request.key_ids),
        )
        if wanted == KeyFilter(now_ms=wanted.now_ms):
            raise invalid(
                "owner_id",
                "at least one filter must be given: owner_id, environment, kind, scope, tag, prefix or key_ids",
            )
        return wanted


def _filter_bounds(request: AnyFilter) -> Bounds:
    bounds = Bounds()
    if request.owner_id:
        bounds.owner_id("owner_id", request.owner_id)
    bounds.text("scope", request.scope, at_most=SCOPE_CHARACTERS)
    bounds.text("tag", request.tag, at_most=50)
    if request.prefix and not is_prefix(request.prefix):
        bounds.add(
            "prefix",
            "must be the beginning of a secret, at least <brand>_<env>_, at most its first 12 characters after that",
        )
    return bounds


def _draft_of(request: keys_pb2.CreateKeyRequest) -> KeyDraft:
    return KeyDraft(
        name=request.name,
        owner_id=request.owner_id,
        create_owner=request.create_owner,
        description=request.description,
        environment=conversions.chosen("environment", request.environment, conversions.ENVIRONMENTS),
        kind=conversions.chosen("kind", request.kind, conversions.KINDS) or KeyKind.CUSTOMER,
        scopes=tuple(request.scopes),
        metadata=dict(request.metadata),
        tags=tuple(request.tags),
        allowed_ips=tuple(request.allowed_ips),
        expires_at_ms=conversions.moment_ms("expires_at", request, request.expires_at),
        plan_id=tiers.plan_reference("plan_id", request.plan_id),
        limits=tiers.limits_of("limits", request.limits),
    )


def _patch_of(wanted: keys_pb2.Key) -> KeyDraft:
    return KeyDraft(
        name=wanted.name,
        description=wanted.description,
        scopes=tuple(wanted.scopes),
        metadata=dict(wanted.metadata),
        tags=tuple(wanted.tags),
        allowed_ips=tuple(wanted.allowed_ips),
        expires_at_ms=conversions.moment_ms("key.expires_at", wanted, wanted.expires_at),
        plan_id=tiers.plan_reference("key.plan_id", wanted.plan_id),
        limits=tiers.limits_of("key.limits", wanted.limits),
    )
