"""The values one key of a search space may take: NNI's ``choice``, and its numeric types.

A domain maps each of its values to one number, the *coordinate*, so that many configurations are rows of one array.
The distributions are NNI's: ``uniform``, ``loguniform``, ``normal`` and ``lognormal``, each also rounded to multiples of q
(``quniform``, …), and ``randint`` with an exclusive upper end.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.spaces.configuration import Scalar

Column = NDArray[np.float64]

NUMERIC_TYPES = (
    "uniform", "quniform", "loguniform", "qloguniform",
    "normal", "qnormal", "lognormal", "qlognormal", "randint",
)  # fmt: skip

_STEPS = 4.0
"""A range of numbers counts as long as five values of a choice."""


class Domain(ABC):
    """The allowed values of one key of a search space."""

    key: str

    @property
    @abstractmethod
    def size(self) -> int | float:
        """Number of values, ``math.inf`` where there is no end of them."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, n: int) -> Column:
        """Coordinates ``[n]`` from NNI's distribution, repeats included."""

    @abstractmethod
    def all(self) -> Column:
        """Every coordinate of a finite domain, each once: ``[size]``."""

    @abstractmethod
    def value(self, coordinate: float) -> Scalar:
        """The value that is written for NNI."""

    @abstractmethod
    def coordinate(self, value: Any) -> float:
        """Inverse of :meth:`value`.

        Raises:
            SpaceError: ``value`` is not allowed.
        """

    @abstractmethod
    def moves(self, coordinate: float, rng: np.random.Generator) -> Column:
        """Coordinates ``[m]`` of m nearby other values."""

    @abstractmethod
    def encode(self, column: Column) -> NDArray[np.float32]:
        """Features ``[n, width]`` of coordinates ``[n]`` for a neural network."""

    @abstractmethod
    def steps(self, features: NDArray[np.float32]) -> Column:
        """Features ``[n, width]`` of :meth:`encode` as positions ``[n]`` on a line, neighbouring values about 1 apart."""

    @abstractmethod
    def specification(self) -> list[Any]:
        """What decides the meaning of :meth:`encode`, as JSON."""


@dataclass(frozen=True)
class Choice(Domain):
    """One out of a list. The coordinate is the position; encoded one-hot, with the scaled value where it has an order.

    Three or more numbers carry their value scaled to 0…1, by the logarithm if the largest is at least three times the
    smallest (learning rates, loss weights); with two numbers the one-hot code already says it.
    """

    key: str
    values: tuple[Scalar, ...]

    @cached_property
    def _positions(self) -> dict[tuple[bool, Scalar], int]:
        # Python holds True equal to 1: the first half of the tuple keeps them apart.
        return {(isinstance(value, bool), value): i for i, value in enumerate(self.values)}

    @property
    def size(self) -> int:
        return len(self.values)

    def draw(self, rng: np.random.Generator, n: int) -> Column:
        return rng.integers(self.size, size=n).astype(float)

    def all(self) -> Column:
        return np.arange(self.size, dtype=float)

    def value(self, coordinate: float) -> Scalar:
        return self.values[int(coordinate)]

    def coordinate(self, value: Any) -> float:
        try:
            return self._positions[isinstance(value, bool), value]
        except (KeyError, TypeError):
            raise SpaceError(
                f"{self.key} is {value!r}; use one of {', '.join(map(repr, self.values))}."
            ) from None

    def moves(self, coordinate: float, rng: np.random.Generator) -> Column:
        return np.delete(self.all(), int(coordinate))

    def encode(self, column: Column) -> NDArray[np.float32]:
        return self._codebook[column.astype(int)]

    @cached_property
    def _codebook(self) -> NDArray[np.float32]:
        one_hot = np.eye(self.size, dtype=np.float32)
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in self.values)
        if not numbers or self.size < 3:
            return one_hot
        scale = np.array(self.values, dtype=float)
        if scale.min() > 0 and scale.max() >= 3 * scale.min():
            scale = np.log(scale)
        scale = (scale - scale.min()) / (scale.max() - scale.min())
        return np.column_stack([one_hot, scale]).astype(np.float32)

    def steps(self, features: NDArray[np.float32]) -> Column:
        return features[:, : self.size].argmax(axis=1).astype(float)

    def specification(self) -> list[Any]:
        return ["choice", *self.values]


