"""The method hyperfd-gp on a platform: what it proposes, what moves it, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.errors import PlatformError, SpaceError
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.platform.first import read_assets
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.protocol.messages import (
    BegunTraining,
    FindTask,
    Progress,
    Recommendation,
    RecommendRequest,
    Task,
)
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.offline import OfflineData
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.recommendation import expectation
from nni_hyperfd.recommendation.gaussian.description import describe
from nni_hyperfd.recommendation.gaussian.places import Places
from nni_hyperfd.recommendation.gaussian.search import GaussianSearch, Sight
from nni_hyperfd.recommendation.gaussian.task_process import TaskProcess
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_search_space, standard_space

BASE_ID, IMAGES = "base0", 6  # of the small platform
HPO = standard_search_space("hpo")


@pytest.fixture
def client(platform: Platform, features: ImageFeatures) -> TaskClient:
    return TaskClient(platform, features, BASE_ID)


def proposals(client: TaskClient, task: Task, budget: int, **options: Any) -> Recommendation:
    return client.recommend(task, budget, method="hyperfd-gp", **options)


def named(recommendation: Recommendation) -> list[Mapping[str, Any]]:
    return [each.parameters for each in recommendation.configurations]


def test_proposals_are_those_of_the_process_on_the_offline_table(
    platform: Platform, client: TaskClient, offline: OfflineData, first_ranker: Ranker
) -> None:
    space = standard_space("hpo")
    found = client.preview(HPO, 4, method="hyperfd-gp")

    experience = offline.experience[space.key]
    aps = np.full((len(offline), len(experience.encodings)), np.nan)
    for s, c, ap in zip(
        experience.sets.tolist(), experience.configurations.tolist(), experience.aps.tolist()
    ):
        aps[s, c] = ap
    phi = offline.meta_features(first_ranker.extractor, IMAGES)
    places = Places(phi.double().numpy())
    every = space.enumerate()
    candidates = describe(space, encode(space, every))
    views = []
    for known, mine in (
        (places.known, places.of(np.array(client.subject(HPO).phi))),
        (np.zeros((12, 0)), np.zeros(0)),
    ):
        process = TaskProcess.fit(aps, describe(space, experience.encodings), known)
        views.append(Sight(process, process.customer(mine, candidates)))
    none = np.zeros(len(every), dtype=bool)
    plan = GaussianSearch(views).plan(np.full(len(every), np.nan), none, none, 4)
    assert named(found) == [space.parameters(every[i]) for i in plan.order]
    assert [each.score for each in found.configurations] == pytest.approx(plan.expected[plan.order].tolist())
    assert len(found.spares) == 16
    assert platform.ask(FindTask(experiment_id="exp")) is None, "asking leaves no trace"


def test_results_of_the_task_move_what_is_proposed_next(client: TaskClient) -> None:
    task = client.open("exp", HPO)
    first, second = named(proposals(client, task, 2))
    assert named(proposals(client, task, 2)) == [first, second]
    client.record(task, first, 0.1)
    after_bad = named(proposals(client, task, 3))
    assert first not in after_bad

    other = client.open("exp2", HPO)
    assert named(proposals(client, other, 1)) == [first]
    client.record(other, first, 0.1)
    client.record(other, second, 0.9)
    client.record(other, after_bad[0], None)
    informed = named(proposals(client, other, 200))
    assert len(informed) == 200
    assert not [each for each in (first, second, after_bad[0]) if each in informed]


def test_what_was_begun_is_not_proposed_again(client: TaskClient) -> None:
    task = client.open("exp", HPO)
    plan = named(proposals(client, task, 4))
    rest = named(proposals(client, task, 2, begun=tuple(dict(each) for each in plan[:2])))
    assert rest == plan[2:]
    with pytest.raises(SpaceError, match="lr"):
        proposals(client, task, 2, begun=({**plan[0], "lr": 0.5},))


class Nobody:
    """No task is finished."""

    def of_space(self, space_key: str) -> list[str]:
        return []


@pytest.fixture
def rising(offline: OfflineData) -> OfflineData:
    """All offline trainings gain .2 in their second half, evenly."""
    known = offline.experience[standard_space("hpo").key]
    ends = known.aps.clamp(0.3, 1.0)
    curves = torch.stack([ends - 0.2, ends], dim=1)
    return replace(
        offline,
        experience={standard_space("hpo").key: replace(known, aps=ends, curves=curves)},
    )


def test_a_validation_says_of_the_end_what_offline_curves_say(
    rising: OfflineData, first_ranker: Ranker
) -> None:
    """.5 at half, or .6 at three quarters, is as good as .7 at the end."""
    space = standard_space("hpo")
    asked = expectation.Expectation(first_ranker, IMAGES, rising, space)
    candidates = space.enumerate()
    first, second = candidates[:2]

    def expected(results: Mapping[Configuration, float | None], newest: expectation.Newest) -> Any:
        return asked.plan(space, candidates, [0.0] * 64, 1, results, newest, Nobody(), newest).expected

    told = expected({first: 0.4, second: 0.7}, {})
    assert expected({first: 0.4}, {second: (0.5, 0.5)}) == pytest.approx(told, abs=1e-6)
    assert expected({first: 0.4}, {second: (0.75, 0.6)}) == pytest.approx(told, abs=1e-6)
    assert expected({first: 0.4}, {second: (0.5, 0.3)}) != pytest.approx(told, abs=1e-2)


@pytest.mark.parametrize("kind", ["hpo", "nas"])
def test_how_far_running_and_failed_trials_are_moves_what_is_expected(kind: str) -> None:
    """Also of networks, whose space is looked at by a sample; the platform that is shipped knows curves."""
    shipped = read_assets()
    ranker, offline = Ranker.from_bytes(shipped.ranker), OfflineData.from_bytes(shipped.offline)
    space = standard_space("hpo" if kind == "hpo" else "nas")
    asked = expectation.Expectation(ranker, IMAGES, offline, space)
    ended, runs, failed = space.sample(3, np.random.default_rng(1))

    def scores(run: float, failure: float) -> dict[str, float | None]:
        trainings = (
            BegunTraining(parameters=space.parameters(runs), aps=(0.1, run), state="running"),
            BegunTraining(parameters=space.parameters(failed), aps=(failure,), state="failed"),
        )
        request = RecommendRequest(
            task_id="a",
            budget=40,
            method="hyperfd-gp",
            progress=Progress(validations=4, left=0, trainings=trainings),
        )
        found = asked.recommend(
            0, space, [0.0] * 64, request, {ended: 0.5, failed: None}, [ended, runs], Nobody()
        )
        return {str(space.parse(each.parameters)): each.score for each in found.configurations}

    low, *others = scores(0.2, 0.2), scores(0.8, 0.2), scores(0.2, 0.8)
    for each in (low, *others):
        assert not {str(ended), str(runs), str(failed)} & each.keys()
    for other in others:
        assert other != low


def test_finished_customers_are_experience(platform: Platform, client: TaskClient) -> None:
    """The next one with the same images expects more of what was good for the one before."""
    before = {
        tuple(sorted(each.parameters.items())): each.score
        for each in client.preview(HPO, 216, method="hyperfd-gp").configurations
    }
    task = client.open("exp", HPO)
    good, bad = [list(before)[i] for i in (-1, 0)]
    for low in list(before)[:3]:
        client.record(task, dict(low), 0.1)
    client.record(task, dict(good), 0.9)
    assert client.update(task).version_after == 1
    after = {
        tuple(sorted(each.parameters.items())): each.score
        for each in client.preview(HPO, 216, method="hyperfd-gp").configurations
    }
    assert after[good] - after[bad] > before[good] - before[bad] + 0.1


def test_the_latest_of_many_customers_take_part(
    platform: Platform, client: TaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two, with room for one: what is expected next is what the later one alone makes expected."""
    listed = [dict(each.parameters) for each in client.preview(HPO, 216, method="hyperfd-gp").configurations]
    for name, liked in (("earlier", 0), ("later", -1)):
        task = client.open(name, HPO)
        for other in listed[1:4]:
            client.record(task, other, 0.3)
        client.record(task, listed[liked], 0.9)
        client.update(task)

    def scores() -> dict[str, float]:
        plan = client.preview(HPO, 216, method="hyperfd-gp").configurations
        return {str(sorted(each.parameters.items())): each.score for each in plan}

    both = scores()
    monkeypatch.setattr(expectation, "PAST", 1)
    one = scores()
    ends = [str(sorted(listed[i].items())) for i in (0, -1)]
    assert both != one
    assert (one[ends[1]] - one[ends[0]]) > (both[ends[1]] - both[ends[0]]) + 0.05


