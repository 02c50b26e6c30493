"""Pretraining of the base detector on server images: wide scales, strong augmentation, a teacher, averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nni_hyperfd.data.pixels import Faces, PixelStore, resize
from nni_hyperfd.detection.network.precision import cpu_autocast
from nni_hyperfd.detection.network.retinaface import Predictions, RetinaFace
from nni_hyperfd.detection.training.augment import CropPlan, color_matrices, crop_faces, recolor
from nni_hyperfd.detection.training.disguise import disguise
from nni_hyperfd.detection.training.distillation import believe_teacher, distillation_losses, feature_loss
from nni_hyperfd.detection.training.fine_tuning import NonFiniteLoss
from nni_hyperfd.detection.training.losses import detection_losses
from nni_hyperfd.detection.training.memory import keep_freed_memory
from nni_hyperfd.detection.training.mosaic import mosaic_faces, mosaic_pixels
from nni_hyperfd.detection.training.targets import make_targets
from nni_hyperfd.files import replacing
from nni_hyperfd.spaces.hyperparameters import HyperParameters

SETTINGS = HyperParameters(optimizer="adam", iou_threshold=0.5, location_weight=2.0, negative_ratio=7.0)
MOST_MAGNIFIED = 6
"""Crops are magnified at most this many times."""
SMALLEST_FACE, LARGEST_SHARE = 8.0, 0.9
"""A crop shows the face it was drawn for at a size between this many pixels and this share of the crop."""
TRIES = 4
"""Faces drawn for one crop, the first of which that can be shown at the wanted size is taken."""
DISGUISED = 0.6
"""Share of the pictures that the student sees disguised."""
GRADIENT_NORM = 10.0
"""Largest norm of a gradient."""
SAVE_EVERY = 200


class Layout(NamedTuple):
    """One kind of step: ``images`` pictures of ``side`` pixels, each a crop or, ``tiled``, a mosaic of four."""

    side: int
    images: int
    tiled: bool
    share: float
    """Of the steps."""


LAYOUTS = (
    Layout(192, 32, False, 0.27),
    Layout(256, 16, True, 0.12),
    Layout(320, 12, True, 0.14),
    Layout(256, 16, False, 0.18),
    Layout(320, 12, False, 0.11),
    Layout(448, 6, False, 0.11),
    Layout(576, 4, False, 0.07),
)
"""About as many pixels each. Small pictures cost little; the large ones are for faces of up to 512 pixels."""


@dataclass(frozen=True)
class Schedule:
    """Steps of mixed layouts; the rate warms up and follows a cosine, the teacher's features fade out."""

    steps: int = 3000
    peak_rate: float = 1e-3
    """Highest learning rate, of Adam; a network that starts from random weights bears twice as much."""
    warm_up: int = 100
    average: float = 0.999
    """Decay of the averaged weights a step."""
    feature_weight: float = 2.0
    """Weight of the teacher's features at the first step; none is left after two thirds of the steps."""
    layouts: tuple[Layout, ...] = LAYOUTS

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        if step < self.warm_up:
            return self.peak_rate * (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return self.peak_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)

    def features(self, step: int) -> float:
        """Weight of the feature loss."""
        return self.feature_weight * max(0.0, 1 - 1.5 * step / self.steps)

    def decay(self, step: int) -> float:
        """Decay of the averaged weights: a short memory at first, when the weights change most."""
        return min(self.average, (step + 1) / (step + 10))

    def layout(self, rng: np.random.Generator) -> Layout:
        """The layout of a step."""
        share = np.array([layout.share for layout in self.layouts])
        return self.layouts[rng.choice(len(share), p=share / share.sum())]


class Lesson(NamedTuple):
    """What a teacher makes of a batch: outputs per anchor, and maps ``[B, 64, H / s, W / s]`` like the student's lateral ones."""

    predictions: Predictions
    laterals: list[Tensor]


Teacher = Callable[[Tensor], Lesson]
"""From pictures ``[B, 3, H, W]`` uint8."""


