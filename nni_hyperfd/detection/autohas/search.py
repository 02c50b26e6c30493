"""The search itself: shared weights on the train split and encodings on the val split, at every step (AutoHAS, algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Callable
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
from nni_hyperfd.detection.autohas.look_ahead import Weights, direction, step
from nni_hyperfd.detection.autohas.supernet import (
    Gates,
    StageGates,
    Supernet,
    architecture_of,
    one_hot,
    sub_network,
)
from nni_hyperfd.detection.network.precision import cpu_autocast
from nni_hyperfd.detection.network.retinaface import Predictions, RetinaFace
from nni_hyperfd.detection.training.augment import crop_faces, crop_pixels, plan_crops, recolor
from nni_hyperfd.detection.training.budgets import Budget
from nni_hyperfd.detection.training.fine_tuning import MOMENTUM, WEIGHT_DECAY, NonFiniteLoss
from nni_hyperfd.detection.training.losses import Losses, detection_losses
from nni_hyperfd.detection.training.targets import Targets, make_targets
from nni_hyperfd.spaces.architecture import BLOCKS, STAGES, Architecture
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.hyperparameters import DEFAULT_HYPERPARAMETERS, GRID

TEMPERATURE = 10.0
"""τ of the paper."""
ENCODING_RATE = 0.05
"""Adam's rate for the encodings. The paper's 0.002 is for thousands of steps; the budgets here have 32 to a few hundred."""
ENCODING_STEPS = 2
"""Steps of the weights for one of the encodings; the paper has one. What judges the encodings has to compute the largest network
and costs more than the training of a drawn one (benchmarks/results/autohas.md)."""
MULTIPLIERS = (0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Basis of the learning rate, times its default (the paper's, section 4)."""
RATES = torch.tensor(MULTIPLIERS) * DEFAULT_HYPERPARAMETERS.learning_rate
LOCATION_WEIGHTS = torch.tensor(GRID["locw"], dtype=torch.float32)
"""Basis of the location weight: the values of the search space."""

Crops = tuple[Tensor, Targets]


@dataclass(frozen=True)
class SearchState:
    """How the search stands after a step.

    It has the loss on train, the last one on val, and entropies as shares (1: undecided) of both kinds of encoding.
    """

    train_loss: float
    val_loss: float
    architecture_entropy: float
    hyperparameter_entropy: float


