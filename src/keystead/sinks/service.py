"""What can be done with sinks. Each change is an event like any other, and none of them ever holds a secret.

Secrets follow a sink as long as it goes to the same place: whoever may change a sink could otherwise point it at a
service of his own and be told what it proves itself with (P8).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass, replace

from keystead.events.model import RandomBytes
from keystead.kernel.change import Action, Change
from keystead.kernel.changing import demand_fields, demand_version
from keystead.kernel.clock import Clock
from keystead.kernel.errors import NotFoundError, invalid
from keystead.kernel.ids import IdSource
from keystead.kernel.secret import Secret
from keystead.sinks.drafts import SINK_FIELDS, Rules, SinkDraft
from keystead.sinks.errors import SinkBehindError, TooManySinksError
from keystead.sinks.model import (
    LETTERS_MAX,
    SINK_ID_PREFIX,
    SINKS_MAX,
    Destination,
    HttpDestination,
    SealedSecrets,
    Sink,
    SinkSecrets,
    SinkState,
    fingerprints,
    kind_of,
)
from keystead.sinks.ports import CertificateExaminer, SecretVault, SinkUnit

_SIGNING_SECRET_BYTES = 32
_FULL = (
    f"It was paused because {LETTERS_MAX:,} events are set aside. Mend what refuses them, replay what was set aside, "
    "and resume it."
)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a new sink begins: with the next event, with the first at ``at_ms`` or later, or with the first of all."""

    now: bool = False
    at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """From where a sink carries again: an index, a time, or (both None) what was set aside and no more."""

    index: int | None = None
    at_ms: int | None = None


