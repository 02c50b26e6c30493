"""From scaled images to AP: padding and batches change nothing, the size limit, clipping, suppression."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from nni_hyperfd.data.pixels import PixelStore
from nni_hyperfd.detection.anchors import encode_boxes, priors
from nni_hyperfd.detection.evaluation.detections import (
    LONGEST_SHAPE,
    NMS_IOU,
    Batch,
    Detections,
    GroundTruth,
    ap50,
    detect,
    evaluation_batches,
    ground_truth,
    pooled_ap50,
    scaled_sizes,
    select_detections,
)
from nni_hyperfd.detection.network.retinaface import Predictions, RetinaFace
from nni_hyperfd.spaces.architecture import mobilenet_v2

MakeStore = Callable[..., PixelStore]


@pytest.fixture(scope="module")
def mixed(store_of: MakeStore) -> PixelStore:
    """Noise of several shapes, among them the same shape thrice."""
    rng = np.random.default_rng(0)
    shapes = [(40, 60), (64, 64), (40, 60), (80, 33), (41, 61), (40, 60)]
    return store_of(
        [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes],
        [[(5, 5, 30, 30, False)] for _ in shapes],
    )


@pytest.fixture(scope="module")
def model() -> RetinaFace:
    """A detector with random weights whose statistics fit its images, so that scores spread over 0..1."""
    generator = torch.Generator().manual_seed(0)
    detector = RetinaFace(mobilenet_v2())
    detector.reset_parameters(generator)
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        detector.train()(torch.rand(4, 3, 64, 96, generator=generator) * 255)
    for head in detector.heads:
        torch.nn.init.normal_(head.weight, 0.0, 0.1, generator=generator)
    return detector


def test_every_image_is_in_one_batch_scaled_and_padded_with_black(mixed: PixelStore) -> None:
    batches = list(evaluation_batches(mixed, torch.arange(6), 80))
    assert sorted(row for batch in batches for row in batch.rows.tolist()) == list(range(6))
    for batch in batches:
        assert batch.images.shape[-2] % 32 == batch.images.shape[-1] % 32 == 0
        for image, row, (height, width) in zip(batch.images, batch.rows, batch.size.tolist()):
            assert min(height, width) == 80
            assert (height, width) == tuple(scaled_sizes(mixed, torch.arange(6), 80)[row].tolist())
            assert (image[:, height:] == 0).all()
            assert (image[:, :, width:] == 0).all()
            assert image[:, :height, :width].float().std() > 10
    assert max(len(batch.rows) for batch in batches) >= 3


def test_images_at_their_own_size_are_not_resampled(mixed: PixelStore) -> None:
    (batch,) = evaluation_batches(mixed, torch.tensor([1]), 64)
    assert torch.equal(batch.images[0], mixed.image(1))


def test_an_image_alone_is_detected_as_in_a_batch(mixed: PixelStore, model: RetinaFace) -> None:
    indices = torch.arange(6)
    together = detect(model, evaluation_batches(mixed, indices, 64))
    assert len(together.scores) > 20
    for row in range(6):
        alone = detect(model, evaluation_batches(mixed, indices[row : row + 1], 64))
        chosen = together.image == row
        order, other = np.argsort(-alone.scores), np.argsort(-together.scores[chosen])
        np.testing.assert_allclose(alone.scores[order], together.scores[chosen][other], atol=1e-5)
        np.testing.assert_allclose(alone.boxes[order], together.boxes[chosen][other], atol=1e-2)
    truth = ground_truth(mixed, indices, 64)
    parts = []
    for row in range(6):
        one = indices[row : row + 1]
        parts.append((detect(model, evaluation_batches(mixed, one, 64)), ground_truth(mixed, one, 64), 1))
    assert pooled_ap50(parts) == pytest.approx(ap50(together, truth), abs=1e-6)


def test_detecting_leaves_the_mode_and_the_weights_alone(mixed: PixelStore, model: RetinaFace) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for training in (True, False):
        model.train(training)
        detect(model, evaluation_batches(mixed, torch.tensor([0]), 64))
        assert model.training is training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_long_strips_stay_within_bounds(store_of: MakeStore) -> None:
    store = store_of([np.zeros((3, 900, 3), np.uint8), np.zeros((300, 100, 3), np.uint8)], [[], []])
    sizes = scaled_sizes(store, torch.arange(2), 256)
    assert sizes[0].tolist() == [7, LONGEST_SHAPE * 256]
    assert sizes[1].tolist() == [768, 256]


@pytest.mark.parametrize(
    ("size", "evaluation", "ignored"), [(36, 720, False), (35, 720, True), (36, 360, False)]
)
def test_faces_under_36_pixels_of_720_are_ignored(
    store_of: MakeStore, size: int, evaluation: int, ignored: bool
) -> None:
    """The limit is relative: the same face of the same image counts, or not, at every evaluation size."""
    store = store_of(
        [np.zeros((720, 960, 3), np.uint8)],
        [[(10, 10, 10 + size, 110, False), (10, 10, 110, 10 + size, False), (10, 10, 200, 200, True)]],
    )
    truth = ground_truth(store, torch.tensor([0]), evaluation)
    assert truth.ignored.tolist() == [ignored, ignored, True]
    assert truth.boxes[0].tolist() == [v * evaluation / 720 for v in (10, 10, 10 + size, 110)]
    assert truth.image.tolist() == [0, 0, 0]


def predictions_of(boxes: Tensor, scores: Tensor, height: int, width: int) -> Predictions:
    """What a network would say to place ``boxes`` [n, 4] with ``scores`` [n] on the first n anchors of one image."""
    anchors = priors(height, width)
    offsets, logits = torch.zeros(len(anchors), 4), torch.full((len(anchors), 2), 0.0)
    logits[:, 1] = -20.0
    offsets[: len(boxes)] = encode_boxes(boxes, anchors[: len(boxes)])
    logits[: len(boxes), 1] = torch.logit(scores)
    return Predictions(logits.unsqueeze(0), offsets.unsqueeze(0), torch.zeros(1, len(anchors), 10))


def select(boxes: list[list[float]], scores: list[float], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    batch = Batch(torch.zeros(1, 3, 64, 96, dtype=torch.uint8), torch.tensor([5]), torch.tensor([size]))
    row, found, score = select_detections(
        predictions_of(torch.tensor(boxes), torch.tensor(scores), 64, 96), batch
    )
    assert set(row.tolist()) <= {5}
    return found, score


def test_boxes_are_clipped_to_the_image_and_dropped_in_the_padding() -> None:
    found, score = select(
        [[-10.0, 20.0, 30.0, 99.0], [82.0, 5.0, 94.0, 20.0], [40.0, 52.0, 60.0, 62.0]],
        [0.9, 0.8, 0.7],
        (50, 80),
    )
    torch.testing.assert_close(found, torch.tensor([[0.0, 20.0, 30.0, 50.0]]), atol=1e-3, rtol=0)
    assert score.tolist() == pytest.approx([0.9])


def test_suppression_keeps_the_best_of_overlapping_boxes_and_drops_low_scores() -> None:
    over = 10 * 2 * NMS_IOU / (1 + NMS_IOU)  # of the width of two boxes that overlap by exactly NMS_IOU
    found, score = select(
        [
            [0.0, 0.0, 10.0, 10.0],
            [10 - over - 0.2, 0.0, 20 - over - 0.2, 10.0],
            [40.0, 40.0, 50.0, 50.0],
            [50 - over + 0.2, 40.0, 60 - over + 0.2, 50.0],
            [70.0, 5.0, 80.0, 20.0],
        ],
        [0.6, 0.9, 0.5, 0.4, 0.019],
        (64, 96),
    )
    assert score.tolist() == pytest.approx([0.9, 0.5, 0.4], abs=1e-5)
    assert len(found) == 3


def test_a_network_of_nans_detects_nothing(mixed: PixelStore) -> None:
    broken = RetinaFace(mobilenet_v2())
    for head in broken.heads:
        torch.nn.init.constant_(head.weight, torch.nan)
    found = detect(broken, evaluation_batches(mixed, torch.tensor([0]), 64))
    assert len(found.scores) == 0
    assert ap50(found, ground_truth(mixed, torch.tensor([0]), 64)) == 0


def test_pooling_keeps_images_of_different_splits_apart() -> None:
    here = np.array([[0.0, 0.0, 10.0, 10.0]], np.float32)
    found = Detections(np.array([0]), here, np.array([0.9], np.float32))
    nothing = replace(found, image=np.array([], int), boxes=here[:0], scores=found.scores[:0])
    truth = GroundTruth(np.array([0]), here, np.array([False]))
    assert pooled_ap50([(found, truth, 1), (nothing, truth, 1)]) == pytest.approx(0.5)
    assert pooled_ap50([(nothing, truth, 1), (found, truth, 1)]) == pytest.approx(0.5)
    assert pooled_ap50([(found, truth, 1), (found, truth, 1)]) == pytest.approx(1.0)
