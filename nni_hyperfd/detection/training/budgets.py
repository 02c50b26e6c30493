"""Named training budgets: how long and at which size a trial trains. They never change a definition."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nni_hyperfd.errors import TrainingError
from nni_hyperfd.spaces.stages import TRIAL_EPOCHS, Stage
from nni_hyperfd.spaces.unread import TRIAL_BUDGET


@dataclass(frozen=True)
class Budget:
    """One typed block with every training setting that is not part of a configuration.

    HyperFD supplement B.1 gives the values of ``paper``.
    """

    name: str
    image_size: int
    """Side of the square training crops, pixels."""
    evaluation_size: int
    """Short side of evaluated images, pixels."""
    epochs: int
    """Upper bound of epochs."""
    epoch_images: int | None
    """Images that count as one epoch; None: the training split."""
    validate_every: int
    """Epochs between validations."""
    patience: int
    """Validations without gain before the learning rate is divided by ten."""
    stop_after: int
    """Validations without gain before training stops."""
    batch_size: int = 32
    anneal: bool = False
    """Whether the learning rate falls linearly to almost nothing over the second half of the epochs."""

    def rate_factor(self, epoch: int) -> float:
        """What the learning rate of an epoch, counted from 1, is multiplied with."""
        return min(1.0, 2 * (1 - epoch / (self.epochs + 1))) if self.anneal else 1.0

    @property
    def validations(self) -> int:
        """Of a training that does not end early."""
        return self.epochs // self.validate_every

    def steps_per_epoch(self, train_images: int) -> int:
        """Optimizer steps of one epoch; at least one."""
        return max(1, (self.epoch_images or train_images) // self.batch_size)


BUDGETS = {
    budget.name: budget
    for budget in (
        Budget("paper", 640, 720, 1000, None, 10, 5, 8),
        # All six epochs are trained: the rate falls by plan, not by a val split that is small and noisy.
        Budget("short", 256, 320, 6, 384, 1, 6, 6, batch_size=16, anneal=True),
        Budget("smoke", 128, 160, 4, 128, 1, 2, 4, batch_size=16),
        # For lookup tables: `short` in little, with its number of epochs and its plan of rates. The rate is the same over the first
        # half of the epochs, so a trial that is looked at early is the beginning of the whole training.
        Budget("table", 128, 192, 6, 128, 1, 6, 6, batch_size=16, anneal=True),
    )
}


def get_budget(name: str) -> Budget:
    """The budget called ``name``.

    Raises:
        TrainingError: There is none; the message has the known names.
    """
    if name not in BUDGETS:
        raise TrainingError(f"unknown budget {name!r}: choose one of {', '.join(BUDGETS)}")
    return BUDGETS[name]


def shortened(budget: Budget, epochs: float) -> Budget:
    """``budget`` cut to ``epochs``, rounded up to the next validation; never longer than it was.

    Raises:
        TrainingError: ``epochs`` is not a positive number.
    """
    if isinstance(epochs, bool) or not isinstance(epochs, (int, float)) or not epochs > 0:
        raise TrainingError(f"{TRIAL_BUDGET} is {epochs!r}: give the number of epochs, above 0")
    validations = math.ceil(min(epochs, budget.epochs) / budget.validate_every)
    return replace(budget, epochs=min(budget.epochs, validations * budget.validate_every))


def stage_of(parameters: Mapping[str, Any], budget: Budget) -> Stage | None:
    """The part of a training that a trial is to run; None for one of full length.

    Raises:
        SpaceError: What the parameters say is no part of a training.
        TrainingError: It is no part of one of this budget.
    """
    stage = Stage.of(parameters)
    if stage is None:
        return None
    if stage.full != budget.epochs:
        raise TrainingError(
            f"{TRIAL_EPOCHS} is {stage}, and a training with --budget {budget.name} has {budget.epochs} epochs: name the budget that the "
            "experiment began with"
        )
    if stage.begun % budget.validate_every or stage.stop % budget.validate_every:
        raise TrainingError(
            f"{TRIAL_EPOCHS} is {stage}, and --budget {budget.name} stops at every {budget.validate_every}th epoch only"
        )
    return stage
