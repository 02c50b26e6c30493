"""A platform that comes and goes: every result arrives, and none counts twice."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nni_hyperfd.customer import steady as steady_module
from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.customer.kept import KeptRanker
from nni_hyperfd.customer.outbox import Outbox
from nni_hyperfd.customer.steady import Provisional, SteadyPlatform
from nni_hyperfd.errors import HyperFDError, PlatformAwayError, PlatformError, RefusedError, TrustError
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.protocol.calls import PlatformAPI
from nni_hyperfd.protocol.messages import FindTask, Question, ReadExtractor, TrialRecord
from nni_hyperfd.spaces.standard import standard_search_space

HPO = standard_search_space("hpo")
BASE_ID = "base0"
A = TypeVar("A")
HERE, NO_REQUEST, NO_ANSWER = "here", "no request", "no answer"


class Flaky:
    """A platform to which a request, or from which an answer, gets lost as ``fates`` say; then it is there."""

    def __init__(self, platform: PlatformAPI, fates: list[str]) -> None:
        self._platform, self.fates = platform, fates

    def ask(self, question: Question[A]) -> A:
        fate = self.fates.pop(0) if self.fates else HERE
        if fate == NO_REQUEST:
            raise PlatformAwayError("away")
        answer = self._platform.ask(question)
        if fate == NO_ANSWER:
            raise PlatformAwayError("away")
        return answer


Steady = Callable[..., SteadyPlatform]


@pytest.fixture
def steady(tmp_path: Path, platform: Platform) -> Steady:
    """Makes what a new process of the customer has: the kept ranker and the outbox are those of the one before."""

    def make(fates: list[str], experiment: str = "exp") -> SteadyPlatform:
        folder = tmp_path / experiment
        return SteadyPlatform(
            Flaky(platform, fates), KeptRanker(tmp_path / "kept"), Outbox(folder / "outbox.jsonl")
        )

    return make


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(
    fates=st.lists(st.sampled_from([HERE, NO_REQUEST, NO_ANSWER]), max_size=12),
    restart=st.integers(0, 4),
    number=st.uuids(),
)
def test_whatever_gets_lost_every_result_arrives_once(
    platform: Platform,
    features: ImageFeatures,
    steady: Steady,
    monkeypatch: pytest.MonkeyPatch,
    fates: list[str],
    restart: int,
    number: Any,
) -> None:
    experiment = f"exp{number.hex}"
    monkeypatch.setattr(steady_module, "QUIET", 0.0)
    steady([]).ask(ReadExtractor())  # seen once, as with `hyperfd recommend`
    api = steady(fates, experiment)
    client = TaskClient(api, features, BASE_ID)
    task = client.open(experiment, HPO)
    chosen = client.recommend(task, budget=4).configurations
    aps = (0.5, None, 0.25, 0.75)
    for place, (entry, ap) in enumerate(zip(chosen, aps)):
        if place == restart:  # a new process goes on, with whatever is left of the fates
            api = steady(fates, experiment)
            client = TaskClient(api, features, BASE_ID)
            task = client.open(experiment, HPO)
        assert client.record(task, entry.parameters, ap).outcome in ("stored", "known")
    fates.clear()
    api.deliver()
    stored = platform.ask(FindTask(experiment_id=experiment))
    assert stored is not None
    found = {trial.ap: dict(trial.parameters) for trial in platform.trials(stored.task_id)}
    assert found == {ap: dict(entry.parameters) for entry, ap in zip(chosen, aps)}
    assert len(platform.trials(stored.task_id)) == 4
    assert Outbox(api._outbox._path).waiting() == []


class Clock:
    """Tells the time that a test wants."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize("seconds", [0.0, 10.0], ids=["refuses", "does not answer"])
def test_a_tuner_that_ends_waits_for_an_absent_platform_no_longer_than_nni_does(
    features: ImageFeatures,
    steady: Steady,
    platform: Platform,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
) -> None:
    """Twenty results and the update within NNI's half a minute; a result that comes later finds out whether it is back."""
    clock = Clock()
    monkeypatch.setattr(steady_module, "time", clock)
    steady([]).ask(ReadExtractor())
    fates: list[str] = []
    api = steady(fates)
    ask = api._remote.ask

    def slow(question: Question[Any]) -> Any:
        clock.now += seconds if fates else 0.0
        return ask(question)

    monkeypatch.setattr(api._remote, "ask", slow)
    client = TaskClient(api, features, BASE_ID)
    task = client.open("exp", HPO)
    chosen = client.recommend(task, budget=21).configurations
    fates += [NO_REQUEST] * 99
    for entry in chosen[:20]:
        client.record(task, entry.parameters, 0.5)
    with pytest.raises(PlatformAwayError):
        client.update(task)
    assert clock.now <= 20.0
    fates.clear()
    clock.now += seconds
    client.record(task, chosen[20].parameters, 0.5)
    assert len(platform.trials(task.task_id)) == 21, (
        "with the first message that gets through, all that waited"
    )


