"""What is measured by price is what is shipped: the rivals do, trial by trial, what a platform and the advisor would."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.comparison import Scenario
from nni_hyperfd.evidence.curves import CurveScenario, CurveTask, play
from nni_hyperfd.evidence.price import Priced
from nni_hyperfd.evidence.rivals.hyperfd import features_of
from nni_hyperfd.evidence.rivals.hyperfd_mf import HyperFDMF
from nni_hyperfd.evidence.rivals.task_aware import TaskAwareHalving, TaskAwareHyperband, play_anew
from nni_hyperfd.evidence.table import parameters_of
from nni_hyperfd.evidence.worlds import WORLDS, make
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.protocol.messages import BegunTraining, Progress
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.recommendation.brackets import Rung, hyperband
from nni_hyperfd.recommendation.foresight import Foresight
from nni_hyperfd.spaces.standard import standard_search_space, standard_space

SPACE = standard_space("hpo")
LENGTH = 4
QUICK = RankerSettings(batches=4, images=8, warmup_epochs=3, warmup_lists=16, learning_rate=1e-3)
FROZEN = replace(QUICK, mode="freeze_all")


@pytest.fixture(scope="module")
def scenario(scenario_of: Callable[..., Scenario]) -> CurveScenario:
    """All of the standard space with curves; customers have just as many images as a sample, so that φ does not depend on the draw."""
    found = scenario_of(tasks=3, offline=14)
    profiles = tuple(replace(each, members=each.members[: QUICK.images]) for each in found.profiles)
    # Float32 is what a platform keeps.
    below = np.array([0.2, 0.1, 0.04, 0.0], dtype=np.float32)
    curves, offline = (
        (each[..., None] - below * (0.5 + each[..., None])).astype(np.float32).astype(np.float64)
        for each in (found.choose.T, found.experience.aps)
    )
    return Priced(replace(found, profiles=profiles), curves, offline).played(SPACE)


class Watched(CurveTask):
    """Notes what is trained, until how many validations."""

    def __init__(self, *rest: Any) -> None:
        super().__init__(*rest)
        self.trials: list[tuple[int, int]] = []

    def train(self, index: int, validations: int) -> bool:
        self.trials.append((index, validations))
        return super().train(index, validations)


def watched(scenario: CurveScenario, number: int, price: int, curves: np.ndarray | None = None) -> Watched:
    shown = scenario.curves[number] if curves is None else curves
    known = len(scenario.offline.described)
    return Watched(scenario.looks[number], shown, price * LENGTH, known, scenario.profiles[number])


def test_hyperfd_mf_and_a_platform_train_the_same(scenario: CurveScenario, tmp_path: Path) -> None:
    """Three customers one after the other, the first training of the second one failed."""
    price, curves = 3, scenario.curves.copy()
    rival = HyperFDMF(SPACE, FROZEN)
    rival.reset(scenario.offline, 0)
    tasks = []
    for number in range(3):
        task = watched(scenario, number, price, curves[number])
        if number == 1:
            curves[1, tasks[0].trials[0][0]] = np.nan
        rival.search(task)
        tasks.append(task)
    assert tasks[0].trials[0][1] == LENGTH
    assert {stop for _, stop in tasks[0].trials[1:]} > {1, 2}
    assert tasks[1].failed.any()
    assert all(task.left < LENGTH for task in tasks)

    rival.reset(scenario.offline, 0)
    platform = Platform.create(tmp_path / "platform", rival._platform.ranker, rival._known, "base", FROZEN)
    assert scenario.offline.known is not None
    texts = scenario.offline.known.configurations
    for number, task in enumerate(tasks):
        client = TaskClient(platform, features_of(scenario.profiles[number]), "base")
        opened = client.open(f"customer{number}", standard_search_space("hpo"))
        begun: dict[int, BegunTraining] = {}
        for index, stop in task.trials:
            left = price * LENGTH - sum(len(each.aps) for each in begun.values())
            progress = Progress(validations=LENGTH, left=left, trainings=tuple(begun.values()))
            found = client.recommend(opened, price, method="hyperfd-mf", progress=progress)
            assert SPACE.parse(found.configurations[0].parameters) == SPACE.parse(parameters_of(texts[index]))
            aps = curves[number, index, :stop]
            failed = bool(np.isnan(aps).any())
            begun[index] = BegunTraining(
                parameters=parameters_of(texts[index]),
                aps=() if failed else tuple(aps.tolist()),
                state="failed" if failed else "stopped",
            )
        for training in begun.values():
            client.record(opened, training.parameters, **_recorded(training))
        client.update(opened)
    platform.close()


def _recorded(training: BegunTraining) -> Mapping[str, Any]:
    aps = training.aps
    points = [((number + 1) / LENGTH, ap) for number, ap in enumerate(aps)]
    return {"ap": max(aps) if len(aps) == LENGTH else None, "curve": points}


@pytest.mark.parametrize(
    "kind", [HyperFDMF, TaskAwareHyperband, TaskAwareHalving], ids=lambda kind: kind.name
)
def test_the_ranker_goes_on_learning_and_runs_repeat(kind: type, scenario: CurveScenario) -> None:
    method = kind(SPACE, QUICK, warm_ups=1)
    first = play(method, scenario, (2,), (0, 1)).rank
    assert np.isfinite(first).all()
    moved = [task.offline_phi for task in method._platform.past]
    assert len(moved) == 3
    assert not np.allclose(moved[0], moved[-1])
    np.testing.assert_array_equal(play(method, scenario, (2,), (1,)).rank[0, 0], first[0, 1])


def test_one_foresight_a_version(scenario: CurveScenario, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Foresight] = []
    begin = Foresight.__init__
    monkeypatch.setattr(Foresight, "__init__", lambda self, *rest: made.append(self) or begin(self, *rest))
    play(HyperFDMF(SPACE, QUICK), scenario, (1,), (0,))
    assert len(made) == 3


def test_what_the_ranker_learns_from(scenario: CurveScenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of hyperfd-mf the trainings that came to their end, of the advisor the longest one of each configuration."""
    for kind, expected in ((HyperFDMF, [3]), (TaskAwareHalving, [5, 3])):

        def by_hand(self: Any, task: CurveTask, features: Any) -> None:
            task.train(5, 2)
            task.train(3, LENGTH)

        method, task = kind(SPACE, QUICK), watched(scenario, 0, 3)
        monkeypatch.setattr(kind, "_play", by_hand)
        method.reset(scenario.offline, 0)
        method.search(task)
        taught = method._platform.past[0].trials.aps
        assert taught.tolist() == pytest.approx([np.nanmax(task.seen[index]) for index in expected])


