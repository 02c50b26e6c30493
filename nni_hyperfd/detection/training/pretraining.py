"""Pretraining of the base detector on server images, from random weights, with progress and resume."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nni_hyperfd.data.pixels import PixelStore
from nni_hyperfd.detection.training.augment import plan_crops
from nni_hyperfd.detection.training.fine_tuning import Engine, NonFiniteLoss
from nni_hyperfd.files import replacing
from nni_hyperfd.spaces.hyperparameters import HyperParameters

SETTINGS = HyperParameters(
    optimizer="adam",
    learning_rate=1e-3,
    min_crop_ratio=0.3,
    iou_threshold=0.5,
    location_weight=2.0,
    negative_ratio=7.0,
)


@dataclass(frozen=True)
class Schedule:
    """Rounds of ``steps_per_round`` steps; images grow on the way, the rate follows a cosine.

    Progressive resizing: most steps are taken on small crops, where they are cheap; the zoom of a crop, not its
    size, decides how large faces are, so all anchors learn from the first round on.
    """

    rounds: int = 60
    steps_per_round: int = 32
    sizes: tuple[tuple[float, int], ...] = ((0.6, 128), (0.9, 160), (1.0, 224))
    """(share of the rounds until which it holds, side of the crops in pixels)."""
    warm_up_rounds: int = 3
    peak_rate: float = 2e-3
    """Highest learning rate, of Adam; a network that starts from trained weights wants less."""

    def size(self, index: int) -> int:
        """Side of the crops of round ``index``, pixels."""
        return next(side for until, side in self.sizes if index < until * self.rounds or until == 1.0)

    def rate(self, index: int) -> float:
        """Learning rate of round ``index``."""
        if index < self.warm_up_rounds:
            return self.peak_rate * (index + 1) / self.warm_up_rounds
        done = (index - self.warm_up_rounds) / max(1, self.rounds - self.warm_up_rounds)
        return self.peak_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)


def pretrain(
    engine: Engine,
    optimizer: torch.optim.Optimizer,
    store: PixelStore,
    schedule: Schedule,
    batch: int,
    seed: int,
    checkpoint: Path,
    on_round: Callable[[int, float], None],
) -> None:
    """Trains ``engine`` through all rounds; an interrupted call goes on from ``checkpoint``.

    Args:
        optimizer: the engine's, so that its state can be kept.
        on_round: called with (round, mean classification loss) after each.
    """
    first = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=next(engine.model.parameters()).device, weights_only=True)
        engine.model.load_state_dict(saved["model"])
        _restore(optimizer, saved["optimizer"])
        first = saved["round"]
    for index in range(first, schedule.rounds):
        engine.image_size = schedule.size(index)
        rng = np.random.default_rng([seed, index])
        samples = schedule.steps_per_round * batch
        plan = plan_crops(store, store.splits["train"], samples, SETTINGS.min_crop_ratio, rng)
        losses = engine.train(plan, schedule.rate(index))
        if not all(bool(torch.isfinite(part)) for part in losses):
            raise NonFiniteLoss(losses)
        if (index + 1) % 4 == 0 or index + 1 == schedule.rounds:
            _save(checkpoint, engine, optimizer, index + 1)
        on_round(index, float(losses.classification))


def _save(checkpoint: Path, engine: Engine, optimizer: torch.optim.Optimizer, done: int) -> None:
    state = {"model": engine.state(), "optimizer": optimizer.state_dict(), "round": done}
    with replacing(checkpoint) as partial:
        torch.save(state, partial)


def _restore(optimizer: torch.optim.Optimizer, saved: dict) -> None:
    """Puts a saved state back; the rate stays in whatever object the engine has it, as it is set anew for every round.

    Tensors that exist are filled in place: a captured graph knows them by address.
    """
    if not optimizer.state:
        rates = [group["lr"] for group in optimizer.param_groups]
        optimizer.load_state_dict(saved)
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate
        return
    for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
        for name, value in saved["state"].get(index, {}).items():
            if torch.is_tensor(value):
                optimizer.state[parameter][name].copy_(value)
