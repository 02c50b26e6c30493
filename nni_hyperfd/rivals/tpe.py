"""NNI's own tree-structured Parzen estimator, the tuner most NNI users would take."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from nni.algorithms.hpo.tpe_tuner import TpeTuner

from nni_hyperfd.rivals.base import Experience, Rival, Task

_ABSENT = "-"


class TPE(Rival):
    """TPE from scratch on each task.

    Its default of 20 random trials first would make it random search at these budgets, so ``startup`` is small. What it suggests
    outside the table's candidates (of architectures the table has a sample) is answered by the nearest untried
    candidate: the one with the fewest other keys, ties at random. TPE is told the configuration that was really run.
    """

    name: ClassVar[str] = "tpe"

    def __init__(self, startup: int = 2) -> None:
        self._startup = startup

    def reset(self, experience: Experience, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        parsed = [json.loads(text) for text in experience.configurations[: experience.candidates]]
        keys = sorted({key for each in parsed for key in each})
        self._parameters = [{key: each.get(key, _ABSENT) for key in keys} for each in parsed]
        # Values in a fixed order; they may be of several types, so they are sorted by their text.
        values = {key: sorted({each[key] for each in self._parameters}, key=str) for key in keys}
        self._space = {key: {"_type": "choice", "_value": values[key]} for key in keys}
        self._codes = np.array([[values[key].index(each[key]) for key in keys] for each in self._parameters])
        self._values = values

    def search(self, task: Task) -> None:
        with _quiet():
            self._search(task)

    def _search(self, task: Task) -> None:
        seed = int(self._rng.integers(2**31))
        tuner = TpeTuner("maximize", seed=seed, tpe_args={"n_startup_jobs": self._startup})
        tuner.update_search_space(self._space)
        number = 0
        while task.left:
            index = self._nearest(tuner.generate_parameters(number), task)
            ap = task.evaluate(index)
            tuner.trial_end(number, True)
            if not np.isnan(ap):
                tuner.import_data([{"parameter": self._parameters[index], "value": ap}])
            number += 1

    def _nearest(self, suggested: dict[str, Any], task: Task) -> int:
        wanted = [self._values[key].index(suggested[key]) for key in self._values]
        differing = (self._codes != wanted).sum(axis=1).astype(float)
        differing[~task.untried()] = np.inf
        return int(self._rng.choice(np.flatnonzero(differing == differing.min())))


@contextmanager
def _quiet() -> Iterator[None]:
    """NNI logs every trial, which is thousands of lines here."""
    logger = logging.getLogger("nni")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
