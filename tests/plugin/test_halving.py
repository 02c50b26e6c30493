"""The sizes of successive halving."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nni_hyperfd.detection.training.budgets import BUDGETS
from nni_hyperfd.plugin.halving import Rung, rungs
from nni_hyperfd.trial import shortened


@pytest.mark.parametrize(
    ("budget", "eta", "longest", "expected"),
    [
        (1, 2, 6, [Rung(1, 6)]),
        (2, 2, 6, [Rung(2, 3), Rung(1, 6)]),
        (4, 2, 6, [Rung(4, 1), Rung(2, 3), Rung(1, 6)]),
        (4, 3, 6, [Rung(6, 2), Rung(2, 6)]),
        (4, 2, 1000, [Rung(8, 125), Rung(4, 250), Rung(2, 500), Rung(1, 1000)]),
        (9, 3, 9, [Rung(27, 1), Rung(9, 3), Rung(3, 9)]),
        (4, 2, 1, [Rung(4, 1)]),
    ],
)
def test_known_sizes(budget: int, eta: int, longest: int, expected: list[Rung]) -> None:
    assert rungs(budget, eta, longest) == expected


@given(
    budget=st.integers(1, 40), eta=st.integers(2, 5), longest=st.integers(1, 2000), step=st.integers(1, 20)
)
def test_all_rungs_cost_no_more_than_the_budget(budget: int, eta: int, longest: int, step: int) -> None:
    longest = max(longest, step)
    found = rungs(budget, eta, longest, step)
    assert sum(rung.count * rung.epochs for rung in found) <= budget * longest
    assert found[-1].epochs == longest // step * step
    assert all(rung.epochs >= step and rung.epochs % step == 0 for rung in found)
    for below, above in itertools.pairwise(found):
        assert below.count == above.count * eta
        assert below.epochs < above.epochs


@pytest.mark.parametrize("eta", [2, 3])
@pytest.mark.parametrize("name", BUDGETS)
def test_what_trials_really_train_is_what_was_promised(name: str, eta: int) -> None:
    """A trial goes on to its next validation: paper cost 9000 epochs of 8000 allowed, table trained six epochs three times."""
    trial = BUDGETS[name]
    for budget in range(1, 41):
        found = rungs(budget, eta, trial.epochs, trial.validate_every)
        trained = [shortened(trial, rung.epochs).epochs for rung in found]
        assert trained == [rung.epochs for rung in found]
        assert sum(rung.count * epochs for rung, epochs in zip(found, trained)) <= budget * trial.epochs
        assert trained == sorted(set(trained))
