"""A poisoned update at a real platform: it is kept, it is not used, an operator sees why and may decide otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nni_hyperfd.cli import main
from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.errors import PlatformError
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.platform.past import StoredTasks
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.protocol.messages import FindTask, ReadExtractor, ReadRanker, UpdateReceipt
from nni_hyperfd.ranker.guard import GuardReport, GuardSettings
from nni_hyperfd.ranker.offline import Experience, OfflineData
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.spaces.standard import standard_search_space

HPO = standard_search_space("hpo")
SMALL = RankerSettings(batches=8, images=6, learning_rate=3e-3)
ANYTHING, NOTHING = GuardSettings(tolerance=1.0), GuardSettings(tolerance=0.0, confidence=0.5)
"""Allows whatever happens, and objects to any loss. What honest and poisoned updates do to a ranker that has learnt
something is measured by ``benchmarks/guard.py``; here is what becomes of a version that the guard objects to."""


@pytest.fixture
def known(first_ranker: Ranker, offline: OfflineData) -> OfflineData:
    """Offline results that are what version 0 says: its NDCG is 1, and every change is a loss."""
    (key, experience), images = next(iter(offline.experience.items())), SMALL.images
    phi = offline.meta_features(first_ranker.extractor, images)
    embedded = first_ranker.embed(key, experience.encodings)[experience.configurations]
    aps = (phi[experience.sets] * embedded).sum(1).sigmoid()
    learnt = Experience(experience.encodings, experience.sets, experience.configurations, aps)
    return OfflineData(offline.features, offline.members, {key: learnt})


@pytest.fixture
def opened(tmp_path: Path, first_ranker: Ranker, known: OfflineData) -> Callable[[GuardSettings], Platform]:
    """The platform, under a guard of one's choice."""

    def opener(guard: GuardSettings) -> Platform:
        return Platform.create(tmp_path / "platform", first_ranker, known, "base0", SMALL, guard=guard)

    return opener


def update(platform: Platform, features: ImageFeatures, name: str) -> UpdateReceipt:
    """An experiment with four results."""
    client = TaskClient(platform, features, "base0")
    task = client.open(name, HPO)
    for entry, ap in zip(client.recommend(task, 4).configurations, (0.1, 0.9, 0.2, 0.8)):
        client.record(task, entry.parameters, ap)
    return client.update(task)


Opener = Callable[[GuardSettings], Platform]


def test_what_the_guard_objects_to_is_kept_and_not_used(
    opened: Opener, features: ImageFeatures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trusting, strict = opened(ANYTHING), opened(NOTHING)
    one = update(trusting, features, "good")
    assert (one.version_after, one.published) == (1, True)
    client = TaskClient(strict, features, "base0")
    before = client.preview(HPO, 4), strict.ask(ReadExtractor())
    lie = update(strict, features, "lie")
    assert (lie.version_before, lie.version_after, lie.published) == (1, 2, False)

    # Nobody gets it, its results are kept, and the task counts as finished.
    assert (client.preview(HPO, 4), strict.ask(ReadExtractor())) == before
    assert strict.ask(ReadRanker()).version == strict.status().version == 1
    with pytest.raises(PlatformError, match="version 2"):
        strict.ask(ReadExtractor(version=2))
    task = strict.ask(FindTask(experiment_id="lie"))
    assert (task.status, len(strict.trials(task.task_id))) == ("done", 4)
    assert client.update(task) == lie, "and it is not made again"

    # The next update goes on from the last good version, and does not learn from the lie as a past task either.
    two = update(trusting, features, "good-too")
    assert (two.version_before, two.version_after, two.published) == (1, 3, True)
    assert task.task_id not in [past.key for past in StoredTasks(strict._store)]
    assert [(v.version, v.parent, v.published) for v in strict.history()] == [
        (0, None, True), (1, 0, True), (2, 1, False), (3, 1, True)
    ]  # fmt: skip

    # An operator sees why, and may not change the past any more.
    assert main(["status", "--platform", str(tmp_path / "platform")]) == 0
    assert "Version 2 is kept back: NDCG on 2 held-out lists" in capsys.readouterr().out
    assert main(["publish", "2", "--platform", str(tmp_path / "platform")]) == 1
    assert "gone on to version 3" in capsys.readouterr().err


def test_an_operator_may_decide_otherwise(
    opened: Opener, features: ImageFeatures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    platform = opened(NOTHING)
    assert not update(platform, features, "lie").published
    folder = str(tmp_path / "platform")
    assert main(["publish", "7", "--platform", folder]) == 1
    assert "no ranker version 7" in capsys.readouterr().err
    assert main(["publish", "1", "--platform", folder]) == 0
    assert "newest version is 1" in capsys.readouterr().out
    assert main(["publish", "1", "--platform", folder]) == 0, "twice is once"
    assert platform.ask(ReadExtractor()).version == 1
    assert [past.key for past in StoredTasks(platform._store)] == [
        platform.ask(FindTask(experiment_id="lie")).task_id
    ]
    # From now on things are measured by what was published, or nothing could ever pass again.
    update(opened(ANYTHING), features, "next")
    newest = GuardReport.from_json(platform._store.newest().guard or "")
    assert newest.best == newest.parent != dict.fromkeys(newest.best, (1.0, 1.0))


def test_lies_in_a_row_do_not_add_up(opened: Opener, first_ranker: Ranker, features: ImageFeatures) -> None:
    platform = opened(NOTHING)
    receipts = [update(platform, features, f"lie{i}") for i in range(3)]
    assert not any(receipt.published for receipt in receipts)
    assert {receipt.version_before for receipt in receipts} == {0}
    assert [receipt.version_after for receipt in receipts] == [1, 2, 3]
    newest = platform.ranker().state_dict()
    assert all(torch.equal(tensor, newest[name]) for name, tensor in first_ranker.state_dict().items())
