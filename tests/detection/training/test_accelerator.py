"""The engine for a GPU, run on the CPU without its streams and graphs: same numbers as the plain engine.

What only a GPU can show (captures, streams, speed) is not tested here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import PixelStore, open_pixels
from nni_hyperfd.detection.network.weights import base_detector
from nni_hyperfd.detection.training import accelerator
from nni_hyperfd.detection.training.accelerator import CUDAEngine, Residents
from nni_hyperfd.detection.training.augment import CropPlan, plan_crops
from nni_hyperfd.detection.training.budgets import Budget
from nni_hyperfd.detection.training.fine_tuning import CPUEngine, fine_tune
from nni_hyperfd.spaces.architecture import mobilenet_v2
from nni_hyperfd.spaces.hyperparameters import HyperParameters

CPU = torch.device("cpu")
BUDGET = Budget("tiny", 64, 96, 2, 8, 1, 1, 2, batch_size=4)
SETTINGS = {
    name: HyperParameters(
        optimizer=name, learning_rate=1e-3, location_weight=4, negative_ratio=2, iou_threshold=0.4
    )
    for name in ("sgd", "adam")
}
SETTINGS["dynamic"] = HyperParameters(counts=(4, 10, 4) * 3)


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both engines in float32, whatever this CPU is quick at."""
    monkeypatch.setenv("HYPERFD_BFLOAT16", "off")


@pytest.fixture(scope="module")
def store(drawn_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> PixelStore:
    return open_pixels(load_dataset(drawn_faces), 192, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def residents(store: PixelStore) -> Residents:
    return Residents.load(store, BUDGET, CPU)


@pytest.fixture(scope="module")
def plan(store: PixelStore) -> CropPlan:
    """Twelve crops at their own size, for which both engines read exactly the same pixels."""
    drawn = plan_crops(store, store.splits["train"], 12, 0.3, np.random.default_rng(1))
    height, width = store.sizes[drawn.image].T
    x0, y0 = torch.minimum(drawn.crop[:, 0], width - 64), torch.minimum(drawn.crop[:, 1], height - 64)
    return CropPlan(
        drawn.image, torch.stack([x0, y0, torch.full_like(x0, 64)], dim=1), drawn.flip, drawn.color
    )


def engine() -> CUDAEngine:
    return CUDAEngine(base_detector(mobilenet_v2()), BUDGET, CPU, torch.float32)


def assert_same(state: dict[str, Tensor], other: dict[str, Tensor], atol: float) -> None:
    for name, value in state.items():
        difference = float((value - other[name]).abs().max())
        assert difference <= atol, f"{name} differs by {difference}"


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "dynamic"])
def test_training_equals_the_plain_engine(
    store: PixelStore, residents: Residents, plan: CropPlan, optimizer: str
) -> None:
    settings = SETTINGS[optimizer]
    plain = CPUEngine(base_detector(mobilenet_v2()), store, settings, BUDGET)
    other = engine()
    other.begin(residents, settings)
    for rate in (1e-3, 1e-4):  # the rate reaches the optimizer, which knows it as a tensor
        wanted, found = plain.train(plan, rate), other.train(plan, rate)
        torch.testing.assert_close(torch.stack([*found]), torch.stack([*wanted]), rtol=1e-3, atol=1e-4)
    if optimizer == "sgd":
        # Adam's steps do not shrink with the gradient: where that is nothing but rounding, so is their sign.
        assert_same(other.state(), plain.state(), atol=1e-4)
        one, two = plain.detect("val"), other.detect("val")
        np.testing.assert_allclose(two.scores[:20], one.scores[:20], atol=1e-3)


def test_a_new_trial_starts_from_the_start(residents: Residents, plan: CropPlan) -> None:
    shared = engine()
    fresh = {}
    for optimizer, settings in SETTINGS.items():
        alone = engine()
        alone.begin(residents, settings)
        fresh[optimizer] = (alone.train(plan, 1e-3), alone.state())
    for optimizer in ("adam", "sgd", "adam", "sgd"):
        shared.begin(residents, SETTINGS[optimizer])
        assert_same(shared.state(), shared.start, atol=0)
        losses = shared.train(plan, 1e-3)
        torch.testing.assert_close(
            torch.stack([*losses]), torch.stack([*fresh[optimizer][0]]), atol=0, rtol=0
        )
        assert_same(shared.state(), fresh[optimizer][1], atol=0)


def test_settings_of_a_configuration_take_effect(residents: Residents, plan: CropPlan) -> None:
    shared = engine()
    seen = []
    for settings in (
        HyperParameters(),
        HyperParameters(location_weight=8),
        HyperParameters(negative_ratio=2),
        HyperParameters(iou_threshold=0.6),
    ):
        shared.begin(residents, settings)
        losses = shared.train(plan, 1e-3)
        seen.append((float(losses.classification), shared.state()["heads.0.weight"]))
    assert len({loss for loss, _ in seen}) == 4
    assert not torch.equal(seen[0][1], seen[1][1])


def test_preparing_in_small_parts_changes_nothing(
    residents: Residents, plan: CropPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = engine()
    whole.begin(residents, SETTINGS["sgd"])
    wanted = whole.train(plan, 1e-3)
    monkeypatch.setattr(accelerator, "PREPARED_SAMPLES", 6)  # less than two batches of four: one at a time
    parts = engine()
    parts.begin(residents, SETTINGS["sgd"])
    torch.testing.assert_close(torch.stack([*parts.train(plan, 1e-3)]), torch.stack([*wanted]))
    assert_same(parts.state(), whole.state(), atol=1e-6)


def test_images_may_change_size_on_the_way(residents: Residents, plan: CropPlan) -> None:
    growing = engine()
    growing.begin(residents, SETTINGS["adam"], sizes=(96,))
    before = growing.state()
    growing.image_size = 96
    assert all(bool(part.isfinite()) for part in growing.train(plan, 1e-3))
    assert not torch.equal(growing.state()["heads.0.weight"], before["heads.0.weight"])


def test_the_whole_loop_runs_on_it(store: PixelStore, residents: Residents) -> None:
    other = engine()
    other.begin(residents, SETTINGS["sgd"])
    outcome = fine_tune(other, store, SETTINGS["sgd"], BUDGET, 0)
    plain = CPUEngine(base_detector(mobilenet_v2()), store, SETTINGS["sgd"], BUDGET)
    wanted = fine_tune(plain, store, SETTINGS["sgd"], BUDGET, 0)
    # Scaled crops differ by one level of 255 at most, since the CPU rounds before it colors.
    assert outcome.val_ap == pytest.approx(wanted.val_ap, abs=0.05)
    for point, other_point in zip(outcome.curve, wanted.curve):
        assert float(point.losses.total(4)) == pytest.approx(float(other_point.losses.total(4)), rel=0.03)
