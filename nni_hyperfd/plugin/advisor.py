"""The NNI advisor: many recommended configurations begin, the better part of them goes on with longer trainings."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import nni
from nni.runtime.msg_dispatcher_base import MsgDispatcherBase
from nni.runtime.tuner_command_channel import CommandType

from nni_hyperfd.customer.result import Result
from nni_hyperfd.customer.settings import Settings, real_number, whole_number
from nni_hyperfd.detection.training.budgets import BUDGETS
from nni_hyperfd.errors import HyperFDError, PluginError
from nni_hyperfd.plugin.experiment import Experiment, complain, experiment_folder, say_that_the_space_stays
from nni_hyperfd.plugin.records import Records
from nni_hyperfd.plugin.trials import Job, Trials
from nni_hyperfd.recommendation.brackets import (
    ETA,
    Bracket,
    best_first,
    hyperband,
    most_brackets,
    populations,
    recommended,
)
from nni_hyperfd.spaces.unread import TRIAL_BUDGET

logger = logging.getLogger(__name__)

OWN_KEYS = ("eta", "epochs", "brackets", "share")
MOST = 1000
"""Configurations that a platform recommends at once."""


class HyperFDAdvisor(MsgDispatcherBase):
    """Task-aware Hyperband: brackets of successive halving over the recommendation's best configurations.

    The sizes are those of :mod:`~nni_hyperfd.recommendation.brackets`. ``classArgs`` are those of :class:`~nni_hyperfd.plugin.tuner.HyperFDTuner`, and

    * ``eta`` (2): 1/eta of the configurations go on to trainings eta times as long;
    * ``brackets`` (1): how many of Hyperband's brackets; ``all``: as many as the budget pays for, k of them want k² full trainings;
    * ``share`` (1): of the configurations that each bracket begins with, how many are recommended; the rest is drawn at random by ``seed``;
    * ``epochs``: of a training of full length; by default those of the budget that the trial command names.

    ``budget`` is B as for the tuner: all trainings together cost no more than B of full length. A trial finds its
    number of epochs under ``TRIAL_BUDGET``, as with NNI's own Hyperband. Of every configuration the platform
    learns the result of its longest training.

    A rung is a list of configurations, best first, of which so many must bring a result as its count says: one that
    fails is replaced by the next in the list. A bracket is over when its last rung is; the slots that wait for its trials run those of
    the brackets after it.
    """

    def __init__(
        self,
        eta: int = ETA,
        epochs: int | None = None,
        brackets: int | Literal["all"] = 1,
        share: float = 1.0,
        **class_args: Any,
    ) -> None:
        self._failure: str | None = None
        self._experiment: Experiment | None = None
        # Requests and results come in one thread, ends in another.
        self._lock = threading.Lock()
        self._next_id = 0
        self._idle_ids: list[int] = []
        self._brackets: list[_Halving] = []
        self._finished = False
        self._guard(lambda: self._configure(eta, epochs, brackets, share, class_args))
        # Connects to NNI's manager, which can be told of errors from then on.
        super().__init__()

    def _configure(
        self,
        eta: int,
        epochs: int | None,
        brackets: int | Literal["all"],
        share: float,
        class_args: dict[str, Any],
    ) -> None:
        self._settings = Settings.from_class_args(class_args, also=OWN_KEYS)
        if self._settings.method != "hyperfd":
            raise PluginError(
                f"classArgs: method: {self._settings.method} plans by results of trainings of one length, and the advisor's have several; "
                "leave method out, or use the tuner (className: nni_hyperfd.HyperFDTuner)."
            )
        whole_number({"eta": eta}, "eta", 2, 100)
        self._eta = eta
        self._epochs = whole_number({"epochs": epochs}, "epochs", 1, 10**6)
        if brackets != "all":
            whole_number({"brackets": brackets}, "brackets", 1, 100)
        self._count = brackets
        real_number({"share": share}, "share", 1)
        self._share = share

    # -------------------------------------------------------------------------------------------- NNI's messages

    def process_command(self, command: CommandType, data: Any) -> None:
        """Handle one message of NNI's manager. An error is reported to it, as it would not notice one."""
        with self._lock:
            if self._failure is None:
                self._guard(lambda: super(HyperFDAdvisor, self).process_command(command, data))
            elif command is CommandType.Initialize:
                complain(self, self._failure)

    def handle_initialize(self, data: dict[str, Any]) -> None:
        """Rank the configurations of a search space for the data, and begin the first rung of every bracket.

        Raises:
            PluginError: More brackets are asked for than fit into the budget, or more configurations are needed than can be recommended
                at once.
            HyperFDError: The search space, the data or the platform cannot be used.
        """
        folder = experiment_folder()
        longest, step = _lengths(Records(folder), self._epochs)
        brackets = self._planned(longest, step)
        total = sum(each[0].count for each in brackets)
        if total > MOST:
            raise PluginError(
                f"classArgs: budget {self._settings.budget} with eta {self._eta} begins with {total} configurations, and at most {MOST} "
                "can be recommended at once; write a smaller budget."
            )
        best = sum(recommended(each, self._share) for each in brackets)
        self._experiment = Experiment(folder, self._settings, data, best, total - best)
        self._next_id = 1 + max(
            (outcome.parameter_id for outcome in self._experiment.records.outcomes()), default=-1
        )
        places = populations(brackets, self._share, len(self._experiment.ranking))
        self._brackets = [_Halving(number, bracket) for number, bracket in enumerate(brackets, start=1)]
        for each, population in zip(self._brackets, places):
            self._begin_rung(self._experiment, each, population)
        self.send(CommandType.Initialized, "")

    def handle_update_search_space(self, data: Any) -> None:
        """The search space of a running experiment stays as it is."""
        if self._experiment is not None and data != self._experiment.search_space:
            say_that_the_space_stays()

    def handle_request_trial_jobs(self, data: int) -> None:
        """Start ``data`` more trials, now or as soon as there is something to start."""
        # NNI does not ask again for what it got nothing for.
        self._idle_ids += range(self._next_id, self._next_id + data)
        self._next_id += data
        self._look()

    def handle_report_metric_data(self, data: dict[str, Any]) -> None:
        """A trial has a result, which is in NNI's records."""
        if data["type"] == "FINAL":
            self._look()

    def handle_trial_end(self, data: dict[str, Any]) -> None:
        """A trial job has ended, and NNI's records say whether it brought a result."""
        self._look()

    def handle_import_data(self, data: Any) -> None:
        """Nothing to do: what an earlier process knew comes from NNI's records."""

    def handle_add_customized_trial(self, data: Any) -> None:
        """Nothing to do: trials that are started again are in NNI's records."""

    def run(self) -> None:
        """Work until NNI stops the experiment, then learn from what there is."""
        super().run()
        with self._lock:
            self._guard(self._stop)

    # -------------------------------------------------------------------------------------------- in between

    def _planned(self, longest: int, step: int) -> list[Bracket]:
        """The brackets, for trainings of ``longest`` epochs with a validation after every ``step``-th."""
        budget, eta = self._settings.budget, self._eta
        possible = most_brackets(budget, eta, longest, step)
        if self._count != "all" and self._count > possible:
            raise PluginError(
                f"classArgs: brackets is {self._count}, but budget {budget} with eta {eta} and trainings of {longest} epochs has room for at "
                f"most {possible} (k of them want k² full trainings, each a length of its own); write brackets: {possible} or all, or a "
                "larger budget."
            )
        return hyperband(budget, eta, longest, step, self._count)

    def _look(self) -> None:
        """See what became of the trials, and do what follows: go on to next rungs, start trials, or end."""
        experiment = self._experiment
        if experiment is None or not self._brackets or self._finished:
            return
        for bracket in self._brackets:
            self._see(bracket)
        if experiment.records.no_trial_left():
            self._finish(experiment, "no trial is left")
            return
        for bracket in self._brackets:
            while bracket.trials.over and not bracket.over:
                self._go_on(experiment, bracket)
        if all(bracket.over for bracket in self._brackets):
            self._finish(experiment, "all results are there")
            return
        for bracket in self._brackets:
            self._start(experiment, bracket)

    def _see(self, bracket: _Halving) -> None:
        for rung in bracket.trained:
            # A job may have run what a failed one of an earlier rung left behind, so there may be news of any of them.
            news = rung.trials.look()
            for place, why in news.failures.items():
                logger.error(
                    "Trial of configuration %d counts as failed: %s.", rung.population[place] + 1, why
                )
            for place, result in news.results.items():
                number = rung.population[place] + 1
                logger.info(
                    "AP@50 %.4f with configuration %d after %d epochs", result.ap, number, rung.epochs
                )

    def _start(self, experiment: Experiment, bracket: _Halving) -> None:
        ids = self._idle_ids[: bracket.trials.room]
        self._idle_ids = self._idle_ids[len(ids) :]
        rung = bracket.trained[-1]
        for parameter_id, place in zip(ids, rung.trials.request(ids), strict=True):
            form = {
                "parameter_id": parameter_id,
                "parameter_source": "algorithm",
                "parameters": {**experiment.ranking[rung.population[place]], TRIAL_BUDGET: rung.epochs},
            }
            self.send(CommandType.NewTrialJob, nni.dump(form))

    def _go_on(self, experiment: Experiment, bracket: _Halving) -> None:
        """From a rung that is over to the next, or to the bracket's end after the last one."""
        best = bracket.trained[-1].best_first()
        if best and len(bracket.trained) < len(bracket.rungs):
            self._begin_rung(experiment, bracket, best)
        else:
            bracket.over = True

    def _begin_rung(self, experiment: Experiment, bracket: _Halving, population: list[int]) -> None:
        """Begin the next rung with ``population``, best first, or find it where an earlier process left it."""
        number = len(bracket.trained)
        wanted = bracket.rungs[number]

        def jobs() -> list[Job[Result]]:
            listed = experiment.jobs(wanted.epochs)
            return [
                replace(job, place=population.index(job.place)) for job in listed if job.place in population
            ]

        trials = Trials(len(population), wanted.count, jobs)
        bracket.trained.append(_Trained(population, wanted.epochs, trials))
        logger.info(
            "Bracket %d of %d, rung %d of %d: %d configurations for %d epochs",
            bracket.number,
            len(self._brackets),
            number + 1,
            len(bracket.rungs),
            wanted.count,
            wanted.epochs,
        )
        self._see(bracket)

    def _outcomes(self) -> list[tuple[int, Result | None, int]]:
        """Every configuration that was tried, with the result and the epochs of its longest training."""
        known: dict[int, tuple[int, Result | None, int]] = {}
        for bracket in self._brackets:
            self._see(bracket)
            for rung in bracket.trained:
                for place in rung.trials.failures:
                    known.setdefault(rung.population[place], (rung.population[place], None, rung.epochs))
                for place, result in rung.trials.results.items():
                    known[rung.population[place]] = (rung.population[place], result, rung.epochs)
        return [known[place] for place in sorted(known)]

    def _finish(self, experiment: Experiment, reason: str) -> None:
        self._finished = True
        if experiment.end(reason, self._outcomes()):
            self.send(CommandType.NoMoreTrialJobs, "")
            experiment.say_done()
            experiment.leave_report()

    def _stop(self) -> None:
        outcomes = self._outcomes()
        if self._experiment is not None and any(result for _, result, _ in outcomes):
            self._experiment.end("it was stopped", outcomes)
            self._experiment.leave_report()

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except HyperFDError as error:
            self._failure = str(error)
        except Exception as error:
            logger.exception("unexpected error")
            self._failure = f"unexpected error, see above: {type(error).__name__}: {error}"
        else:
            return
        if hasattr(self, "default_worker"):
            complain(self, self._failure)