def test_only_what_the_customer_searches_is_proposed(client: TaskClient) -> None:
    rates = {"lr": {"_type": "choice", "_value": [3e-4, 1e-3]}}
    part = {key: rates.get(key, entry) for key, entry in HPO.items()}
    found = client.preview(part, 4, method="hyperfd-gp")
    assert {each["lr"] for each in named(found)} <= {3e-4, 1e-3}


def test_a_large_offline_table_is_thinned_out_evenly(
    first_ranker: Ranker, offline: OfflineData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 sets with six results each: for about 36, every other set."""
    fitted = []
    fit = TaskProcess.fit
    monkeypatch.setattr(TaskProcess, "fit", lambda aps, *rest: fitted.append(aps) or fit(aps, *rest))
    monkeypatch.setattr(expectation, "MEASUREMENTS", 36)
    expectation.Expectation(first_ranker, IMAGES, offline, standard_space("hpo"))
    assert [(~np.isnan(aps)).sum() for aps in fitted] == [36, 36]
    aps = offline.experience[standard_space("hpo").key].aps.reshape(12, 6).numpy()
    kept = [sorted(row[~np.isnan(row)].astype(np.float32)) for row in fitted[0]]
    assert kept == [sorted(aps[s]) for s in (0, 2, 4, 6, 8, 11)]


@pytest.mark.parametrize("kind", ["nas", "flat"])
def test_a_space_without_offline_experience_is_refused(kind: str, client: TaskClient) -> None:
    flat = {"depth": {"_type": "randint", "_value": [1, 9]}}
    space: dict[str, Any] = flat if kind == "flat" else standard_search_space("nas")
    with pytest.raises(PlatformError, match=f"{kind}.*leave method out"):
        client.preview(space, 4, method="hyperfd-gp")
    assert client.preview(space, 4).configurations


def test_an_unknown_method_is_refused(client: TaskClient) -> None:
    with pytest.raises(PlatformError, match="method"):
        client.preview(HPO, 4, method="gp")


def test_the_shipped_platform_plans_networks(tmp_path: Any, features: ImageFeatures) -> None:
    platform = Platform.open(tmp_path / "shipped")
    client = TaskClient(platform, features, platform.status().base_id)
    space = Space.from_search_space(standard_search_space("nas"))
    task = client.open("exp", dict(space.search_space))
    plan = named(proposals(client, task, 4, candidates=40))
    assert len({str(each) for each in plan}) == 4
    # A network that no sample holds, as it was tried under another seed.
    stranger = named(proposals(client, task, 1, candidates=40, seed=9))[0]
    client.record(task, stranger, 0.9)
    again = named(proposals(client, task, 4, candidates=40))
    assert stranger not in again
    platform.close()


def test_of_2000_networks_that_were_tried_the_best_and_the_most_telling_take_part() -> None:
    state = read_assets()
    space = standard_space("nas")
    ranker, table = Ranker.from_bytes(state.ranker), OfflineData.from_bytes(state.offline)
    plans = expectation.Expectation(ranker, IMAGES, table, space)
    tried = space.sample(2200, np.random.default_rng(0))
    results: dict[Configuration, float | None] = dict.fromkeys(tried[:2000], 0.3)
    results[tried[777]] = 0.9
    request = RecommendRequest(task_id="a", budget=4, candidates=20_000, method="hyperfd-gp")
    candidates = plans._candidates(space, request, results, tried[2000:])
    own, running = expectation.OWN_RESULTS, expectation.OWN_RUNNING
    assert len(candidates) <= expectation.LOOKED_AT + own + running
    assert len(set(candidates) & set(results)) == own
    assert tried[777] in candidates
    assert set(tried[-running:]) <= set(candidates)
