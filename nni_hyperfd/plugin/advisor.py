"""The NNI advisor: many recommended configurations begin, the better part of them goes on with longer trainings."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import nni
from nni.runtime.msg_dispatcher_base import MsgDispatcherBase
from nni.runtime.tuner_command_channel import CommandType

from nni_hyperfd.customer.result import Result
from nni_hyperfd.customer.settings import Settings, whole_number
from nni_hyperfd.detection.training.budgets import BUDGETS
from nni_hyperfd.errors import HyperFDError, PluginError
from nni_hyperfd.plugin.halving import rungs
from nni_hyperfd.plugin.records import TRIAL_BUDGET, Records
from nni_hyperfd.plugin.session import Session, complain, experiment_folder, say_that_the_space_stays
from nni_hyperfd.plugin.trials import Job, Trials

logger = logging.getLogger(__name__)

OWN_KEYS = ("eta", "epochs")


class HyperFDAdvisor(MsgDispatcherBase):
    """Successive halving that begins with the recommendation's best configurations (:mod:`.halving`).

    ``classArgs`` are those of :class:`~nni_hyperfd.plugin.tuner.HyperFDTuner`, and

    * ``eta`` (2): 1/eta of the configurations go on to trainings eta times as long;
    * ``epochs``: of a training of full length; by default those of the budget that the trial command names.

    ``budget`` is B as for the tuner: all trainings together cost no more than B of full length. A trial finds its
    number of epochs under ``TRIAL_BUDGET``, as with NNI's own Hyperband. Of every configuration the platform
    learns the result of its longest training.

    A rung is a list of configurations, best first, of which so many must bring a result as its count says: one that
    fails is replaced by the next in the list.
    """

    def __init__(self, eta: int = 2, epochs: int | None = None, **class_args: Any) -> None:
        self._failure: str | None = None
        self._session: Session | None = None
        # Requests and results come in one thread, ends in another.
        self._lock = threading.Lock()
        self._next_id = 0
        self._rung: _Trained | None = None
        self._below: list[_Trained] = []
        self._guard(lambda: self._configure(eta, epochs, class_args))
        # Connects to NNI's manager, which can be told of errors from then on.
        super().__init__()

    def _configure(self, eta: int, epochs: int | None, class_args: dict[str, Any]) -> None:
        self._settings = Settings.from_class_args(class_args, also=OWN_KEYS)
        if self._settings.method == "hyperfd-gp":
            raise PluginError(
                "classArgs: method: hyperfd-gp plans by results of trainings of one length, and the advisor's have several; leave "
                "method out, or use the tuner (className: nni_hyperfd.HyperFDTuner)."
            )
        whole_number({"eta": eta}, "eta", 2, 100)
        self._eta = eta
        self._epochs = whole_number({"epochs": epochs}, "epochs", 1, 10**6)

    # -------------------------------------------------------------------------------------------- NNI's messages

    def process_command(self, command: CommandType, data: Any) -> None:
        """Handle one message of NNI's manager. An error is reported to it, as it would not notice one."""
        with self._lock:
            if self._failure is None:
                self._guard(lambda: super(HyperFDAdvisor, self).process_command(command, data))
            elif command is CommandType.Initialize:
                complain(self, self._failure)

    def handle_initialize(self, data: dict[str, Any]) -> None:
        """Rank the configurations of a search space for the data, and begin the first rung."""
        folder = experiment_folder()
        longest, step = _lengths(Records(folder), self._epochs)
        self._rungs = rungs(self._settings.budget, self._eta, longest, step)
        self._session = Session(folder, self._settings, data, self._rungs[0].count)
        self._next_id = 1 + max(
            (outcome.parameter_id for outcome in self._session.records.outcomes()), default=-1
        )
        self._begin_rung(self._session, list(range(len(self._session.ranking))))
        self.send(CommandType.Initialized, "")

    def handle_update_search_space(self, data: Any) -> None:
        """The search space of a running experiment stays as it is."""
        if self._session is not None and data != self._session.search_space:
            say_that_the_space_stays()

    def handle_request_trial_jobs(self, data: int) -> None:
        """Start ``data`` more trials, now or as soon as there is something to start."""
        ids = range(self._next_id, self._next_id + data)
        self._next_id += data
        self._look()
        if self._session is not None and self._rung is not None:
            self._start(self._session, self._rung, ids)

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

    def _look(self) -> None:
        """See what became of the trials, and do what follows: replace, go on to the next rung, or end."""
        session, rung = self._session, self._rung
        if session is None or rung is None:
            return
        self._see(rung)
        if session.records.no_trial_left():
            self._finish(session, "no trial is left")
            return
        for parameter_id, place in rung.trials.replacements():
            self._propose(session, rung, parameter_id, place)
        while self._rung is not None and self._rung.trials.over:
            self._go_on(session, self._rung)

    def _see(self, rung: _Trained) -> None:
        news = rung.trials.look()
        for place, why in news.failures.items():
            logger.error("Trial of configuration %d counts as failed: %s.", rung.population[place] + 1, why)
        for place, result in news.results.items():
            number = rung.population[place] + 1
            logger.info("AP@50 %.4f with configuration %d after %d epochs", result.ap, number, rung.epochs)

    def _start(self, session: Session, rung: _Trained, parameter_ids: Iterable[int]) -> None:
        ids = list(parameter_ids)
        for parameter_id, place in zip(ids, rung.trials.request(ids)):
            self._propose(session, rung, parameter_id, place)

    def _propose(self, session: Session, rung: _Trained, parameter_id: int, place: int) -> None:
        form = {
            "parameter_id": parameter_id,
            "parameter_source": "algorithm",
            "parameters": {**session.ranking[rung.population[place]], TRIAL_BUDGET: rung.epochs},
        }
        self.send(CommandType.NewTrialJob, nni.dump(form))

    def _go_on(self, session: Session, rung: _Trained) -> None:
        """From a rung that is over to the next, or to the end after the last one."""
        best = rung.best_first()
        if not best or len(self._below) + 1 == len(self._rungs):
            self._finish(session, "all results are there")
            return
        self._below.append(rung)
        following = self._begin_rung(session, best)
        self._start(session, following, rung.trials.unused_ids)

    def _begin_rung(self, session: Session, population: list[int]) -> _Trained:
        """Begin the next rung with ``population``, best first, or find it where an earlier process left it."""
        wanted = self._rungs[len(self._below)]

        def jobs() -> list[Job[Result]]:
            listed = session.jobs(wanted.epochs)
            return [
                replace(job, place=population.index(job.place)) for job in listed if job.place in population
            ]

        rung = self._rung = _Trained(population, wanted.epochs, Trials(len(population), wanted.count, jobs))
        logger.info(
            "Rung %d of %d: %d configurations for %d epochs",
            len(self._below) + 1,
            len(self._rungs),
            wanted.count,
            wanted.epochs,
        )
        self._see(rung)
        return rung

    def _outcomes(self) -> list[tuple[int, Result | None, int]]:
        """Every configuration that was tried, with the result and the epochs of its longest training."""
        known: dict[int, tuple[int, Result | None, int]] = {}
        for rung in [*self._below, *([self._rung] if self._rung else [])]:
            # A job may have run what a failed one of an earlier rung left behind, so there may be news of any of them.
            self._see(rung)
            for place in rung.trials.failures:
                known.setdefault(rung.population[place], (rung.population[place], None, rung.epochs))
            for place, result in rung.trials.results.items():
                known[rung.population[place]] = (rung.population[place], result, rung.epochs)
        return [known[place] for place in sorted(known)]

    def _finish(self, session: Session, reason: str) -> None:
        if self._rung is not None:
            self._below.append(self._rung)
            self._rung = None
        outcomes = self._outcomes()
        if session.end(reason, outcomes):
            self.send(CommandType.NoMoreTrialJobs, "")
            session.say_done()
            session.leave_report()

    def _stop(self) -> None:
        outcomes = self._outcomes()
        if self._session is not None and any(result for _, result, _ in outcomes):
            self._session.end("it was stopped", outcomes)
            self._session.leave_report()

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
        """Places in the ranking of those with a result; equals keep the order that they had."""
        results = self.trials.results
        return [
            self.population[place] for place in sorted(results, key=lambda place: (-results[place].ap, place))
        ]


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