def test_a_ranking_made_here_is_the_platforms(
    platform: Platform, features: ImageFeatures, steady: Steady
) -> None:
    expected = TaskClient(platform, features, BASE_ID).preview(HPO, budget=4, seed=3)
    steady([]).ask(ReadExtractor())
    away = TaskClient(steady([NO_REQUEST] * 9), features, BASE_ID)
    assert away.preview(HPO, budget=4, seed=3) == expected
    assert away.recommend(away.open("exp", HPO), budget=4, seed=3) == expected


def test_what_the_platform_would_rank_otherwise_is_no_list_of_its_own(
    platform: Platform, features: ImageFeatures, steady: Steady, caplog: pytest.LogCaptureFixture
) -> None:
    """The encoder of somebody's own space, and what hyperfd-gp knows, stay on the platform."""
    mine = {
        "mode": {"_type": "choice", "_value": ["a", "b", "c"]},
        "warmup": {"_type": "uniform", "_value": [0, 1]},
    }
    client = TaskClient(platform, features, BASE_ID)
    task = client.open("before", mine)
    for entry, ap in zip(client.recommend(task, 3, candidates=8).configurations, (0.2, 0.9, 0.4)):
        client.record(task, entry.parameters, ap)
    client.update(task)
    wish = {"budget": 4, "seed": 3, "candidates": 8}
    expected = client.preview(mine, **wish)
    steady([]).ask(ReadExtractor())

    away = TaskClient(steady([NO_REQUEST] * 9), features, BASE_ID)
    for made in (away.preview(mine, **wish), away.recommend(away.open("exp", mine), **wish)):
        assert isinstance(made, Provisional)
        assert "untrained encoder" in made.reason
        assert made.reason in caplog.text
        assert made.configurations != expected.configurations, "which shows that it matters"
    planned = away.preview(HPO, 4, method="hyperfd-gp")
    assert isinstance(planned, Provisional)
    assert "hyperfd-gp" in planned.reason
    back = TaskClient(steady([]), features, BASE_ID).preview(mine, **wish)
    assert back == expected
    assert not isinstance(back, Provisional)


