"""What can be done with sinks, what is recorded of it, and that no secret is ever part of that."""

from __future__ import annotations

import base64
import hashlib
import ssl
from dataclasses import replace
from typing import Any

import pytest

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.adapters.cryptography.sinks import SinkVault
from keystead.kernel.change import Action
from keystead.kernel.errors import AlreadyExistsError, EtagMismatchError, InvalidRequestError, NotFoundError
from keystead.kernel.secret import Secret
from keystead.sinks.drafts import Outbound, Rules, SinkDraft
from keystead.sinks.errors import SinkBehindError, SinkSecretsLostError, TooManySinksError
from keystead.sinks.model import (
    FILE_BATCH,
    FILE_TIMEOUT_MS,
    SINKS_MAX,
    DeadLetter,
    FileDestination,
    HttpDestination,
    Kind,
    Payload,
    SinkState,
)
from keystead.sinks.service import Replay, SinkService, Start, demand_carried
from tests.certificates import authority, issued
from tests.sink_worlds import URL, SinkWorld
from tests.world import ORIGIN

TOKEN = Secret("t0ken")
NO_CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.fixture
async def world() -> SinkWorld:
    """Lend a workspace."""
    return await SinkWorld().begin()


def last(world: SinkWorld) -> tuple[Action, dict[str, Any]]:
    """Return what was recorded last."""
    change = world.changes[-1]
    return change.action, dict(change.changes)


async def test_a_sink_is_made_as_it_was_asked_for(world: SinkWorld) -> None:
    """What is stored is what was said, and the event says so without a secret or the URL's query."""
    sink = await world.create(bearer_token=TOKEN, payload=Payload.OCSF, strict_lag_ms=60_000)
    async with world.units.read(world.scope) as unit:
        assert await world.service.get(unit, world.workspace_id, sink.id) == sink
    assert world.service.secrets_of(sink).bearer_token.reveal() == "t0ken"
    action, changes = last(world)
    assert action is Action.SINK_CREATED
    assert changes["url"] == (None, "https://siem.example/events")
    assert changes["payload"] == (None, "ocsf")
    assert changes["strict_lag_ms"] == (None, 60_000)
    assert "t0ken" not in repr(world.changes)
    assert "t0ken" not in repr(sink)
    assert b"t0ken" not in (sink.secrets or pytest.fail("no secrets")).sealed
    assert (sink.kind, sink.batch_max, sink.timeout_ms) == (Kind.HTTP, 4, 10_000)


async def test_a_sink_to_a_file(world: SinkWorld) -> None:
    """A file proves nothing and needs no secrets."""
    sink = await world.create("file", destination=FileDestination("a.jsonl"))
    assert sink.secrets is None
    assert not world.service.secrets_of(sink).given
    assert (sink.kind, sink.batch_max, sink.timeout_ms) == (Kind.FILE, FILE_BATCH, FILE_TIMEOUT_MS)
    assert last(world)[1]["file"] == (None, "a.jsonl")


async def test_a_signing_secret_is_shown_once(world: SinkWorld) -> None:
    """Whoever makes a sink that signs is told what to verify with: 32 random bytes, in the form of the standard."""
    sink = await world.create(destination=HttpDestination(URL, signed=True))
    secret = (world.signing_secret or pytest.fail("no secret")).reveal()
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
    assert world.service.secrets_of(sink).signing_secret.reveal() == secret
    assert secret not in repr(world.changes)
    await world.create("other")
    assert world.signing_secret is None


async def test_where_a_sink_begins(world: SinkWorld) -> None:
    """With the first event kept, with the next to be placed, or with the first at a time."""
    await world.happen(5)
    third_ms = world.store.committed.placed[2].occurred_at_ms
    starts = {
        "beginning": (Start(), 0),
        "now": (Start(now=True), 6),
        "at": (Start(at_ms=third_ms), 2),
        "later": (Start(at_ms=third_ms + 10_000_000), 8),
    }
    for name, (start, index) in starts.items():
        sink = await world.create(name, start=start)
        assert (await world.progress(sink)).next_index == index, name


async def test_a_workspace_has_so_many_sinks(world: SinkWorld) -> None:
    """No workspace makes a server carry to any number of places."""
    for number in range(SINKS_MAX):
        await world.create(f"sink {number}")
    with pytest.raises(TooManySinksError, match="20"):
        await world.create("one more")


