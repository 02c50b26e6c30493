"""The update over HTTP: the same as in one process, for several customers at once, and whoever vanishes on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.metafeature.features import CHANNELS, LEVELS, ImageFeatures
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.protocol.calls import CALLS, PlatformAPI
from nni_hyperfd.protocol.messages import CommitUpdate, FindTask, Question, ReadRanker, UpdateReceipt
from nni_hyperfd.spaces.standard import standard_search_space

A = TypeVar("A")
HPO = standard_search_space("hpo")
BASE_ID = "base0"
APS = (0.71, 0.64, None, 0.80)
STOPS = [kind for kind in CALLS if kind not in (ReadRanker, FindTask)]
"""Questions of an experiment at a platform that does not go away."""


def images(seed: int) -> ImageFeatures:
    """Image-level features of a customer's 15 images."""
    generator = torch.Generator().manual_seed(seed)
    shape = (15, LEVELS, CHANNELS)
    return ImageFeatures(
        torch.randn(shape, generator=generator),
        torch.randn(shape, generator=generator),
        torch.randint(0, 9, (15,), generator=generator),
    )


def whole_experiment(platform: PlatformAPI, experiment: str, seed: int) -> UpdateReceipt:
    """All that a customer does, from the first call to the last."""
    client = TaskClient(platform, images(seed), BASE_ID)
    task = client.open(experiment, HPO)
    for entry, ap in zip(client.recommend(task, budget=len(APS)).configurations, APS):
        client.record(task, entry.parameters, ap)
    return client.update(task)


def test_an_update_over_http_gives_the_parameters_of_one_in_process(
    tmp_path: Path, open_platform: Callable[..., Platform], serve: Callable[[Platform], Any]
) -> None:
    inside, outside = open_platform(tmp_path / "inside"), open_platform(tmp_path / "outside")
    remote = serve(outside).connect("customer")
    # The second customer's update has a past task, with its own transformation and penalty.
    for number in range(2):
        assert whole_experiment(inside, f"exp{number}", seed=number).version_after == number + 1
        assert whole_experiment(remote, f"exp{number}", seed=number).version_after == number + 1
    for version in (1, 2):
        expected = inside.ranker(version).parameters_state()
        found = outside.ranker(version).parameters_state()
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=0, msg=name)
    before = inside.ranker(0).parameters_state()
    assert any(not torch.equal(before[name], tensor) for name, tensor in expected.items()), "it learned"


def test_customers_that_update_at_once_lose_nothing(
    platform: Platform, serve: Callable[[Platform], Any]
) -> None:
    served = serve(platform)
    receipts: list[UpdateReceipt] = []

    def one(number: int) -> None:
        # All with the same experiment id, which is nobody's but the customer's own.
        receipts.append(whole_experiment(served.connect(f"customer{number}"), "exp", seed=number))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    steps = sorted((receipt.version_before, receipt.version_after) for receipt in receipts)
    assert steps == [(0, 1), (1, 2), (2, 3), (3, 4)]
    tasks = platform._store.tasks("done")
    assert len(tasks) == 4
    assert all(len(platform.trials(task.id)) == len(APS) for task in tasks)
    assert [entry.parent for entry in platform.history()] == [None, 0, 1, 2, 3]


class VanishedError(Exception):
    """The customer's machine is gone."""


class Vanishing:
    """A platform whose customer vanishes at the first question of a kind, before or after it is sent."""

    def __init__(self, platform: PlatformAPI, kind: type[Question[Any]], sent: bool) -> None:
        self._platform, self._kind, self._sent = platform, kind, sent

    def ask(self, question: Question[A]) -> A:
        if not isinstance(question, self._kind):
            return self._platform.ask(question)
        if self._sent:
            self._platform.ask(question)
        raise VanishedError


@pytest.fixture
def hurried(open_platform: Callable[..., Platform]) -> Platform:
    """A platform on which the turn of a silent customer is soon over."""
    return open_platform(lease_seconds=0.7)


@pytest.mark.parametrize("sent", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kind", STOPS)
def test_whoever_vanishes_keeps_nobody_waiting_and_may_come_back(
    hurried: Platform, serve: Callable[[Platform], Any], kind: type[Question[Any]], sent: bool
) -> None:
    served = serve(hurried)
    vanishing = served.connect("vanishing")
    with pytest.raises(VanishedError):
        whole_experiment(Vanishing(vanishing, kind, sent), "exp", seed=1)
    committed = kind is CommitUpdate and sent
    other = whole_experiment(served.connect("other"), "exp", seed=2)
    assert (other.version_before, other.version_after) == ((1, 2) if committed else (0, 1))

    back = whole_experiment(vanishing, "exp", seed=1)
    assert (back.version_before, back.version_after) == ((0, 1) if committed else (1, 2))
    assert (back.usable_trials, back.failed_trials) == (3, 1)
    counts = hurried.status().counts
    assert (counts.usable_trials, counts.failed_trials, counts.done_tasks) == (6, 2, 2)
    assert whole_experiment(vanishing, "exp", seed=1) == back
    assert hurried.status().version == 2
