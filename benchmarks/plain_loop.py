"""The rival of trial_throughput.py: a training step with the structure of the widely used PyTorch RetinaFace loop.

Written anew after that structure, not copied: every sample is decoded from its file at full size, cropped, distorted at
crop resolution, padded and only then resized; faces are matched to anchors image by image; hard negatives are found
by sorting twice; the network runs in NCHW and float32. Network and hyper-parameters are ours, the optimizer is Adam. It needs
OpenCV, as that loop does (``pip install opencv-python-headless``): Pillow's color conversions would be several times slower.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nni_hyperfd.data.dataset import FaceDataset, FaceImage
from nni_hyperfd.detection.anchors import corners, encode_boxes, encode_landmarks, iou, priors
from nni_hyperfd.detection.network.retinaface import PIXEL_MEAN, PIXEL_SCALE, Predictions, RetinaFace
from nni_hyperfd.spaces.hyperparameters import HyperParameters

Sample = tuple[Tensor, Tensor, Tensor]
"""image ``[3, S, S]`` float32, boxes ``[n, 4]`` in pixels of it, landmarks ``[n, 10]`` (NaN where absent)."""

CROP_TRIES = 250
FILTERS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)
MIRROR = [2, 3, 0, 1, 4, 5, 8, 9, 6, 7]


class PlainLoop:
    """``step(indices)`` trains on the images of these numbers; its parts are methods, so that they can be timed."""

    def __init__(
        self,
        model: RetinaFace,
        dataset: FaceDataset,
        hyperparameters: HyperParameters,
        size: int,
        seed: int = 0,
    ) -> None:
        self.model, self.dataset, self.hyperparameters = model.train(), dataset, hyperparameters
        self.size, self.rng = size, np.random.default_rng(seed)
        self.priors = priors(size, size)
        cv2.setNumThreads(1)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=hyperparameters.learning_rate)

    def step(self, indices: list[int]) -> float:
        samples = [self.sample(self.dataset.images[index]) for index in indices]
        targets = self.match([boxes for _, boxes, _ in samples], [points for _, _, points in samples])
        predictions = self.forward(torch.stack([image for image, _, _ in samples]))
        total = self.loss(predictions, targets)
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        return float(total.detach())

    def sample(self, image: FaceImage) -> Sample:
        pixels = self.decode(image)
        known = ~image.ignored
        return self.augment(pixels, image.boxes[known], image.landmarks[known].reshape(-1, 10))

    def decode(self, image: FaceImage) -> NDArray[np.uint8]:
        return cv2.imread(str(image.path), cv2.IMREAD_COLOR)

    def augment(self, pixels: NDArray[np.uint8], boxes: NDArray, points: NDArray) -> Sample:
        pixels, boxes, points = self.crop(pixels, boxes, points)
        pixels = self.distort(pixels)
        side = max(pixels.shape[:2])
        square = np.empty((side, side, 3), np.uint8)
        square[:] = int(PIXEL_MEAN)
        square[: pixels.shape[0], : pixels.shape[1]] = pixels
        if self.rng.random() < 0.5:
            square = square[:, ::-1]
            boxes = np.stack([side - boxes[:, 2], boxes[:, 1], side - boxes[:, 0], boxes[:, 3]], axis=1)
            points = points[:, MIRROR]
            points[:, ::2] = side - points[:, ::2]
        filter = FILTERS[self.rng.integers(len(FILTERS))]
        resized = cv2.resize(np.ascontiguousarray(square), (self.size, self.size), interpolation=filter)
        values = (resized.astype(np.float32) - PIXEL_MEAN) / PIXEL_SCALE
        scale = self.size / side
        return (
            torch.from_numpy(values.transpose(2, 0, 1).copy()),
            torch.from_numpy((boxes * scale).astype(np.float32)),
            torch.from_numpy((points * scale).astype(np.float32)),
        )

    def crop(
        self, pixels: NDArray[np.uint8], boxes: NDArray, points: NDArray
    ) -> tuple[NDArray[np.uint8], NDArray, NDArray]:
        """A random square that holds the center of a face; the picture as it is if none is found."""
        height, width = pixels.shape[:2]
        short, low = min(height, width), self.hyperparameters.min_crop_ratio
        for _ in range(CROP_TRIES):
            side = max(1, int(short * self.rng.uniform(low, 1.0)))
            x, y = self.rng.integers(width - side + 1), self.rng.integers(height - side + 1)
            center = (boxes[:, :2] + boxes[:, 2:]) / 2 - (x, y)
            inside = ((center > 0) & (center < side)).all(axis=1)
            if not inside.any():
                continue
            moved = np.clip(boxes[inside] - (x, y, x, y), 0, side)
            return pixels[y : y + side, x : x + side].copy(), moved, points[inside] - [x, y] * 5
        return pixels.copy(), boxes, points

    def distort(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Brightness, contrast, saturation and hue, each with probability one half."""
        draw = self.rng.random(4) < 0.5
        if draw[0]:
            pixels = affine(pixels, 1.0, self.rng.uniform(-32, 32))
        if draw[1]:
            pixels = affine(pixels, self.rng.uniform(0.5, 1.5), 0.0)
        hsv = cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV)
        if draw[2]:
            hsv[..., 1] = affine(hsv[..., 1], self.rng.uniform(0.5, 1.5), 0.0)
        if draw[3]:
            hsv[..., 0] = (hsv[..., 0].astype(int) + self.rng.integers(-18, 19)) % 180
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)

    def match(self, boxes: list[Tensor], points: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """label ``[B, A]`` (1, 0 or -1), encoded boxes ``[B, A, 4]`` and landmarks ``[B, A, 10]``, image by image."""
        anchors, settings = corners(self.priors), self.hyperparameters
        label = torch.zeros(len(boxes), len(anchors), dtype=torch.long)
        offsets, marks = torch.zeros(*label.shape, 4), torch.zeros(*label.shape, 10)
        for row, (truth, landmarks) in enumerate(zip(boxes, points)):
            if not len(truth):
                continue
            overlap = iou(truth.unsqueeze(1), anchors)
            claimed_iou, claimed = overlap.max(1)
            best, face = overlap.max(0)
            best.index_fill_(0, claimed[claimed_iou >= 0.2], 2.0)
            for number in range(len(truth)):
                face[claimed[number]] = number
            label[row] = torch.where(best >= settings.iou_threshold, 1, -1)
            label[row][best < settings.negative_threshold] = 0
            offsets[row] = encode_boxes(truth[face], self.priors)
            marks[row] = encode_landmarks(landmarks[face], self.priors)
        return label, offsets, marks

    def forward(self, images: Tensor) -> Predictions:
        """The network in NCHW and float32; ``RetinaFace.context`` itself would choose channels_last."""
        maps = self.model.pyramid(self.model.backbone(images))
        return self.model.predict([module(x) for module, x in zip(self.model.contexts, maps)])

    def loss(self, predictions: Predictions, targets: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        label, offsets, marks = targets
        positive = label == 1
        count = positive.sum().clamp(min=1)
        boxes = F.smooth_l1_loss(predictions.boxes[positive], offsets[positive], reduction="sum")
        marked = positive & ~marks.isnan().any(-1)
        points = F.smooth_l1_loss(predictions.landmarks[marked], marks[marked], reduction="sum")
        logits = predictions.logits
        hardness = torch.logsumexp(logits, -1) - logits.gather(-1, label.clamp(min=0).unsqueeze(-1)).squeeze(
            -1
        )
        hardness = torch.where(label == 0, hardness, 0.0)
        _, order = hardness.detach().sort(1, descending=True)
        _, rank = order.sort(1)
        wanted = (positive.sum(1, keepdim=True) * self.hyperparameters.negative_ratio).clamp(
            max=label.shape[1] - 1
        )
        chosen = positive | (rank < wanted)
        classes = F.cross_entropy(logits[chosen], (label == 1).long()[chosen], reduction="sum")
        location = self.hyperparameters.location_weight * boxes / count
        return classes / count + location + points / marked.sum().clamp(min=1)


def affine(values: NDArray[np.uint8], factor: float, shift: float) -> NDArray[np.uint8]:
    """``values · factor + shift``, clipped to a byte."""
    return np.clip(values.astype(np.float32) * factor + shift, 0, 255).astype(np.uint8)