async def test_names_are_taken_once(world: SinkWorld) -> None:
    """Two sinks have neither one name nor one file."""
    await world.create("a", destination=FileDestination("f"))
    with pytest.raises(AlreadyExistsError):
        await world.create("a", destination=FileDestination("g"))
    with pytest.raises(AlreadyExistsError):
        await world.create("b", destination=FileDestination("f"))


@pytest.mark.parametrize("fields", ({"destination": None}, {"name": ""}, {"destination": HttpDestination("ftp://x/")}))
async def test_what_cannot_be_a_sink_is_refused(world: SinkWorld, fields: dict[str, Any]) -> None:
    """Nothing is stored of what breaks a bound."""
    with pytest.raises(InvalidRequestError):
        await world.create(**fields)
    assert world.store.committed.sinks == {}


async def test_certificates_are_looked_at_before_they_are_kept(world: SinkWorld) -> None:
    """A certificate that is none, or whose key is another's, is refused by name rather than at the first batch."""
    root = authority()
    one, other = issued(root, "client"), issued(root, "other")
    right = HttpDestination(URL, client_certificate=one.certificate, authorities=root.certificate)
    sink = await world.create("right", destination=right, client_key=Secret(one.key))
    assert world.service.secrets_of(sink).client_key.reveal() == one.key
    for name, destination, key in (
        ("client_key", right, ""),
        ("client_certificate", right, other.key),
        ("client_certificate", replace(right, client_certificate=NO_CERTIFICATE), one.key),
        ("authorities", replace(right, authorities=NO_CERTIFICATE), one.key),
    ):
        with pytest.raises(InvalidRequestError, match=name):
            await world.create("wrong", destination=destination, client_key=Secret(key))


async def test_the_log_tells_fingerprints_of_certificates(world: SinkWorld) -> None:
    """The immutable record has each certificate's SHA-256, and nothing that was pasted beside it could get there."""
    root = authority()
    one, two = issued(root, "client"), issued(root, "other")
    destination = HttpDestination(URL, client_certificate=one.certificate, authorities=root.certificate * 2)
    sink = await world.create(destination=destination, client_key=Secret(one.key))
    told = {
        it.certificate: "sha256:" + hashlib.sha256(ssl.PEM_cert_to_DER_cert(it.certificate)).hexdigest()
        for it in (root, one, two)
    }
    _, changes = last(world)
    assert changes["client_certificate"] == (None, told[one.certificate])
    assert changes["authorities"] == (None, " ".join([told[root.certificate]] * 2))
    other = replace(destination, client_certificate=two.certificate)
    await world.update(sink, {"http"}, destination=other, client_key=Secret(two.key))
    assert last(world)[1]["client_certificate"] == (told[one.certificate], told[two.certificate])
    assert "BEGIN" not in repr(world.changes)
    pasted = one.certificate + one.key
    for field, combined in (
        ("client_certificate", replace(destination, client_certificate=pasted)),
        ("authorities", replace(destination, authorities=pasted)),
    ):
        with pytest.raises(InvalidRequestError, match=field):
            await world.create("combined", destination=combined, client_key=Secret(one.key))


async def test_a_change_is_recorded_field_by_field(world: SinkWorld) -> None:
    """What changed is told, before and after, and nothing else."""
    sink = await world.create()
    changed = await world.update(sink, {"name", "state", "strict_lag"}, name="b", state=SinkState.PAUSED)
    assert (changed.name, changed.state, changed.version) == ("b", SinkState.PAUSED, 2)
    assert last(world) == (Action.SINK_UPDATED, {"name": ("siem", "b"), "state": ("active", "paused")})
    changed = await world.update(sink, {"strict_lag"}, strict_lag_ms=5_000)
    assert last(world)[1] == {"strict_lag_ms": (0, 5_000)}
    before = len(world.changes)
    assert await world.update(sink, {"name"}, name="b") == changed
    assert len(world.changes) == before, "nothing changed, so nothing happened"


async def test_lost_updates_are_refused(world: SinkWorld) -> None:
    """Who saw an older version changes nothing."""
    sink = await world.create()
    await world.update(sink, {"name"}, etag='"1"', name="b")
    with pytest.raises(EtagMismatchError):
        await world.update(sink, {"name"}, etag='"1"', name="c")
    with pytest.raises(InvalidRequestError, match="update_mask"):
        await world.update(sink, {"id"})
    async with world.units.begin(world.scope, ORIGIN) as unit:
        with pytest.raises(EtagMismatchError):
            await world.service.delete(unit, world.workspace_id, sink.id, etag='"1"')


