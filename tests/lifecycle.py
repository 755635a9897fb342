"""A key's life as a state machine: any sequence of calls must agree with a model that fits on a page.

The model knows nothing of the services: it keeps per key what the design says of it and answers by reading the rules
aloud. ``machine_over`` makes the machine for any kind of store.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from keystead.kernel.errors import KeysteadError
from keystead.kernel.secret import Secret
from keystead.keys.model import KeyState
from keystead.keys.ports import Unit
from keystead.keys.service import KeyDraft
from keystead.tenants.model import Environment
from keystead.tenants.service import OwnerDraft
from keystead.verification.service import VerifyRequest
from tests.world import World

OpenWorld = Callable[[], AbstractAsyncContextManager[World]]
Result = TypeVar("Result")

WORKING_SECRETS_MAX = 5
OWNERS = st.sampled_from(["ada", "bob"])
ENVIRONMENTS = st.sampled_from([Environment.LIVE, Environment.TEST])
SCOPES = st.sampled_from([(), ("read:a",), ("read:*",), ("write:a", "read:b")])
ASKED = st.sampled_from(["", "read:a", "read:b AND write:a", "read:b OR read:a"])
LIVES = st.one_of(st.none(), st.none(), st.integers(2, 80))
OVERLAPS = st.one_of(st.integers(0, 5), st.integers(50, 400))
WHICH = st.integers(0, 10_000)
SELDOM = st.integers(0, 4)
KEYS_MAX = 3  # few keys live eventful lives

_brands = itertools.count(1)


@dataclass
class ModelSecret:
    """A secret, and when it stops working if it was told to."""

    text: Secret
    retires_at_ms: int | None = None

    def working(self, now_ms: int) -> bool:
        """Say whether it has not retired."""
        return self.retires_at_ms is None or now_ms < self.retires_at_ms

    def retiring(self, now_ms: int) -> bool:
        """Say whether it works now and will not for ever."""
        return self.retires_at_ms is not None and now_ms < self.retires_at_ms


@dataclass
class ModelKey:
    """A key as the design tells of it; ``secrets`` in the order in which they were minted."""

    id: str
    owner_id: str
    environment: Environment
    scopes: tuple[str, ...]
    expires_at_ms: int | None
    secrets: list[ModelSecret]
    state: str = "active"

    def refusal(self, now_ms: int, *, alive: bool) -> str | None:
        """Name the error that a change meets because of the key's state."""
        if self.state == "revoked":
            return "key_revoked"
        if alive and self.expires_at_ms is not None and now_ms >= self.expires_at_ms:
            return "key_expired"
        return None

    def state_at(self, now_ms: int) -> str:
        """Name the state that ``GetKey`` shows."""
        expired = self.expires_at_ms is not None and now_ms >= self.expires_at_ms
        return "expired" if self.state == "active" and expired else self.state


@dataclass
class Model:
    """Everything that is known of one workspace."""

    owners: dict[str, bool] = field(default_factory=dict)
    keys: list[ModelKey] = field(default_factory=list)

    def verdict(self, key: ModelKey, secret: ModelSecret, *, environment: Environment, asked: str, now_ms: int) -> str:
        """Name the code of a verification, reading DESIGN §4 from top to bottom."""
        if key.state == "revoked":
            return "REVOKED"
        if key.state == "suspended":
            return "SUSPENDED"
        if not secret.working(now_ms) or key.state_at(now_ms) == "expired":
            return "EXPIRED"
        if self.owners.get(key.owner_id, False):
            return "SUSPENDED"
        if key.environment is not environment:
            return "WRONG_ENVIRONMENT"
        return "VALID" if granted(key.scopes, asked) else "INSUFFICIENT_SCOPE"


def granted(scopes: tuple[str, ...], asked: str) -> bool:
    """Evaluate one of ``ASKED``: no parentheses, one operator at most."""

    def has(scope: str) -> bool:
        return scope in scopes or scope.split(":", maxsplit=1)[0] + ":*" in scopes

    if " AND " in asked:
        return all(map(has, asked.split(" AND ")))
    return not asked or any(map(has, asked.split(" OR ")))