class SinkService:
    """The sinks of one workspace; every method works inside the unit it is given."""

    def __init__(
        self,
        *,
        ids: IdSource,
        clock: Clock,
        vault: SecretVault,
        examiner: CertificateExaminer,
        rules: Rules,
        random_bytes: RandomBytes,
    ) -> None:
        """Name sinks by ``ids``, date them by ``clock``, seal by ``vault``, and allow what ``rules`` say."""
        self._ids = ids
        self._clock = clock
        self._vault = vault
        self._examiner = examiner
        self._rules = rules
        self._random_bytes = random_bytes

    async def create(
        self, unit: SinkUnit, workspace_id: str, draft: SinkDraft, start: Start
    ) -> tuple[Sink, Secret | None]:
        """Make a sink, and the secret that its requests are signed with, if they are.

        Raises ``TooManySinksError``, and ``AlreadyExistsError`` when the name, or the file's, is taken.
        """
        draft.check(self._rules)
        destination = draft.demand_destination()
        signing = self._signing_secret(destination)
        secrets = SinkSecrets(draft.bearer_token, draft.client_key, signing or Secret(""))
        self._examine(destination, secrets)
        if await unit.sinks.count(workspace_id) >= SINKS_MAX:
            raise TooManySinksError(SINKS_MAX)
        now_ms = self._clock.now_ms()
        sink_id = self._ids.new(SINK_ID_PREFIX)
        sink = Sink(
            id=sink_id,
            workspace_id=workspace_id,
            name=draft.name,
            destination=destination,
            created_at_ms=now_ms,
            updated_at_ms=now_ms,
            payload=draft.payload,
            state=draft.state,
            strict_lag_ms=draft.strict_lag_ms,
            secrets=self._sealed(sink_id, secrets),
        )
        next_index = await self._start_index(unit, workspace_id, start)
        await unit.sinks.add(sink, next_index=next_index)
        changes = {name: (None, value) for name, value in _told(sink).items()}
        unit.record(_sink_change(Action.SINK_CREATED, sink, changes | {"next_index": (None, next_index)}))
        return sink, signing

    async def get(self, unit: SinkUnit, workspace_id: str, sink_id: str, *, lock: bool = False) -> Sink:
        """Return a sink; raise ``NotFoundError`` when there is none inside the walls."""
        sink = await unit.sinks.get(workspace_id, sink_id, lock=lock)
        if sink is None:
            raise NotFoundError("sink", sink_id)
        return sink

    async def update(
        self, unit: SinkUnit, workspace_id: str, sink_id: str, draft: SinkDraft, *, mask: Set[str], etag: str
    ) -> Sink:
        """Change what ``mask`` names; with ``etag``, only if the sink is still at that version."""
        demand_fields(mask, SINK_FIELDS)
        draft.check(self._rules, mask=mask)
        before = await self.get(unit, workspace_id, sink_id, lock=True)
        demand_version("sink", before.name, etag=etag, version=before.version)
        wanted = {name: getattr(draft, name) for name in mask & {"name", "payload", "state"}}
        if "strict_lag" in mask:
            wanted["strict_lag_ms"] = draft.strict_lag_ms
        after = replace(before, **wanted)
        replaced = False
        if mask & {"http", "file"}:
            after, replaced = self._redirected(after, draft, mask)
        changes = _differences(before, after) | ({"secrets": ("kept", "replaced")} if replaced else {})
        if not changes:
            return before
        after = replace(after, updated_at_ms=self._clock.now_ms(), version=before.version + 1)
        await unit.sinks.save(after)
        unit.record(_sink_change(Action.SINK_UPDATED, after, changes))
        return after

    async def delete(self, unit: SinkUnit, workspace_id: str, sink_id: str, *, etag: str) -> None:
        """Delete a sink for good."""
        sink = await self.get(unit, workspace_id, sink_id, lock=True)
        demand_version("sink", sink.name, etag=etag, version=sink.version)
        await unit.sinks.delete(sink)
        unit.record(_sink_change(Action.SINK_DELETED, sink, {"name": (sink.name, None)}))

    async def replay(self, unit: SinkUnit, workspace_id: str, sink_id: str, replay: Replay) -> Sink:
        """Make a sink go back, or send again what was set aside; it never goes forward."""
        sink = await self.get(unit, workspace_id, sink_id, lock=True)
        before = (await unit.sinks.progress(sink)).next_index
        if replay.index is None and replay.at_ms is None:
            letters = await unit.sinks.try_again(sink)
            unit.record(_sink_change(Action.SINK_REPLAYED, sink, {"dead_letters": (letters, 0)}))
            return sink
        index = replay.index
        if index is None:
            index = min(before, await unit.sinks.start(workspace_id, replay.at_ms))
        if index > before:
            raise invalid("from_index", f"must be at most {before}, where the sink is")
        await unit.sinks.go_back(sink, next_index=index)
        unit.record(_sink_change(Action.SINK_REPLAYED, sink, {"next_index": (before, index)}))
        return sink

    def secrets_of(self, sink: Sink) -> SinkSecrets:
        """Open what a sink proves itself with."""
        return SinkSecrets.none() if sink.secrets is None else self._vault.open(sink.id, sink.secrets)

    def _redirected(self, sink: Sink, draft: SinkDraft, mask: Set[str]) -> tuple[Sink, bool]:
        """Return the sink with another destination, and whether its secrets changed."""
        kind = kind_of(sink.destination)
        destination = draft.demand_destination()
        if mask & {"http", "file"} != {kind} or kind_of(destination) is not kind:
            raise invalid("update_mask", f"the sink carries to {kind}, which cannot be changed; make another")
        secrets = replaced = None
        if isinstance(destination, HttpDestination) and isinstance(sink.destination, HttpDestination):
            secrets, replaced = self._kept(sink, sink.destination, destination, draft)
            self._examine(destination, secrets)
        sealed = self._sealed(sink.id, secrets) if replaced and secrets is not None else sink.secrets
        return replace(sink, destination=destination, secrets=sealed), bool(replaced)

    def _kept(
        self, sink: Sink, before: HttpDestination, after: HttpDestination, draft: SinkDraft
    ) -> tuple[SinkSecrets, bool]:
        """Return the secrets of a sink whose destination changes, and whether they do."""
        kept = self.secrets_of(sink)
        if after.signed != before.signed:
            raise invalid("sink.http.signed", "is chosen when a sink is made; make another")
        token, key = draft.bearer_token, draft.client_key
        if not token.reveal() and kept.bearer_token.reveal():
            if after.origin != before.origin:
                raise invalid("sink.http.bearer_token", "must be given anew when scheme, host or port change")
            token = kept.bearer_token
        if not after.client_certificate:
            key = Secret("")
        elif not key.reveal():
            key = kept.client_key
        now = (token.reveal(), key.reveal())
        changed = now != (kept.bearer_token.reveal(), kept.client_key.reveal())
        return SinkSecrets(token, key, kept.signing_secret), changed

    def _examine(self, destination: Destination, secrets: SinkSecrets) -> None:
        if not isinstance(destination, HttpDestination):
            return
        key = secrets.client_key.reveal()
        if destination.client_certificate and not key:
            raise invalid("sink.http.client_key", "must be given with client_certificate")
        if problem := self._examiner.wrong(destination, key):
            raise invalid(f"sink.http.{problem[0]}", problem[1])

    def _signing_secret(self, destination: Destination) -> Secret | None:
        if not (isinstance(destination, HttpDestination) and destination.signed):
            return None
        return Secret("whsec_" + base64.b64encode(self._random_bytes(_SIGNING_SECRET_BYTES)).decode())

    def _sealed(self, sink_id: str, secrets: SinkSecrets) -> SealedSecrets | None:
        return self._vault.seal(sink_id, secrets) if secrets.given else None

    async def _start_index(self, unit: SinkUnit, workspace_id: str, start: Start) -> int:
        if start.at_ms is not None or start.now:
            return await unit.sinks.start(workspace_id, start.at_ms)
        return 0


