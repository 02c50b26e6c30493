"""Warm-up: on a world whose answer is known it finds what decides, and it says honestly how well."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from nni_hyperfd.errors import PlatformError, TrainingError
from nni_hyperfd.metafeature.extractor import image_inputs, meta_feature
from nni_hyperfd.ranker.encoders import EncoderShape
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.held_out import held_out_ndcg
from nni_hyperfd.ranker.losses import ndcg
from nni_hyperfd.ranker.offline import Experience, OfflineData
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.ranker.warmup import warm_up
from nni_hyperfd.spaces.standard import standard_space

if TYPE_CHECKING:
    from tests.ranker.conftest import World

QUICK = RankerSettings(warmup_lists=16, warmup_epochs=25)


def test_unseen_customers_are_ranked_by_their_own_traits(world: World) -> None:
    ranker = world.ranker()
    report = warm_up(ranker, world.offline, QUICK, seed=0)
    assert report.ndcg[1] > report.ndcg[0] + 0.05
    assert len(report.held_out) == 12
    encodings = world.offline.experience[world.space.key].encodings
    own, swapped = [], []
    for seed in range(10):
        center = torch.randn(3, generator=torch.Generator().manual_seed(1000 + seed))
        features = world.features(center, 20, 2000 + seed)
        phi = meta_feature(ranker.extractor, features, torch.Generator().manual_seed(seed))
        scores = ranker.predict(world.space.key, phi, encodings)[None]
        mask = torch.ones_like(scores, dtype=torch.bool)
        own.append(ndcg(scores, world.aps(center)[None], mask).item())
        swapped.append(ndcg(scores, world.aps(-center)[None], mask).item())
    assert np.mean(own) > 0.9
    assert np.mean(own) > np.mean(swapped) + 0.2


def test_nothing_is_chosen_by_the_held_out_lists(world: World) -> None:
    """With other results on the held-out data sets the very same ranker comes out."""
    settings = replace(QUICK, warmup_epochs=2)
    ranker, again = world.ranker(), world.ranker()
    report = warm_up(ranker, world.offline, settings, seed=1)
    known = world.offline.experience[world.space.key]
    hidden = torch.isin(known.sets, torch.tensor(report.held_out))
    shuffled = replace(known, aps=torch.where(hidden, 1 - known.aps, known.aps))
    other = replace(world.offline, experience={world.space.key: shuffled})
    changed = warm_up(again, other, settings, seed=1)
    assert changed.held_out == report.held_out
    assert changed.ndcg != report.ndcg
    states = ranker.state_dict(), again.state_dict()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_the_seed_decides_everything(world: World) -> None:
    settings = replace(QUICK, warmup_epochs=1)
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(len(results))
        ranker = world.ranker()
        report = warm_up(ranker, world.offline, settings, seed)
        results.append((report, ranker.state_dict()))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(t, results[1][1][name]) for name, t in results[0][1].items())
    assert results[0][0].held_out != results[2][0].held_out


def test_inputs_are_standardized_by_the_servers_images(world: World) -> None:
    ranker = world.ranker()
    warm_up(ranker, world.offline, replace(QUICK, warmup_epochs=0), seed=0)
    pool = image_inputs(world.offline.features)
    assert torch.allclose(ranker.extractor.center[:258], pool.mean(0), atol=1e-5)
    assert torch.allclose(ranker.extractor.center[258:], world.offline.statistics.mean(0), atol=1e-5)
    assert torch.allclose(ranker.extractor.scale[:258], pool.std(0, correction=0), atol=1e-5)


def test_two_spaces_train_one_extractor_and_their_own_encoders(world: World) -> None:
    nas = standard_space("nas")
    encodings = encode(nas, nas.sample(10, np.random.default_rng(0)))
    sets = torch.arange(60).repeat_interleave(2)
    rows = torch.arange(120) % 10
    graphs = Experience(encodings, sets, rows, torch.rand(120, generator=torch.Generator().manual_seed(0)))
    offline = replace(world.offline, experience={**world.offline.experience, nas.key: graphs})
    shapes = {world.space.key: EncoderShape.of(world.space), nas.key: EncoderShape.of(nas)}
    ranker, fresh = Ranker.build(shapes, 0), Ranker.build(shapes, 0).state_dict()
    report = warm_up(ranker, offline, replace(QUICK, warmup_epochs=3), seed=0)
    for name, parameter in ranker.named_parameters():
        # A constant added to all scores of a list changes no order, so the last bias of an encoder gets no gradient.
        if not name.endswith(("read_out.bias", "layers.4.bias")):
            assert not torch.equal(parameter, fresh[name]), name
    # What is said of the ranker at the end is the mean over spaces, each of the mean over its lists.
    lists = held_out_ndcg(ranker, offline, image_inputs(offline.features), report.held_out, QUICK.images)
    assert set(lists) == set(shapes)
    expected = np.mean([values.mean().item() for values in lists.values()])
    assert report.ndcg[1] == pytest.approx(expected, abs=1e-6)


def test_nothing_to_learn_from_is_refused(world: World) -> None:
    one = world.offline.experience[world.space.key]
    first = one.sets == 0
    lonely = Experience(one.encodings, one.sets[first], one.configurations[first], one.aps[first])
    offline = OfflineData(world.offline.features, world.offline.members, {world.space.key: lonely})
    with pytest.raises(PlatformError, match="at least two offline data sets"):
        warm_up(world.ranker(), offline, QUICK, seed=0)


def test_a_loss_that_is_not_a_number_stops_the_training(world: World) -> None:
    ranker = world.ranker()
    with torch.no_grad():
        ranker.extractor.project.bias[0] = torch.nan
    with pytest.raises(TrainingError, match="warm-up is nan"):
        warm_up(ranker, world.offline, QUICK, seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "hinge"}, "loss is 'hinge'; use one of ranking, mse"),
        ({"mode": "half"}, "mode is 'half'"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be above 0"),
        ({"synaptic_weight": float("nan")}, "synaptic_weight is nan"),
        ({"ratio": (5, 1, 0)}, "ratio is"),
        ({"images": 0}, "images is 0; it must be at least 1"),
    ],
)
def test_settings_out_of_range_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(PlatformError, match=message):
        RankerSettings(**change)  # type: ignore[arg-type]
