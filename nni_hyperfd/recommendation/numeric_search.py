"""DYCORS over the numeric keys of an NNI search space: names and values outside, the unit box inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.recommendation.dycors import DYCORS, FloatArray
from nni_hyperfd.spaces.configuration import Scalar
from nni_hyperfd.spaces.domains import Number, read_domain


class NumericSearch:
    """A search whose proposals are configurations, known by NNI's parameter ids. Values are minimized.

    Args:
        search_space: Flat, of ``uniform``, ``quniform``, ``loguniform``, ``qloguniform`` or ``randint``; ranges of the log types
            are searched by their logarithm.
        budget: Trials that the search is planned for.
        seed: Of everything random.

    Raises:
        SpaceError: A key is malformed, not numeric, or has no ends.
    """

    def __init__(self, search_space: Mapping[str, Any], budget: int, seed: int) -> None:
        self.search_space = dict(search_space)
        self._domains = [_bounded(key, entry) for key, entry in search_space.items()]
        steps = np.array([_step(domain) for domain in self._domains])
        self._dycors = DYCORS(steps, budget, np.random.default_rng(seed), self._snap)
        self._asked: dict[int, FloatArray] = {}

    def ask(self, parameter_id: int) -> dict[str, Scalar]:
        """The next configuration, to be known by ``parameter_id``."""
        point = self._asked[parameter_id] = self._dycors.ask()
        numbers = (domain.from_unit(point[i : i + 1])[0] for i, domain in enumerate(self._domains))
        return {domain.key: domain.value(float(x)) for domain, x in zip(self._domains, numbers)}

    def tell(self, parameter_id: int, value: float | None) -> None:
        """What came of it; None if it failed, which a later result corrects. A second result of a trial changes nothing."""
        point = self._asked.get(parameter_id)
        if point is not None:
            self._dycors.tell(point, value)
            if value is not None:
                del self._asked[parameter_id]

    def learn(self, parameters: Mapping[str, Any], value: float | None) -> None:
        """What came of a configuration that was not asked for here; None if it failed.

        Raises:
            SpaceError: It is not one of this space.
        """
        missing = [domain.key for domain in self._domains if domain.key not in parameters]
        if missing:
            raise SpaceError(f"a known result has no {missing[0]}; leave it out, or give all keys.")
        numbers = [domain.coordinate(parameters[domain.key]) for domain in self._domains]
        point = np.array([d.to_unit(np.array([x]))[0] for d, x in zip(self._domains, numbers)])
        self._dycors.learn(point, value)

    def _snap(self, points: FloatArray) -> FloatArray:
        return np.column_stack([d.to_unit(d.from_unit(points[:, i])) for i, d in enumerate(self._domains)])


def _bounded(key: str, entry: Any) -> Number:
    domain = read_domain(key, entry)
    if not isinstance(domain, Number) or not domain.bounded:
        raise SpaceError(
            f"{key} is of the type {entry['_type']}, and DYCORS searches numbers between two ends; use uniform, quniform, "
            "loguniform, qloguniform or randint."
        )
    return domain


def _step(domain: Number) -> float:
    """Smallest change that means anything in the middle of the unit range; 0 of a continuous key."""
    if domain.step is None:
        return 0.0
    middle = domain.from_unit(np.array([0.5]))
    around = domain.to_unit(np.concatenate([middle, middle + domain.step]))
    return float(abs(around[1] - around[0]))
