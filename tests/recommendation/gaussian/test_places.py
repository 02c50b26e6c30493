"""Places are whitened principal components of what data sets look like."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA

from nni_hyperfd.recommendation.gaussian.places import AXES, Places


def test_places_are_whitened() -> None:
    rng = np.random.default_rng(0)
    looks = rng.normal(size=(25, 12)) * np.geomspace(1, 100, 12) + 5
    places = Places(looks)
    assert places.known.shape == (25, AXES)
    np.testing.assert_allclose(np.cov(places.known.T), np.eye(AXES), atol=1e-6)
    np.testing.assert_allclose(places.of(looks[3]), places.known[3], atol=1e-6)
    # In which unit something is told does not matter.
    np.testing.assert_allclose(Places(looks * 1000).of(looks[3] * 1000), places.known[3], atol=1e-6)


def test_nothing_known_is_no_place() -> None:
    places = Places(np.zeros((25, 0)))
    assert places.known.shape == (25, 0)
    assert places.of(np.zeros(0)).shape == (0,)


def test_places_are_those_of_scikit_learn() -> None:
    looks = np.random.default_rng(1).normal(size=(30, 5)) @ np.diag([5.0, 4.0, 3.0, 2.0, 1.0])
    standard = (looks - looks.mean(axis=0)) / looks.std(axis=0)
    theirs = PCA(5, whiten=True).fit_transform(standard)
    ours = Places(looks).known
    # The direction of an axis means nothing.
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-9)


def test_what_never_varies_has_no_place() -> None:
    looks = np.zeros((10, 4))
    looks[:, 1] = np.arange(10)
    assert Places(looks).known.shape == (10, 1)