class Lifecycle(RuleBasedStateMachine):
    """Does the same to the services and to the model, and compares."""

    open_world: ClassVar[OpenWorld]

    def __init__(self) -> None:
        """Open a world in an event loop of its own."""
        super().__init__()
        self.runner = asyncio.Runner()
        self.context = type(self).open_world()
        self.model = Model()
        try:
            self.world = self.run(self.context.__aenter__())
        except BaseException:
            self.runner.close()
            raise

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run to the end."""
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        """Make a workspace with its caller, one owner, and a live and a test key."""
        _, self.caller, _ = self.run(self.world.workspace(f"brand{next(_brands)}"))
        self.create_owner("ada")
        for environment in (Environment.LIVE, Environment.TEST):
            self.create("ada", environment, ("read:a",), None)

    def teardown(self) -> None:
        """Compare everything a last time, and close the world."""
        try:
            if hasattr(self, "caller"):
                self.look()
                for key in self.model.keys:
                    for secret in key.secrets:
                        self.compare(key, secret, key.environment, "")
        finally:
            self.run(self.context.__aexit__(None, None, None))
            self.runner.close()

    def attempt(self, work: Callable[[Unit], Awaitable[Result]], *, refused: str | None) -> Result | None:
        """Do ``work`` in one unit a millisecond later; it must be refused exactly as the model says."""
        done: Result | None = None
        met: str | None = None
        try:
            done = self.run(self.world.change(self.caller, work))
        except KeysteadError as error:
            met = error.code
        assert met == refused
        return done

    def later(self) -> int:
        """Let a millisecond pass, so that no two things happen at one moment; return the new time."""
        self.world.wait(1)
        return self.world.clock.now_ms()

    def key(self, which: int) -> ModelKey:
        """Choose one of the keys made so far, mostly one that is not revoked."""
        alive = [key for key in self.model.keys if key.state != "revoked"]
        chosen = alive if alive and which % 5 else self.model.keys
        return chosen[which % len(chosen)]

    def some_keys(self) -> bool:
        """Say whether there is a key."""
        return bool(self.model.keys)

    @rule(owner_id=OWNERS, suspended=st.booleans(), seldom=SELDOM)
    def change_owner(self, owner_id: str, *, suspended: bool, seldom: int) -> None:
        """Make, delete, suspend or resume an owner."""
        if owner_id not in self.model.owners:
            self.create_owner(owner_id)
        elif seldom == 1:
            self.delete_owner(owner_id)
        elif seldom == 2:
            self.create_owner(owner_id)
        self.suspend_or_resume_owner(owner_id, suspended=suspended)
        for key in self.model.keys:
            if key.owner_id == owner_id and seldom:
                self.compare(key, key.secrets[-1], key.environment, "")

    def create_owner(self, owner_id: str) -> None:
        """Make an owner, who may be there already."""
        self.later()
        refused = "already_exists" if owner_id in self.model.owners else None
        draft = OwnerDraft(owner_id)
        self.attempt(lambda unit: self.world.owners.create(unit, self.caller.workspace_id, draft), refused=refused)
        self.model.owners.setdefault(owner_id, False)

    def suspend_or_resume_owner(self, owner_id: str, *, suspended: bool) -> None:
        """Suspend or resume an owner, who may be gone."""
        self.later()
        refused = None if owner_id in self.model.owners else "not_found"
        self.attempt(lambda unit: self.world.owners.set_suspended(unit, owner_id, suspended=suspended), refused=refused)
        if refused is None:
            self.model.owners[owner_id] = suspended

    def delete_owner(self, owner_id: str) -> None:
        """Delete an owner: its keys are revoked."""
        self.later()
        revoked = self.attempt(
            lambda unit: self.world.tenancy.delete_owner(unit, self.caller, owner_id, reason="", etag=""),
            refused=None,
        )
        mine = [key for key in self.model.keys if key.owner_id == owner_id and key.state != "revoked"]
        assert revoked == len(mine)
        for key in mine:
            key.state = "revoked"
        del self.model.owners[owner_id]

    @precondition(lambda self: sum(key.state != "revoked" for key in self.model.keys) < KEYS_MAX)
    @rule(owner_id=OWNERS, environment=ENVIRONMENTS, scopes=SCOPES, life_ms=LIVES)
    def create(self, owner_id: str, environment: Environment, scopes: tuple[str, ...], life_ms: int | None) -> None:
        """Make a key."""
        now_ms = self.later()
        ends = None if life_ms is None else now_ms + life_ms
        draft = KeyDraft(name="Key", owner_id=owner_id, environment=environment, scopes=scopes, expires_at_ms=ends)
        refused = None if owner_id in self.model.owners else "not_found"
        made = self.attempt(lambda unit: self.world.keys.create(unit, self.caller, draft), refused=refused)
        if made is not None:
            key, text = made
            self.model.keys.append(ModelKey(key.id, owner_id, environment, scopes, ends, [ModelSecret(text)]))

    @precondition(some_keys)
    @rule(which=WHICH, scopes=SCOPES, life_ms=LIVES)
    def update(self, which: int, scopes: tuple[str, ...], life_ms: int | None) -> None:
        """Change scopes and expiry; an expired key may come back this way, a revoked one never."""
        now_ms, key = self.later(), self.key(which)
        ends = None if life_ms is None else now_ms + life_ms
        draft = KeyDraft(name="", scopes=scopes, expires_at_ms=ends)
        refused = key.refusal(now_ms, alive=False)
        self.attempt(
            lambda unit: self.world.keys.update(
                unit, self.caller, key.id, draft, mask={"scopes", "expires_at"}, etag=""
            ),
            refused=refused,
        )
        if refused is None:
            key.scopes, key.expires_at_ms = scopes, ends

    @precondition(some_keys)
    @rule(which=WHICH, overlap_ms=OVERLAPS)
    def rotate(self, which: int, overlap_ms: int) -> None:
        """Rotate: the current secret retires at the earlier of its key's end and the overlap's."""
        now_ms, key = self.later(), self.key(which)
        refused = key.refusal(now_ms, alive=True)
        if refused is None and sum(secret.working(now_ms) for secret in key.secrets) >= WORKING_SECRETS_MAX:
            refused = "too_many_secrets"
        made = self.attempt(
            lambda unit: self.world.keys.rotate(unit, self.caller, key.id, overlap_ms=overlap_ms), refused=refused
        )
        if made is None:
            return
        current = next(secret for secret in key.secrets if secret.retires_at_ms is None)
        ends = now_ms + overlap_ms
        current.retires_at_ms = ends if key.expires_at_ms is None else min(ends, key.expires_at_ms)
        key.secrets.append(ModelSecret(made[1]))

    @precondition(some_keys)
    @rule(which=WHICH)
    def finish(self, which: int) -> None:
        """Finish a rotation: what is retiring retires now."""
        now_ms, key = self.later(), self.key(which)
        retiring = [secret for secret in key.secrets if secret.retiring(now_ms)]
        refused = key.refusal(now_ms, alive=False) or (None if retiring else "no_rotation")
        self.attempt(lambda unit: self.world.keys.finish_rotation(unit, self.caller, key.id), refused=refused)
        if refused is None:
            for secret in retiring:
                secret.retires_at_ms = now_ms

    @precondition(some_keys)
    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        """Cancel a rotation: the current secret retires now, the youngest retiring one is current again."""
        now_ms, key = self.later(), self.key(which)
        retiring = [secret for secret in key.secrets if secret.retiring(now_ms)]
        refused = key.refusal(now_ms, alive=True) or (None if retiring else "no_rotation")
        self.attempt(lambda unit: self.world.keys.cancel_rotation(unit, self.caller, key.id), refused=refused)
        if refused is None:
            current = next(secret for secret in key.secrets if secret.retires_at_ms is None)
            current.retires_at_ms, retiring[-1].retires_at_ms = now_ms, None

    @precondition(some_keys)
    @rule(which=WHICH, wanted=st.sampled_from(["active", "active", "suspended", "suspended", "revoked"]))
    def set_state(self, which: int, wanted: str) -> None:
        """Suspend, resume or revoke."""
        now_ms, key, keys = self.later(), self.key(which), self.world.keys
        refused = None if wanted == "revoked" else key.refusal(now_ms, alive=False)
        calls: dict[str, Callable[[Unit], Awaitable[object]]] = {
            "active": lambda unit: keys.resume(unit, self.caller, key.id),
            "suspended": lambda unit: keys.suspend(unit, self.caller, key.id, reason=""),
            "revoked": lambda unit: keys.revoke(unit, self.caller, key.id, reason=""),
        }
        self.attempt(calls[wanted], refused=refused)
        if refused is None:
            key.state = wanted

    @rule(milliseconds=st.integers(1, 30))
    def wait(self, milliseconds: int) -> None:
        """Let time pass."""
        self.world.wait(milliseconds)

    @precondition(some_keys)
    @rule(which=WHICH, early_ms=st.integers(0, 1))
    def wait_for_an_end(self, which: int, early_ms: int) -> None:
        """Let time pass to the very millisecond in which something of a key ends, or to the one before."""
        key, now_ms = self.key(which), self.world.clock.now_ms()
        moments = [key.expires_at_ms, *(secret.retires_at_ms for secret in key.secrets)]
        ahead = [moment for moment in moments if moment is not None and moment - early_ms > now_ms]
        if ahead:
            self.world.wait(min(ahead) - early_ms - now_ms)
        self.verify(which, None, "")

    @rule()
    def restart(self) -> None:
        """Begin with nothing cached, as a process that was just started."""
        self.world.restart()

    @precondition(some_keys)
    @rule(which=WHICH, environment=st.one_of(st.none(), ENVIRONMENTS), asked=ASKED)
    def verify(self, which: int, environment: Environment | None, asked: str) -> None:
        """Verify every secret that a key ever had, in its own environment or in another."""
        key = self.key(which)
        for secret in key.secrets:
            self.compare(key, secret, environment or key.environment, asked)

    def compare(self, key: ModelKey, secret: ModelSecret, environment: Environment, asked: str) -> None:
        """Assert that the services' verdict is the model's."""
        request = VerifyRequest(secret.text.reveal(), environment, asked)
        verdict = self.run(self.world.verification.verify(self.caller, request))
        now_ms = self.world.clock.now_ms()
        wanted = self.model.verdict(key, secret, environment=environment, asked=asked, now_ms=now_ms)
        assert verdict.code.value == wanted
        assert verdict.entry is not None
        assert verdict.entry.key_id == key.id

    @rule()
    def look(self) -> None:
        """Read every key: its state and the life of each secret are the model's, the current one first."""
        now_ms = self.world.clock.now_ms()
        for key in self.model.keys:
            stored = self.run(self.world.get(self.caller, key.id))
            assert stored.state_at(now_ms) is KeyState(key.state_at(now_ms))
            assert (stored.scopes, stored.expires_at_ms) == (key.scopes, key.expires_at_ms)
            told = {secret.prefix: secret.retires_at_ms for secret in stored.secrets}
            assert told == {secret.text.reveal()[: -58 + 12]: secret.retires_at_ms for secret in key.secrets}
            assert [secret.retires_at_ms is None for secret in stored.secrets] == [True] + [False] * (len(told) - 1)


def machine_over(open_world: OpenWorld) -> type[Lifecycle]:
    """Make the machine for one kind of store; each example opens a world of its own."""
    return type("LifecycleOverStore", (Lifecycle,), {"open_world": staticmethod(open_world)})