@dataclass(frozen=True)
class Number(Domain):
    """A number of one of NNI's numeric types; the coordinate is the number itself.

    Encoded as one feature: 0…1 between the ends (of the logarithm for the log types), or the standard score for
    the normal family.

    Args:
        key: Name in the search space.
        kind: One of :data:`NUMERIC_TYPES`.
        first, second: Lower and upper end, or mean and standard deviation (of the logarithm for ``lognormal``).
        step: ``q`` of the rounded types, otherwise ``None``.
    """

    key: str
    kind: str
    first: float
    second: float
    step: float | None = None

    @property
    def bounded(self) -> bool:
        """Whether the values have two ends (all but the normal family)."""
        return "normal" not in self.kind

    @property
    def size(self) -> int | float:
        if not self.bounded or self.step is None:
            return math.inf
        lowest, highest = self._ticks
        return highest - lowest + 1

    def draw(self, rng: np.random.Generator, n: int) -> Column:
        if self.kind == "randint":
            return rng.integers(int(self.first), int(self.second), size=n).astype(float)
        return self.from_unit(rng.random(n) if self.bounded else rng.standard_normal(n))

    def all(self) -> Column:
        assert self.step is not None, "only a finite domain can be listed"
        return self._round((self._ticks[0] + np.arange(self.size)) * self.step)

    def value(self, coordinate: float) -> Scalar:
        return int(coordinate) if self.kind == "randint" else float(coordinate)

    def coordinate(self, value: Any) -> float:
        if not _is_number(value):
            raise SpaceError(f"{self.key} is {value!r}; give {self._allowed()}.")
        number = float(value)
        if self.step is None:
            # NNI computes exp(log(x)), which may miss an end by its last digits.
            slack = 1e-9 * abs(number)
            fits = not self.bounded or self.first - slack <= number <= self.second + slack
            fits = fits and ("log" not in self.kind or number > 0)
        else:
            fits = abs(self._round(number) - number) <= 1e-6 * self.step
        if not fits:
            raise SpaceError(f"{self.key} is {value!r}; give {self._allowed()}.")
        return number

    def moves(self, coordinate: float, rng: np.random.Generator) -> Column:
        unit = self.to_unit(np.array([coordinate])) + 0.15 * rng.standard_normal(4)
        near = self.from_unit(np.clip(unit, 0, 1) if self.bounded else unit)
        if self.step is not None:
            # Small changes are rounded away, so the next values on both sides are always among the moves.
            near = np.append(near, self._round(coordinate + np.array([-self.step, self.step])))
        return np.unique(near[near != coordinate])

    def encode(self, column: Column) -> NDArray[np.float32]:
        return self.to_unit(column)[:, None].astype(np.float32)

    def steps(self, features: NDArray[np.float32]) -> Column:
        return _STEPS * features[:, 0].astype(float)

    def specification(self) -> list[Any]:
        return [self.kind, self.first, self.second, self.step]

    def _ends(self) -> tuple[float, float]:
        """Where unit 0 and unit 1 lie, in the (logarithmic) space in which the distribution is plain."""
        if not self.bounded:
            return self.first, self.first + self.second
        if self.kind == "randint":
            return self.first, max(self.second - 1, self.first + 1)
        return (
            (math.log(self.first), math.log(self.second)) if "log" in self.kind else (self.first, self.second)
        )

    def to_unit(self, column: Column) -> Column:
        """Numbers ``[n]`` as places between the ends, 0 to 1 (of the logarithm for the log types)."""
        low, high = self._ends()
        # A rounded log-normal value can be 0, which has no logarithm: it counts as a tenth of a step.
        floor = self.first if self.bounded else (self.step or 0) / 10
        plain = np.log(np.maximum(column, floor)) if "log" in self.kind else column
        return (plain - low) / (high - low)

    def from_unit(self, unit: Column) -> Column:
        """Inverse of :meth:`to_unit`: the nearest values of the domain."""
        low, high = self._ends()
        plain = low + unit * (high - low)
        return self._round(np.exp(plain) if "log" in self.kind else plain)

    @property
    def _ticks(self) -> tuple[int, int]:
        """Lowest and highest multiple of the step in a bounded range; NNI clips the value of both into the range."""
        assert self.step is not None
        if self.kind == "randint":
            return int(self.first), int(self.second) - 1
        return round(self.first / self.step), round(self.second / self.step)

    def _round(self, x: Any) -> Any:
        """The value of the domain that is nearest to ``x``."""
        if self.step is not None:
            ticks = np.round(x / self.step)
            if self.bounded:
                ticks = np.clip(ticks, *self._ticks)
            elif "log" in self.kind:
                ticks = np.maximum(ticks, 0)
            x = ticks * self.step
        return np.clip(x, self.first, self.second) if self.bounded else x

    def _allowed(self) -> str:
        if self.kind == "randint":
            return f"a whole number from {self.first:g} to {self.second - 1:g}"
        ends = f" from {self.first:g} to {self.second:g}" if self.bounded else ""
        return f"a number{ends}" + (f" in steps of {self.step:g}" if self.step is not None else "")


