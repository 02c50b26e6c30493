"""The training hyper-parameters that are tuned: six values, 216 standard combinations (HyperFD, table of the HPO space)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nni_hyperfd.errors import SpaceError

OPTIMIZERS = ("sgd", "adam")

GRID: dict[str, tuple[Any, ...]] = {
    "optimizer": OPTIMIZERS,
    # The paper prints 3e-2 as third rate, but its table of best configurations only ever names 3e-3.
    "lr": (3e-4, 1e-3, 3e-3),
    "crop": (0.3, 0.55),
    "iou": (0.4, 0.5, 0.6),
    "locw": (2, 4, 8),
    "negp": (2, 7),
}
"""Short key of NNI's page -> the standard values of that key; their product has 216 points."""

FIELDS: dict[str, str] = {
    "optimizer": "optimizer",
    "lr": "learning_rate",
    "crop": "min_crop_ratio",
    "iou": "iou_threshold",
    "locw": "location_weight",
    "negp": "negative_ratio",
}
"""Short key of NNI's page -> field of :class:`HyperParameters`."""

_RANGES: dict[str, tuple[str, float, float]] = {
    # Above an IoU threshold of 0.1 the negative threshold (half of it plus 0.05) stays below the positive one.
    "lr": ("above 0 and at most 1", 0.0, 1.0),
    "crop": ("above 0 and at most 1", 0.0, 1.0),
    "iou": ("above 0.1 and at most 0.95", 0.1, 0.95),
    "locw": ("above 0 and at most 1000", 0.0, 1000.0),
    "negp": ("above 0 and at most 1000", 0.0, 1000.0),
}


@dataclass(frozen=True)
class HyperParameters:
    """How one trial trains the detector.

    Args:
        optimizer: ``"sgd"`` or ``"adam"``.
        learning_rate: initial rate, in (0, 1].
        min_crop_ratio: smallest side of a training crop relative to the short image side, in (0, 1].
        iou_threshold: an anchor with at least this IoU to a face is positive, in (0.1, 0.95].
        location_weight: factor of the box regression loss, in (0, 1000].
        negative_ratio: hard negatives kept for each positive anchor, in (0, 1000].

    Raises:
        SpaceError: a value is out of its range; the message names the short key and the range.
    """

    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 1e-3
    min_crop_ratio: float = 0.3
    iou_threshold: float = 0.5
    location_weight: float = 2.0
    negative_ratio: float = 7.0

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise SpaceError(f"optimizer is {self.optimizer!r}; use one of {', '.join(OPTIMIZERS)}.")
        for key, (allowed, low, high) in _RANGES.items():
            name = FIELDS[key]
            value = getattr(self, name)
            # NaN compares false, so it lands here too.
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low < value <= high:
                raise SpaceError(f"{key} ({name}) is {value!r}; use a number {allowed}.")
            object.__setattr__(self, name, float(value))

    @property
    def negative_threshold(self) -> float:
        """Anchors below this IoU to every face are negative; those between the two thresholds are ignored."""
        return self.iou_threshold / 2 + 0.05

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> HyperParameters:
        """Reads the short keys out of ``parameters``; a missing key takes its default, other keys are left alone."""
        return cls(**{FIELDS[key]: value for key, value in parameters.items() if key in FIELDS})

    def parameters(self) -> dict[str, str | float | int]:
        """The short keys with plain numbers (``2``, not ``2.0``), in the order of :data:`GRID`."""
        return {key: self.parameter(key) for key in FIELDS}

    def parameter(self, key: str) -> str | float | int:
        """One of :meth:`parameters`."""
        return _plain(getattr(self, FIELDS[key]))

    def __str__(self) -> str:
        return " ".join(f"{key}={_text(value)}" for key, value in self.parameters().items())


def _plain(value: str | float) -> str | float | int:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


DEFAULT_HYPERPARAMETERS = HyperParameters()
"""What a trial uses when only the architecture is searched; a point of the standard grid."""
