"""Fills the gaps of a sparse table: what would each configuration reach on each data set?

Warm-up experience is a sample of pairs (ten configurations a set, say), but several rivals are defined on full tables. This
is the surrogate that the zero-shot literature uses for that, here a Gaussian process with two layers:

.. math::
    y_{sc} = o_s + g(c) + h_s(c) + ε,

an offset a set, a part ``g`` common to all sets, a part ``h_s`` of the set's own, and noise. Both parts share a kernel over
configurations: main effects of the keys plus an exponential decay with the number of keys that differ. Its few
weights are those of the largest marginal likelihood. No meta-features are used.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

from nni_hyperfd.evidence.rivals.base import FloatArray, Known, Memory, Rival, Study
from nni_hyperfd.recommendation.gaussian.factor import factor
from nni_hyperfd.recommendation.gaussian.observed import Observed, observe, typical_spread

_FITTED: WeakKeyDictionary[Known, Completion] = WeakKeyDictionary()
_OFFSET_VARIANCE = 4.0
_SETS_TO_FIT = 150


class Shares(NamedTuple):
    """Parts of the variance within a data set (``common + own + noise = 1``) and the kernel's shape."""

    common: float
    own: float
    noise: float
    linear: float
    length: float


@dataclass(frozen=True, eq=False)
class Completion:
    """Posterior belief about ``g`` at the candidates, and how a set deviates from it.

    Args:
        mean: ``[U]`` expected common part, in units of the deviation within a set.
        covariance: ``[K, K]`` of the common part at the candidates.
        own: ``[U, U]`` prior covariance of a set's own part.
        noise: Variance of a measurement.
        spread: Typical deviation of AP within a set: the scale for sets with few trials.
        gains: For each row of the experience, by its observed indices, the regression of the set's own part on them.
    """

    mean: FloatArray
    covariance: FloatArray
    own: FloatArray
    noise: float
    spread: float
    gains: dict[bytes, FloatArray] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, experience: Known) -> Completion:
        """:meth:`fit`, done once for an experience: it needs no randomness, so methods and seeds share it."""
        if experience not in _FITTED:
            _FITTED[experience] = cls.fit(experience)
        return _FITTED[experience]

    @classmethod
    def fit(cls, experience: Known) -> Completion:
        """Learns the kernel weights and the common part from all rows of the experience."""
        spread = typical_spread(experience.aps)
        sets = [observe(row, spread) for row in experience.aps]
        sets = [each for each in sets if len(each.indices) > 1]
        differing = _differing(experience.encodings)
        weights = _best_weights(sets, differing)
        shape = _shape(differing, weights)
        root = factor(weights.common * shape)
        precision, information, _ = _pool(sets, weights.own * shape, weights.noise, len(shape))
        inner = cholesky(np.eye(len(shape)) + root.T @ precision @ root, lower=True)
        half = solve_triangular(inner, root.T, lower=True)
        at_candidates = half[:, : experience.candidates]
        mean, covariance = half.T @ (half @ information), at_candidates.T @ at_candidates
        fitted = cls(mean, covariance, weights.own * shape, weights.noise, spread)
        gains = {each.indices.tobytes(): fitted._own_gain(each.indices) for each in sets}
        return replace(fitted, gains=gains)

    @property
    def candidates(self) -> int:
        """K."""
        return len(self.covariance)

    def complete(self, aps: FloatArray) -> FloatArray:
        """Expected performance of every candidate on each set, on the scale of AP but without its offset's certainty.

        Args:
            aps: ``[S, U]``, NaN where unknown. A row without any value gets the common part.

        Returns:
            ``[S, K]``. Only differences within a row mean anything.
        """
        return np.stack([self._complete_row(observe(row, self.spread)) for row in aps])

    def _complete_row(self, seen: Observed) -> FloatArray:
        mean = self.mean[: self.candidates]
        if len(seen.indices):
            gain = self._own_gain(seen.indices)
            mean = mean + gain @ (seen.values - self.mean[seen.indices])
        return seen.center + seen.scale * mean

    def _own_gain(self, indices: NDArray[np.intp]) -> FloatArray:
        known = self.gains.get(indices.tobytes())
        if known is not None:
            return known
        noisy = self.own[np.ix_(indices, indices)] + _OFFSET_VARIANCE + self.noise * np.eye(len(indices))
        cross = self.own[: self.candidates, indices] + _OFFSET_VARIANCE
        return cho_solve(cho_factor(noisy), cross.T).T

    def posterior(self, study: Study) -> tuple[FloatArray, FloatArray]:
        """Mean ``[K]`` and covariance ``[K, K]`` of a running task's candidates given its trials so far.

        Scaled like AP / spread; the mean has an arbitrary offset.
        """
        k = self.candidates
        seen = self._observe_task(study)
        mean, covariance = self.mean[:k], self.covariance + self.own[:k, :k] + _OFFSET_VARIANCE
        if not len(seen.indices):
            return mean, covariance
        noisy = covariance[np.ix_(seen.indices, seen.indices)] + self.noise * np.eye(len(seen.indices))
        gain = cho_solve(cho_factor(noisy), covariance[seen.indices]).T
        return mean + gain @ (seen.values - mean[seen.indices]), covariance - gain @ covariance[seen.indices]

    def learn(self, study: Study) -> Completion:
        """The belief after a finished task: its trials say something about the common part too."""
        k = self.candidates
        seen = self._observe_task(study)
        if not len(seen.indices):
            return self
        gain = cho_solve(cho_factor(self._expected_spread(seen.indices)), self.covariance[seen.indices]).T
        mean = self.mean.copy()
        mean[:k] += gain @ (seen.values - self.mean[seen.indices])
        covariance = self.covariance - gain @ self.covariance[seen.indices]
        return replace(self, mean=mean, covariance=(covariance + covariance.T) / 2)

    def _expected_spread(self, indices: NDArray[np.intp]) -> FloatArray:
        """Covariance of measurements on a new set."""
        at = np.ix_(indices, indices)
        return self.covariance[at] + self.own[at] + _OFFSET_VARIANCE + self.noise * np.eye(len(indices))

    def _observe_task(self, study: Study) -> Observed:
        row = np.full(self.candidates, np.nan)
        for trial in study.trials:
            row[trial.index] = trial.ap
        return observe(row, self.spread)