def test_the_update_waits_for_the_results(
    platform: Platform,
    features: ImageFeatures,
    steady: Steady,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(steady_module, "QUIET", 0.0)
    steady([]).ask(ReadExtractor())
    api = steady([NO_REQUEST] * 5)  # extractor, open_task, two results, the update
    client = TaskClient(api, features, BASE_ID)
    task = client.open("exp", HPO)
    assert task.task_id.startswith("away:")
    entries = client.recommend(task, budget=2).configurations
    for entry, ap in zip(entries, (0.5, 0.25)):
        client.record(task, entry.parameters, ap)
    with pytest.raises(PlatformAwayError):
        client.update(task)
    box = Outbox(tmp_path / "exp" / "outbox.jsonl")
    assert [type(message).__name__ for message in box.waiting()] == [
        "OpenTask",
        "TrialRecord",
        "TrialRecord",
        "BeginUpdate",
    ]
    receipt = client.update(task)
    assert (receipt.version_after, receipt.usable_trials) == (1, 2)
    assert box.waiting() == []
    assert client.update(task) == receipt
    assert platform.status().version == 1


def test_a_refused_result_does_not_hold_up_the_others(
    platform: Platform, features: ImageFeatures, steady: Steady
) -> None:
    api = steady([])
    client = TaskClient(api, features, BASE_ID)
    task = client.open("exp", HPO)
    entry = client.recommend(task, budget=1).configurations[0]
    foreign = TrialRecord(task_id=task.task_id, trial_key="k", parameters={"lr": 17.0}, status="ok", ap=0.5)
    api._outbox.add(foreign)
    with pytest.raises(HyperFDError):
        client.record(task, entry.parameters, 0.5)
    assert [trial.ap for trial in platform.trials(task.task_id)] == [0.5]
    assert api._outbox.waiting() == []


def test_somebody_elses_answer_is_no_reason_to_forget_a_result(
    platform: Platform, features: ImageFeatures, steady: Steady
) -> None:
    api = steady([])
    client = TaskClient(api, features, BASE_ID)
    task = client.open("exp", HPO)
    entry = client.recommend(task, budget=1).configurations[0]
    remote, api._remote = api._remote, Suspect()
    with pytest.raises(TrustError):
        client.record(task, entry.parameters, 0.5)
    api._remote = remote
    api.deliver()
    assert [trial.ap for trial in platform.trials(task.task_id)] == [0.5]


class Suspect:
    """A hotel's page in the platform's place."""

    def ask(self, question: Question[A]) -> A:
        raise TrustError("this does not answer like a platform")


def test_only_a_whole_ranker_is_kept(platform: Platform, steady: Steady, tmp_path: Path) -> None:
    steady([]).ask(ReadExtractor())
    (file,) = (tmp_path / "kept").glob("*.safetensors")
    assert KeptRanker(tmp_path / "kept").version() == 0
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(PlatformAwayError):
        steady([NO_REQUEST]).ask(ReadExtractor())


def test_a_full_disk_does_not_hold_up_an_experiment_that_needs_nothing_kept(
    platform: Platform, steady: Steady, disk_full_after: Callable[[int], Any], tmp_path: Path
) -> None:
    with disk_full_after(100_000):
        assert steady([]).ask(ReadExtractor()) == platform.ask(ReadExtractor())
    assert KeptRanker(tmp_path / "kept").version() is None


def test_a_torn_outbox_is_never_seen(tmp_path: Path, disk_full_after: Callable[[int], Any]) -> None:
    box = Outbox(tmp_path / "outbox.jsonl")
    first = TrialRecord(task_id="t", trial_key="a", parameters={"lr": 0.1}, status="ok", ap=0.5)
    box.add(first)
    size = os.path.getsize(tmp_path / "outbox.jsonl")
    with disk_full_after(size + 20), pytest.raises(PlatformError, match="cannot be written"):
        box.add(first.model_copy(update={"trial_key": "b"}))
    assert box.waiting() == [first]
    box.add(first.model_copy(update={"trial_key": "b"}))
    assert len(box.waiting()) == 2


def test_an_experiment_that_the_platform_will_not_have_is_told_and_set_aside(
    platform: Platform,
    features: ImageFeatures,
    steady: Steady,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Begun while the platform was away, with another base detector than the platform's."""
    monkeypatch.setattr(steady_module, "QUIET", 0.0)
    steady([]).ask(ReadExtractor())
    api = steady([NO_REQUEST] * 3)  # extractor, open_task, the first result
    client = TaskClient(api, features, "other-base")
    task = client.open("exp", HPO)
    first, second, third = client.recommend(task, budget=3).configurations
    client.record(task, first.parameters, 0.5)
    with pytest.raises(RefusedError, match=r"refuses this experiment .*other-base") as told:
        client.record(task, second.parameters, 0.25)
    aside = tmp_path / "exp" / "hyperfd.refused.jsonl"
    assert f"its results are kept in {aside}" in str(told.value)
    client.record(task, third.parameters, 0.75)
    with pytest.raises(RefusedError, match="refuses this experiment"):
        client.update(task)
    assert Outbox(tmp_path / "exp" / "outbox.jsonl").waiting() == []
    kept = [message for message in Outbox(aside).waiting() if isinstance(message, TrialRecord)]
    assert [message.ap for message in kept] == [0.5, 0.25, 0.75]
    assert platform.ask(FindTask(experiment_id="exp")) is None


def test_another_process_hears_the_refusal_too(
    platform: Platform, features: ImageFeatures, steady: Steady, tmp_path: Path
) -> None:
    steady([]).ask(ReadExtractor())
    client = TaskClient(steady([NO_REQUEST] * 2), features, "other-base")
    client.open("exp", HPO)
    box = Outbox(tmp_path / "exp" / "outbox.jsonl")
    assert len(box.waiting()) == 1
    with pytest.raises(RefusedError, match="other-base"):
        TaskClient(steady([]), features, "other-base").open("exp", HPO)
    assert box.waiting() == []
    with pytest.raises(PlatformError, match="other-base") as told:
        TaskClient(steady([]), features, "other-base").open("exp", HPO)
    assert not isinstance(told.value, RefusedError), "nothing is set aside where nothing waits"


def test_what_opens_a_task_waits_until_all_results_are_there(
    platform: Platform, features: ImageFeatures, steady: Steady, tmp_path: Path
) -> None:
    """The platform goes away again between two results, and another process, which knows no task, delivers the rest."""
    steady([]).ask(ReadExtractor())
    client = TaskClient(steady([NO_REQUEST] * 4), features, BASE_ID)
    task = client.open("exp", HPO)
    for entry, ap in zip(client.recommend(task, budget=2).configurations, (0.5, 0.25)):
        client.record(task, entry.parameters, ap)
    with pytest.raises(PlatformAwayError):
        steady([HERE, HERE, NO_REQUEST]).deliver()
    found = platform.ask(FindTask(experiment_id="exp"))
    assert found is not None
    assert [trial.ap for trial in platform.trials(found.task_id)] == [0.5]
    steady([]).deliver()
    assert [trial.ap for trial in platform.trials(found.task_id)] == [0.5, 0.25]
    assert Outbox(tmp_path / "exp" / "outbox.jsonl").waiting() == []
