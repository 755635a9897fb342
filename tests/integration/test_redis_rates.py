"""The shared limiter on real servers: every way in, and everything that befalls a Redis."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import redis as clients
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from keystead.adapters.redis.address import RedisAddress
from keystead.adapters.redis.examining import examine_redis
from keystead.adapters.redis.rates import RedisRates
from keystead.bootstrap import examine
from keystead.config import load_settings
from keystead.kernel.limit import Limit, On, SlidingWindow, TokenBucket
from keystead.limits.compiling import Subject, compiled
from keystead.limits.errors import LimiterAwayError
from tests.polling import eventually
from tests.services import PrivateRedis, find_program

PATIENT_MS = 10_000
ASKED = compiled(
    (Limit("a", On.KEY, SlidingWindow(10, 86_400_000)), Limit("b", On.OWNER, TokenBucket(1, 86_400_000, 10))),
    Subject("wsp_1", "live", "acme", "key_1"),
)


class GuardedRedis(PrivateRedis):
    """A Redis behind TLS and a socket, which lets nobody in without a password."""

    def command(self) -> list[str]:
        """Return the command that runs the server in the foreground."""
        options = {
            "port": "0",
            "tls-port": str(self.port),
            "bind": "127.0.0.1",
            "tls-cert-file": str(self.certificate),
            "tls-key-file": str(self.folder / "key.pem"),
            "tls-auth-clients": "no",
            "unixsocket": str(self.socket),
            "requirepass": "pass word/1",
            "user": "limiter on >p@ss:word ~keystead:* +@all",
            "dir": str(self.folder),
            "save": "",
        }
        write_certificate(self.certificate, self.folder / "key.pem")
        settings = self.folder / "redis.conf"
        settings.write_text("".join(f"{name} {_quoted(name, value)}\n" for name, value in options.items()))
        return [find_program("redis-server"), str(settings)]

    def answers(self) -> bool:
        """Say whether the server listens on its socket, which it does last."""
        return self.socket.exists()

    @property
    def certificate(self) -> Path:
        """What vouches for the server."""
        return self.folder / "certificate.pem"

    @property
    def socket(self) -> Path:
        """The path of its socket."""
        return self.folder / "redis.sock"


def _quoted(name: str, value: str) -> str:
    return value if name == "user" else f'"{value}"'


def write_certificate(certificate: Path, private: Path) -> None:
    """Make a certificate for 127.0.0.1 that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    now = datetime.now(UTC)
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(hours=1), now + timedelta(days=1))
    made = made.add_extension(addresses, critical=True)
    certificate.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    private.chmod(0o644)  # its server runs as somebody else, in a folder that is closed to others


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedRedis]:
    """Lend a Redis that is hard to get into."""
    server = GuardedRedis()
    yield server
    server.remove()


@pytest.fixture(autouse=True)
def fresh(redis: PrivateRedis) -> None:
    """Begin with nothing spent."""
    clients.Redis.from_url(redis.url()).flushall()


@asynccontextmanager
async def store(url: str, *, timeout_ms: int = PATIENT_MS) -> AsyncIterator[RedisRates]:
    """Lend a store on the Redis at ``url``."""
    rates = RedisRates(RedisAddress.parse(url), timeout_ms=timeout_ms)
    await rates.start()
    try:
        yield rates
    finally:
        await rates.close()


async def left(rates: RedisRates, cost: int = 1) -> int:
    """Spend, and return what is left of both limits, which are always spent together."""
    decision = await rates.decide(ASKED, cost=cost, peek=False)
    first, second = (level.remaining for level in decision.levels)
    assert first == second
    return first


async def until_left(rates: RedisRates, within_s: float = 10) -> int:
    """Ask, for nothing, until there is an answer."""
    told = []

    async def answers() -> bool:
        try:
            told.append(await left(rates, 0))
        except LimiterAwayError:
            return False
        return True

    await eventually(answers, within_s=within_s)
    return told[0]


async def test_databases_are_apart(redis: PrivateRedis) -> None:
    """The number in the URL is the database that is counted in."""
    async with store(redis.url(1)) as first, store(redis.url(2)) as second:
        assert [await left(first), await left(second, 5), await left(first)] == [9, 5, 8]
    assert clients.Redis.from_url(redis.url(1)).dbsize() == 2
    assert clients.Redis.from_url(redis.url(0)).dbsize() == 0