async def test_secrets_stay_while_the_place_does(world: SinkWorld) -> None:
    """A change of a path keeps the secrets; that they were replaced is told, what they are is not."""
    sink = await world.create(bearer_token=TOKEN)
    moved = HttpDestination("https://siem.example/other", batch_max=4)
    changed = await world.update(sink, {"http"}, destination=moved)
    assert changed.secrets == sink.secrets
    assert last(world)[1] == {"url": ("https://siem.example/events", "https://siem.example/other")}
    changed = await world.update(sink, {"http"}, destination=moved, bearer_token=Secret("an0ther"))
    assert world.service.secrets_of(changed).bearer_token.reveal() == "an0ther"
    assert last(world)[1] == {"secrets": ("kept", "replaced")}
    changed = await world.update(sink, {"http"}, destination=replace(moved, url=moved.url + "?q=1"))
    assert last(world)[1] == {"url": ("https://siem.example/other", "https://siem.example/other")}


async def test_no_secret_follows_a_sink_to_another_host(world: SinkWorld) -> None:
    """Who may change a sink cannot have its token sent to a service of his own (P8)."""
    sink = await world.create(bearer_token=TOKEN)
    for url in ("https://evil.example/events", "https://siem.example:444/events"):
        with pytest.raises(InvalidRequestError, match="bearer_token"):
            await world.update(sink, {"http"}, destination=HttpDestination(url))
        changed = await world.update(sink, {"http"}, destination=HttpDestination(url), bearer_token=Secret("new"))
        assert world.service.secrets_of(changed).bearer_token.reveal() == "new"
    tokenless = await world.create("without")
    await world.update(tokenless, {"http"}, destination=HttpDestination("https://other.example/"))


async def test_certificates_may_be_changed_and_dropped(world: SinkWorld) -> None:
    """A key stays with its certificate, is replaced with it, and goes with it."""
    root = authority()
    one, two = issued(root, "one"), issued(root, "two")
    with_one = HttpDestination(URL, client_certificate=one.certificate)
    sink = await world.create(destination=with_one, client_key=Secret(one.key))
    kept = await world.update(sink, {"http"}, destination=replace(with_one, batch_max=9))
    assert world.service.secrets_of(kept).client_key.reveal() == one.key
    with_two = HttpDestination(URL, client_certificate=two.certificate)
    with pytest.raises(InvalidRequestError, match="client_certificate"):
        await world.update(sink, {"http"}, destination=with_two)
    changed = await world.update(sink, {"http"}, destination=with_two, client_key=Secret(two.key))
    assert world.service.secrets_of(changed).client_key.reveal() == two.key
    dropped = await world.update(sink, {"http"}, destination=HttpDestination(URL))
    assert dropped.secrets is None


async def test_what_a_sink_is_cannot_be_changed(world: SinkWorld) -> None:
    """A sink stays what it was made for, and signs or does not as it was made."""
    http, file = await world.create("a"), await world.create("b", destination=FileDestination("f"))
    for sink, mask, destination in (
        (http, {"file"}, FileDestination("g")),
        (file, {"http"}, HttpDestination(URL)),
        (http, {"http", "file"}, HttpDestination(URL)),
        (http, {"http"}, FileDestination("g")),
    ):
        with pytest.raises(InvalidRequestError, match="cannot be changed"):
            await world.update(sink, mask, destination=destination)
    with pytest.raises(InvalidRequestError, match="signed"):
        await world.update(http, {"http"}, destination=HttpDestination(URL, signed=True))
    with pytest.raises(InvalidRequestError, match="either http or file"):
        await world.update(http, {"http"})
    changed = await world.update(file, {"file"}, destination=FileDestination("g", keep_files=3))
    assert changed.destination == FileDestination("g", keep_files=3)
    assert last(world)[1] == {"file": ("f", "g"), "keep_files": (0, 3)}