def plan_faces(
    store: PixelStore, indices: Tensor, samples: int, side: int, rng: np.random.Generator
) -> CropPlan:
    """Draws crops in which a face has a size that is uniform in its logarithm.

    Images are drawn evenly, a face of each evenly. Where four faces in turn are too small to be magnified so far, the
    last one is shown as large as may be; no crop is larger than its image's short side.

    Args:
        store: The pictures and their faces.
        indices: ``[N]`` the pictures that may be drawn.
        samples: Number of crops.
        side: Of the crops once they are scaled, pixels.
        rng: Of the draws.
    """
    usable = (store.faces.valid & ~store.faces.ignored)[indices]
    counts = usable.sum(1).numpy()
    members = np.flatnonzero(counts)
    starts = np.cumsum(counts) - counts
    boxes = store.faces.boxes[indices][usable].numpy()
    sizes = np.sqrt(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 1), axis=1))
    wanted = np.exp(rng.uniform(np.log(SMALLEST_FACE), np.log(LARGEST_SHARE * side), samples))
    image = members[rng.integers(0, len(members), (TRIES, samples))]
    face = starts[image] + np.floor(rng.random((TRIES, samples)) * counts[image]).astype(np.int64)
    first = np.argmax(
        np.vstack([(sizes[face] * MOST_MAGNIFIED >= wanted)[:-1], np.ones((1, samples), bool)]), axis=0
    )
    image, face = image[first, np.arange(samples)], face[first, np.arange(samples)]
    height, width = store.sizes[indices].numpy()[image].T
    extent = np.minimum(height, width)
    crop = np.clip(side * sizes[face] / wanted, np.minimum(side / MOST_MAGNIFIED, extent), extent)
    crop = np.maximum(1, np.round(crop)).astype(np.int64)
    box = boxes[face]
    origin = []
    for axis, length in ((0, width), (1, height)):
        center = (box[:, axis] + box[:, axis + 2]) / 2
        # Where it fits, the whole face is inside; else its center is.
        margin = np.minimum((box[:, axis + 2] - box[:, axis]) / 2, crop / 2) * (rng.random(samples) < 0.8)
        low = np.clip(np.ceil(center + margin - crop), 0, length - crop)
        high = np.clip(np.floor(center - margin), low, length - crop)
        origin.append(np.floor(low + rng.random(samples) * (high - low + 1)).astype(np.int64))
    plan = (indices.numpy()[image], np.stack([*origin, crop], 1), rng.random(samples) < 0.5)
    return CropPlan(*map(torch.from_numpy, (*plan, color_matrices(samples, rng))))


def antialiased_crops(store: PixelStore, plan: CropPlan, side: int) -> Tensor:
    """Crops of the plan, anti-aliased as evaluation is: ``[T, 3, side, side]`` uint8."""
    out = torch.empty(len(plan.image), 3, side, side, dtype=torch.uint8)
    for row, (index, (x0, y0, length)) in enumerate(zip(plan.image.tolist(), plan.crop.tolist())):
        out[row] = resize(store.image(index)[:, y0 : y0 + length, x0 : x0 + length], side, side)
    mirrored = plan.flip.nonzero().squeeze(1)
    out[mirrored] = out[mirrored].flip(-1)
    return recolor(out, plan.color)


def make_batch(store: PixelStore, layout: Layout, rng: np.random.Generator) -> tuple[Tensor, Faces]:
    """Pictures ``[B, 3, side, side]`` uint8 of one layout and their faces."""
    side = layout.side // 2 if layout.tiled else layout.side
    samples = 4 * layout.images if layout.tiled else layout.images
    plan = plan_faces(store, store.splits["train"], samples, side, rng)
    pixels, faces = antialiased_crops(store, plan, side), crop_faces(store.faces, plan, side)
    if layout.tiled:
        pixels, faces = mosaic_pixels(pixels), mosaic_faces(faces, side)
    return pixels, _compact(faces)


def _compact(faces: Faces) -> Faces:
    """The same faces in as few columns as hold them."""
    order = faces.valid.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    order = order[:, : max(1, int(faces.valid.sum(1).max()))]
    row = torch.arange(len(order)).unsqueeze(1)
    return Faces(*(part[row, order] for part in (faces.boxes, faces.valid, faces.ignored, faces.landmarks)))


