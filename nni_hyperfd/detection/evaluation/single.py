"""One picture at a time: what a finished detector is for."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from nni_hyperfd.data.pixels import Faces, PixelStore
from nni_hyperfd.detection.evaluation.detections import detect, evaluation_batches, scaled_sizes
from nni_hyperfd.detection.network.precision import cpu_autocast
from nni_hyperfd.detection.network.retinaface import RetinaFace


def find_faces(
    model: RetinaFace, pixels: NDArray[np.uint8], evaluation_size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Faces of one picture, scaled and suppressed as in evaluation, the surest first.

    Args:
        model: A detector on the CPU.
        pixels: ``[h, w, 3]`` RGB.
        evaluation_size: Short side, in pixels, at which the network looks at the picture.

    Returns:
        Boxes ``[n, 4]`` (corners, in pixels of ``pixels``) and scores ``[n]`` in 0..1.
    """
    nobody = torch.zeros(1, 1, dtype=torch.bool)
    faces = Faces(torch.zeros(1, 1, 4), nobody, nobody, torch.full((1, 1, 10), torch.nan))
    size = torch.tensor([pixels.shape[:2]])
    store = PixelStore(np.array(pixels).ravel(), np.zeros(1, np.int64), size, faces, {}, ())
    only = torch.tensor([0])
    with cpu_autocast():
        found = detect(model, evaluation_batches(store, only, evaluation_size))
    factor = (size / scaled_sizes(store, only, evaluation_size))[0].flip(0).repeat(2).float().numpy()
    order = np.argsort(-found.scores, kind="stable")
    return found.boxes[order] * factor, found.scores[order]
