"""The search itself: shared weights on the train split and encodings on the val split, in turn (AutoHAS, algorithm 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from nni_hyperfd.data.pixels import PixelStore
from nni_hyperfd.detection.autohas.encodings import (
    derived_choice,
    derived_value,
    entropy,
    gumbel_noise,
    hardened,
    mixture,
    relaxed,
)
from nni_hyperfd.detection.autohas.look_ahead import Weights, look_ahead, step
from nni_hyperfd.detection.autohas.supernet import Gates, StageGates, Supernet, architecture_of, one_hot
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.detection.training.augment import crop_faces, crop_pixels, plan_crops, recolor
from nni_hyperfd.detection.training.budgets import Budget
from nni_hyperfd.detection.training.fine_tuning import MOMENTUM, WEIGHT_DECAY, NonFiniteLoss
from nni_hyperfd.detection.training.losses import detection_losses
from nni_hyperfd.detection.training.targets import Targets, make_targets
from nni_hyperfd.spaces.architecture import BLOCKS, STAGES
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.hyperparameters import DEFAULT_HYPERPARAMETERS, GRID

TEMPERATURE = 10.0
"""τ of the paper."""
ENCODING_RATE = 0.05
"""Adam's rate for the encodings. The paper's 0.002 is for thousands of steps; the budgets here have 32 to a few hundred."""
MULTIPLIERS = (0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Basis of the learning rate, times its default (the paper's, section 4)."""
RATES = torch.tensor(MULTIPLIERS) * DEFAULT_HYPERPARAMETERS.learning_rate
LOCATION_WEIGHTS = torch.tensor(GRID["locw"], dtype=torch.float32)
"""Basis of the location weight: the values of the search space."""

Batch = tuple[Tensor, Targets]


@dataclass(frozen=True)
class Progress:
    """How the search stands after a step: losses, and entropies as shares (1: undecided) of both kinds of encoding."""

    train_loss: float
    val_loss: float
    architecture_entropy: float
    hyperparameter_entropy: float