async def demand_carried(unit: SinkUnit, workspace_id: str) -> None:
    """Raise ``SinkBehindError`` while a sink in strict mode is further behind than it may be."""
    behind = await unit.sinks.behind(workspace_id)
    if behind is not None:
        raise SinkBehindError(behind.name, lag_ms=behind.lag_ms, strict_lag_ms=behind.strict_lag_ms)


async def pause_if_full(unit: SinkUnit, sink: Sink, *, now_ms: int) -> None:
    """Pause a sink that has set aside as much as it may, and say why; its row must be the unit's own already."""
    before = await unit.sinks.get(sink.workspace_id, sink.id, lock=True)
    if before is None or before.state is SinkState.PAUSED or not await unit.sinks.is_full(sink):
        return
    after = replace(before, state=SinkState.PAUSED, updated_at_ms=now_ms, version=before.version + 1)
    await unit.sinks.save(after, reason=_FULL)
    unit.record(_sink_change(Action.SINK_UPDATED, after, _differences(before, after)))


def _told(sink: Sink) -> dict[str, object]:
    """Return what an event tells of a sink."""
    return {
        "name": sink.name,
        "payload": str(sink.payload),
        "state": str(sink.state),
        "strict_lag_ms": sink.strict_lag_ms,
        **_of_destination(sink.destination),
    }


def _of_destination(destination: Destination) -> dict[str, object]:
    if isinstance(destination, HttpDestination):
        shown = {name: fingerprints(getattr(destination, name)) for name in ("client_certificate", "authorities")}
        return asdict(destination) | shown | {"url": destination.place}
    told = asdict(destination)
    return {"file": told.pop("name"), **told}


def _differences(before: Sink, after: Sink) -> dict[str, tuple[object, object]]:
    was, now = _told(before), _told(after)
    found = {name: (was[name], value) for name, value in now.items() if was[name] != value}
    if not found and before.destination != after.destination:
        found["url"] = (was["url"], now["url"])  # the query alone changed, which is not told
    return found


def _sink_change(action: Action, sink: Sink, changes: Mapping[str, tuple[object, object]]) -> Change:
    return Change(sink.workspace_id, action, sink.id, touches=(), changes=changes)
