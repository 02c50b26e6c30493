"""The training hyper-parameters that are tuned: six values, 216 standard combinations (HyperFD, Table 8).

Beside them, how many anchors a face gets (HPS-Det, section 3.1): nine whole numbers, or none of them and an IoU threshold decides.
"""

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

ASSIGN = "assign"
"""Key that says how anchors are given to faces."""
ASSIGNMENTS = ("iou", "dynamic")

PYRAMID_LEVELS, ASPECT_BINS = 3, 3
COUNT_KEYS = tuple(
    f"s_l{level}_a{aspect}" for level in range(1, PYRAMID_LEVELS + 1) for aspect in range(1, ASPECT_BINS + 1)
)
"""Keys of the counts of dynamic assignment, level by level: positives of a face by the pyramid level of the anchor that fits it best (strides
8, 16, 32) and by its height over its width (up to 1/2, up to 2, above)."""
MOST_POSITIVES = 20
"""Largest count; at two anchors a place there is little use for more (METHOD, section 12)."""
DEFAULT_COUNT = 10

KEYS = (*FIELDS, ASSIGN, *COUNT_KEYS)
"""Every key that training reads."""

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
        learning_rate: Initial rate, in (0, 1].
        min_crop_ratio: Smallest side of a training crop relative to the short image side, in (0, 1].
        iou_threshold: An anchor with at least this IoU to a face is positive, in (0.1, 0.95].
        location_weight: Factor of the box regression loss, in (0, 1000].
        negative_ratio: Hard negatives kept for each positive anchor, in (0, 1000].
        counts: Nine positives per face in the order of :data:`COUNT_KEYS`, whole numbers from 1 to 20, for dynamic assignment;
            ``None``: the IoU threshold makes positives. With counts, the threshold still says which anchors over an ignored
            region count for nothing.

    Raises:
        SpaceError: A value is out of its range; the message names the short key and the range.
    """

    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 1e-3
    min_crop_ratio: float = 0.3
    iou_threshold: float = 0.5
    location_weight: float = 2.0
    negative_ratio: float = 7.0
    counts: tuple[int, ...] | None = None

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
        if self.counts is not None:
            if len(self.counts) != len(COUNT_KEYS):
                raise SpaceError(f"{len(self.counts)} counts are given; use {len(COUNT_KEYS)}.")
            object.__setattr__(self, "counts", tuple(map(_count, COUNT_KEYS, self.counts)))

    @property
    def negative_threshold(self) -> float:
        """Anchors below this IoU to every face are negative; those between the two thresholds are ignored."""
        return self.iou_threshold / 2 + 0.05

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> HyperParameters:
        """Reads the short keys out of ``parameters``; a missing key takes its default, other keys are left alone.

        Counts speak for dynamic assignment by themselves; ``assign: dynamic`` without any takes :data:`DEFAULT_COUNT` for all.

        Raises:
            SpaceError: A value is out of its range, or counts stand beside ``assign: iou``.
        """
        values = {FIELDS[key]: value for key, value in parameters.items() if key in FIELDS}
        return cls(**values, counts=_read_counts(parameters))

    def parameters(self) -> dict[str, str | float | int]:
        """The short keys with plain numbers (``2``, not ``2.0``), in the order of :data:`KEYS`; those of assignment where it is dynamic."""
        known = {key: self.parameter(key) for key in (KEYS if self.counts is not None else FIELDS)}
        return {key: value for key, value in known.items() if value is not None}

    def parameter(self, key: str) -> str | float | int | None:
        """One of them by its short key; the way of assignment also where it is ``iou``, a count only where it is ``dynamic``."""
        if key in FIELDS:
            return _plain(getattr(self, FIELDS[key]))
        if key == ASSIGN:
            return "iou" if self.counts is None else "dynamic"
        return None if self.counts is None else self.counts[COUNT_KEYS.index(key)]

    def __str__(self) -> str:
        return " ".join(f"{key}={_text(value)}" for key, value in self.parameters().items())


def _read_counts(parameters: Mapping[str, Any]) -> tuple[int, ...] | None:
    given = [key for key in COUNT_KEYS if key in parameters]
    assign = parameters.get(ASSIGN, "dynamic" if given else "iou")
    if assign not in ASSIGNMENTS:
        raise SpaceError(f"{ASSIGN} is {assign!r}; use one of {', '.join(ASSIGNMENTS)}.")
    if assign == "dynamic":
        return tuple(parameters.get(key, DEFAULT_COUNT) for key in COUNT_KEYS)
    if given:
        raise SpaceError(
            f"{given[0]} is given, and {ASSIGN} is 'iou', which has no use for it; leave out one of the two."
        )
    return None


def _count(key: str, value: Any) -> int:
    # NNI's quniform hands over whole numbers as 3.0.
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not 1 <= value <= MOST_POSITIVES
        or value != int(value)
    ):
        raise SpaceError(f"{key} is {value!r}; use a whole number from 1 to {MOST_POSITIVES}.")
    return int(value)


def _plain(value: str | float) -> str | float | int:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


DEFAULT_HYPERPARAMETERS = HyperParameters()
"""What a trial uses when only the architecture is searched; a point of the standard grid."""

FIRST_CHOICE = HyperParameters(optimizer="adam", min_crop_ratio=0.55, iou_threshold=0.4, location_weight=4.0)
"""What a trial by hand trains with that was given no configuration. Of the configurations measured on every customer, the best on average over
the six data sets that methods may be designed on (`benchmarks/accuracy.py` measures all twelve). Not what fills in for missing keys:
that is part of what a recorded configuration means, and never changes."""
