"""The NNI tuner for DYCORS: any flat space of numeric keys, tuned for the final metric of the user's own trials."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from nni.tuner import Tuner

from nni_hyperfd.customer.settings import whole_number
from nni_hyperfd.errors import PluginError
from nni_hyperfd.plugin.every_end import hear_of_every_end
from nni_hyperfd.recommendation.numeric_search import NumericSearch

logger = logging.getLogger(__name__)

MODES = ("maximize", "minimize")


class DYCORSTuner(Tuner):
    """Searches a flat space of numbers by a radial basis function (:mod:`nni_hyperfd.recommendation.dycors`).

    In an experiment's config ``className: nni_hyperfd.DYCORSTuner``. NNI calls back from two threads; every call holds one lock.
    After ``nnictl resume`` the results so far are handed over by NNI and taken as known, and a trial that was begun again and
    failed is not tried a third time.

    Args:
        budget: Trials that the search is planned for, best the experiment's ``maxTrialNumber``.
        optimize_mode: ``maximize`` or ``minimize`` the final metric.
        seed: Of everything random.

    Raises:
        PluginError: An argument is unknown or out of its range.

    Example:
        >>> tuner = DYCORSTuner(budget=20, optimize_mode="minimize")
        >>> tuner.update_search_space({"x": {"_type": "uniform", "_value": [-1, 1]}})
        >>> -1 <= tuner.generate_parameters(0)["x"] <= 1
        True
    """

    def __init__(self, budget: int, optimize_mode: str = "maximize", seed: int = 0) -> None:
        super().__init__()
        if optimize_mode not in MODES:
            raise PluginError(
                f"classArgs: optimize_mode is {optimize_mode!r}; use one of {', '.join(MODES)}."
            )
        whole_number({"budget": budget}, "budget", 1, 10**6)
        whole_number({"seed": seed}, "seed", 0, 2**63 - 1)
        self._budget, self._seed = budget, seed
        self._sign = -1.0 if optimize_mode == "maximize" else 1.0
        self._lock = threading.Lock()
        self._search: NumericSearch | None = None
        self._hears_of_every_end = False

    def update_search_space(self, search_space: Mapping[str, Any]) -> None:
        """Begin in ``search_space``; a running search keeps the one that it began with.

        Raises:
            SpaceError: A key is not numeric, or has no ends.
        """
        with self._lock:
            if self._search is None:
                self._search = NumericSearch(search_space, self._budget, self._seed)
            elif search_space != self._search.search_space:
                logger.error(
                    "The search space was changed, and this experiment goes on with the one that it began with; to search the "
                    "new one, start a new experiment with `nnictl create`."
                )

    def generate_multiple_parameters(
        self, parameter_id_list: list[int], **kwargs: Any
    ) -> list[dict[str, Any]]:
        """The next configurations; only here does a tuner meet NNI's dispatcher, as the owner of a callback.

        Raises:
            PluginError: NNI has not named a search space yet.
        """
        dispatcher = getattr(kwargs.get("st_callback"), "__self__", None)
        if dispatcher is not None and not self._hears_of_every_end:
            self._hears_of_every_end = True
            hear_of_every_end(dispatcher, self)
        return [self.generate_parameters(parameter_id) for parameter_id in parameter_id_list]

    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> dict[str, Any]:
        """The next configuration.

        Raises:
            PluginError: NNI has not named a search space yet.
        """
        with self._lock:
            return self._running().ask(parameter_id)

    def receive_trial_result(self, parameter_id: int, parameters: Any, value: Any, **kwargs: Any) -> None:
        """Learn from a final metric, a number or a dict with ``default``.

        Raises:
            PluginError: NNI has not named a search space yet.
        """
        with self._lock:
            metric = _number(value)
            self._running().tell(parameter_id, None if metric is None else self._sign * metric)

    def trial_end(
        self, parameter_id: int, success: bool, parameters: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """A trial that failed is not waited for any more; the end of one that did not may come before its result.

        ``parameters`` are those of a trial that an earlier process asked for.

        Raises:
            PluginError: NNI has not named a search space yet.
        """
        if success:
            return
        with self._lock:
            if parameters is None:
                self._running().tell(parameter_id, None)
            else:
                self._running().learn(parameters, None)

    def import_data(self, data: Sequence[Mapping[str, Any]]) -> None:
        """Results that are known already, of this experiment before a resume or of another one.

        Raises:
            PluginError: NNI has not named a search space yet.
        """
        with self._lock:
            for known in data:
                metric = _number(known["value"])
                if metric is not None:
                    self._running().learn(known["parameter"], self._sign * metric)

    def _running(self) -> NumericSearch:
        if self._search is None:
            raise PluginError("NNI asked for a trial before it named a search space; restart the experiment.")
        return self._search


def _number(value: Any) -> float | None:
    """NNI's final metric; None for what is no finite number, such as that of a training that diverged."""
    value = value.get("default") if isinstance(value, Mapping) else value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        return None
    return float(value)
