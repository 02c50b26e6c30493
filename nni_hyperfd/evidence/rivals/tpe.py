"""NNI's own tree-structured Parzen estimator, the tuner most NNI users would take."""

from __future__ import annotations

import logging
from typing import ClassVar

import numpy as np
from nni.algorithms.hpo.tpe_tuner import TpeTuner

from nni_hyperfd.evidence.rivals.base import Known, Rival, Study
from nni_hyperfd.evidence.rivals.choices import Choices
from nni_hyperfd.evidence.rivals.optional import quiet


class TPE(Rival):
    """TPE from scratch on each task, told the configurations that were really run.

    Args:
        startup: Random trials at first. NNI's default of 20 would make it random search at these budgets.
    """

    name: ClassVar[str] = "tpe"

    def __init__(self, startup: int = 2) -> None:
        self._startup = startup

    def reset(self, experience: Known, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._choices = Choices(experience)

    def search(self, study: Study) -> None:
        # NNI logs every trial, which is thousands of lines here.
        with quiet("nni", logging.WARNING):
            self._search(study)

    def _search(self, study: Study) -> None:
        seed = int(self._rng.integers(2**31))
        tuner = TpeTuner("maximize", seed=seed, tpe_args={"n_startup_jobs": self._startup})
        tuner.update_search_space(
            {key: {"_type": "choice", "_value": values} for key, values in self._choices.values.items()}
        )
        number = 0
        while study.left:
            index = self._choices.nearest(tuner.generate_parameters(number), study, self._rng)
            ap = study.evaluate(index)
            tuner.trial_end(number, True)
            if not np.isnan(ap):
                tuner.import_data([{"parameter": self._choices.parameters[index], "value": ap}])
            number += 1
