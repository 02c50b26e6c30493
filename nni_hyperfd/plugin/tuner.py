"""The NNI tuner: hands out recommended configurations and lets the platform learn from their results."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from nni.tuner import Tuner

from nni_hyperfd.customer.result import Result
from nni_hyperfd.customer.settings import Settings
from nni_hyperfd.errors import HyperFDError
from nni_hyperfd.plugin.continued import ContinuedTrials, Length, Training
from nni_hyperfd.plugin.every_end import hear_of_every_end
from nni_hyperfd.plugin.experiment import Experiment, complain, experiment_folder, say_that_the_space_stays
from nni_hyperfd.plugin.records import Records
from nni_hyperfd.plugin.trials import News, Trials

logger = logging.getLogger(__name__)

Callback = TypeVar("Callback", bound=Callable[..., None])


def _callback(
    method: Callback,
) -> Callback:
    """One callback at a time, and none that raises.

    NNI calls from two threads. An exception would end one of them without a word and leave the experiment hanging.
    """

    @functools.wraps(method)
    def guarded(self: HyperFDTuner, *args: Any, **kwargs: Any) -> None:
        with self._lock:
            try:
                method(self, *args, **kwargs)
            except HyperFDError as error:
                self._fail(str(error))
            except Exception as error:
                logger.exception("unexpected error")
                self._fail(
                    f"unexpected error in {method.__name__}, see above: {type(error).__name__}: {error}"
                )

    return cast(Callback, guarded)


class HyperFDTuner(Tuner):
    """Recommends B configurations for a data set, best first, and ends the experiment after B results.

    In an experiment's config either ``className: nni_hyperfd.HyperFDTuner`` with ``codeDirectory``, or, after
    ``hyperfd register``, ``name: HyperFD``. ``classArgs`` are the fields of
    :class:`~nni_hyperfd.customer.settings.Settings`; only ``data`` is required.

    NNI calls back from two threads, gives the constructor ten seconds, and does not notice when a callback raises.
    So the constructor only checks its arguments, errors are kept until NNI asks for trials, which is when
    they can be reported to its manager, and what became of the trials is not taken from the callbacks
    (:mod:`~nni_hyperfd.plugin.trials`): each of them only has the tuner look. The update runs in the thread that finds the last result,
    so that NNI hears of the experiment's end after the update.

    The search space can be set once; NNI's page cannot change it later.

    Example:
        >>> from nni.experiment import Experiment
        >>> from nni.experiment.config import CustomAlgorithmConfig
        >>> experiment = Experiment("local")
        >>> experiment.config.tuner = CustomAlgorithmConfig(
        ...     class_name="nni_hyperfd.HyperFDTuner", code_directory=".", class_args={"data": "faces", "budget": 4}
        ... )
        >>> experiment.config.trial_command = "python finetune.py --data faces"
        >>> experiment.config.search_space = {"lr": {"_type": "choice", "_value": [0.0003, 0.001]}}
        >>> experiment.run(8080)  # doctest: +SKIP
    """

    def __init__(self, **class_args: Any) -> None:
        super().__init__()
        # Reentrant: NNI is answered from within a callback.
        self._lock = threading.RLock()
        self._failure: str | None = None
        self._send: Callable[[int, Mapping[str, Any]], None] | None = None
        self._experiment: Experiment | None = None
        self._tried_to_end = False
        self._continued: ContinuedTrials | None = None
        self._configure(class_args)

    @_callback
    def _configure(self, class_args: Mapping[str, Any]) -> None:
        self._settings = Settings.from_class_args(class_args)

    # -------------------------------------------------------------------------------------------- NNI's callbacks

    @_callback
    def update_search_space(self, search_space: dict[str, Any]) -> None:
        """Rank the configurations of ``search_space`` for the data; where an earlier process did, go on from there."""
        if self._failure is not None:
            return
        if self._experiment is not None:
            if search_space != self._experiment.search_space:
                say_that_the_space_stays()
            return
        budget, folder = self._settings.budget, experiment_folder()
        if self._settings.method == "hyperfd-mf":
            self._experiment = self._continue(folder, search_space)
            return
        experiment = Experiment(folder, self._settings, search_space, budget)
        self._trials: Trials[Result] = Trials(len(experiment.ranking), budget, experiment.jobs)
        # What came while no tuner lived is told now, for whoever plans by it, and seen to when NNI asks for trials.
        self._tell(experiment, self._trials.look())
        self._experiment = experiment

    def _continue(self, folder: Path, search_space: dict[str, Any]) -> Experiment:
        """Begin, or take up, an experiment whose trials go on with each other's trainings."""
        length, budget = Length.of(Records(folder)), self._settings.budget
        experiment = Experiment(folder, self._settings, search_space, budget, validations=length.validations)

        def ask(left: int, trainings: Sequence[Training]) -> list[dict[str, Any]]:
            begun = [(each.configuration, each.aps, each.state, each.until(length)) for each in trainings]
            return experiment.next_epochs(length.validations, left, begun)

        self._continued = ContinuedTrials(experiment.records, budget, length, experiment.checkpoints, ask)
        self._continued.look()
        return experiment

    def generate_multiple_parameters(
        self, parameter_id_list: list[int], **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Configurations for as many ids as there are trials to start.

        Fewer than asked for ends the experiment until a failure makes room for a replacement.
        """
        if self._send is None:
            self._send = kwargs.get("st_callback")
            if (dispatcher := self._dispatcher()) is not None:
                hear_of_every_end(dispatcher, self)
        proposed: list[dict[str, Any]] = []
        if self._failure is None:
            self._propose(parameter_id_list, proposed)
        else:
            complain(self._dispatcher(), self._failure)
        return proposed

    @_callback
    def _propose(self, parameter_ids: list[int], proposed: list[dict[str, Any]]) -> None:
        if self._experiment is not None:
            self._look(self._experiment)
            if self._continued is not None:
                proposed += self._continued.request(parameter_ids)
                if not proposed:
                    self._look(self._experiment)
                return
            places = self._trials.request(parameter_ids)
            proposed += [dict(self._experiment.ranking[place]) for place in places]

    @_callback
    def receive_trial_result(self, parameter_id: int, parameters: Any, value: Any, **kwargs: Any) -> None:
        """A trial has a result, which is in NNI's records."""
        self._look(self._experiment)

    @_callback
    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        """A trial job has ended, and NNI's records say whether it brought a result."""
        self._look(self._experiment)

    @_callback
    def import_data(self, data: list[dict[str, Any]]) -> None:
        """A trial that an earlier process of this experiment began has a result, or the experiment was resumed.

        NNI sends all finished trials here when an experiment is resumed, with the parameters that it lists for a job and not
        those that the job ran; the records know those, too.
        """
        self._look(self._experiment)

    @_callback
    def _on_exit(self) -> None:
        """NNI stops the experiment and waits thirty seconds: learn from what there is."""
        if self._continued is not None and self._experiment is not None:
            self._continued.look()
            # Beginnings alone teach nothing, and would close the experiment's one update for what comes when it is resumed.
            if any(result and epochs is None for _, result, epochs in self._continued.outcomes):
                self._end_continued(self._experiment, self._continued, "it was stopped")
                self._experiment.leave_report()
            self._experiment.leave_checkpoints()
        elif self._experiment is not None:
            self._trials.look()
            if self._trials.results:
                self._end(self._experiment, "it was stopped")
                self._experiment.leave_report()

    # -------------------------------------------------------------------------------------------- in between

    def _look(self, experiment: Experiment | None) -> None:
        """See what became of the trials, and do what follows: tell the platform, replace, plan anew, or end."""
        if experiment is None:
            return
        if self._continued is not None:
            self._look_at_continued(experiment, self._continued)
            return
        news = self._trials.look()
        self._tell(experiment, news)
        if self._trials.over or experiment.records.no_trial_left():
            if news or not self._tried_to_end:
                self._tried_to_end = True
                reason = "no trial is left" if self._trials.missing else "all results are there"
                if self._end(experiment, reason):
                    experiment.say_done()
                    experiment.leave_report()
            return
        if news:
            experiment.replan(self._trials.missing, self._trials.handed_out)
        for parameter_id, place in self._trials.replacements():
            if self._send is not None:
                self._send(parameter_id, dict(experiment.ranking[place]))

    def _tell(self, experiment: Experiment, news: News[Result]) -> None:
        for place, why in news.failures.items():
            logger.error("Trial of configuration %d counts as failed: %s.", place + 1, why)
            experiment.record(place, None)
        before = len(self._trials.results) - len(news.results)
        for number, (place, result) in enumerate(news.results.items(), start=before + 1):
            logger.info("Result %d: AP@50 %.4f with configuration %d", number, result.ap, place + 1)
            experiment.record(place, result)

    def _look_at_continued(self, experiment: Experiment, trials: ContinuedTrials) -> None:
        news = trials.look()
        for training in news:
            place = experiment.met(training.configuration)
            if training.trouble:
                logger.error(
                    "The training of configuration %d counts as failed: %s.", place + 1, training.trouble
                )
                experiment.record(place, None)
            elif training.result:
                logger.info(
                    "AP@50 %.4f with configuration %d after %d epochs; price so far: %.2f full trainings",
                    training.result.ap,
                    place + 1,
                    training.stop,
                    trials.paid,
                )
                if training.stop == trials.length.epochs:
                    experiment.record(place, training.outcome(trials.length)[1])
        for parameter_id, parameters in trials.replacements():
            if self._send is not None:
                self._send(parameter_id, parameters)
        if (trials.over or experiment.records.no_trial_left()) and (news or not self._tried_to_end):
            self._tried_to_end = True
            reason = "the price is paid" if trials.over else "no trial is left"
            ended = self._end_continued(experiment, trials, reason)
            if trials.over:
                experiment.remove_checkpoints()
            else:
                experiment.leave_checkpoints()
            if ended:
                experiment.say_done()
                experiment.leave_report()

    def _end_continued(self, experiment: Experiment, trials: ContinuedTrials, reason: str) -> bool:
        logger.info("%s.", trials.best())
        outcomes = [(experiment.met(each), result, epochs) for each, result, epochs in trials.outcomes]
        return experiment.end(reason, outcomes)

    def _end(self, experiment: Experiment, reason: str) -> bool:
        results = sorted(self._trials.results.items())
        outcomes = [(place, result, None) for place, result in results]
        return experiment.end(reason, [*outcomes, *((place, None, None) for place in self._trials.failures)])

    # -------------------------------------------------------------------------------------------- errors

    def _fail(self, sentence: str) -> None:
        self._failure = sentence
        if self._send is not None:
            complain(self._dispatcher(), sentence)

    def _dispatcher(self) -> Any:
        """NNI's dispatcher, which a tuner meets only as the owner of a callback."""
        return getattr(self._send, "__self__", None)
