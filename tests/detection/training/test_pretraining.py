"""Pretraining: its crops, its schedule, its averaged weights, and that an interrupted run goes on as if nothing had been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from nni_hyperfd.data.pixels import PixelStore
from nni_hyperfd.detection.network.retinaface import Predictions, RetinaFace
from nni_hyperfd.detection.training.fine_tuning import NonFiniteLoss
from nni_hyperfd.detection.training.pretraining import (
    LARGEST_SHARE,
    MOST_MAGNIFIED,
    SMALLEST_FACE,
    Average,
    Layout,
    Lesson,
    Pretraining,
    Schedule,
    make_batch,
    plan_faces,
)
from nni_hyperfd.spaces.architecture import mobilenet_v2

LAYOUTS = (Layout(64, 2, False, 0.5), Layout(64, 2, True, 0.5))
SHORT = Schedule(steps=4, warm_up=2, layouts=LAYOUTS)


@pytest.fixture(scope="module")
def store(store_of: Callable[..., PixelStore]) -> PixelStore:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (90 + 10 * i, 120, 3), dtype=np.uint8) for i in range(4)]
    faces = [
        [(10, 20, 40, 60, False), (70, 10, 110, 52, False), (5, 70, 12, 78, True)],
        [(30, 30, 90, 95, False)],
        [],
        [(100, 90, 110, 102, False)],
    ]
    return store_of(pictures, faces, {"train": [0, 2, 3], "val": [1], "test": [1]})


def teacher(pixels: Tensor) -> Lesson:
    """Knows nothing, but the same for the same pictures."""
    anchors = 2 * sum((pixels.shape[-1] // stride) ** 2 for stride in (8, 16, 32))
    mean = pixels.float().mean((1, 2, 3)).view(-1, 1, 1) / 255
    outputs = (torch.ones(len(pixels), anchors, width) * mean for width in (2, 4, 10))
    maps = [
        torch.randn(len(pixels), 64, side, side, generator=torch.Generator().manual_seed(side))
        for side in (8, 4, 2)
    ]
    return Lesson(Predictions(*outputs), maps)


def make(store: PixelStore, seed: int, taught: bool = True, schedule: Schedule = SHORT) -> Pretraining:
    model = RetinaFace(mobilenet_v2())
    model.reset_parameters(torch.Generator().manual_seed(seed))
    return Pretraining(model, store, schedule, teacher if taught else None, 7)


def interrupt_at(step: int) -> Callable[[int, dict[str, float]], None]:
    def on_step(done: int, losses: dict[str, float]) -> None:
        if done == step:
            raise KeyboardInterrupt

    return on_step


@pytest.mark.parametrize("taught", [True, False])
def test_going_on_equals_never_having_stopped(
    store: PixelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taught: bool
) -> None:
    monkeypatch.setattr("nni_hyperfd.detection.training.pretraining.SAVE_EVERY", 2)
    seen: list[int] = []
    whole = make(store, 0, taught).run(tmp_path / "whole", lambda done, losses: seen.append(done))
    with pytest.raises(KeyboardInterrupt):
        make(store, 0, taught).run(
            tmp_path / "parts", interrupt_at(3)
        )  # the last checkpoint is that of step 2
    other = make(store, 99, taught)  # other start weights: the checkpoint's are the ones that count
    resumed = other.run(tmp_path / "parts", lambda done, losses: seen.append(done))
    assert seen == [1, 2, 3, 4, 3, 4]
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
    assert not torch.equal(whole["heads.0.weight"], make(store, 0).model.state_dict()["heads.0.weight"])


def test_a_loss_that_is_not_finite_stops_it_and_keeps_the_last_checkpoint(
    store: PixelStore, tmp_path: Path
) -> None:
    training = make(store, 0)
    with torch.no_grad():
        training.model.heads[0].bias.fill_(torch.nan)
    with pytest.raises(NonFiniteLoss):
        training.run(tmp_path / "checkpoint", lambda done, losses: None)
    assert not (tmp_path / "checkpoint").exists()


def test_the_rate_warms_up_and_falls_and_features_fade() -> None:
    schedule = Schedule(steps=20, warm_up=4, peak_rate=1e-2, feature_weight=2.0)
    rates = [schedule.rate(step) for step in range(20)]
    assert rates[:5] == pytest.approx([0.25e-2, 0.5e-2, 0.75e-2, 1e-2, 1e-2])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 1e-4 < rates[-1] < 1e-3
    assert [schedule.features(step) for step in (0, 10, 14, 19)] == pytest.approx([2.0, 0.5, 0.0, 0.0])
    assert [schedule.decay(step) for step in (0, 89, 10**6)] == pytest.approx([0.1, 90 / 99, 0.999])


def test_layouts_come_as_often_as_they_should() -> None:
    schedule = Schedule(layouts=(Layout(64, 2, False, 0.6), Layout(96, 1, True, 0.2)))
    rng = np.random.default_rng(0)
    drawn = [schedule.layout(rng).side for _ in range(400)]
    assert drawn.count(64) == pytest.approx(300, abs=40)


def test_the_average_forgets_at_the_rate_it_is_told() -> None:
    model = RetinaFace(mobilenet_v2())
    average = Average(model)
    first = model.heads[0].bias.detach().clone()
    for _ in range(2):
        with torch.no_grad():
            model.heads[0].bias += 1
        average.update(model, 0.75)
    # after one step 0.25 of the way to first + 1; then 0.25 of the way from there to first + 2
    torch.testing.assert_close(average.state["heads.0.bias"], first + 0.25 + 0.25 * 1.75)


def test_crops_show_a_face_at_a_wanted_size(store: PixelStore) -> None:
    side, samples = 64, 500
    plan = plan_faces(store, store.splits["train"], samples, side, np.random.default_rng(0))
    assert set(plan.image.tolist()) == {0, 3}  # image 2 has no face
    sizes = store.sizes[plan.image]
    x0, y0, length = plan.crop.T
    assert ((x0 >= 0) & (y0 >= 0) & (x0 + length <= sizes[:, 1]) & (y0 + length <= sizes[:, 0])).all()
    assert (length * MOST_MAGNIFIED >= side - MOST_MAGNIFIED).all()
    boxes = store.faces.boxes[plan.image]
    center = (boxes[..., :2] + boxes[..., 2:]) / 2 - plan.crop[:, None, :2]
    usable = (store.faces.valid & ~store.faces.ignored)[plan.image]
    inside = ((center >= 0) & (center <= length.view(-1, 1, 1))).all(-1) & usable
    assert inside.any(1).all()
    shown = (boxes[..., 2:] - boxes[..., :2]).prod(-1).sqrt() * side / length.unsqueeze(1)
    best = torch.where(inside, shown, torch.inf).amin(1)
    assert best.min() < 2 * SMALLEST_FACE
    assert best.max() > 0.7 * LARGEST_SHARE * side


def test_a_batch_has_its_layouts_shape_and_no_empty_columns(store: PixelStore) -> None:
    for layout in (Layout(64, 3, False, 1), Layout(64, 3, True, 1)):
        pixels, faces = make_batch(store, layout, np.random.default_rng(1))
        assert pixels.shape == (3, 3, 64, 64)
        assert pixels.dtype == torch.uint8
        assert faces.valid.any(0).all()
        assert faces.valid.sum() >= (12 if layout.tiled else 3)
        assert (faces.boxes[faces.valid] <= 64).all()
