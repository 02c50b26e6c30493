"""Training on a CUDA device: images resident, crops on the device, one CUDA graph per architecture and optimizer.

A step of this small network is bound by kernel launches, so the whole step is captured once and replayed. What a
configuration may change without a new graph (learning rate, location weight, neg:pos ratio) lives in tensors;
what it changes in the data (crop ratio, IoU threshold) is prepared outside, in bulk. Dynamic assignment chooses positives by what the
network predicts and by as many pairs as there happen to be, so its steps are called, not replayed.

Without a GPU at hand this file was only run on the CPU, where a test holds it to the plain engine's numbers; there the
step is called instead of captured. Its streams, its graphs and its speed have **not been measured on a GPU**.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nni_hyperfd.data.pixels import Faces, PixelStore
from nni_hyperfd.detection.anchors import anchors_per_level
from nni_hyperfd.detection.evaluation.detections import Batch, Detections, detect, evaluation_batches
from nni_hyperfd.detection.network.retinaface import Predictions, RetinaFace
from nni_hyperfd.detection.training.augment import CropPlan, crop_faces, crop_resident, recolor
from nni_hyperfd.detection.training.budgets import Budget
from nni_hyperfd.detection.training.fine_tuning import MOMENTUM, WEIGHT_DECAY
from nni_hyperfd.detection.training.losses import Losses, detection_losses
from nni_hyperfd.detection.training.targets import Targets, make_targets
from nni_hyperfd.spaces.hyperparameters import HyperParameters

WARM_UP_STEPS = 3
"""Eager steps before a capture, so that libraries have allocated what they need."""

PREPARED_SAMPLES = 256
"""Samples that are cropped and matched at once; bounds the memory of a stretch of training, however long it is."""

_one_capture = threading.Lock()
"""Captures of several worker threads are kept apart: a capture must not see another's allocations."""


@dataclass(frozen=True)
class StepSettings:
    """What changes from step to step or trial to trial without a new graph: ``[]`` each, on the device."""

    rate: Tensor
    location_weight: Tensor
    negative_ratio: Tensor


@dataclass(frozen=True)
class Residents:
    """A data set in device memory: padded images ``[N, 3, S, S]`` uint8, faces, and evaluation batches per split."""

    images: Tensor
    faces: Faces
    batches: dict[str, list[Batch]]

    @classmethod
    def load(cls, store: PixelStore, budget: Budget, device: torch.device) -> Residents:
        batches = {
            split: [
                batch.to(device)
                for batch in evaluation_batches(store, store.splits[split], budget.evaluation_size)
            ]
            for split in ("val", "test")
        }
        side = int(store.sizes.max())
        return cls(store.padded(side).to(device), store.faces.to(device), batches)


