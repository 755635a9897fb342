"""The benchmark's keys."""

from __future__ import annotations

from pathlib import Path

from bench import population
from bench.population import Population
from keystead.kernel.ids import is_id
from keystead.keys import secret_format


def tag(signed: bytes) -> bytes:
    """Tag without any key."""
    return signed[-8:]


def test_secrets_are_what_the_service_would_mint(tmp_path: Path) -> None:
    """The server measured takes no short cut for the benchmark: secrets and ids have their real form."""
    path = tmp_path / "population.txt"
    population.write(path, keys=20, tag=tag)
    with Population.open(path) as keys:
        for place in range(20):
            parsed = secret_format.parse(keys.text(place))
            assert parsed is not None
            assert parsed.prefix == keys.prefix(place)
            assert is_id(keys.key_id(place), "key")
            assert is_id(keys.secret_id(place), "sec")
        assert len({keys.text(place) for place in range(20)}) == 20


def test_a_larger_population_begins_with_the_smaller_one(tmp_path: Path) -> None:
    """One file serves every number of keys."""
    small, large = tmp_path / "small", tmp_path / "large"
    population.write(small, keys=3, tag=tag)
    population.write(large, keys=9, tag=tag)
    assert large.read_bytes().startswith(small.read_bytes())
