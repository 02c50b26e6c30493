"""The guard: what is held out stays out, NDCG is measured as it is defined, and both kinds of loss are noticed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.metafeature.extractor import image_inputs, meta_feature
from nni_hyperfd.ranker.guard import Guard, GuardReport, GuardSettings, proven_loss
from nni_hyperfd.ranker.losses import ndcg
from nni_hyperfd.ranker.offline import Experience, OfflineData
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.ranker.update import ContinualUpdate, CurrentTask

if TYPE_CHECKING:
    from tests.ranker.conftest import World

IMAGES = 8


@pytest.fixture(scope="module")
def ranker(world: World) -> Ranker:
    fresh = world.ranker()
    fresh.extractor.set_normalization(image_inputs(world.offline.features), world.offline.statistics)
    return fresh.eval()


@pytest.fixture(scope="module")
def known(world: World, ranker: Ranker) -> OfflineData:
    """Offline results that are exactly what ``ranker`` says, so that its NDCG is 1."""
    experience = world.offline.experience[world.space.key]
    phi = world.offline.meta_features(ranker.extractor, IMAGES)
    scores = (
        phi[experience.sets] * ranker.embed(world.space.key, experience.encodings)[experience.configurations]
    ).sum(1)
    return with_aps(world.offline, world.space.key, scores.sigmoid())


def with_aps(offline: OfflineData, key: str, aps: torch.Tensor) -> OfflineData:
    experience = offline.experience[key]
    changed = Experience(experience.encodings, experience.sets, experience.configurations, aps)
    return OfflineData(offline.features, offline.members, {key: changed})


def reversed_ranker(ranker: Ranker) -> Ranker:
    """Ranks everything the other way round."""
    other = Ranker.from_bytes(ranker.to_bytes()).eval()
    for encoder in other.encoders.values():
        *_, last = [module for module in encoder.modules() if isinstance(module, torch.nn.Linear)]
        last.weight.data.neg_()
        last.bias.data.neg_()
    return other


def test_a_fifth_of_the_data_sets_is_held_out_always_the_same(known: OfflineData) -> None:
    held_out = Guard(known, GuardSettings(), IMAGES).held_out
    assert len(held_out) == 12
    assert Guard(known, GuardSettings(), IMAGES).held_out == held_out
    assert len(Guard(known, GuardSettings(share=0.5), IMAGES).held_out) == 30


def test_an_update_depends_on_nothing_that_is_held_out(world: World, known: OfflineData) -> None:
    held_out = Guard(known, GuardSettings(), IMAGES).held_out
    key = world.space.key
    hidden = torch.tensor([int(dataset) in held_out for dataset in known.experience[key].sets])
    aps = known.experience[key].aps
    learnt = []
    for other in (aps, torch.where(hidden, 1 - aps, aps), torch.where(hidden, aps, 1 - aps)):
        ranker = world.ranker()
        update = ContinualUpdate(
            ranker, with_aps(known, key, other), [], {}, CurrentTask("now", world.trials(torch.ones(3), [1, 50, 99])),
            RankerSettings(batches=6, ratio=(9.0, 0.0, 1.0), images=IMAGES), 0, held_out,
        )  # fmt: skip
        phi = meta_feature(ranker.extractor, world.features(torch.ones(3), 9, 1), torch.Generator())
        while update.steps_left:
            update.begin_step(phi, phi)
            update.finish_step({})
        learnt.append(ranker.state_dict())
    same, changed = learnt[1:]
    assert all(torch.equal(tensor, same[name]) for name, tensor in learnt[0].items())
    assert not all(torch.equal(tensor, changed[name]) for name, tensor in learnt[0].items())


def test_ndcg_is_that_of_each_held_out_list(world: World, known: OfflineData, ranker: Ranker) -> None:
    key, guard = world.space.key, Guard(world.offline, GuardSettings(), IMAGES)
    experience, found = world.offline.experience[key], []
    pool, reference = image_inputs(world.offline.features), world.offline.reference(IMAGES)
    for dataset, rows in experience.lists:
        if dataset in guard.held_out:
            with torch.no_grad():
                phi = ranker.extractor(
                    pool[reference[dataset]][None], world.offline.statistics[dataset][None]
                )[0]
            one = experience.ranked(key, rows)
            scores = ranker.predict(key, phi, one.encodings)
            found.append(float(ndcg(scores[None], one.aps[None], torch.ones(1, len(rows), dtype=torch.bool))))
    assert guard.ndcg(ranker)[key] == pytest.approx(found, abs=1e-6)
    assert Guard(known, GuardSettings(), IMAGES).ndcg(ranker)[key] == pytest.approx([1.0] * 12)


def test_a_blow_a_slow_decline_and_a_broken_ranker_are_objected_to(
    world: World, known: OfflineData, ranker: Ranker
) -> None:
    key, guard = world.space.key, Guard(known, GuardSettings(), IMAGES)
    bad = reversed_ranker(ranker)
    assert guard.judge(ranker, ranker, {}).passed
    assert guard.judge(ranker, bad, {}).passed, "getting better is no fault"
    blow = guard.judge(bad, ranker, {})
    assert not blow.passed
    assert "12 held-out lists" in blow.reasons[0]
    assert sum(blow.ndcg[key]) / 12 < 0.8
    # The parent is as bad, so that the step is nothing; but somebody was better once.
    decline = guard.judge(bad, bad, {key: (1.0,) * 12})
    assert [("best version" in reason) for reason in decline.reasons] == [True]
    assert guard.judge(bad, bad, {}).passed
    again = GuardReport.from_json(blow.to_json())
    assert again.reasons == blow.reasons
    assert again.ndcg[key] == pytest.approx(blow.ndcg[key], abs=1e-4)


def test_the_best_version_is_remembered(world: World, known: OfflineData, ranker: Ranker) -> None:
    key, guard = world.space.key, Guard(known, GuardSettings(), IMAGES)
    report = guard.judge(reversed_ranker(ranker), ranker, {key: (0.2,) * 12})
    assert report.best[key] == pytest.approx([1.0] * 12)


def test_nothing_to_measure_by_means_nothing_to_object_to(world: World, ranker: Ranker) -> None:
    bare = OfflineData(world.offline.features, world.offline.members, {})
    guard = Guard(bare, GuardSettings(), IMAGES)
    assert guard.held_out == frozenset()
    assert guard.judge(ranker, ranker, {}).passed


def test_a_loss_is_proven_by_students_t() -> None:
    """Against the textbook: mean loss 0.03 of four lists with standard deviation 0.02, t(3) = 4.541 at 0.99."""
    before, after = (0.9, 0.8, 0.7, 0.6), (0.88, 0.78, 0.68, 0.54)
    expected = 0.03 - 4.5407 * 0.02 / 2
    assert proven_loss(before, after, 0.99) == pytest.approx(expected, abs=1e-5)
    assert proven_loss(before[:1], after[:1], 0.99) == -math.inf, "one list proves nothing"
    assert proven_loss(before * 25, after * 25, 0.99) > 0.02, "a hundred do"


@pytest.mark.parametrize(
    "wrong", [{"share": 0.0}, {"share": 1.0}, {"tolerance": -0.1}, {"confidence": math.nan}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(PlatformError, match="guard"):
        replace(GuardSettings(), **wrong)