class CapturedStep:
    """Forward, backward and optimizer step at one image size, as a CUDA graph on ``stream``; without one, as plain calls."""

    def __init__(
        self,
        model: RetinaFace,
        optimizer: torch.optim.Optimizer,
        settings: StepSettings,
        batch: int,
        size: int,
        precision: torch.dtype,
        stream: torch.cuda.Stream | None,
    ) -> None:
        device = next(model.parameters()).device
        self.model, self.optimizer, self.settings = model, optimizer, settings
        self.batch, self.precision = batch, precision
        self.pixels = torch.zeros(batch, 3, size, size, dtype=torch.uint8, device=device).to(
            memory_format=torch.channels_last
        )
        anchors = sum(anchors_per_level(size, size))
        self.targets = Targets(
            torch.zeros(batch, anchors, dtype=torch.int8, device=device),
            torch.zeros(batch, anchors, 4, device=device),
            torch.full((batch, anchors, 10), torch.nan, device=device),
        )
        self.losses = torch.zeros(3, device=device)
        self.replay = self._step if stream is None else self._capture(stream)

    def _capture(self, stream: torch.cuda.Stream) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with _one_capture, torch.cuda.stream(stream):
            for _ in range(WARM_UP_STEPS):
                self._step()
            stream.synchronize()
            self.optimizer.zero_grad(set_to_none=True)
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self._step()
        return graph.replay

    def _step(self, assigned: Callable[[Predictions], Targets] | None = None) -> None:
        with autocast(self.pixels.device, self.precision):
            predictions = self.model(self.pixels)
        targets = self.targets if assigned is None else assigned(predictions)
        losses = detection_losses(predictions, targets, self.settings.negative_ratio)
        self.optimizer.zero_grad(set_to_none=True)
        losses.total(self.settings.location_weight).backward()
        self.optimizer.step()
        self.losses += torch.stack([part.detach() for part in losses])

    def run(self, pixels: Tensor, targets: Targets) -> Tensor:
        """Steps through all whole batches of prepared samples ``[T, 3, size, size]`` uint8; returns their summed losses ``[3]``."""
        self.losses.zero_()
        for step in range(len(pixels) // self.batch):
            rows = slice(step * self.batch, (step + 1) * self.batch)
            self.pixels.copy_(pixels[rows])
            for static, fresh in zip(self.targets.tensors(), targets.tensors()):
                static.copy_(fresh[rows])
            self.replay()
        return self.losses.clone()

    def run_assigned(
        self, pixels: Tensor, faces: Faces, assigned: Callable[[Faces, Predictions], Targets]
    ) -> Tensor:
        """As :meth:`run`, with targets that depend on what the network predicts, step by step without a graph."""
        self.losses.zero_()
        for step in range(len(pixels) // self.batch):
            rows = torch.arange(step * self.batch, (step + 1) * self.batch, device=pixels.device)
            self.pixels.copy_(pixels[rows])
            self._step(partial(assigned, faces[rows]))
        return self.losses.clone()


class CUDAEngine:
    """Engine for one worker thread; keeps its captured graphs from trial to trial of one architecture.

    A CPU as ``device`` is for tests: same data path and same step, but neither streams nor graphs.
    """

    def __init__(
        self, model: RetinaFace, budget: Budget, device: torch.device, precision: torch.dtype = torch.bfloat16
    ) -> None:
        self.model = model.to(device).to(memory_format=torch.channels_last).train()
        self.budget, self.image_size = budget, budget.image_size
        self.device, self.precision, self.faces_without = device, precision, 0
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.settings = StepSettings(*(torch.ones((), device=device) for _ in range(3)))
        self.start = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.steps: dict[tuple[str, int], CapturedStep] = {}

    def begin(
        self, residents: Residents, hyperparameters: HyperParameters, sizes: tuple[int, ...] = ()
    ) -> None:
        """Puts the start weights back and takes up a data set and a configuration.

        ``sizes``: image sizes to capture beside the budget's, where training changes size on its way.
        """
        self.residents, self.hyperparameters, self.faces_without = residents, hyperparameters, 0
        with self._queue():
            self._prepare(hyperparameters, sizes)
        if self.stream is not None:
            # Whoever puts other weights in from here on does so outside the stream.
            self.stream.synchronize()

    def _prepare(self, hyperparameters: HyperParameters, sizes: tuple[int, ...]) -> None:
        name = hyperparameters.optimizer
        if name not in self.optimizers:
            self.optimizers[name] = self._make_optimizer(name)
        optimizer = self.optimizers[name]
        for size in (self.budget.image_size, *sizes):
            if (name, size) not in self.steps:
                self.steps[name, size] = CapturedStep(
                    self.model,
                    optimizer,
                    self.settings,
                    self.budget.batch_size,
                    size,
                    self.precision,
                    self.stream,
                )
        self.model.load_state_dict(self.start)
        for state in optimizer.state.values():
            for value in state.values():
                if torch.is_tensor(value):
                    value.zero_()
        self.settings.location_weight.fill_(hyperparameters.location_weight)
        self.settings.negative_ratio.fill_(hyperparameters.negative_ratio)

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self.optimizers[self.hyperparameters.optimizer]

    def _queue(self) -> AbstractContextManager[object]:
        """Work within goes to the engine's stream, behind all that the caller has queued elsewhere (new weights)."""
        if self.stream is None:
            return nullcontext()
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        return torch.cuda.stream(self.stream)

    def _make_optimizer(self, name: str) -> torch.optim.Optimizer:
        parameters, rate, cuda = self.model.parameters(), self.settings.rate, self.device.type == "cuda"
        if name == "adam":
            return torch.optim.Adam(parameters, lr=rate, fused=cuda, capturable=cuda)
        return torch.optim.SGD(parameters, lr=rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, fused=cuda)

    def train(self, plan: CropPlan, rate: float) -> Losses:
        size, batch = self.image_size, self.budget.batch_size
        step = self.steps[self.hyperparameters.optimizer, size]
        prepared = max(1, PREPARED_SAMPLES // batch) * batch
        with self._queue(), torch.no_grad():
            self.settings.rate.fill_(rate)
            plan = plan.to(self.device)
            total = torch.zeros(3, device=self.device)
            for start in range(0, len(plan.image), prepared):
                part = plan[start : start + prepared]
                pixels = recolor(crop_resident(self.residents.images, part, size), part.color)
                faces = crop_faces(self.residents.faces, part, size)
                if self.hyperparameters.counts is not None:
                    with torch.enable_grad():
                        total += step.run_assigned(pixels, faces, self._assigned)
                    continue
                targets = make_targets(faces, size, self.hyperparameters)
                with torch.enable_grad():
                    total += step.run(pixels, targets)
            return Losses(*(total / (len(plan.image) // batch)).cpu())

    def _assigned(self, faces: Faces, predictions: Predictions) -> Targets:
        targets = make_targets(faces, self.image_size, self.hyperparameters, predictions)
        self.faces_without += targets.faces_without
        return targets

    def detect(self, split: str) -> Detections:
        with self._queue(), autocast(self.device, self.precision):
            return detect(self.model, self.residents.batches[split])

    def state(self) -> dict[str, Tensor]:
        with self._queue():
            copy = {name: value.clone() for name, value in self.model.state_dict().items()}
        if self.stream is not None:
            self.stream.synchronize()
        return copy


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """``precision`` for dense convolutions on ``device``; the cast weights are not kept, as a graph would keep stale ones."""
    return torch.autocast(device.type, precision, enabled=precision != torch.float32, cache_enabled=False)
