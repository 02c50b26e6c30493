"""Curves of trials that nobody goes on with: sent where their times are known, and known to whoever plans by beginnings."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import torch

from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.detection.network.weights import base_id
from nni_hyperfd.metafeature.features import CHANNELS, LEVELS, ImageFeatures
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.plugin.continued import Length
from nni_hyperfd.plugin.curve import beginning_of, result_of
from nni_hyperfd.plugin.experiment_end import finish_experiment
from nni_hyperfd.plugin.records import Attempt
from nni_hyperfd.plugin.tuner import HyperFDTuner
from nni_hyperfd.protocol.messages import BegunTraining, FindTask, Progress, RecommendRequest
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.spaces.standard import standard_search_space, standard_space
from nni_hyperfd.spaces.unread import TRIAL_BUDGET
from tests.fixtures.served import serving

FOUR = Length(epochs=8, step=2)


def attempt(*curve: Any, **parameters: Any) -> Attempt:
    return Attempt(0, {"lr": 0.1, **parameters}, True, 0.4, True, curve)


def test_a_curve_has_each_validation_once() -> None:
    whole = result_of(attempt(0.1, {"default": 0.2}, 0.3, 0.4), FOUR)
    assert whole is not None
    assert whole.curve == ((0.25, 0.1), (0.5, 0.2), (0.75, 0.3), (1.0, 0.4))
    assert not whole.begun


@pytest.mark.parametrize(
    ("trial", "length"),
    [
        (attempt(0.1, 0.2, 0.3), FOUR),  # it stopped early, or somebody has missed one
        (attempt(*(0.1,) * 1000), FOUR),  # in each batch
        (attempt(0.1, 0.2, 0.3, "no AP"), FOUR),
        (
            attempt(0.1, 0.2, 0.3, 0.4, **{TRIAL_BUDGET: 4}),
            FOUR,
        ),  # a shortened training has another plan of rates
        (attempt(0.1, 0.2, 0.3, 0.4), None),
    ],
)
def test_where_times_are_not_known_the_end_alone_is_told(trial: Attempt, length: Length | None) -> None:
    result = result_of(trial, length)
    assert result is not None
    assert (result.ap, result.curve) == (0.4, ())


@pytest.mark.parametrize(
    ("trial", "aps"),
    [
        (Attempt(0, {"lr": 0.1}, False, None, False, (0.1, {"default": 0.2})), (0.1, 0.2)),
        (Attempt(0, {"lr": 0.1}, True, None, False, (0.1, 0.2, 0.3, 0.4)), (0.1, 0.2, 0.3, 0.4)),
        (Attempt(0, {"lr": 0.1}, False, None, False, (0.1,) * 5), ()),  # in each batch
        (Attempt(0, {"lr": 0.1}, False, None, False, (0.1, "no AP")), ()),
        (Attempt(0, {"lr": 0.1, TRIAL_BUDGET: 4}, False, None, False, (0.1,)), ()),
        (attempt(0.1, 0.2), ()),  # it has a result
    ],
)
def test_a_beginning_is_what_a_trial_without_a_result_has_validated(
    trial: Attempt, aps: tuple[float, ...]
) -> None:
    assert beginning_of(trial, FOUR) == aps


def test_hyperfd_gp_is_told_how_far_trials_are_that_have_no_result(
    nni_experiment: Callable[..., Any], tmp_path: Path
) -> None:
    """The plan after a result is the one that the platform makes when it knows the other trials' beginnings."""
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=5, method="hyperfd-gp"))
    done, running, failed = nni.request(3)
    nni.report_intermediate(running, 0.7, 0.8, 0.9)
    nni.report_intermediate(failed, 0.1)
    nni.end(failed, "FAILED")
    nni.report(done, 0.5)
    nni.end(done)
    assert nni.errors() == []
    first, second, third = (form["parameters"] for form in nni.proposals())

    with closing(Platform.open(tmp_path / "platform")) as platform:
        task = platform.ask(FindTask(experiment_id="exp1"))
        assert task is not None
        trainings = (
            BegunTraining(parameters=second, aps=(0.7, 0.8, 0.9), state="running"),
            BegunTraining(parameters=third, aps=(0.1,), state="failed"),
        )
        asked = RecommendRequest(task_id=task.task_id, budget=4, method="hyperfd-gp", begun=(first, second))
        knowing = asked.model_copy(update={"progress": Progress(validations=4, left=0, trainings=trainings)})
        expected, ignorant = (platform.ask(each) for each in (knowing, asked))
    notes = json.loads((nni.folder / "hyperfd.json").read_text())
    scores = [each.score for each in expected.configurations]
    assert notes["ranking"][3:7] == [dict(each.parameters) for each in expected.configurations]
    assert notes["scores"][3:7] == pytest.approx(scores)
    assert scores != pytest.approx([each.score for each in ignorant.configurations])


