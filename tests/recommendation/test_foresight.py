"""The method hyperfd-mf on a platform: what it goes on with, what moves it, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.protocol.messages import BegunTraining, Progress, RecommendRequest, Subject
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.offline import OfflineData, RankedList
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.update import PastTask
from nni_hyperfd.recommendation.foresight import Foresight, at_times
from nni_hyperfd.recommendation.gaussian import every_epoch
from nni_hyperfd.recommendation.gaussian.description import describe
from nni_hyperfd.recommendation.gaussian.task_process import TaskProcess
from nni_hyperfd.spaces.standard import standard_search_space, standard_space

HPO = standard_space("hpo")


class Nobody:
    """No task is finished."""

    def of_space(self, space_key):
        return []


@pytest.fixture(scope="module")
def world(offline: OfflineData) -> OfflineData:
    """The higher the learning rate, the lower a training begins and the higher it ends."""
    experience = offline.experience[HPO.key]
    rates = describe(HPO, experience.encodings)[experience.configurations.numpy(), 1]
    ends = 0.4 + 0.1 * torch.tensor(rates) + 0.02 * experience.aps
    below = 0.15 * torch.tensor(rates)[:, None] * 0.5 ** torch.arange(0.0, 4.0)
    below[:, -1] = 0
    known = replace(experience, aps=ends, curves=(ends[:, None] - below).float())
    return replace(offline, experience={HPO.key: known})


@pytest.fixture(scope="module")
def foresight(world: OfflineData, first_ranker: Ranker) -> Foresight:
    return Foresight(first_ranker, 6, world, HPO, 4)


def named(foresight: Foresight, progress: Progress, budget: int = 4) -> list[dict]:
    request = RecommendRequest(task_id="a", budget=budget, method="hyperfd-mf", progress=progress)
    found = foresight.recommend(0, HPO, [0.0] * 64, request, Nobody())
    return [dict(each.parameters) for each in (*found.configurations, *found.spares)]


def parameters(**changed: object) -> dict:
    return {"optimizer": "sgd", "lr": 0.001, "crop": 0.3, "iou": 0.5, "locw": 2, "negp": 7, **changed}


def test_that_a_bad_beginning_may_be_a_good_one(foresight: Foresight) -> None:
    """Two are begun beside one that ended; the one that began lower is gone on with, as the offline curves teach."""
    ended = BegunTraining(parameters=parameters(), aps=(0.35, 0.425, 0.4625, 0.5))
    slow = BegunTraining(parameters=parameters(lr=0.003), aps=(0.30,))
    quick = BegunTraining(parameters=parameters(lr=0.0003), aps=(0.40,))
    order = named(foresight, Progress(validations=4, left=6, trainings=(ended, slow, quick)), budget=216)
    assert order.index(parameters(lr=0.003)) < order.index(parameters(lr=0.0003))
    assert parameters() not in order, "it has ended"


def test_nothing_that_runs_failed_or_is_too_long_is_named(foresight: Foresight) -> None:
    progress = Progress(
        validations=4,
        left=3,
        trainings=(
            BegunTraining(parameters=parameters(), aps=(0.3,)),
            BegunTraining(parameters=parameters(lr=0.003), aps=(0.3,), state="running"),
            BegunTraining(parameters=parameters(lr=0.0003), aps=(0.3,), state="failed"),
        ),
    )
    assert named(foresight, progress) == [parameters()]
    with pytest.raises(PlatformError, match="no training can be brought to its end with what is left"):
        named(foresight, progress.model_copy(update={"left": 2}))


def test_a_platform_without_curves_says_so(offline: OfflineData, platform: Platform) -> None:
    subject = Subject(
        space=standard_search_space("hpo"), phi=(0.0,) * 64, extractor_version=0, base_id="base0"
    )
    progress = Progress(validations=4, left=16)
    with pytest.raises(
        PlatformError,
        match=r"needs learning curves .* \(hpo\) this platform has none; write method: hyperfd-gp",
    ):
        platform.ask(RecommendRequest(subject=subject, budget=4, method="hyperfd-mf", progress=progress))


def test_no_training_is_longer_than_a_full_one() -> None:
    with pytest.raises(ValueError, match="more validations than a full one"):
        Progress(validations=1, left=1, trainings=(BegunTraining(parameters=parameters(), aps=(0.1, 0.2)),))
    assert "progress" not in RecommendRequest(task_id="a", budget=4).model_dump()


def test_a_trial_that_runs_says_how_far_it_goes() -> None:
    running = BegunTraining(parameters=parameters(), aps=(0.1,), state="running", until=4)
    assert running.model_dump()["until"] == 4
    assert "until" not in BegunTraining(parameters=parameters()).model_dump()
    for fields in ({"until": 2}, {"state": "running", "aps": (0.1, 0.2), "until": 1}):
        with pytest.raises(ValueError, match="only a training that is running has an until"):
            BegunTraining(parameters=parameters(), **fields)
    with pytest.raises(ValueError, match="more validations than a full one"):
        Progress(validations=3, left=1, trainings=(running,))


def test_beside_the_first_training_that_runs_to_its_end_another_is_begun(foresight: Foresight) -> None:
    running = BegunTraining(parameters=parameters(), state="running", until=4)
    order = named(foresight, Progress(validations=4, left=12, trainings=(running,)))
    assert order
    assert parameters() not in order


def test_curves_at_other_times_lie_on_the_lines_between() -> None:
    curves = np.array([[0.2, 0.4, 0.8], [0.1, np.nan, 0.3]])
    assert at_times(curves, 3)[0] == pytest.approx([0.2, 0.4, 0.8])
    # Times 1/4, 2/4, 3/4 and 1 among 1/3, 2/3 and 1.
    assert at_times(curves, 4)[0] == pytest.approx([0.2, 0.3, 0.5, 0.8])
    assert np.isnan(at_times(curves, 4)[1]).all()
    assert at_times(curves, 1)[0] == pytest.approx([0.8])


def test_what_offline_sets_would_have_brought_is_their_posterior_mean(world: OfflineData) -> None:
    """Against conditioning by hand on the dense covariance of the whole table and the new points."""
    experience = world.experience[HPO.key]
    aps = np.full((12, 20), np.nan)
    aps[experience.sets.numpy(), experience.configurations.numpy()] = experience.aps.numpy()
    described = describe(HPO, experience.encodings)
    new = describe(HPO, encode(HPO, HPO.enumerate()[::40]))
    places = np.linspace(-1, 1, 12)[:, None]
    process = TaskProcess.fit(aps, described, places)
    weights = process._weights
    sets, rows = process._sets, process._configurations

    def covariance(first, which, second, other):
        steps = torch.from_numpy(np.abs(first[:, None] - second[None]))
        common, looks, alone = weights.kernels(steps).numpy()
        alike = weights.alike(torch.from_numpy(places[which]), torch.from_numpy(places[other])).numpy()
        return common + alike * looks + (which[:, None] == other) * alone

    values = process._factor @ (process._factor.T @ process._solved)
    at = described[rows]
    own = covariance(at, sets, at, sets) + 4.0 * (sets[:, None] == sets) + process.noise * np.eye(len(rows))
    weighed = np.linalg.solve(own, values)
    for one in (0, 7):
        expected = covariance(at, sets, new, np.full(len(new), one)).T @ weighed
        assert process.filled(new)[one] == pytest.approx(expected, abs=1e-6)


def test_of_very_many_trainings_the_newest_validations_count(
    foresight: Foresight, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = describe(HPO, encode(HPO, HPO.enumerate()[:12]))
    customer = foresight._every_epoch.customer(np.zeros(64), described)
    seen = np.full((12, 4), np.nan)
    for row in range(12):
        seen[row, : 1 + row % 4] = np.random.default_rng(row).random(1 + row % 4)
    newest = np.where(np.arange(4) == (np.arange(12) % 4)[:, None], seen, np.nan)
    monkeypatch.setattr(every_epoch, "MOST_SEEN", 12)
    for one, other in zip(customer.after(seen), customer.after(newest)):
        assert one.mean == pytest.approx(other.mean)
        assert one.density == pytest.approx(other.density)


def test_a_task_of_very_many_trainings_goes_on_with_a_good_one(foresight: Foresight) -> None:
    every = [HPO.parameters(each) for each in HPO.enumerate()]
    begun = [BegunTraining(parameters=each, aps=(0.2,)) for each in every]
    begun[5] = BegunTraining(parameters=every[5], aps=(0.6,))
    progress = Progress(validations=4, left=3, trainings=tuple(begun))
    assert every[5] in named(foresight, progress)


def test_a_customer_is_learnt_from_once_though_the_next_one_cannot_be_read(
    world: OfflineData, first_ranker: Ranker
) -> None:
    """A disk that fails for a moment would else count a customer once more with each plan."""

    class Passing(Nobody):
        fails = True

        def of_space(self, space_key):
            return ["first", "second"]

        def curves(self, task_id, most):
            if task_id == "second" and self.fails:
                raise OSError("the disk is away")
            points = HPO.enumerate()[:6] if task_id == "first" else HPO.enumerate()[6:12]
            return {each: ((0.25, 0.1 * i), (0.5, 0.1 * i), (1.0, 0.1 * i)) for i, each in enumerate(points)}

        def read(self, task_id, most=None):
            seen = untroubled._offline_phi
            return PastTask(task_id, RankedList(HPO.key, torch.zeros(0, 1), torch.zeros(0)), seen[0], seen)

    progress = Progress(validations=4, left=16)
    request = RecommendRequest(task_id="a", budget=4, method="hyperfd-mf", progress=progress)
    troubled, untroubled = (Foresight(first_ranker, 6, world, HPO, 4) for _ in range(2))
    past = Passing()
    for _ in range(3):
        with pytest.raises(OSError, match="away"):
            troubled.recommend(0, HPO, [0.0] * 64, request, past)
    past.fails = False
    plans = [each.recommend(0, HPO, [0.0] * 64, request, past) for each in (troubled, untroubled)]
    assert plans[0] == plans[1]