class Average:
    """Exponential moving average of a network's weights and statistics."""

    def __init__(self, model: RetinaFace) -> None:
        self.state = {name: value.clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: RetinaFace, decay: float) -> None:
        current = model.state_dict()
        names = [name for name, value in current.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self.state[name] for name in names], [current[name] for name in names], 1 - decay
        )


class Pretraining:
    """A detector with its optimizer, its averaged weights and, perhaps, a teacher, on CPU or GPU."""

    def __init__(
        self, model: RetinaFace, store: PixelStore, schedule: Schedule, teacher: Teacher | None, seed: int
    ) -> None:
        keep_freed_memory()
        self.model = model.to(memory_format=torch.channels_last).train()
        self.store, self.schedule, self.teacher, self.seed = store, schedule, teacher, seed
        self.optimizer = torch.optim.Adam(model.parameters(), lr=schedule.peak_rate, fused=True)
        self.average = Average(model)
        self.done = 0
        self._laterals: list[Tensor] = []
        for layer in model.pyramid.lateral:
            layer.register_forward_hook(lambda _, __, output: self._laterals.append(output))

    def run(self, checkpoint: Path, on_step: Callable[[int, dict[str, float]], None]) -> dict[str, Tensor]:
        """Takes all steps; an interrupted call goes on from ``checkpoint``. Returns the averaged weights.

        Args:
            checkpoint: File that is written now and then, and read where it is there.
            on_step: Called with the number of steps taken and the parts of the loss.

        Raises:
            NonFiniteLoss: If a loss is not finite.
        """
        if checkpoint.exists():
            self._restore(checkpoint)
        while self.done < self.schedule.steps:
            losses = self._step(np.random.default_rng([self.seed, self.done]))
            self.average.update(self.model, self.schedule.decay(self.done))
            self.done += 1
            if self.done % SAVE_EVERY == 0 or self.done == self.schedule.steps:
                self._save(checkpoint)
            on_step(self.done, losses)
        return self.average.state

    def _step(self, rng: np.random.Generator) -> dict[str, float]:
        layout = self.schedule.layout(rng)
        pixels, faces = make_batch(self.store, layout, rng)
        targets = make_targets(faces, layout.side, SETTINGS)
        seen = pixels.clone()
        rows = np.flatnonzero(rng.random(len(pixels)) < DISGUISED)
        if len(rows):
            seen[rows] = disguise(pixels[rows], faces[torch.from_numpy(rows)], rng)
        lesson = self.teacher(pixels) if self.teacher else None
        self._laterals.clear()
        device = next(self.model.parameters()).device
        with cpu_autocast() if device.type == "cpu" else nullcontext():
            predictions = self.model(seen.to(device))
        predictions = Predictions(*(part.cpu() for part in predictions))
        if lesson:
            targets = replace(targets, label=believe_teacher(targets.label, lesson.predictions))
        losses = detection_losses(predictions, targets, SETTINGS.negative_ratio)
        total = losses.total(SETTINGS.location_weight)
        parts = losses._asdict()
        if lesson:
            taught = distillation_losses(predictions, lesson.predictions, targets.label)
            features = feature_loss([own.cpu() for own in self._laterals], lesson.laterals)
            weight = self.schedule.features(self.done)
            total = total + taught.classification + taught.boxes + 0.5 * taught.landmarks + weight * features
            parts |= {f"taught {name}": value for name, value in taught._asdict().items()}
            parts["features"] = features
        if not torch.isfinite(total):
            raise NonFiniteLoss(losses)
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.done)
        self.optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM)
        self.optimizer.step()
        return {name: float(value.detach()) for name, value in parts.items()}

    def _save(self, checkpoint: Path) -> None:
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state,
            "optimizer": self.optimizer.state_dict(),
            "done": self.done,
        }
        with replacing(checkpoint) as partial:
            torch.save(state, partial)

    def _restore(self, checkpoint: Path) -> None:
        saved = torch.load(checkpoint, map_location=next(self.model.parameters()).device, weights_only=True)
        self.model.load_state_dict(saved["model"])
        self.average.state = saved["average"]
        self.optimizer.load_state_dict(saved["optimizer"])
        self.done = saved["done"]
