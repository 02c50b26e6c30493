"""Places are whitened principal components of what data sets look like."""

from __future__ import annotations

import numpy as np

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
