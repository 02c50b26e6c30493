"""SCoT, surrogate-based collaborative tuning (Bardenet, Brendel, Kégl, Sebag 2013).

APs of different data sets cannot be compared, their orders can: a ranking SVM over (configuration, data-set statistics) turns all
observations into one latent score, a Gaussian process on that score gives expected improvement, and after every trial both are
fitted again.

Both models use one product kernel of two Gaussians (configuration; statistics), approximated by random Fourier features (Rahimi and
Recht 2007): the SVM is then solved in its primal by Newton steps and the process is a Bayesian linear model, which keeps the
thousands of refits of the protocol at some milliseconds each.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import pdist

from nni_hyperfd.evidence.rivals.base import FloatArray, Known, Memory, Rival, Study, standardized
from nni_hyperfd.recommendation.gaussian.search import expected_improvement

_FEATURES = 128
_OFFLINE_PAIRS = 2000
_OWN_PAIRS_WEIGHT = 5.0
_RIDGE = 1.0
_NOISE = 0.1


class SCoT(Rival):
    """Sequential: rank, fit, try the candidate with the largest expected improvement."""

    name: ClassVar[str] = "scot"

    def reset(self, experience: Known, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._memory = Memory(experience)
        self._configurations = experience.encodings
        self._weights = np.zeros(_FEATURES)
        self._draw_features(experience)

    def _draw_features(self, experience: Known) -> None:
        statistics = standardized(experience.profiles)
        blocks = [self._configurations, statistics]
        # The median heuristic, one length a block; a block without any variation gets length 1.
        lengths = [
            np.sqrt(np.median(pdist(block[:500])) ** 2 / 2) if len(block) > 1 else 1.0 for block in blocks
        ]
        self._frequencies = [
            self._rng.normal(size=(block.shape[1], _FEATURES)) / (length or 1.0)
            for block, length in zip(blocks, lengths)
        ]
        self._phases = self._rng.uniform(0, 2 * np.pi, _FEATURES)
        self._offline = self._pairs(experience.aps, _OFFLINE_PAIRS)

    def search(self, study: Study) -> None:
        statistics = standardized([*self._memory.profiles, study.profile])
        known = self._configurations @ self._frequencies[0]
        shifts = statistics @ self._frequencies[1]
        sets = len(self._memory.aps)

        def features(rows: NDArray[np.intp], indices: NDArray[np.intp]) -> FloatArray:
            return np.sqrt(2 / _FEATURES) * np.cos(known[indices] + shifts[rows] + self._phases)

        def differences(pairs: tuple[NDArray[np.intp], ...]) -> FloatArray:
            rows, better, worse = pairs
            return features(rows, better) - features(rows, worse)

        past = self._pairs(self._memory.aps[len(self._memory.experience.aps) :], None)
        past = (past[0] + len(self._memory.experience.aps), *past[1:])
        rows, indices = self._observations()
        known_pairs = np.concatenate([differences(self._offline), differences(past)])
        known_gram = features(rows, indices).T @ features(rows, indices)
        candidates = features(np.full(study.candidates, sets), np.arange(study.candidates))

        while study.left:
            row = np.full((1, len(self._configurations)), np.nan)
            for trial in study.trials:
                row[0, trial.index] = trial.ap
            own = self._pairs(row, None)
            own_pairs = candidates[own[1]] - candidates[own[2]]
            weights = np.r_[np.ones(len(known_pairs)), np.full(len(own_pairs), _OWN_PAIRS_WEIGHT)]
            self._weights = rank_svm(np.concatenate([known_pairs, own_pairs]), weights, self._weights)
            seen = candidates[[trial.index for trial in study.trials]]
            study.evaluate(self._choose(candidates, seen, known_gram + seen.T @ seen, study))
        self._memory.add(study)

    def _choose(self, candidates: FloatArray, seen: FloatArray, gram: FloatArray, study: Study) -> int:
        # The latent score of all observations is linear in the features, so the process sees Phi w as its targets.
        factor = cho_factor(gram + _NOISE * np.eye(_FEATURES))
        mean = candidates @ cho_solve(factor, gram @ self._weights)
        if not len(seen):
            gain = mean
        else:
            variance = _NOISE * (candidates * cho_solve(factor, candidates.T).T).sum(axis=1)
            # The kernel has variance 1, the scores their own: the process is scaled to them.
            scale = max(float(mean.std()), 1e-6)
            gain = expected_improvement(
                mean, scale * np.sqrt(np.maximum(variance, 0)), (seen @ self._weights).max()
            )
        gain = gain + 1e-9 * self._rng.random(len(gain)) * max(np.abs(gain).max(), 1e-30)
        return int(np.argmax(np.where(study.untried(), gain, -np.inf)))

    def _observations(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Up to as many observations as there are pairs, finished tasks always among them."""
        rows, indices = np.nonzero(~np.isnan(self._memory.aps))
        offline = np.flatnonzero(rows < len(self._memory.experience.aps))
        kept = self._rng.permutation(offline)[: _OFFLINE_PAIRS // 5]
        kept = np.r_[kept, np.flatnonzero(rows >= len(self._memory.experience.aps))]
        return rows[kept], indices[kept]

    def _pairs(
        self, aps: FloatArray, most: int | None
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """(row, better, worse) of pairs with different APs; at most ``most``, drawn evenly over the rows."""
        found = []
        quota = None if most is None else max(1, -(-most // max(len(aps), 1)))
        for row, values in enumerate(aps):
            known = np.flatnonzero(~np.isnan(values))
            first, second = np.triu_indices(len(known), 1)
            if quota is not None and len(first) > quota:
                drawn = self._rng.permutation(len(first))[:quota]
                first, second = first[drawn], second[drawn]
            first, second = known[first], known[second]
            swap = values[first] < values[second]
            better, worse = np.where(swap, second, first), np.where(swap, first, second)
            differ = values[better] > values[worse]
            found.append(np.stack([np.full(differ.sum(), row), better[differ], worse[differ]]))
        joined = np.concatenate(found, axis=1) if found else np.empty((3, 0))
        rows, better, worse = joined.astype(np.intp)
        return rows, better, worse


def rank_svm(differences: FloatArray, weights: FloatArray, start: FloatArray, steps: int = 8) -> FloatArray:
    """Minimizes ridge/2 |w|² + ½ Σ weight · max(0, 1 − w·difference)² by Newton steps (Chapelle and Keerthi 2010).

    Args:
        differences: ``[P, F]`` features of the better minus those of the worse configuration.
        weights: ``[P]``.
        start: ``[F]``.
        steps: At most this many; it ends earlier once the violated pairs no longer change.

    Returns:
        ``[F]``.
    """
    solution = start
    violated: NDArray[np.bool_] | None = None
    for _ in range(steps):
        now = differences @ solution < 1.0
        if violated is not None and (now == violated).all():
            break
        violated = now
        active = differences[violated]
        weighted = active.T * weights[violated]
        solution = np.linalg.solve(weighted @ active + _RIDGE * np.eye(len(start)), weighted.sum(axis=1))
    return solution
