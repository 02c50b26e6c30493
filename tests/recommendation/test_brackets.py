"""The sizes of Hyperband's brackets, and which configurations belong to each."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nni_hyperfd.detection.training.budgets import BUDGETS, shortened
from nni_hyperfd.recommendation.brackets import (
    Rung,
    best_first,
    hyperband,
    most_brackets,
    populations,
    price,
    recommended,
    rungs,
)


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


def test_the_table_of_the_paper() -> None:
    """Li et al. 2018, Algorithm 1 with R = 81 and η = 3, by hand: n = ⌈5 · 3^s / (s + 1)⌉, n_i = ⌊n / 3^i⌋, r_i = 81 / 3^(s − i)."""
    assert hyperband(25, 3, 81) == [
        [Rung(81, 1), Rung(27, 3), Rung(9, 9), Rung(3, 27), Rung(1, 81)],
        [Rung(34, 3), Rung(11, 9), Rung(3, 27), Rung(1, 81)],
        [Rung(15, 9), Rung(5, 27), Rung(1, 81)],
        [Rung(8, 27), Rung(2, 81)],
        [Rung(5, 81)],
    ]


@pytest.mark.parametrize(
    ("budget", "eta", "longest", "step", "count", "expected"),
    [
        (1, 2, 6, 1, "all", [[Rung(1, 6)]]),
        (3, 2, 6, 1, "all", [[Rung(4, 1), Rung(2, 3), Rung(1, 6)]]),
        (4, 2, 6, 1, "all", [[Rung(2, 3), Rung(1, 6)], [Rung(2, 6)]]),
        (9, 2, 6, 1, "all", [[Rung(4, 1), Rung(2, 3), Rung(1, 6)], [Rung(3, 3), Rung(1, 6)], [Rung(3, 6)]]),
        # Two brackets may cost four trainings of 8 epochs each, and both cost 32.
        (
            8,
            2,
            8,
            1,
            2,
            [[Rung(8, 1), Rung(4, 2), Rung(2, 4), Rung(1, 8)], [Rung(6, 2), Rung(3, 4), Rung(1, 8)]],
        ),
        # Every second epoch is validated, so there is no third bracket; of the second's ⌈9/2⌉ trainings four are paid for.
        (9, 3, 6, 2, "all", [[Rung(7, 2), Rung(2, 6)], [Rung(4, 6)]]),
        (5, 2, 6, 1, 1, [[Rung(4, 1), Rung(2, 3), Rung(1, 6)]]),
    ],
)
def test_brackets_by_hand(
    budget: int, eta: int, longest: int, step: int, count: int | str, expected: list[list[Rung]]
) -> None:
    assert hyperband(budget, eta, longest, step, count) == expected  # type: ignore[arg-type]


def test_k_brackets_want_k_squared_trainings_and_k_lengths() -> None:
    assert [most_brackets(budget, 2, 1000) for budget in (3, 4, 8, 9)] == [1, 2, 2, 3]
    assert [most_brackets(100, 2, longest, 5) for longest in (5, 9, 10, 20)] == [1, 1, 2, 3]


@given(
    budget=st.integers(1, 120),
    eta=st.integers(2, 5),
    longest=st.integers(1, 2000),
    step=st.integers(1, 20),
    count=st.integers(1, 6) | st.just("all"),
)
def test_all_brackets_cost_no_more_than_the_budget(
    budget: int, eta: int, longest: int, step: int, count: int | str
) -> None:
    longest = max(longest, step)
    most = most_brackets(budget, eta, longest, step)
    count = count if count == "all" else min(int(count), most)
    found = hyperband(budget, eta, longest, step, count)  # type: ignore[arg-type]
    assert len(found) == (most if count == "all" else count)
    assert sum(map(price, found)) <= budget * longest
    for before, after in itertools.pairwise(found):
        assert len(before) == len(after) + 1
    for bracket in found:
        assert bracket[-1].epochs == longest // step * step
        assert all(rung.count >= 1 and rung.epochs % step == 0 for rung in bracket)
        for below, above in itertools.pairwise(bracket):
            assert below.count // eta == above.count, "each rung keeps the best 1/eta"
            assert below.epochs < above.epochs
    if count == "all" and len(found) > 1:
        assert len(found[-1]) == 1, "the last one trusts no early result"


@given(budget=st.integers(1, 60), eta=st.integers(2, 4), share=st.floats(0, 1), length=st.integers(0, 400))
def test_every_configuration_belongs_to_one_bracket(budget: int, eta: int, share: float, length: int) -> None:
    brackets = hyperband(budget, eta, 81)
    found = populations(brackets, share, length)
    assert sorted(place for places in found for place in places) == list(range(length))
    best = [recommended(each, share) for each in brackets]
    total = sum(each[0].count for each in brackets)
    if length < total:
        return
    for number, (bracket, places) in enumerate(zip(brackets, found)):
        # Brackets that begin with longer trainings were served first, with the best.
        served = sum(best[number + 1 :])
        assert places[: best[number]] == list(range(served, served + best[number]))
        drawn = places[best[number] : bracket[0].count]
        assert all(sum(best) <= place < total for place in drawn)
        assert all(place >= total for place in places[bracket[0].count :])


def test_a_share_is_what_it_says() -> None:
    assert [recommended([Rung(10, 1)], share) for share in (0.0, 0.01, 0.5, 0.7, 1.0)] == [0, 1, 5, 7, 10]


def test_those_that_go_on_are_the_best_and_equals_keep_their_order() -> None:
    assert best_first([4, 2, 7, 5], {2: 0.5, 4: 0.5, 5: 0.9}) == [5, 4, 2]
