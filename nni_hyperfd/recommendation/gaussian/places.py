"""Where data sets are in the space of what they look like."""

from __future__ import annotations

import numpy as np

from nni_hyperfd.recommendation.gaussian.observed import FloatArray

AXES = 8
"""Principal axes over the offline sets that data sets are compared on."""
FLAT = 1e-9
"""An axis along which the offline sets vary less than this, in units of the first, says nothing."""


class Places:
    """Descriptions of data sets on the principal axes of the offline sets, in units of their deviation on each.

    Args:
        looks: ``[S, F]`` what the offline sets look like, such as their φ. F = 0: nothing is known, and a place has no coordinates.
    """

    def __init__(self, looks: FloatArray) -> None:
        self._center, self._scale = looks.mean(axis=0), np.maximum(looks.std(axis=0), 1e-6)
        _, deviations, axes = np.linalg.svd((looks - self._center) / self._scale, full_matrices=False)
        deviations /= np.sqrt(max(1, len(looks) - 1))
        telling = np.flatnonzero(deviations > FLAT * deviations.max(initial=0.0))
        kept = telling[: min(AXES, len(looks) - 1)]
        self._axes = axes[kept].T / deviations[kept]
        self.known = ((looks - self._center) / self._scale) @ self._axes
        """``[S, D]`` places of the offline sets."""

    def of(self, looks: FloatArray) -> FloatArray:
        """``[D]`` of a further data set that looks like this, ``[F]``."""
        return ((looks - self._center) / self._scale) @ self._axes