def test_brackets_are_played_as_the_advisor_plays_them() -> None:
    """The same example as in tests/plugin/test_advisor.py, whose trainings are listed there."""
    brackets = hyperband(9, 2, 4)
    value = np.array([(place * 37 % 100) / 100 for place in range(20)])
    task = Watched(np.zeros(0), np.repeat(value[:, None], 4, axis=1), 36)
    for bracket, population in zip(brackets, [[6, 7, 8, 9], [3, 4, 5], [0, 1, 2]]):
        play_anew(task, bracket, population)
    first = [(6, 1), (7, 1), (8, 1), (9, 1), (8, 2), (7, 2), (8, 4)]
    second, third = [(3, 2), (4, 2), (5, 2), (5, 4)], [(0, 4), (1, 4), (2, 4)]
    assert task.trials == [*first, *second, *third]
    assert 36 - task.left == sum(epochs for _, epochs in task.trials), "a longer training begins anew"


def test_a_failed_training_gives_its_place_to_the_next() -> None:
    curves = np.repeat(np.array([np.nan, 0.2, 0.3])[:, None], 4, axis=1)
    task = Watched(np.zeros(0), curves, 36)
    play_anew(task, [Rung(2, 2), Rung(1, 4)], [0, 1, 2])
    assert task.trials == [(0, 2), (1, 2), (2, 2), (2, 4)]


def test_the_recommended_begin_with_the_longest_trainings(scenario: CurveScenario) -> None:
    method = TaskAwareHyperband(SPACE, FROZEN)
    method.reset(scenario.offline, 0)
    order = method._platform.recommended(features_of(scenario.profiles[0]), 216, 10)
    task = watched(scenario, 0, 9)
    method.search(task)
    assert [index for index, _ in task.trials[:7]][:4] == order[6:10]
    assert task.trials[-3:] == [(index, LENGTH) for index in order[:3]]


def test_a_world_without_images_is_refused() -> None:
    world = make(WORLDS["φ is worthless"], 0)
    with pytest.raises(DataError, match=r"hyperfd-mf looks at images, and this is a world without any"):
        HyperFDMF(SPACE, QUICK).reset(world.offline, 0)
