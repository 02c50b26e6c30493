"""Rivals that leave trainings: sizes against NNI's own brackets, steps against what was worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nni.algorithms.hpo.hyperband_advisor import Bracket

from nni_hyperfd.evidence.curves import CurveTask
from nni_hyperfd.evidence.rivals.early_stopping import (
    ASHA,
    STOPPERS,
    Hyperband,
    SuccessiveHalving,
    brackets,
    density,
    play_bracket,
    price_of,
    promotable,
)
from nni_hyperfd.evidence.worlds import WORLDS, make


@given(longest=st.integers(2, 100), eta=st.integers(2, 5))
def test_brackets_are_those_of_nni(longest: int, eta: int) -> None:
    ours = brackets(longest, eta)
    for number, rungs in enumerate(ours):
        theirs = Bracket(number, len(ours) - 1 - number, len(ours) - 1, eta, longest, "maximize")
        for i, rung in enumerate(rungs):
            theirs.i = i
            assert rung == theirs.get_n_r()
    assert len(ours[-1]) == 1


def test_a_round_of_six_validations_by_hand() -> None:
    assert brackets(6) == [[(3, 2), (1, 6)], [(2, 6)]]
    assert [price_of(each) for each in brackets(6)] == [3 * 2 + 4, 12]


CURVES = np.array(
    [
        [0.1, 0.2, 0.2, 0.2, 0.2, 0.9],
        [0.1, 0.4, 0.4, 0.4, 0.4, 0.5],
        [0.1, 0.3, 0.3, 0.3, 0.3, 0.6],
        [np.nan] * 6,
        [0.5, 0.5, 0.5, 0.5, 0.5, 0.7],
    ]
)


def test_a_bracket_resumes_and_a_failed_training_gives_its_place_to_the_next() -> None:
    task = CurveTask(np.zeros(0), CURVES, 10)
    play_bracket(task, brackets(6)[0], iter([3, 0, 1, 2, 4]))
    # 3 fails at no price; 0, 1 and 2 take two validations each, and 1, the best then, four more.
    assert task.failed.tolist() == [False, False, False, True, False]
    assert (~np.isnan(task.seen)).sum(axis=1).tolist() == [2, 6, 2, 0, 0]
    assert (task.left, task.hand[-1]) == (0, [1])


def test_asha_promotes_the_best_third_of_a_rung_once() -> None:
    seen = np.full((4, 6), np.nan)
    seen[:2, :2] = CURVES[:2, :2]
    assert promotable(seen, [2, 6]) is None
    seen[2, :2] = CURVES[2, :2]
    assert promotable(seen, [2, 6]) == (1, 6)
    seen[1] = CURVES[1]
    assert promotable(seen, [2, 6]) is None


def test_the_density_is_a_product_of_normal_kernels() -> None:
    points = np.array([[0.0, 0.2], [0.4, 0.6], [1.0, 0.5]])
    at = np.array([0.3, 0.3])
    width = 1.06 * points.std(axis=0) * 3 ** (-1 / 6)
    each = np.exp(-0.5 * ((at - points) / width) ** 2) / width
    assert density(at[None], points)[0] == pytest.approx(each.prod(axis=1).mean())


@pytest.mark.parametrize("kind", STOPPERS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("price", [1, 2, 5])
def test_all_of_the_price_is_spent_and_something_is_in_hand(kind: type, price: int) -> None:
    world = make(WORLDS["φ is worthless"], 0)
    method = kind()
    for seed in range(3):
        method.reset(world.offline, seed)
        task = CurveTask(world.looks[0], world.curves[0], price * 6)
        method.search(task)
        assert task.hand[-1]
        # Less is left than a training would take to its end.
        assert task.left < 6


def test_what_is_known_elsewhere_alone_is_never_tried() -> None:
    world = make(WORLDS["φ is worthless"], 0)
    for kind in (SuccessiveHalving, Hyperband, ASHA):
        method = kind()
        method.reset(world.offline, 0)
        task = CurveTask(world.looks[0], world.curves[0, :5], 60, known=24)
        method.search(task)
        assert np.isnan(task.seen[5:]).all()
        assert task.left == 30, "all five are trained to their end"
