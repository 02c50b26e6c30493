"""Optuna's TPE, warm-started the way its users do it: the first trials are enqueued, here those of the portfolio.

An optional extra: it needs the package ``optuna``, which nothing else here does.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.rivals.base import Known, Study
from nni_hyperfd.evidence.rivals.choices import Choices
from nni_hyperfd.evidence.rivals.portfolio import Portfolio


class OptunaTPE(Portfolio):
    """Half of the budget from the portfolio, the rest by TPE from what these reached."""

    name: ClassVar[str] = "optuna-tpe"

    def reset(self, experience: Known, seed: int) -> None:
        super().reset(experience, seed)
        self._rng = np.random.default_rng(seed)
        self._choices = Choices(experience)

    def _try(self, study: Study, ranking: list[int]) -> None:
        try:
            import optuna
        except ImportError as error:
            raise DataError("the rival optuna-tpe needs Optuna: pip install -e .[rivals]") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study.evaluate_ranking(ranking, -(-study.budget // 2))
        domains = {
            key: optuna.distributions.CategoricalDistribution(values)
            for key, values in self._choices.values.items()
        }
        sampler = optuna.samplers.TPESampler(seed=int(self._rng.integers(2**31)), n_startup_trials=0)
        asking = optuna.create_study(direction="maximize", sampler=sampler)
        told = 0
        while study.left:
            for trial in study.trials[told:]:
                if not np.isnan(trial.ap):
                    known = self._choices.parameters[trial.index]
                    asking.add_trial(
                        optuna.trial.create_trial(params=known, distributions=domains, value=trial.ap)
                    )
            told = len(study.trials)
            asked = asking.ask(domains)
            index = self._choices.nearest(asked.params, study, self._rng)
            # What was run may differ from what was asked for; only what was run is told.
            asking.tell(asked, state=optuna.trial.TrialState.FAIL)
            study.evaluate(index)
