"""The search on a small synthetic data set: what moves, what does not, and where it ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import PixelStore, open_pixels
from nni_hyperfd.detection.autohas.search import RATES, Search, nearest
from nni_hyperfd.detection.network.weights import base_detector
from nni_hyperfd.detection.training.budgets import get_budget
from nni_hyperfd.spaces.architecture import largest
from nni_hyperfd.spaces.space import Space, standard_search_space

BUDGET = replace(get_budget("smoke"), image_size=32, batch_size=2)


@pytest.fixture(scope="module")
def store(drawn_faces: Path) -> PixelStore:
    return open_pixels(load_dataset(drawn_faces), 64)


def test_a_step_moves_weights_and_all_encodings_that_matter(store: PixelStore) -> None:
    search = Search(base_detector(largest()), store, BUDGET, seed=0)
    # Blocks that the drawn depth leaves out do not matter in this step.
    depths = [depth for depth in search.depths if len(depth) > 1]
    matter = [*depths, *(blocks[0] for blocks in search.blocks), search.rate, search.location]
    before = [encoding.detach().clone() for encoding in matter]
    weight = search.weights["detector.backbone.stem.0.weight"]
    stem = weight.detach().clone()
    progress = search.step()
    assert progress.architecture_entropy < 1
    assert not torch.equal(weight, stem)
    assert all(not torch.equal(old, new) for old, new in zip(before, matter))


def test_looking_ahead_changes_neither_weights_nor_statistics(store: PixelStore) -> None:
    search = Search(base_detector(largest()), store, BUDGET, seed=0)
    before = {name: value.clone() for name, value in search.supernet.state_dict().items()}
    search.look_ahead_loss(search._batch("train"), search._batch("val")).backward()
    for name, value in search.supernet.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_same_seed_searches_the_same_way(store: PixelStore) -> None:
    ends = []
    for seed in (0, 0, 1):
        search = Search(base_detector(largest()), store, BUDGET, seed)
        search.step()
        ends.append(torch.cat([encoding.detach() for encoding in search.encodings]))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_what_is_derived_is_a_point_of_the_joint_space(store: PixelStore) -> None:
    search = Search(base_detector(largest()), store, BUDGET, seed=0)
    with torch.no_grad():
        search.rate[-1] = 10.0
        search.depths[1][2] = 1.0
    configuration, found = search.derive()
    assert abs(found["lr"] - float(RATES[-1])) < 1e-4
    parameters = configuration.parameters()
    assert parameters["lr"] == 0.003  # the joint space has no larger rate
    assert parameters["s3_depth"] == 3
    Space.from_search_space(standard_search_space("joint")).parse(parameters)


def test_nearest_is_by_ratio() -> None:
    assert nearest(0.0018, (0.0003, 0.001, 0.003)) == 0.003
    assert nearest(5.0, (2, 4, 8)) == 4