class Search:
    """Shared weights and encodings; every random number comes from ``seed``.

    All else trains as the default configuration does: SGD with momentum, crops, thresholds.

    Args:
        detector: Of the largest architecture; its weights are where the search begins, and stay as they are.
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
        self.weights: Weights = {name: value.detach() for name, value in detector.named_parameters()}
        self.momentum = {name: torch.zeros_like(value) for name, value in self.weights.items()}
        self.taken, self.val_loss = 0, math.nan

    @property
    def encodings(self) -> list[Tensor]:
        """Those of the architecture, then rate and location weight: ``[m]`` each, for m options."""
        return [*self.architecture_encodings, self.rate, self.location]

    @property
    def architecture_encodings(self) -> list[Tensor]:
        """Depths ``[number of depths]``, where there is a choice, then blocks ``[6]``."""
        depths = [depth for depth in self.depths if len(depth) > 1]
        return [*depths, *(encoding for stage in self.blocks for encoding in stage)]

    @property
    def steps(self) -> int:
        """As many as one training of the budget has."""
        return self.budget.epochs * self.budget.steps_per_epoch(len(self.store.splits["train"]))

    def step(self) -> SearchState:
        """Moves the weights by what the encodings drew; one in ``ENCODING_STEPS`` times, the encodings by where the weights went.

        The paper takes the step of equation 9 and that of equation 4 one after the other, on two draws; here they are the same
        one, so that a gradient of the train batch serves for both.

        Raises:
            NonFiniteLoss: A loss is not finite.
        """
        gates = self.sampled_gates()
        rate, location = self._sampled(self.rate, RATES), self._sampled(self.location, LOCATION_WEIGHTS)
        losses, gradients = self._trained(architecture_of(gates), self._batch("train"))
        total = losses.total(location.detach())
        if self.taken % ENCODING_STEPS == 0:
            weighted = gradients(losses.boxes)
            fixed = gradients(losses.classification + losses.landmarks)
            directions = direction(self._with_momentum(fixed), weighted, location)
            ahead = step(self.weights, directions, rate)
            self._move_encodings(self._val_loss(ahead, gates, self._batch("val")))
        else:
            directions = self._with_momentum(gradients(total))
            ahead = step(self.weights, directions, rate)
        self.weights, self.momentum = _constant(ahead), _constant(directions)
        self.taken += 1
        architecture = self.architecture_encodings
        return SearchState(
            float(total.detach()),
            self.val_loss,
            sum(map(entropy, architecture)) / len(architecture),
            (entropy(self.rate) + entropy(self.location)) / 2,
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

    def _trained(
        self, architecture: Architecture, batch: Crops
    ) -> tuple[Losses, Callable[[Tensor], Weights]]:
        """Losses of the drawn network, and what gives the gradient of a part of them in all shared weights."""
        leaves = {name: value.requires_grad_() for name, value in _constant(self.weights).items()}
        alone, own = sub_network({**leaves, **self._statistics()}, architecture)
        losses = self._losses(lambda pixels: functional_call(alone.train(), own, pixels), batch)

        def gradients(loss: Tensor) -> Weights:
            found = torch.autograd.grad(
                loss, list(leaves.values()), retain_graph=True, materialize_grads=True
            )
            return dict(zip(leaves, found))

        return losses, gradients

    def _with_momentum(self, gradients: Weights) -> Weights:
        """Gradients with the decay of the weights, and what earlier steps have left."""
        return {
            name: gradient + WEIGHT_DECAY * self.weights[name] + MOMENTUM * self.momentum[name]
            for name, gradient in gradients.items()
        }

    def _move_encodings(self, val_loss: Tensor) -> None:
        self.optimizer.zero_grad()
        gradients = torch.autograd.grad(val_loss, self.encodings, allow_unused=True)
        for encoding, gradient in zip(self.encodings, gradients):
            encoding.grad = gradient
        self.optimizer.step()
        self.val_loss = float(val_loss.detach())

    def _val_loss(self, weights: Weights, gates: Gates, batch: Crops) -> Tensor:
        """What is judged must not change with what is searched: the location weight is the default."""
        shared = {f"detector.{name}": value for name, value in {**weights, **self._statistics()}.items()}
        losses = self._losses(lambda pixels: functional_call(self.supernet, shared, (pixels, gates)), batch)
        return losses.total(DEFAULT_HYPERPARAMETERS.location_weight)

    def _statistics(self) -> Weights:
        """For batch normalization to write into; the search has no use for them."""
        return {name: value.clone() for name, value in self.supernet.detector.named_buffers()}

    def _losses(self, predict: Callable[[Tensor], Predictions], batch: Crops) -> Losses:
        pixels, targets = batch
        with cpu_autocast():
            predictions = predict(pixels)
        losses = detection_losses(predictions, targets, DEFAULT_HYPERPARAMETERS.negative_ratio)
        if not all(torch.isfinite(part) for part in losses):
            raise NonFiniteLoss(losses)
        return losses

    def _batch(self, split: str) -> Crops:
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


def _constant(weights: Weights) -> Weights:
    return {name: value.detach() for name, value in weights.items()}


def nearest(value: float, allowed: tuple[float, ...]) -> float:
    """The allowed value whose ratio to ``value`` is closest to 1."""
    return min(allowed, key=lambda other: abs(math.log(other / value)))


def _decided(encoding: Tensor) -> Tensor:
    return one_hot(derived_choice(encoding), len(encoding), torch.float32)