class Search:
    """Shared weights and encodings; every random number comes from ``seed``.

    All else trains as the default configuration does: SGD with momentum, crops, thresholds.

    Args:
        detector: of the largest architecture; it is trained in place.
    """

    def __init__(self, detector: RetinaFace, store: PixelStore, budget: Budget, seed: int) -> None:
        self.supernet = Supernet(detector).train()
        self.store, self.budget = store, budget
        self.rng, self.generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        self.depths = [torch.zeros(len(stage.depths), requires_grad=True) for stage in STAGES[1:]]
        self.blocks = [
            [torch.zeros(len(BLOCKS), requires_grad=True) for _ in range(max(stage.depths))]
            for stage in STAGES[1:]
        ]
        self.rate = torch.zeros(len(RATES), requires_grad=True)
        self.location = torch.zeros(len(LOCATION_WEIGHTS), requires_grad=True)
        self.optimizer = torch.optim.Adam(self.encodings, lr=ENCODING_RATE)
        self.weights: Weights = dict(self.supernet.named_parameters())
        self.momentum = {name: torch.zeros_like(value) for name, value in self.weights.items()}

    @property
    def encodings(self) -> list[Tensor]:
        """Those of the architecture, then rate and location weight."""
        return [*self.architecture_encodings, self.rate, self.location]

    @property
    def architecture_encodings(self) -> list[Tensor]:
        """Depths, where there is a choice, then blocks."""
        depths = [depth for depth in self.depths if len(depth) > 1]
        return [*depths, *(encoding for stage in self.blocks for encoding in stage)]

    @property
    def steps(self) -> int:
        """As many as one training of the budget has."""
        return self.budget.epochs * self.budget.steps_per_epoch(len(self.store.splits["train"]))

    def step(self) -> Progress:
        """Moves the weights, then the encodings.

        Raises:
            NonFiniteLoss: a loss is not finite.
        """
        train, val = self._batch("train"), self._batch("val")
        train_loss = self._move_weights(train)
        val_loss = self.look_ahead_loss(train, val)
        self.optimizer.zero_grad()
        gradients = torch.autograd.grad(val_loss, self.encodings, allow_unused=True)
        for encoding, gradient in zip(self.encodings, gradients):
            encoding.grad = gradient
        self.optimizer.step()
        architecture = self.architecture_encodings
        return Progress(
            train_loss,
            float(val_loss.detach()),
            sum(map(entropy, architecture)) / len(architecture),
            (entropy(self.rate) + entropy(self.location)) / 2,
        )

    def look_ahead_loss(self, train: Batch, val: Batch) -> Tensor:
        """Loss of the val batch after one step on the train batch, both by one draw of the encodings."""
        gates = self.sampled_gates()
        rate, location = self._sampled(self.rate, RATES), self._sampled(self.location, LOCATION_WEIGHTS)
        # What is judged must not change with what is searched: the val loss has the default weight.
        default = torch.tensor(DEFAULT_HYPERPARAMETERS.location_weight)
        return look_ahead(
            self.weights,
            self.momentum,
            rate,
            lambda weights: self._loss(weights, gates, train, location),
            lambda weights: self._loss(weights, gates, val, default),
            MOMENTUM,
        )

    def sampled_gates(self) -> Gates:
        """One network, drawn by the encodings, with their gradient."""
        return tuple(
            StageGates(self._drawn(depth), tuple(map(self._drawn, blocks)))
            for depth, blocks in zip(self.depths, self.blocks)
        )

    def derive(self) -> tuple[Configuration, dict[str, float]]:
        """What the search ends with: a point of the joint space, and the continuous values before they were rounded to it."""
        found = {
            "lr": derived_value(self.rate, RATES),
            "locw": derived_value(self.location, LOCATION_WEIGHTS),
        }
        hyperparameters = replace(
            DEFAULT_HYPERPARAMETERS,
            learning_rate=nearest(found["lr"], GRID["lr"]),
            location_weight=nearest(found["locw"], GRID["locw"]),
        )
        gates = tuple(
            StageGates(_decided(depth), tuple(map(_decided, blocks)))
            for depth, blocks in zip(self.depths, self.blocks)
        )
        return Configuration(hyperparameters, architecture_of(gates)), found

    def _move_weights(self, batch: Batch) -> float:
        with torch.no_grad():
            gates = self.sampled_gates()
            rate, location = self._sampled(self.rate, RATES), self._sampled(self.location, LOCATION_WEIGHTS)
        loss = self._loss(self.weights, gates, batch, location)
        gradients = torch.autograd.grad(loss, list(self.weights.values()))
        with torch.no_grad():
            for (name, value), gradient in zip(self.weights.items(), gradients):
                self.momentum[name].mul_(MOMENTUM).add_(gradient + WEIGHT_DECAY * value)
            for name, moved in step(self.weights, self.momentum, rate).items():
                self.weights[name].copy_(moved)
        return float(loss.detach())

    def _loss(self, weights: Weights, gates: Gates, batch: Batch, location: Tensor) -> Tensor:
        pixels, targets = batch
        # The statistics of a look-ahead are thrown away with its weights.
        buffers = {name: value.clone() for name, value in self.supernet.named_buffers()}
        predictions = functional_call(self.supernet, {**weights, **buffers}, (pixels, gates))
        losses = detection_losses(predictions, targets, DEFAULT_HYPERPARAMETERS.negative_ratio)
        total = losses.total(location)
        if not torch.isfinite(total):
            raise NonFiniteLoss(losses)
        return total

    def _batch(self, split: str) -> Batch:
        settings, size = DEFAULT_HYPERPARAMETERS, self.budget.image_size
        plan = plan_crops(
            self.store, self.store.splits[split], self.budget.batch_size, settings.min_crop_ratio, self.rng
        )
        pixels = recolor(crop_pixels(self.store, plan, size), plan.color)
        return pixels, make_targets(crop_faces(self.store.faces, plan, size), size, settings)

    def _drawn(self, encoding: Tensor) -> Tensor:
        return hardened(self._relaxed(encoding))

    def _sampled(self, encoding: Tensor, basis: Tensor) -> Tensor:
        return mixture(self._relaxed(encoding), basis)

    def _relaxed(self, encoding: Tensor) -> Tensor:
        return relaxed(encoding, gumbel_noise(encoding.shape, self.generator), TEMPERATURE)


def nearest(value: float, allowed: tuple[float, ...]) -> float:
    """The allowed value whose ratio to ``value`` is closest to 1."""
    return min(allowed, key=lambda other: abs(math.log(other / value)))


def _decided(encoding: Tensor) -> Tensor:
    return one_hot(derived_choice(encoding), len(encoding), torch.float32)
