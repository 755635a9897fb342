"""What a benchmark's servers serve: one population, and a data directory for each number of keys of it.

A data directory begins as everyone's does, with a migration and a first run. Then come the population's first keys, in
bulk: the rows that the repository would write, without units, events and, but for a cold start, bcrypt.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import bcrypt

from bench import population
from bench.population import MADE_AT_MS, SCOPES, Population, metadata_of, name_of, owner_id_of
from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.seed import seed_keys
from keystead.bootstrap import first_run, migrate
from keystead.config import Settings, load_settings
from keystead.keys import secret_format
from keystead.keys.installation import FirstRun
from keystead.keys.model import Key, KeyKind, SecretRecord
from keystead.tenants.model import Environment

MASTER_KEY = bytes(range(32))
"""The benchmark's own master key: what it protects is deleted when the benchmark ends."""

REAL_COST = 6
_SHARED_COST = 4
_FACTS = "bench.json"
_ROOM = 1_000


@dataclass(frozen=True, slots=True)
class Installation:
    """A data directory with ``keys`` keys of the population, and who may ask about them."""

    data_dir: str
    population: str
    keys: int
    workspace_id: str
    management_key: str
    database: str = ""

    def settings(self) -> Settings:
        """Return what a server of it is told: free ports, and a cache that the keys fit into."""
        return settings_for(Path(self.data_dir), self.keys, self.database)

    def save(self) -> None:
        """Write it where ``load`` finds it."""
        Path(self.data_dir, _FACTS).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, data_dir: Path) -> Self:
        """Read what ``save`` wrote."""
        return cls(**json.loads((data_dir / _FACTS).read_text(encoding="utf-8")))


def keyring() -> MasterKeyring:
    """Return what tags the population's secrets."""
    return MasterKeyring([MASTER_KEY])


def write_population(path: Path, keys: int) -> None:
    """Make ``keys`` keys, about 20 µs each, unless an earlier run left as many."""
    if path.exists() and path.stat().st_size >= keys * population.LINE_BYTES:
        return
    population.write(path, keys=keys, tag=keyring().tag)


def install(
    data_dir: Path, population_path: Path, *, keys: int, real_hashes: bool = False, database: str = ""
) -> Installation:
    """Make an installation with the population's first ``keys`` keys, unless an earlier run left it.

    They share one cheap hash, which no secret of theirs fits, unless ``real_hashes``: those take 4 ms each and core.
    """
    used_before = (data_dir / _FACTS).exists()
    if used_before and (left := Installation.load(data_dir)).database == database:
        return left
    data_dir.mkdir(mode=0o700, exist_ok=used_before)
    settings = settings_for(data_dir, keys, database)
    migrate(settings)
    made: list[FirstRun] = []
    asyncio.run(first_run(settings, keep=made.append))
    installation = Installation(
        data_dir=str(data_dir),
        population=str(population_path),
        keys=keys,
        workspace_id=made[0].workspace_id,
        management_key=made[0].management_key.reveal(),
        database=database,
    )
    with Population.open(population_path) as texts:
        asyncio.run(_store(settings.database_url, _keys(texts, installation, real_hashes=real_hashes)))
    installation.save()
    return installation


def settings_for(data_dir: Path, keys: int, database: str = "") -> Settings:
    """Return the settings of a server with room for ``keys`` keys, on free ports."""
    return load_settings(
        data_dir=data_dir,
        database=database,
        master_keys=MASTER_KEY.hex(),
        grpc="127.0.0.1:0",
        http="127.0.0.1:0",
        cached_secrets=keys + _ROOM,
        log_level="error",
    )


def _keys(texts: Population, installation: Installation, *, real_hashes: bool) -> Iterator[Key]:
    places = range(installation.keys)
    if real_hashes:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
            hashes = list(threads.map(lambda place: _hash(texts.text(place)), places))
    else:
        hashes = [bcrypt.hashpw(b"no secret", bcrypt.gensalt(_SHARED_COST)).decode()] * installation.keys
    master_id = keyring().current_id
    for place, hashed in zip(places, hashes, strict=True):
        yield _key(texts, place, workspace_id=installation.workspace_id, master_id=master_id, hashed=hashed)


def _hash(text: str) -> str:
    parsed = secret_format.parse(text)
    if parsed is None:
        raise AssertionError("the population holds what is no secret")
    ring = keyring()
    material = ring.pepper(ring.current_id, parsed.entropy.encode())
    return bcrypt.hashpw(material, bcrypt.gensalt(REAL_COST)).decode()


def _key(texts: Population, place: int, *, workspace_id: str, master_id: str, hashed: str) -> Key:
    made_at_ms = MADE_AT_MS + place
    return Key(
        id=texts.key_id(place),
        workspace_id=workspace_id,
        environment=Environment.LIVE,
        kind=KeyKind.CUSTOMER,
        owner_id=owner_id_of(place),
        name=name_of(place),
        created_at_ms=made_at_ms,
        created_by="bench",
        updated_at_ms=made_at_ms,
        secrets=(SecretRecord(texts.secret_id(place), texts.prefix(place), hashed, master_id, made_at_ms),),
        scopes=SCOPES,
        metadata=metadata_of(place),
    )


async def _store(url: str, keys: Iterable[Key]) -> None:
    database = Database.connect(url)
    try:
        await seed_keys(database, keys)
    finally:
        await database.close()