class TableRival(Rival):
    """A method that is defined on full tables of candidates; finished tasks become rows of the next one.

    Full rows are taken as measured. Sparse ones (sampled pairs, finished tasks) are completed first, and then wholly: a
    measured value among smooth predictions would be chosen for its luck.
    """

    def reset(self, experience: Known, seed: int) -> None:
        self._completion = Completion.of(experience)
        self._memory = Memory(experience)

    def search(self, study: Study) -> None:
        measured = self._memory.aps[:, : study.candidates]
        full = ~np.isnan(measured).any(axis=1, keepdims=True)
        self._spend(study, np.where(full, measured, self._completion.complete(self._memory.aps)))
        self._completion = self._completion.learn(study)
        self._memory.add(study)

    @abstractmethod
    def _spend(self, study: Study, expected: FloatArray) -> None:
        """Spends the task's budget, knowing ``expected`` ``[S, K]`` for the data sets so far."""


def _differing(encodings: FloatArray) -> FloatArray:
    """``[U, U]`` share of keys in which two configurations differ."""
    keys = encodings[0].sum()
    return 1.0 - encodings @ encodings.T / keys


def _shape(differing: FloatArray, weights: Shares) -> FloatArray:
    return weights.linear * (1.0 - differing) + (1.0 - weights.linear) * np.exp(-differing / weights.length)


def _pool(
    sets: list[Observed], own: FloatArray, noise: float, configurations: int
) -> tuple[FloatArray, FloatArray, float]:
    """Sums over sets of Aᵀ C⁻¹ A and Aᵀ C⁻¹ y, and the part of the log likelihood that does not know the common part."""
    precision = np.zeros((configurations, configurations))
    information = np.zeros(configurations)
    likelihood = 0.0
    for each in sets:
        at = np.ix_(each.indices, each.indices)
        root = cholesky(own[at] + _OFFSET_VARIANCE + noise * np.eye(len(each.indices)), lower=True)
        inverse = cho_solve((root, True), np.eye(len(root)))
        solved = inverse @ each.values
        precision[at] += inverse
        information[each.indices] += solved
        likelihood -= 0.5 * each.values @ solved + np.log(np.diag(root)).sum()
    return precision, information, float(likelihood)


def _best_weights(sets: list[Observed], differing: FloatArray) -> Shares:
    """The point of a coarse grid with the largest marginal likelihood; coarse is enough to tell signal from noise."""
    if len(sets) > _SETS_TO_FIT:
        # Evenly spread over the rows, so that the choice needs no randomness. The fullest row (the server's) stays in.
        fullest = max(range(len(sets)), key=lambda s: len(sets[s].indices))
        chosen = {fullest, *np.linspace(0, len(sets) - 1, _SETS_TO_FIT).astype(int).tolist()}
        sets = [sets[s] for s in sorted(chosen)]
    used = np.unique(np.concatenate([each.indices for each in sets])) if sets else np.arange(1)
    place = np.full(len(differing), -1)
    place[used] = np.arange(len(used))
    local = [each._replace(indices=place[each.indices]) for each in sets]
    differing = differing[np.ix_(used, used)]

    shapes = [
        Shares(0.45, 0.2, 0.35, linear, length) for linear in (0.3, 0.7, 0.95) for length in (0.15, 0.5)
    ]
    best = max(shapes, key=lambda w: _likelihood(local, differing, w))
    shares = [
        Shares(common, own, 1.0 - common - own, best.linear, best.length)
        for common, own in itertools.product(
            (0.03, 0.1, 0.25, 0.45, 0.65, 0.85), (0.01, 0.05, 0.15, 0.3, 0.5)
        )
        if common + own < 0.97
    ]
    return max(shares, key=lambda w: _likelihood(local, differing, w))


def _likelihood(sets: list[Observed], differing: FloatArray, weights: Shares) -> float:
    shape = _shape(differing, weights)
    root = factor(weights.common * shape)
    precision, information, likelihood = _pool(sets, weights.own * shape, weights.noise, len(shape))
    inner = cholesky(np.eye(len(shape)) + root.T @ precision @ root, lower=True)
    explained = solve_triangular(inner, root.T @ information, lower=True)
    return likelihood + 0.5 * float(explained @ explained) - float(np.log(np.diag(inner)).sum())
