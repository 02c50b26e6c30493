"""Rivals that leave trainings by their beginnings: successive halving, Hyperband, ASHA and BOHB.

None of them looks back from what a training promises to what data sets have in common; they compare early APs, and differ in how far
they trust them. All resume from checkpoints here, so a rung costs what it adds (NNI's own Hyperband and BOHB train anew). A bracket that
cannot be paid for any more is not begun: what is left goes to the best of the trainings that were left, so that nothing is wasted.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.evidence.curves import CurveMethod, CurveTable, CurveTask

FloatArray = NDArray[np.float64]
ETA = 3
"""NNI's default for both of its advisors, as in Li et al. (2018)."""
Rungs = list[tuple[int, int]]
"""Of a bracket: how many configurations train up to how many validations."""


def brackets(longest: int, eta: int = ETA) -> list[Rungs]:
    """One round of Hyperband as NNI's advisors play it, the bracket that trusts early results most first.

    With s_max = ⌊log_eta(longest)⌋ a bracket s begins with n = ⌈(s_max + 1) / (s + 1) · eta^s⌉ configurations, and in its rung i there are
    ⌊n / eta^i⌋ with ⌊longest · eta^(i − s)⌋ validations (Li et al. 2018, Algorithm 1; rounding as in NNI).
    """
    tiny = 1e-6
    most = math.floor(math.log(longest, eta) + tiny)
    found = []
    for s in range(most, -1, -1):
        count = math.ceil((most + 1) * eta**s / (s + 1) - tiny)
        found.append(
            [
                (math.floor(count / eta**i + tiny), math.floor(longest / eta**s * eta**i + tiny))
                for i in range(s + 1)
            ]
        )
    return found


def price_of(bracket: Rungs) -> int:
    """Validations that a bracket costs where trainings resume."""
    before, total = 0, 0
    for count, length in bracket:
        total += count * (length - before)
        before = length
    return total


class EarlyStopping(CurveMethod):
    """What they share: a run has a generator, and what is left at last ends what was begun."""

    def reset(self, offline: CurveTable, seed: int) -> None:
        self._offline, self._rng = offline, np.random.default_rng([seed, 3])

    def search(self, task: CurveTask) -> None:
        self._play(task)
        self._end_the_best(task)

    @abstractmethod
    def _play(self, task: CurveTask) -> None:
        """As far as what is left allows."""

    def _draw(self, task: CurveTask) -> Iterator[int]:
        """Configurations to begin with, one after the other."""
        while len(free := task.open()):
            yield int(self._rng.choice(free))

    def _end_the_best(self, task: CurveTask) -> None:
        """What is left goes to the trainings that were left, those that went furthest first, then the best; then to new ones."""
        draws = self._draw(task)
        while task.left:
            done = (~np.isnan(task.seen)).sum(axis=1)
            missing = task.length - done
            can = np.flatnonzero(~task.failed & (done > 0) & (missing > 0) & (missing <= task.left))
            if len(can):
                last = task.seen[can, done[can] - 1]
                index = int(can[np.lexsort((-last, -done[can]))[0]])
            elif task.left < task.length or (index := next(draws, -1)) < 0:
                return
            task.train(index, task.length)


