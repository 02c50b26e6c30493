"""The search on a small synthetic data set: what moves, what does not, and where it ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import PixelStore, open_pixels
from nni_hyperfd.detection.autohas.search import LOCATION_WEIGHTS, RATES, Search, nearest
from nni_hyperfd.detection.autohas.supernet import architecture_of
from nni_hyperfd.detection.network.precision import SWITCH
from nni_hyperfd.detection.network.remap import cut, remap
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.detection.network.weights import base_detector
from nni_hyperfd.detection.training.budgets import get_budget
from nni_hyperfd.detection.training.fine_tuning import MOMENTUM, WEIGHT_DECAY
from nni_hyperfd.detection.training.losses import detection_losses
from nni_hyperfd.spaces.architecture import largest
from nni_hyperfd.spaces.hyperparameters import DEFAULT_HYPERPARAMETERS
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_search_space

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
    stem = search.weights["backbone.stem.0.weight"]
    progress = search.step()
    assert progress.architecture_entropy < 1
    assert not torch.equal(search.weights["backbone.stem.0.weight"], stem)
    assert all(not torch.equal(old, new) for old, new in zip(before, matter))


@pytest.mark.parametrize("steps_before", [0, 1], ids=["with encodings", "weights alone"])
def test_the_weights_go_where_plain_training_of_the_drawn_network_goes(
    store: PixelStore, monkeypatch: pytest.MonkeyPatch, steps_before: int
) -> None:
    """Equation 9, against SGD on the network that remapping gives, by the drawn rate and location weight."""
    monkeypatch.setenv(SWITCH, "off")
    detector = base_detector(largest())
    search, twin = (Search(detector, store, BUDGET, seed=0) for _ in range(2))
    for one in (search, twin):
        one.taken = steps_before
    architecture = architecture_of(twin.sampled_gates())
    rate, location = twin._sampled(twin.rate, RATES), twin._sampled(twin.location, LOCATION_WEIGHTS)
    pixels, targets = twin._batch("train")
    alone = RetinaFace(architecture)
    alone.load_state_dict(remap(detector.state_dict(), largest(), alone))
    optimizer = torch.optim.SGD(
        alone.parameters(), lr=float(rate.detach()), momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    detection_losses(alone.train()(pixels), targets, DEFAULT_HYPERPARAMETERS.negative_ratio).total(
        location.detach()
    ).backward()
    for parameter in alone.parameters():
        if parameter.grad is None:  # heads of other levels
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    search.step()
    # A batch of two tiny images makes sums of float32 that cancel: what is compared is the way gone, as a whole.
    start = remap(detector.state_dict(), largest(), alone)
    way, apart = [], []
    for name, expected in alone.named_parameters():
        way.append((expected.detach() - start[name]).flatten())
        apart.append((cut(search.weights[name], expected.shape) - expected.detach()).flatten())
    assert torch.cat(apart).norm() < 0.01 * torch.cat(way).norm()


def test_encodings_move_every_second_step(store: PixelStore) -> None:
    search = Search(base_detector(largest()), store, BUDGET, seed=0)
    ends = []
    for _ in range(3):
        search.step()
        ends.append(torch.cat([encoding.detach().clone() for encoding in search.encodings]))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[1], ends[2])


def test_the_given_detector_stays_as_it_is(store: PixelStore) -> None:
    detector = base_detector(largest())
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    Search(detector, store, BUDGET, seed=0).step()
    for name, value in detector.state_dict().items():
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