async def test_we_can_be_told_from_others(redis: PrivateRedis) -> None:
    """Whoever looks at the connections of a Redis sees which are ours."""
    async with store(redis.url()):
        names = [one["name"] for one in clients.Redis.from_url(redis.url()).client_list()]
        assert "keystead" in names


@pytest.mark.parametrize(
    "url",
    (
        pytest.param("rediss://:pass%20word%2F1@127.0.0.1:{port}/3", id="TLS, password"),
        pytest.param("rediss://limiter:p%40ss%3Aword@127.0.0.1:{port}", id="TLS, user and password"),
        pytest.param("unix://:pass%20word%2F1@{socket}?db=3", id="socket"),
        pytest.param("redis+unix://limiter:p%40ss%3Aword@{socket}", id="socket, user and password"),
    ),
)
async def test_every_way_in(guarded: GuardedRedis, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS, sockets, users and passwords with any characters."""
    monkeypatch.setenv("SSL_CERT_FILE", str(guarded.certificate))
    async with store(url.format(port=guarded.port, socket=guarded.socket)) as rates:
        before = await left(rates, 0)
        assert await left(rates) == before - 1


@pytest.mark.parametrize(
    ("url", "why"),
    (
        pytest.param("rediss://:pass%20word%2F1@127.0.0.1:{port}", "certificate", id="unknown certificate"),
        pytest.param("unix://:wrong@{socket}", "WRONGPASS", id="wrong password"),
        pytest.param("unix://{socket}", "NOAUTH", id="no password"),
        pytest.param("unix:///nowhere/redis.sock", "No such file", id="no socket"),
        pytest.param("redis://127.0.0.1:1", "Errno 111", id="nobody there"),
        pytest.param("redis://nowhere.invalid", "nowhere.invalid", id="no such host"),
    ),
)
async def test_why_there_is_no_way_in(guarded: GuardedRedis, url: str, why: str) -> None:
    """A Redis that cannot be reached is away, and the reason can be read."""
    async with store(url.format(port=guarded.port, socket=guarded.socket)) as rates:
        with pytest.raises(LimiterAwayError, match=why) as told:
            await left(rates)
        assert not told.value.spent
        assert "wrong" not in str(told.value)


@pytest.mark.parametrize(
    "url",
    (
        "http://127.0.0.1",
        "127.0.0.1:6379",
        "redis://",
        "redis://:secret@127.0.0.1:99999",
        "redis://127.0.0.1/secret",
        "redis://127.0.0.1/0?db=-1",
        "redis://secret@127.0.0.1",
        f"redis://{'secret' * 20}",
        "unix://secret",
        "unix:///path?password=secret",
    ),
)
def test_what_is_no_address(url: str) -> None:
    """A URL that cannot be meant is refused by a sentence that repeats nothing of it."""
    with pytest.raises(ValueError, match="URL of Redis") as told:
        RedisAddress.parse(url)
    assert "secret" not in str(told.value)


async def test_a_forgotten_script_is_brought_back(redis: PrivateRedis) -> None:
    """SCRIPT FLUSH at any moment costs no answer and no count."""
    client = clients.Redis.from_url(redis.url())
    async with store(redis.url()) as rates:
        assert await left(rates) == 9
        for expected in (8, 7, 6):
            client.script_flush()
            assert await left(rates) == expected
        client.script_flush()
        decisions = await asyncio.gather(*[rates.decide(ASKED, cost=1, peek=False) for _ in range(100)])
        assert sum(one.admitted for one in decisions) == 6
        assert rates.measures.errors == 0
        assert rates.measures.connections == 1


async def test_a_restart_is_survived(own_redis: PrivateRedis) -> None:
    """While Redis is down questions are refused at once; when it is back a new connection is made by itself."""
    async with store(own_redis.url()) as rates:
        assert await left(rates) == 9
        own_redis.kill()

        async def is_away() -> bool:
            return not rates.measures.connected

        await eventually(is_away, within_s=10)
        with pytest.raises(LimiterAwayError) as told:
            await left(rates)
        assert not told.value.spent
        own_redis.restart()
        assert await until_left(rates) == 10  # this Redis keeps nothing
        assert rates.measures.connections == 2


async def test_a_frozen_redis_holds_nobody_up(own_redis: PrivateRedis) -> None:
    """When Redis hangs everybody is told in time; what was written to it counts once it goes on."""
    async with store(own_redis.url(), timeout_ms=50) as rates:
        assert await until_left(rates) == 10
        own_redis.freeze()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        answers = await asyncio.gather(*[left(rates) for _ in range(3)], return_exceptions=True)
        assert loop.time() - began_s < 1
        assert [isinstance(one, LimiterAwayError) and one.spent for one in answers] == [True] * 3
        own_redis.thaw()
        assert await until_left(rates) == 7


async def test_a_replica_is_left(own_redis: PrivateRedis) -> None:
    """A server that became a replica decides nothing; when it, or another at its address, is primary again, it does."""
    client = clients.Redis.from_url(own_redis.url())
    async with store(own_redis.url()) as rates:
        assert await left(rates) == 9
        client.replicaof("127.0.0.1", 1)
        with pytest.raises(LimiterAwayError) as told:
            await left(rates)
        assert not told.value.spent
        client.replicaof("NO", "ONE")
        assert await until_left(rates) == 9


async def test_a_full_memory_decides_nothing(own_redis: PrivateRedis) -> None:
    """A Redis without room for counters refuses before anything is spent."""
    client = clients.Redis.from_url(own_redis.url())
    async with store(own_redis.url()) as rates:
        assert await left(rates) == 9
        client.config_set("maxmemory", "1mb")
        client.config_set("maxmemory-policy", "noeviction")
        with pytest.raises(LimiterAwayError, match="OOM") as told:
            await left(rates)
        assert not told.value.spent
        client.config_set("maxmemory", "0")
        assert await left(rates) == 8


async def test_nothing_is_left_behind(redis: PrivateRedis) -> None:
    """A closed store leaves no connection, no task and no answer that nobody fetches."""
    async with store(redis.url()) as rates:
        asked = asyncio.create_task(left(rates))
        await asyncio.sleep(0)
    with pytest.raises(LimiterAwayError):
        await asked
    del asked
    gc.collect()
    assert asyncio.all_tasks() == {asyncio.current_task()}

    async def is_gone() -> bool:
        return all(one["name"] != "keystead" for one in clients.Redis.from_url(redis.url()).client_list())

    await eventually(is_gone, within_s=10)


async def test_a_redis_is_examined(own_redis: PrivateRedis) -> None:
    """Doctor learns what decides how much a crash may lose, and whether counters may be evicted."""
    client = clients.Redis.from_url(own_redis.url())
    address = RedisAddress.parse(own_redis.url())
    found = await examine_redis(address)
    assert found.version == client.info()["redis_version"]
    assert (found.maxmemory_policy, found.append_fsync, found.role) == ("noeviction", "off", "master")
    assert 0 < found.answered_in_ms < 1_000
    client.config_set("appendonly", "yes")
    client.config_set("appendfsync", "always")
    client.config_set("maxmemory-policy", "allkeys-lru")
    found = await examine_redis(address)
    assert (found.maxmemory_policy, found.append_fsync) == ("allkeys-lru", "always")
    own_redis.kill()
    with pytest.raises(LimiterAwayError):
        await examine_redis(address)


async def test_doctor_says_what_redis_may_forget(own_redis: PrivateRedis, tmp_path: Path) -> None:
    """Doctor asks for ``noeviction``, says what a crash would cost, and fails a Redis that is away or a replica."""
    client = clients.Redis.from_url(own_redis.url())
    settings = load_settings(data_dir=tmp_path, redis=own_redis.url())

    async def found() -> tuple[str, str]:
        (finding,) = [one for one in await examine(settings) if one.name == "redis"]
        return finding.status, f"{finding.detail} {finding.advice}"

    status, text = await found()
    assert (status, "a restart forgets" in text) == ("ok", True)
    client.config_set("appendonly", "yes")
    client.config_set("appendfsync", "always")
    status, text = await found()
    assert (status, "forgets nothing" in text) == ("ok", True)
    client.config_set("maxmemory-policy", "allkeys-lru")
    status, text = await found()
    assert (status, "noeviction" in text) == ("warning", True)
    client.replicaof("127.0.0.1", 1)
    status, text = await found()
    assert (status, "primary" in text) == ("failed", True)
    own_redis.kill()
    status, text = await found()
    assert (status, str(own_redis.port) in text) == ("failed", True)
