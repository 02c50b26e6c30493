"""Cholesky factors of covariances that rounding has left a little indefinite, as where many measurements are equal.

As little as it needs is added to the diagonal then, which is to say that the measurements are a little noisier.
"""

from __future__ import annotations

import numpy as np
from numpy.linalg import LinAlgError
from scipy.linalg import cholesky

from nni_hyperfd.recommendation.gaussian.observed import FloatArray

JITTER = (0.0, *(10.0**power for power in range(-12, -2)))
"""What is added, in units of the mean of the diagonal; the first that suffices is taken."""


def factor(covariance: FloatArray) -> FloatArray:
    """Lower factor ``[n, n]`` of ``[n, n]``.

    Raises:
        LinAlgError: The matrix is far from a covariance, or not finite.
    """
    unit = np.eye(len(covariance)) * (np.diag(covariance).mean() if len(covariance) else 1.0)
    for jitter in JITTER:
        try:
            found = cholesky(covariance + jitter * unit, lower=True, check_finite=False)
        except LinAlgError:
            continue
        if np.isfinite(found).all():
            return found
    raise LinAlgError("a covariance is not positive definite, nor nearly so")