class SuccessiveHalving(EarlyStopping):
    """One bracket with all of the price (Jamieson, Talwalkar 2016): as many begin as can be halved down to full trainings."""

    name: ClassVar[str] = "successive halving"

    def _play(self, task: CurveTask) -> None:
        shape = brackets(task.length)[0]
        sizes = (
            [(count // ETA**i, length) for i, (_, length) in enumerate(shape)]
            for count in range(len(task.open()), 0, -1)
        )
        best = next((each for each in sizes if each[-1][0] and price_of(each) <= task.left), None)
        if best is not None:
            play_bracket(task, best, self._draw(task))


class Hyperband(EarlyStopping):
    """Rounds of all brackets (Li et al. 2018) by NNI's rule, over random configurations."""

    name: ClassVar[str] = "hyperband"

    def _play(self, task: CurveTask) -> None:
        while True:
            for bracket in brackets(task.length):
                if price_of(bracket) > task.left or len(task.open()) < bracket[0][0]:
                    return
                play_bracket(task, bracket, self._draw(task))


class ASHA(EarlyStopping):
    """Asynchronous successive halving with one worker (Li et al. 2020, Algorithm 2): promote what can be, else begin another.

    With nothing in hand it begins no other where the first could then not be ended.
    """

    name: ClassVar[str] = "asha"

    def _play(self, task: CurveTask) -> None:
        lengths = [length for _, length in brackets(task.length)[0]]
        draws = self._draw(task)
        while task.left:
            found = promotable(task.seen, lengths)
            if found is None:
                in_hand = bool(task.hand and task.hand[-1])
                index = next(draws, None)
                if index is None or task.left < (lengths[0] if in_hand else task.length):
                    return
                task.train(index, lengths[0])
            elif not task.train(*found) and not task.left:
                return


def promotable(seen: FloatArray, lengths: Sequence[int], eta: int = ETA) -> tuple[int, int] | None:
    """The best training in the top 1/eta of a rung that goes on, and how far; from the highest rung down.

    Args:
        seen: ``[K, T]`` AP in [0, 1] after each validation so far, NaN where there was none.
        lengths: Validations up to each rung, rising.
        eta: One in so many goes on.
    """
    done = (~np.isnan(seen)).sum(axis=1)
    for here, further in zip(lengths[-2::-1], lengths[:0:-1]):
        inside = np.flatnonzero(done >= here)
        order = inside[np.argsort(-seen[inside, here - 1], kind="stable")]
        for index in order[: len(inside) // eta]:
            if done[index] < further:
                return int(index), further
    return None


class BOHB(Hyperband):
    """Hyperband whose configurations come from kernel densities over good and bad ones (Falkner et al. 2018), by NNI's rule.

    A model is made of the longest trainings of which there are P + 1 at least, P dimensions; the best 15 % (P + 1 at least) are good. One third
    is drawn at random all the same. Of 64 vectors drawn around good ones, the one with the largest ratio of densities is taken, and from it
    the nearest configuration that was not begun. NNI's own code wants packages that do not live with NumPy 2.
    """

    name: ClassVar[str] = "bohb"
    GOOD, DRAWN, RANDOM, WIDER, NARROWEST = 0.15, 64, 1 / 3, 3.0, 1e-3

    def reset(self, offline: CurveTable, seed: int) -> None:
        super().reset(offline, seed)
        columns = offline.described[:, np.ptp(offline.described, axis=0) > 0]
        low, high = columns.min(axis=0), columns.max(axis=0)
        self._vectors = (columns - low) / (high - low)

    def _draw(self, task: CurveTask) -> Iterator[int]:
        uniform = super()._draw(task)
        while len(free := task.open()):
            target = None if self._rng.uniform() < self.RANDOM else self._promising(task)
            if target is None:
                yield next(uniform)
            else:
                apart = ((self._vectors[free] - target) ** 2).sum(axis=1)
                yield int(free[np.argmin(apart)])

    def _promising(self, task: CurveTask) -> FloatArray | None:
        least = self._vectors.shape[1] + 1
        for at in range(task.length - 1, -1, -1):
            known = np.flatnonzero(~np.isnan(task.seen[:, at]))
            if len(known) > least:
                break
        else:
            return None
        order = known[np.argsort(-task.seen[known, at], kind="stable")]
        good = self._vectors[order[: max(least, int(self.GOOD * len(order)))]]
        bad = self._vectors[order[-max(least, int((1 - self.GOOD) * len(order))) :]]
        around = good[self._rng.integers(len(good), size=self.DRAWN)]
        width = np.maximum(widths(good), self.NARROWEST)
        drawn = np.clip(around + self.WIDER * width * self._rng.standard_normal(around.shape), 0.0, 1.0)
        odds = density(drawn, good) / np.maximum(density(drawn, bad), 1e-32)
        return np.asarray(drawn[np.argmax(odds)])


def widths(points: FloatArray) -> FloatArray:
    """``[P]`` bandwidths for points ``[n, P]`` by the normal reference rule, 1.06 σ n^(−1/(4 + P)) (Scott 1992)."""
    count, dimensions = points.shape
    return np.asarray(1.06 * points.std(axis=0) * count ** (-1.0 / (4 + dimensions)))


def density(at: FloatArray, points: FloatArray) -> FloatArray:
    """``[N]`` of a product of Gaussian kernels around ``points`` ``[n, P]``, at ``[N, P]``; a flat dimension has the narrowest width."""
    width = np.maximum(widths(points), BOHB.NARROWEST)
    scaled = (at[:, None] - points[None]) / width
    return np.asarray(np.exp(-0.5 * (scaled**2).sum(axis=2)).mean(axis=1) / np.prod(width))


def play_bracket(task: CurveTask, bracket: Rungs, draw: Iterator[int]) -> None:
    """Successive halving; a training that fails gives its place to the next one drawn."""
    (count, length), *later = bracket
    alive: list[int] = []
    while len(alive) < count and (index := next(draw, None)) is not None:
        if task.train(index, length):
            alive.append(index)
        elif not task.left:
            return
    for count, further in later:
        alive.sort(key=lambda index: -task.seen[index, length - 1])
        alive = [index for index in alive[:count] if task.train(index, further)]
        length = further


STOPPERS: tuple[type[EarlyStopping], ...] = (SuccessiveHalving, Hyperband, ASHA, BOHB)
