"""Where data sets are in the space of what they look like."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA

from nni_hyperfd.recommendation.gaussian.observed import FloatArray

AXES = 8
"""Principal axes over the offline sets that data sets are compared on."""


class Places:
    """Descriptions of data sets on the principal axes of the offline sets, in units of their deviation on each.

    Args:
        looks: ``[S, F]`` what the offline sets look like, such as their φ. F = 0: nothing is known, and a place has no coordinates.
    """

    def __init__(self, looks: FloatArray) -> None:
        self._axes: PCA | None = None
        self.known = looks
        """``[S, D]`` places of the offline sets."""
        if looks.shape[1]:
            self._center, self._scale = looks.mean(axis=0), np.maximum(looks.std(axis=0), 1e-6)
            self._axes = PCA(min(AXES, len(looks) - 1, looks.shape[1]), whiten=True, random_state=0)
            self.known = self._axes.fit_transform((looks - self._center) / self._scale)

    def of(self, looks: FloatArray) -> FloatArray:
        """``[D]`` of a further data set that looks like this, ``[F]``."""
        if self._axes is None:
            return looks
        return self._axes.transform(((looks - self._center) / self._scale)[None])[0]
