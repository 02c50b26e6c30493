"""One picture at a time finds what evaluation finds, in pixels of the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import open_pixels
from nni_hyperfd.detection.evaluation.detections import detect, evaluation_batches
from nni_hyperfd.detection.evaluation.single import find_faces
from nni_hyperfd.detection.network.precision import cpu_autocast
from nni_hyperfd.detection.network.weights import base_detector
from nni_hyperfd.spaces.architecture import mobilenet_v2


def test_the_same_faces_as_in_evaluation(drawn_faces: Path, tmp_path: Path) -> None:
    dataset = load_dataset(drawn_faces)
    store = open_pixels(dataset, 1024, tmp_path)
    model = base_detector(mobilenet_v2())
    rows = store.splits["test"][:1]
    with cpu_autocast():
        found = detect(model, evaluation_batches(store, rows, 160))
    image = dataset.images[int(rows[0])]
    boxes, scores = find_faces(model, store.image(int(rows[0])).permute(1, 2, 0).numpy(), 160)
    assert len(scores) == len(found.scores) > 0
    assert (np.diff(scores) <= 0).all()
    np.testing.assert_allclose(scores, np.sort(found.scores)[::-1], atol=1e-6)
    scale = min(image.width, image.height) / 160
    np.testing.assert_allclose(boxes[0], found.boxes[np.argmax(found.scores)] * scale, atol=1.0)
    assert boxes.min() >= 0
    assert (boxes[:, 2] <= image.width + 1e-3).all()
    assert (boxes[:, 3] <= image.height + 1e-3).all()
