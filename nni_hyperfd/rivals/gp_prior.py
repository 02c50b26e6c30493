"""A Gaussian process whose prior is what the known data sets have in common, searched with expected improvement.

Multi-task Bayesian optimization without meta-features: the first trial is the configuration that is best on average,
every result then moves the belief about the rest.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from nni_hyperfd.rivals.base import Experience, FloatArray, Rival, Task
from nni_hyperfd.rivals.completion import Completion


def expected_improvement(mean: FloatArray, deviation: FloatArray, best: float) -> FloatArray:
    """E[max(f - best, 0)] for f ~ N(mean, deviation²), elementwise."""
    deviation = np.maximum(deviation, 1e-12)
    z = (mean - best) / deviation
    return deviation * (z * norm.cdf(z) + norm.pdf(z))


def gain_of_next(mean: FloatArray, covariance: FloatArray, untried: NDArray[np.bool_]) -> FloatArray:
    """What trying each candidate is expected to gain.

    Args:
        mean: ``[K]`` posterior mean, with an arbitrary offset.
        covariance: ``[K, K]`` of the posterior.
        untried: ``[K]``.

    Returns:
        ``[K]``: the mean above the average candidate before the first trial, then the expected improvement.
    """
    if untried.all():
        return mean - mean.mean()
    # Against the best tried one as believed, not as measured, and with what is common to both taken out.
    best = int(np.argmax(np.where(untried, -np.inf, mean)))
    variance = np.diag(covariance) + covariance[best, best] - 2 * covariance[best]
    return expected_improvement(mean, np.sqrt(np.maximum(variance, 0)), mean[best])


class GPPrior(Rival):
    """Expected improvement under the posterior of :class:`Completion`."""

    name: ClassVar[str] = "gp-prior"

    def reset(self, experience: Experience, seed: int) -> None:
        self._completion = Completion.of(experience)

    def search(self, task: Task) -> None:
        while task.left:
            untried = task.untried()
            gain = gain_of_next(*self._completion.posterior(task), untried)
            task.evaluate(int(np.argmax(np.where(untried, gain, -np.inf))))
        self._completion = self._completion.learn(task)
