"""What every method sees and does: experience before, one task after another, at most ``budget`` trials each.

A method is *pulled* through :meth:`Rival.search`: it calls ``study.evaluate(index)`` until the budget is spent. A method that
fixes its configurations beforehand and one that decides after each result are then the same thing, and the task itself
guards what may be known: only the AP of a configuration that was paid for.

Rivals may keep the features of finished tasks, which HyperFD's privacy wall forbids to itself: the comparison errs in their favor.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.errors import DataError

if TYPE_CHECKING:
    from nni_hyperfd.metafeature.features import ImageFeatures

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Profile:
    """What a data set looks like.

    Args:
        pool: ``[N, F]`` image-level features; several sets may share one pool.
        members: ``[n]`` positions in ``pool`` of the set's images.
        statistics: ``[P]`` descriptive statistics of the set, the same for all sets.
        source: What ``pool`` was made from, row by row; HyperFD's extractor looks at more than the pool.
    """

    pool: NDArray[np.float32]
    members: NDArray[np.integer]
    statistics: FloatArray
    source: ImageFeatures | None = None

    @property
    def images(self) -> NDArray[np.float32]:
        """``[n, F]`` features of all images."""
        return self.pool[self.members]

    def sample(self, images: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """``[images, F]`` features of randomly drawn images; with repetitions only where the set is smaller."""
        return self.pool[rng.choice(self.members, images, replace=len(self.members) < images)]


@dataclass(frozen=True, eq=False)
class Known:
    """Everything known before the first customer comes.

    Args:
        configurations: ``U`` canonical strings; the first ``candidates`` of them are what a customer can try.
        candidates: ``K``.
        data_sets: ``S`` names.
        profiles: ``S`` profiles.
        aps: ``[S, U]`` AP in [0, 1], NaN where never measured.
        server: Row of the server's own, full data set, of which all candidates are known.

    Raises:
        DataError: The shapes do not fit each other.
    """

    configurations: tuple[str, ...]
    candidates: int
    data_sets: tuple[str, ...]
    profiles: tuple[Profile, ...]
    aps: FloatArray
    server: int | None = None

    def __post_init__(self) -> None:
        if self.aps.shape != (len(self.data_sets), len(self.configurations)) or len(self.profiles) != len(
            self.data_sets
        ):
            raise DataError(
                f"experience: APs of shape {self.aps.shape} for {len(self.data_sets)} sets with {len(self.profiles)} "
                f"profiles and {len(self.configurations)} configurations."
            )
        if not 0 < self.candidates <= len(self.configurations):
            raise DataError(
                f"experience: {self.candidates} candidates of {len(self.configurations)} configurations."
            )

    @cached_property
    def encodings(self) -> FloatArray:
        """``[U, E]`` flat rows of all configurations, see :func:`one_hot_rows`."""
        return one_hot_rows(self.configurations)


@dataclass(frozen=True)
class Tried:
    """A tried candidate and its AP; NaN if the training failed."""

    index: int
    ap: float


class Study:
    """One customer's search. Hands out the AP of at most ``budget`` candidates and notes which.

    A failed training does not use up budget: its place goes to the next configuration (METHOD.md §8).

    Args:
        profile: What the customer's data set looks like.
        budget: Trials that may succeed.
        aps: ``[K]`` AP in [0, 1] of each candidate, NaN where its training fails.
    """

    def __init__(self, profile: Profile, budget: int, aps: FloatArray) -> None:
        self.profile = profile
        self.budget = budget
        self.candidates = len(aps)
        self.trials: list[Tried] = []
        # Reachable for who wants to cheat, but nothing in this package touches it; a test counts.
        self.__aps = aps

    @property
    def left(self) -> int:
        """Trials that may still be run; 0 as well when nothing untried is left."""
        untried = self.candidates - len(self.trials)
        succeeded = sum(not math.isnan(trial.ap) for trial in self.trials)
        return min(self.budget - succeeded, untried)

    def untried(self) -> NDArray[np.bool_]:
        """``[K]``: candidates that can still be tried."""
        mask = np.ones(self.candidates, dtype=bool)
        mask[[trial.index for trial in self.trials]] = False
        return mask

    def evaluate(self, index: int) -> float:
        """Runs one trial and returns its AP, NaN if it failed.

        Raises:
            DataError: The budget is spent, the index is unknown, or it was tried before.
        """
        index = int(index)
        if self.left <= 0:
            raise DataError(f"the budget of {self.budget} trials is spent.")
        if not 0 <= index < self.candidates or not self.untried()[index]:
            raise DataError(f"candidate {index} is unknown or was tried before.")
        self.trials.append(Tried(index, float(self.__aps[index])))
        return self.trials[-1].ap

    def evaluate_ranking(self, order: Iterable[int], trials: int | None = None) -> None:
        """Tries candidates in the order given, skipping tried ones, until ``trials`` more succeeded or the budget is spent."""
        goal = 0 if trials is None else max(0, self.left - trials)
        for index in order:
            if self.left <= goal:
                return
            if self.untried()[int(index)]:
                self.evaluate(int(index))


class Rival(ABC):
    """One method. :meth:`reset` starts a run; :meth:`search` is then called once for each task, in order of arrival."""

    name: ClassVar[str]

    @abstractmethod
    def reset(self, experience: Known, seed: int) -> None:
        """Forgets all tasks and starts again from the experience, with all randomness from ``seed``.

        Raises:
            DataError: The experience lacks what the method needs.
        """

    @abstractmethod
    def search(self, study: Study) -> None:
        """Spends the task's budget with ``study.evaluate`` and may learn from what came out."""


class Memory:
    """Experience that grows by one row a task: ``aps [S + t, U]`` and as many profiles."""

    def __init__(self, experience: Known) -> None:
        self.experience = experience
        self.aps = experience.aps
        self.profiles = experience.profiles

    def add(self, study: Study) -> None:
        """Appends the finished task."""
        row = np.full((1, self.aps.shape[1]), np.nan)
        for trial in study.trials:
            row[0, trial.index] = trial.ap
        self.aps = np.concatenate([self.aps, row])
        self.profiles = (*self.profiles, study.profile)


def one_hot_rows(configurations: Sequence[str]) -> FloatArray:
    """``[U, E]`` rows for methods that take a flat vector: one-hot per key.

    A key that a configuration lacks (a block of a shallower stage) is a value of its own, so every configuration has
    as many ones as there are keys and the squared distance of two rows is twice the number of keys that differ.
    """
    parsed: list[dict[str, Any]] = [json.loads(text) for text in configurations]
    keys = sorted({key for each in parsed for key in each})
    columns = []
    for key in keys:
        values = [json.dumps(each[key]) if key in each else "" for each in parsed]
        columns += [[value == other for value in values] for other in sorted(set(values))]
    return np.array(columns, dtype=np.float64).T


def standardized(profiles: Sequence[Profile]) -> FloatArray:
    """``[S, P]`` statistics of the profiles, each column with mean 0 and deviation 1 (constant columns 0)."""
    rows = np.stack([profile.statistics for profile in profiles])
    spread = rows.std(axis=0)
    return (rows - rows.mean(axis=0)) / np.where(spread > 1e-9, spread, np.inf)
