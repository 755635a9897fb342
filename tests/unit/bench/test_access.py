"""Which keys the benchmark asks for."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.access import ZIPF_EXPONENT, Access, draw, zipf_weights


def test_the_first_rank_is_asked_for_as_often_as_zipf_says() -> None:
    """The second rank has 1 / 2^s of the first one's weight, the tenth 1 / 10^s."""
    weights = zipf_weights(10)
    assert weights[0] == 1.0
    assert weights[1] == pytest.approx(2**-ZIPF_EXPONENT)
    assert weights[9] == pytest.approx(10**-ZIPF_EXPONENT)


def test_zipf_draws_follow_the_weights() -> None:
    """Of many draws the commonest key has its share, and the next one 1 / 2^s of that, within the noise of sampling."""
    draws = 200_000
    counts = [count for _, count in Counter(draw("zipf", keys=1_000, count=draws, seed=7)).most_common(2)]
    weights = zipf_weights(1_000)
    assert counts[0] / draws == pytest.approx(weights[0] / sum(weights), rel=0.05)
    assert counts[1] / counts[0] == pytest.approx(weights[1], rel=0.05)


def test_the_commonest_keys_are_not_neighbours() -> None:
    """Ranks are dealt out over the keys, so common keys do not share memory for having been made together."""
    common = [place for place, _ in Counter(draw("zipf", keys=10_000, count=50_000, seed=3)).most_common(20)]
    assert max(common) - min(common) > 5_000


def test_uniform_draws_favour_nobody() -> None:
    """Every key is drawn about as often as every other."""
    counts = Counter(draw("uniform", keys=10, count=100_000, seed=1))
    assert sorted(counts) == list(range(10))
    assert max(counts.values()) / min(counts.values()) < 1.1


def test_once_means_once() -> None:
    """Each key is drawn a single time, and no more than there are."""
    assert sorted(draw("once", keys=100, count=1_000, seed=1)) == list(range(100))
    assert len(set(draw("once", keys=100, count=30, seed=1))) == 30


@pytest.mark.parametrize("access", ("zipf", "uniform", "once"))
def test_draws_can_be_repeated(access: Access) -> None:
    """A seed names one run's calls; another seed gives others."""
    one, same, other = (list(draw(access, keys=1_000, count=100, seed=seed)) for seed in (1, 1, 2))
    assert one == same != other