@pytest.mark.parametrize("method", ["hyperfd", "hyperfd-gp"])
def test_the_platform_keeps_the_curves_of_every_method(
    nni_experiment: Callable[..., Any], tmp_path: Path, method: str
) -> None:
    nni = nni_experiment()  # --budget smoke: four validations
    nni.begin(HyperFDTuner(data="faces", budget=1, method=method))
    (trial,) = nni.request()
    nni.report_intermediate(trial, 0.1, 0.2, 0.3, 0.35)
    nni.report(trial, {"default": 0.35, "test_ap": 0.4, "heldout_ap": 0.45, "seconds": 3.0})
    nni.end(trial)
    assert nni.errors() == []
    platform = Platform.open(tmp_path / "platform")
    task = platform.ask(FindTask(experiment_id="exp1"))
    assert task is not None
    (kept,) = platform.trials(task.task_id)
    assert [tuple(point) for point in kept.curve] == [(0.25, 0.1), (0.5, 0.2), (0.75, 0.3), (1.0, 0.35)]
    platform.close()
    receipt, before = finish_experiment(nni.folder)
    assert (receipt.usable_trials, before) == (1, True)


@pytest.mark.parametrize("curves", [True, False], ids=["curves", "ends alone"])
@pytest.mark.parametrize("where", ["in process", "http"])
def test_what_one_customer_has_seen_is_known_to_the_next(
    tmp_path: Path, make_platform: Callable[[Path], None], where: str, curves: bool
) -> None:
    """When Ada is done, and not before, what Bob is told to expect is another thing."""
    make_platform(tmp_path / "platform")
    platform = Platform.open(tmp_path / "platform", RankerSettings(batches=1, images=4))
    with ExitStack() as stack:
        stack.callback(platform.close)
        served = stack.enter_context(serving(platform)) if where == "http" else None
        ada, bob = (customer(served.connect(name) if served else platform) for name in ("ada", "bob"))
        hers, his = (each.open(name, SPACE, 1e12) for each, name in ((ada, "a"), (bob, "b")))
        before = expected(bob, his)
        for point in standard_space("hpo").enumerate()[::9]:
            parameters = standard_space("hpo").parameters(point)
            ap = 0.7 if parameters["lr"] == 0.003 else 0.4
            ada.record(hers, parameters, ap, curve=((0.5, ap / 2), (1.0, ap)) if curves else ())
        assert expected(bob, his) == before
        assert ada.update(hers).published
        after = expected(bob, his)
        assert max(abs(after[each] - before[each]) for each in before) > 1e-3


SPACE = standard_search_space("hpo")


def customer(platform: Any) -> TaskClient:
    generator = torch.Generator().manual_seed(1)
    shape = (8, LEVELS, CHANNELS)
    gwap, mean = (torch.randn(shape, generator=generator) for _ in range(2))
    return TaskClient(
        platform, ImageFeatures(gwap=gwap, mean=mean, boxes=torch.ones(8, dtype=torch.long)), base_id()
    )


def expected(client: TaskClient, task: Any) -> dict[str, float]:
    """Where each training of the space is expected to end."""
    progress = Progress(validations=4, left=16)
    found = client.recommend(task, 108, method="hyperfd-mf", progress=progress)
    return {str(each.parameters): each.score for each in (*found.configurations, *found.spares)}