@dataclass(frozen=True)
class _Trained:
    """A rung under way: places in the ranking, best first, and how the trainings of ``epochs`` go."""

    population: list[int]
    epochs: int
    trials: Trials[Result]

    def best_first(self) -> list[int]:
        """Places in the ranking of those with a result."""
        results = {self.population[place]: result.ap for place, result in self.trials.results.items()}
        return best_first(self.population, results)


@dataclass
class _Halving:
    """A bracket under way: its rungs, and those of them that were begun."""

    number: int
    rungs: Bracket
    trained: list[_Trained] = field(default_factory=list)
    over: bool = False

    @property
    def trials(self) -> Trials[Result]:
        """Those of the rung that was begun last."""
        return self.trained[-1].trials


def _lengths(records: Records, epochs: int | None) -> tuple[int, int]:
    """Epochs of a full training, and between two validations, by the budget that the trial command names and ``epochs``."""
    budget = BUDGETS.get(records.training().budget)
    if budget is None:
        if epochs is None:
            raise PluginError(
                "classArgs: epochs is missing, and the trial command names no budget of this package; write epochs: <epochs of a "
                "full training>."
            )
        return epochs, 1
    if epochs is not None and not budget.validate_every <= epochs <= budget.epochs:
        raise PluginError(
            f"classArgs: epochs is {epochs}, but a training with --budget {budget.name} has from {budget.validate_every} to "
            f"{budget.epochs} epochs; write such a number, or leave epochs out."
        )
    return epochs or budget.epochs, budget.validate_every
