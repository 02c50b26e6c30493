"""Syne Tune's ASHA as an assessor of NNI: it hears of every validation and says which trial is left (benchmarks/nni_rivals.py)."""

from __future__ import annotations

import datetime
from typing import Any

from nni.assessor import Assessor, AssessResult
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice
from syne_tune.optimizer.baselines import ASHA as Scheduler
from syne_tune.optimizer.scheduler import SchedulerDecision


class ASHA(Assessor):
    """Asynchronous successive halving (Li et al. 2020) in the stopping form that Syne Tune 0.16 has; NNI's tuner draws the configurations.

    Args:
        epochs: Of a full training, which is left to end by itself. Rungs are at 1, 3, 9 … epochs, and one in three goes on past each, as is
            Syne Tune's default.
    """

    def __init__(self, epochs: int, optimize_mode: str = "maximize") -> None:
        self._epochs = epochs
        # Syne Tune asks for a space; with NNI's tuner nothing is drawn from it.
        space = {"configuration": choice(["drawn by the tuner"])}
        self._scheduler = Scheduler(
            space,
            metric="ap",
            time_attr="epoch",
            max_t=epochs,
            do_minimize=optimize_mode != "maximize",
            random_seed=0,
        )
        self._trials: dict[str, Trial] = {}
        self._left: set[str] = set()

    def assess_trial(self, trial_job_id: str, trial_history: list[Any]) -> AssessResult:
        """Good while the scheduler wants the trial to go on."""
        if trial_job_id not in self._trials:
            configuration = {"configuration": "drawn by the tuner"}
            trial = Trial(len(self._trials), configuration, datetime.datetime.now())
            self._trials[trial_job_id] = trial
            self._scheduler.on_trial_add(trial)
        epoch = len(trial_history)
        if epoch < self._epochs and trial_job_id not in self._left:
            told = {"ap": float(trial_history[-1]), "epoch": epoch}
            decision = self._scheduler.on_trial_result(self._trials[trial_job_id], told)
            if decision == SchedulerDecision.STOP:
                self._left.add(trial_job_id)
        return AssessResult.Bad if trial_job_id in self._left else AssessResult.Good
