"""Learning curves played by price, and the synthetic worlds."""

from __future__ import annotations

import numpy as np
import pytest

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.comparison import Outcome
from nni_hyperfd.evidence.curves import (
    CurveTask,
    EveryEpochCounts,
    curve_methods,
    curves_of,
    gains_by_price,
    play,
)
from nni_hyperfd.evidence.table import LookupTable, Row
from nni_hyperfd.evidence.worlds import WORLDS, make

CURVES = np.array([[0.1, 0.2, 0.5], [0.3, 0.35, 0.4], [np.nan] * 3])


def test_price_counts_validations_and_only_what_ended_is_in_hand() -> None:
    task = CurveTask(np.zeros(0), CURVES, 6)
    assert task.go_on(1) == 0.3
    assert task.go_on(0) == 0.1
    assert task.hand == [[], []]
    assert np.isnan(task.go_on(2))
    assert task.left == 4
    with pytest.raises(DataError, match="cannot go on"):
        task.go_on(2)
    # Each goes on from where it was left.
    assert [task.go_on(1) for _ in range(2)] == [0.35, 0.4]
    assert task.hand[-1] == [1]
    assert [task.go_on(0) for _ in range(2)] == [0.2, 0.5]
    assert task.hand[-1] == [0]
    with pytest.raises(DataError, match="cannot go on"):
        task.go_on(0)


def test_curves_of_rows_find_their_places() -> None:
    def row(name: str, text: str, curve: tuple[tuple[float, float], ...]) -> Row:
        return Row("hpo", name, text, "curves", 0, 0.5, 0.5, 0.5, 1.0, "cpu", "1", curve=curve)

    whole = LookupTable([row("a", "x", ((0.5, 0.25), (1.0, 0.5))), row("b", "y", ((0.5, 0.75),))])
    found = curves_of(whole, ["x", "y"], ["a", "b"])
    np.testing.assert_array_equal(found[0, 0], [0.25, 0.5])
    assert np.isnan(found[[0, 1, 1], [1, 0, 1]]).all()
    with pytest.raises(DataError, match="no row has a learning curve"):
        curves_of(LookupTable([row("a", "x", ())]), ["x"], ["a"])


def test_gains_are_those_of_each_price_over_random_search() -> None:
    rank, ap = (
        np.array([[first], [second]])
        for first, second in (([50.0, 10.0], [25.0, 5.0]), ([0.5, 0.6], [0.7, 0.8]))
    )
    outcome = Outcome("ours", "made up", ("a", "b"), (1, 4), rank, ap, np.array([[0.4, 0.6], [0.6, 0.6]]))
    assert gains_by_price([outcome], (1, 2, 4)).splitlines()[-1] == "| ours | +10.0 | – | +30.0 |"


def test_a_world_is_its_seed() -> None:
    first, again, other = (make(WORLDS["φ is everything"], seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.curves, again.curves)
    assert not np.array_equal(first.curves, other.curves)


def test_the_trap_is_a_trap_and_the_method_does_not_fall_into_it() -> None:
    """Where trainings that end well begin badly, the best by early AP ends among the worst."""
    world = make(WORLDS["early is opposite"], 0)
    early = [np.corrcoef(each[:, 0], each[:, -1])[0, 1] for each in world.curves]
    assert max(early) < -0.3
    ranks = {each.name: play(each, world, (4,), (0,)).rank.mean() for each in curve_methods()}
    assert ranks["probes, by early AP"] > 30 > 12 > ranks["every epoch"]


@pytest.mark.parametrize("name", list(WORLDS))
def test_never_far_behind_a_portfolio(name: str) -> None:
    """At the price of one training it has in hand about what a portfolio has; at four it is at most a few points behind."""
    world = make(WORLDS[name], 1)
    portfolio = next(each for each in curve_methods() if each.name == "portfolio")
    ours, theirs = (play(each, world, (1, 4), (0,)).rank for each in (EveryEpochCounts(), portfolio))
    # Its portfolio is made of what the process makes of the measured trainings, not of these themselves.
    assert ours[0].mean() - theirs[0].mean() < 4.0
    assert ours[1].mean() - theirs[1].mean() < 8.0
