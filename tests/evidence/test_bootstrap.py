"""The bootstrap over customers against all draws there are, written out."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from nni_hyperfd.evidence.bootstrap import bootstrap
from nni_hyperfd.evidence.comparison import Outcome, over_customers, paired_over_customers
from nni_hyperfd.evidence.halves import DESIGN, UNTOUCHED, halves, only
from nni_hyperfd.evidence.page import duels

TASKS = ("a", "b", "c", "d")


def outcome(name: str, rank: np.ndarray, ap: np.ndarray) -> Outcome:
    """Ranks and APs ``[seeds, 4]`` at B = 4; random search reaches 0.5 everywhere."""
    return Outcome(name, "s", TASKS, (4,), rank[None], ap[None], np.full((1, 4), 0.5))


def test_the_interval_is_that_of_all_draws() -> None:
    """Four customers can be drawn in 4⁴ = 256 ways, all alike: the percentiles of their means are the exact bootstrap."""
    values = np.array([1.0, 4.0, 9.0, 30.0])
    means = np.sort([np.mean(draw) for draw in product(values, repeat=4)])
    found = bootstrap(values)
    # 10 000 draws tell the 2.5 % quantile to within .2 %: between the exact quantiles at 2.2 and 2.8 %, and likewise above.
    assert np.quantile(means, 0.022) <= found.low <= np.quantile(means, 0.028)
    assert np.quantile(means, 0.972) <= found.high <= np.quantile(means, 0.978)
    assert found.mean == 11.0


def test_differences_are_paired_by_customer_and_the_gain_is_a_sum() -> None:
    rng = np.random.default_rng(0)
    rank, ap = rng.uniform(0, 100, (3, 4)), rng.uniform(0.2, 0.9, (3, 4))
    # The second method has one seed less: only the two that both have count.
    ours, other = outcome("ours", rank, ap), outcome("other", rank[:2] + np.arange(1.0, 5.0), ap[:2] - 0.01)
    difference, gain = paired_over_customers(ours, other, 4)
    assert difference.mean == pytest.approx(-2.5)
    draws = np.sort([np.mean(draw) for draw in product([-1, -2, -3, -4], repeat=4)])
    assert np.quantile(draws, 0.02) <= difference.low <= np.quantile(draws, 0.03)
    assert difference.excludes_zero
    # 1 AP point on each of four customers, whoever is drawn.
    assert (gain.mean, gain.low, gain.high) == pytest.approx((4.0, 4.0, 4.0))
    alone, summed = over_customers(ours, 4)
    assert alone.mean == pytest.approx(rank.mean())
    assert summed.mean == pytest.approx(100 * (ap - 0.5).sum(axis=1).mean())
    # Unpaired, what makes a customer hard for both would hide the difference.
    assert alone.high - alone.low > difference.high - difference.low


def test_two_verdicts_stand_side_by_side() -> None:
    """All seeds agree that ours is better in the mean, but one customer of four makes the whole lead."""
    even = np.full((3, 4), 10.0)
    ours = outcome("ours", even, even / 100)
    lucky = outcome("lucky", even + np.array([20.0, 0.0, -1.0, 0.0]), even / 100)
    (row,) = duels(ours, [lucky]).splitlines()[2:]
    assert row.endswith("| 1 of 4 | ahead | even |")
    assert "| -4.75 ± 0.00 |" in row


def test_the_halves_are_six_and_six_and_leave_out_nobody() -> None:
    assert len(DESIGN) == len(UNTOUCHED) == len({*DESIGN, *UNTOUCHED}) / 2 == 6
    found = halves(("cats", "mine", "weather"))
    assert found == {"design": ["cats"], "untouched": ["mine", "weather"]}
    rank = np.arange(4.0)[None]
    np.testing.assert_array_equal(only(outcome("x", rank, rank), ["c", "a"]).rank, [[[2.0, 0.0]]])