async def test_a_deleted_sink_is_gone(world: SinkWorld) -> None:
    """What was deleted answers as what never was, and so does what is another's."""
    sink = await world.create()
    async with world.units.begin(world.scope, ORIGIN) as unit:
        await world.service.delete(unit, world.workspace_id, sink.id, etag='"1"')
    assert last(world) == (Action.SINK_DELETED, {"name": ("siem", None)})
    async with world.units.read(world.scope) as unit:
        with pytest.raises(NotFoundError):
            await world.service.get(unit, world.workspace_id, sink.id)


async def replayed(world: SinkWorld, sink_id: str, replay: Replay) -> None:
    """Replay in a unit of its own."""
    async with world.units.begin(world.scope, ORIGIN) as unit:
        await world.service.replay(unit, world.workspace_id, sink_id, replay)


async def test_a_sink_goes_back_and_never_forward(world: SinkWorld) -> None:
    """A replay begins at an index or a time that the sink has passed; what would leave out events is refused."""
    await world.happen(5)
    sink = await world.create(start=Start(now=True))
    await replayed(world, sink.id, Replay(index=3))
    assert (await world.progress(sink)).next_index == 3
    assert last(world) == (Action.SINK_REPLAYED, {"next_index": (5, 3)})
    with pytest.raises(InvalidRequestError, match="from_index"):
        await replayed(world, sink.id, Replay(index=4))
    await replayed(world, sink.id, Replay(at_ms=world.store.committed.placed[1].occurred_at_ms))
    assert (await world.progress(sink)).next_index == 1
    await replayed(world, sink.id, Replay(at_ms=world.clock.now_ms() + 1))
    assert (await world.progress(sink)).next_index == 1
    assert world.store.committed.sinks[sink.id].place.epoch == 3


async def test_what_was_set_aside_is_sent_again(world: SinkWorld) -> None:
    """A replay of what was set aside marks all of it, and what lies behind an earlier place is simply carried again."""
    await world.happen(5)
    sink = await world.create(start=Start(now=True))
    letters = tuple((DeadLetter(index, f"evt_{index}", 1, "422"), False) for index in (1, 3))
    world.moved(sink, letters=letters)
    assert (await world.progress(sink)).first_dead_letters == (letters[0][0], letters[1][0])
    await replayed(world, sink.id, Replay())
    assert last(world) == (Action.SINK_REPLAYED, {"dead_letters": (2, 0)})
    assert [it.index for it in await world.places.again(sink.id, limit=9)] == [1, 3]
    await replayed(world, sink.id, Replay(index=2))
    assert (await world.progress(sink)).dead_letters == 1


async def test_strict_mode_refuses_while_a_sink_is_behind(world: SinkWorld) -> None:
    """Nothing is changed while the oldest event that was not carried is older than it may be, placed or not."""
    sink = await world.create(strict_lag_ms=5_000)
    for place in (True, False):
        world.moved(sink, place=replace(world.store.committed.sinks[sink.id].place, next_index=len(world.event_ids())))
        await world.happen(1, place=place)
        world.clock.advance(5_000)
        async with world.units.read(world.scope) as unit:
            await demand_carried(unit, world.workspace_id)
            world.clock.advance(1)
            with pytest.raises(SinkBehindError, match="siem is 5 s behind") as refused:
                await demand_carried(unit, world.workspace_id)
            assert refused.value.metadata == {"sink": "siem"}
            await demand_carried(unit, "wsp_of_somebody_else")


async def test_secrets_are_of_one_sink_and_of_known_masters(world: SinkWorld) -> None:
    """Secrets that were put beside another sink, or whose master key is gone, open nothing."""
    sink = await world.create(bearer_token=TOKEN)
    with pytest.raises(SinkSecretsLostError):
        world.service.secrets_of(replace(sink, id="snk_other"))
    other = SinkVault(MasterKeyring([b"x" * 32]))
    with pytest.raises(SinkSecretsLostError):
        other.open(sink.id, sink.secrets or pytest.fail("no secrets"))


async def test_a_server_without_files_makes_none(world: SinkWorld) -> None:
    """Rules are the server's, not the workspace's."""
    service: SinkService = world.service_with(Rules(Outbound.ANY))
    async with world.units.begin(world.scope, ORIGIN) as unit:
        draft = SinkDraft(name="f", destination=FileDestination("f"))
        with pytest.raises(InvalidRequestError, match="sink_files"):
            await service.create(unit, world.workspace_id, draft, Start())