def read_domain(key: str, specification: Any) -> Domain:
    """One entry of an NNI search space.

    Args:
        key: Name of the parameter.
        specification: ``{"_type": …, "_value": […]}``.

    Raises:
        SpaceError: The form, the type or its arguments are wrong.
    """
    if (
        not isinstance(specification, dict)
        or set(specification) != {"_type", "_value"}
        or not isinstance(specification["_value"], list)
    ):
        raise SpaceError(
            f'{key} is {specification!r}; write {{"_type": …, "_value": […]}} as in any NNI search space.'
        )
    kind, arguments = specification["_type"], specification["_value"]
    if kind == "choice":
        return _read_choice(key, arguments)
    if kind in NUMERIC_TYPES:
        return _read_number(key, kind, arguments)
    raise SpaceError(f"{key} has the type {kind!r}; use one of choice, {', '.join(NUMERIC_TYPES)}.")


def _read_choice(key: str, values: Sequence[Any]) -> Choice:
    if not values:
        raise SpaceError(f"{key} is a choice without values; list at least one.")
    for value in values:
        if not isinstance(value, (str, bool)) and not _is_number(value):
            raise SpaceError(
                f"{key} offers {value!r}; a choice here takes numbers, texts and true/false (nested choices only "
                "for the stage depths, as in search_spaces/nas.json)."
            )
    if len({(isinstance(value, bool), value) for value in values}) < len(values):
        raise SpaceError(f"{key} lists a value twice in {list(values)!r}; list each once.")
    return Choice(key, tuple(values))


def _read_number(key: str, kind: str, arguments: Sequence[Any]) -> Number:
    expected = 3 if kind.startswith("q") else 2
    if len(arguments) != expected or not all(map(_is_number, arguments)):
        raise SpaceError(f"{key} ({kind}) has the arguments {list(arguments)!r}; give {expected} numbers.")
    first, second = float(arguments[0]), float(arguments[1])
    step = float(arguments[2]) if kind.startswith("q") else 1.0 if kind == "randint" else None
    if step is not None and step <= 0:
        raise SpaceError(f"{key} ({kind}) has the step {step:g}; give one above 0.")
    if "normal" in kind:
        if second <= 0:
            raise SpaceError(f"{key} ({kind}) has the standard deviation {second:g}; give one above 0.")
    elif not first < second:
        raise SpaceError(f"{key} ({kind}) runs from {first:g} to {second:g}; the first must be the smaller.")
    elif "log" in kind and first <= 0:
        raise SpaceError(f"{key} ({kind}) starts at {first:g}; a logarithmic range starts above 0.")
    elif kind == "randint" and not (first.is_integer() and second.is_integer()):
        raise SpaceError(f"{key} (randint) runs from {first:g} to {second:g}; give whole numbers.")
    return Number(key, kind, first, second, step)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
