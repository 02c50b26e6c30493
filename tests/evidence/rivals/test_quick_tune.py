"""Quick-Tune and DyHPO: what is ours is held to the price, and the real library is asked where it is installed."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.comparison import Scenario
from nni_hyperfd.evidence.curves import CurveScenario, CurveTask
from nni_hyperfd.evidence.price import Priced, stopping_methods
from nni_hyperfd.evidence.rivals.quick_tune import (
    QUICK,
    ByQuickOptimizer,
    DyHPO,
    QuickTune,
    QuickTuneForFew,
    can_pay,
    data_set_numbers,
    frame,
)
from nni_hyperfd.evidence.worlds import WORLDS, make
from nni_hyperfd.spaces.standard import standard_space

LENGTH = 6
every_kind = pytest.mark.parametrize("kind", QUICK, ids=lambda kind: kind.name)


@pytest.fixture(scope="module")
def world() -> CurveScenario:
    return make(WORLDS["φ is worthless"], 0)


class Watched(CurveTask):
    """Notes the trainings that went on, in their order."""

    def __init__(self, *rest: Any) -> None:
        super().__init__(*rest)
        self.steps: list[int] = []

    def go_on(self, index: int) -> float:
        self.steps.append(index)
        return super().go_on(index)


def searched(
    kind: type[ByQuickOptimizer],
    world: CurveScenario,
    price: int,
    curves: np.ndarray | None = None,
    seed: int = 0,
) -> Watched:
    method = kind()
    method.reset(world.offline, seed)
    shown = world.curves[0] if curves is None else curves
    task = Watched(world.looks[0], shown, price * LENGTH, len(world.offline.described))
    method.search(task)
    return task


def test_all_are_lines_by_price() -> None:
    lines = stopping_methods()
    assert {kind.name for kind in QUICK} == {"quick-tune", "quick-tune, for few curves", "dyhpo"}
    assert [lines[kind.name].settings for kind in QUICK] == [kind.settings() for kind in QUICK]
    assert all(lines[kind.name].trains for kind in QUICK), (
        "what takes long is played at fewer prices, and last"
    )


@every_kind
def test_a_missing_library_is_said_before_anything_is_run(
    kind: type[ByQuickOptimizer], world: CurveScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "qtt"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "qtt", None)
    with pytest.raises(DataError, match=rf"{kind.name} needs pip install -e \.\[quicktune\]"):
        kind().reset(world.offline, 0)


def test_a_line_of_the_frame_is_a_training_and_what_its_data_set_looks_like() -> None:
    found = frame(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0], [6.0]]))
    assert list(found.columns) == ["c0", "c1", "m0"]
    assert found.to_numpy().tolist() == [[1.0, 2.0, 5.0], [3.0, 4.0, 6.0]]
    # The library joins what it adds by the lines' numbers, and takes text for choices.
    assert found.index.tolist() == [0, 1]
    assert {str(kind) for kind in found.dtypes} == {"float64"}


def test_where_there_are_images_their_statistics_are_known(scenario: Scenario) -> None:
    profile = scenario.profiles[0]
    assert data_set_numbers(np.array([7.0]), None).tolist() == [7.0]
    assert data_set_numbers(np.array([7.0]), profile).tolist() == [7.0, *profile.statistics]


def test_as_much_is_kept_as_the_end_of_whoever_is_the_best_takes() -> None:
    task = CurveTask(np.zeros(0), np.full((3, 4), 0.5), 7)
    assert can_pay(task, 0, None)
    task.train(0, 2)
    # Five are left: another begins with one of them, and whichever of the two is ended then needs three at most.
    assert can_pay(task, 1, 0)
    task.train(1, 1)
    assert can_pay(task, 0, 0)
    assert can_pay(task, 2, 0)
    task.train(2, 1)
    # Three: a fourth beginning would leave two, and 0 needs two, but 1 would need two more after its own next one.
    assert can_pay(task, 1, 0)
    task.train(1, 2)
    assert not can_pay(task, 2, 0), "one would be left, and the one that went on may be the best then"
    assert not can_pay(task, 1, 0), "one would be left, and 0 needs two"
    assert can_pay(task, 0, 0)


@every_kind
@pytest.mark.parametrize("price", [1, 3])
def test_the_price_is_spent_and_not_exceeded_and_something_is_in_hand(
    kind: type[ByQuickOptimizer], price: int, world: CurveScenario
) -> None:
    pytest.importorskip("qtt")
    task = searched(kind, world, price)
    assert task.hand[-1]
    assert 0 <= task.left < LENGTH
    assert int((~np.isnan(task.seen)).sum()) + task.left == price * LENGTH
    assert len(task.steps) == price * LENGTH - task.left, "each is paid for once"


@every_kind
def test_nothing_of_the_customer_is_seen_before_it_is_paid_for(
    kind: type[ByQuickOptimizer], world: CurveScenario
) -> None:
    """With all that was not paid for made another, the same is done."""
    pytest.importorskip("qtt")
    first = searched(kind, world, 2)
    unseen = np.isnan(first.seen[: first.candidates])
    assert unseen.any()
    others = np.where(unseen, 1.0 - world.curves[0], world.curves[0])
    second = searched(kind, world, 2, others)
    assert second.steps == first.steps
    np.testing.assert_array_equal(second.seen, first.seen)


@every_kind
def test_what_a_customer_showed_decides_what_goes_on(
    kind: type[ByQuickOptimizer], world: CurveScenario
) -> None:
    pytest.importorskip("qtt")
    assert searched(kind, world, 2).steps != searched(kind, world, 2, 1.0 - world.curves[0]).steps


@every_kind
def test_it_goes_on_past_failures_until_everything_is_trained(
    kind: type[ByQuickOptimizer], world: CurveScenario
) -> None:
    pytest.importorskip("qtt")
    curves = world.curves[0, :5].copy()
    curves[[0, 3]] = np.nan
    task = searched(kind, world, 10, curves)
    assert task.failed.tolist() == [True, False, False, True, False, *[True] * (len(task.seen) - 5)]
    assert task.left == 10 * LENGTH - 3 * LENGTH, "what failed costs nothing"
    assert searched(kind, world, 10, np.full((4, LENGTH), np.nan)).hand == []


@every_kind
def test_a_run_depends_on_its_seed_alone_and_leaves_no_trace(
    kind: type[ByQuickOptimizer], world: CurveScenario
) -> None:
    perf = pytest.importorskip("qtt.predictors.perf")
    before = (
        random.getstate(),
        torch.random.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        perf.DataLoader,
    )
    steps = [searched(kind, world, 2, seed=seed).steps for seed in (1, 1, 2)]
    after = (
        random.getstate(),
        torch.random.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        perf.DataLoader,
    )
    assert steps[0] == steps[1]
    if kind.STARTS:
        # Without random beginnings two seeds may well decide alike.
        assert steps[1] != steps[2]
    assert before == after


def test_the_offline_curves_teach_what_is_begun_first(world: CurveScenario) -> None:
    """Where one configuration was the best of all data sets, with all of its curve, it is gone on with first."""
    pytest.importorskip("qtt")
    aps = np.full_like(world.offline.aps, 0.1)
    aps[:, 7] = 0.9
    one = replace(world, offline=replace(world.offline, aps=aps))
    assert searched(QuickTuneForFew, one, 1).steps[0] == 7


def test_every_customer_begins_with_the_same_predictor(scenario_of: Callable[..., Scenario]) -> None:
    pytest.importorskip("qtt")
    found = scenario_of(tasks=2, offline=6)
    below = np.array([0.2, 0.1, 0.0])
    curves, offline = (each[..., None] - below for each in (found.choose.T, found.experience.aps))
    played = Priced(found, curves, offline).played(standard_space("hpo"))
    method = QuickTune()
    method.reset(played.offline, 0)
    before = {name: each.clone() for name, each in method._now.model.state_dict().items()}
    assert len(method._now.original_features) == played.offline.described.shape[1] + len(
        found.profiles[0].statistics
    )
    method.search(played.customer(0, 9))
    after = method._now.model.state_dict()
    assert all(torch.equal(each, after[name]) for name, each in before.items())
    assert not hasattr(DyHPO(), "_now")
