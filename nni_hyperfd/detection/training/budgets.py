"""Named training budgets: how long and at which size a trial trains. They never change a definition."""

from __future__ import annotations

from dataclasses import dataclass

from nni_hyperfd.errors import TrainingError


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
