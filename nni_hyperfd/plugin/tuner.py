"""The NNI tuner: hands out recommended configurations and lets the platform learn from their results."""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from nni.tuner import Tuner

from nni_hyperfd.errors import HyperFDError, PluginError
from nni_hyperfd.plugin.memo import Memo, Presence
from nni_hyperfd.plugin.metrics import Result, read_metric
from nni_hyperfd.plugin.page import Page
from nni_hyperfd.plugin.records import Records
from nni_hyperfd.plugin.settings import Settings
from nni_hyperfd.plugin.trials import Trials

logger = logging.getLogger(__name__)

SETTLE_SECONDS = 3.0
"""How long after the end of a trial NNI's two queues are surely worked off."""

P = ParamSpec("P")
Send = Callable[[int, Mapping[str, Any]], None]


def _never_raises(
    method: Callable[Concatenate[HyperFDTuner, P], None],
) -> Callable[Concatenate[HyperFDTuner, P], None]:
    """An exception would end one of NNI's threads without a word and leave the experiment hanging."""

    @functools.wraps(method)
    def guarded(self: HyperFDTuner, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except HyperFDError as error:
            self._fail(str(error))
        except Exception as error:
            logger.exception("unexpected error")
            self._fail(f"unexpected error in {method.__name__}, see above: {type(error).__name__}: {error}")

    return guarded


class HyperFDTuner(Tuner):
    """Recommends B configurations for a data set, best first, and ends the experiment after B results.

    In an experiment's config either ``className: nni_hyperfd.HyperFDTuner`` with ``codeDirectory``, or, after
    ``hyperfd register``, ``name: HyperFD``. ``classArgs`` are the fields of
    :class:`~nni_hyperfd.plugin.settings.Settings`; only ``data`` is required.

    NNI runs callbacks in two threads, gives the constructor ten seconds, and does not notice when a callback raises.
    So the constructor only checks its arguments, errors are kept until NNI asks for trials, which is when
    they can be reported to its manager, and progress is counted by
    :class:`~nni_hyperfd.plugin.trials.Trials`. The update runs in the thread that takes the last result, so that NNI
    hears of the experiment's end after the update.

    The search space can be set once; NNI's page cannot change it later.
    """

    def __init__(self, **class_args: Any) -> None:
        super().__init__()
        self._experiment = Path(os.environ["NNI_LOG_DIRECTORY"]).parent
        self._failure: str | None = None
        self._send: Send | None = None
        self._timer: threading.Timer | None = None
        self._ending = threading.Lock()
        self._ended = False
        self._ready = False
        self._settings: Settings
        self._configure(class_args)

    @_never_raises
    def _configure(self, class_args: Mapping[str, Any]) -> None:
        self._settings = Settings.from_class_args(class_args)

    # -------------------------------------------------------------------------------------------- NNI's callbacks

    @_never_raises
    def update_search_space(self, search_space: dict[str, Any]) -> None:
        """Rank the configurations of ``search_space`` for the data; where an earlier process did, go on from there."""
        if self._failure is not None:
            return
        if self._ready:
            if search_space != self._memo.search_space:
                logger.error(
                    "The search space of a running experiment stays as it is; start a new experiment."
                )
            return
        # Imported late: NNI waits ten seconds for the constructor, and torch may take longer than that.
        from nni_hyperfd.plugin.customer import Customer

        self._records = Records(self._experiment)
        code = self._records.config().get("trialCodeDirectory") or "."
        memo = Memo.read(self._experiment)
        settings = memo.settings if memo else self._settings.resolved(Path(code))
        self._customer = Customer(settings, search_space)
        self._task = self._customer.open(self._records.experiment_id)
        if memo is None:
            recommendation = self._customer.recommend(self._task)
            ranking = [*recommendation.configurations, *recommendation.spares]
            memo = Memo(settings, search_space, tuple(dict(ranked.parameters) for ranked in ranking))
            memo.write(self._experiment)
            logger.info("Recommended by platform version %d:", recommendation.version)
            for number, ranked in enumerate(recommendation.configurations, start=1):
                configuration = self._customer.space.parse(ranked.parameters)
                logger.info("  %d. %s (score %.4f)", number, configuration, ranked.score)
        Presence(self._experiment).announce()
        self._memo = memo
        self._trials: Trials[Result] = Trials(len(memo.ranking), settings.budget)
        self._training = self._records.training()
        self._restore()
        self._ready = True

    def generate_multiple_parameters(
        self, parameter_id_list: list[int], **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Configurations for as many ids as there are trials to start; fewer than asked for ends the experiment
        until a failure makes room for a replacement."""
        self._send = kwargs.get("st_callback")
        if self._failure is not None:
            self._report()
            return []
        proposed: list[dict[str, Any]] = []
        self._propose(parameter_id_list, proposed)
        return proposed

    @_never_raises
    def _propose(self, parameter_ids: list[int], proposed: list[dict[str, Any]]) -> None:
        self._end_silent_trials()
        places = self._trials.request(parameter_ids)
        proposed += [dict(self._memo.ranking[place]) for place in places]

    @_never_raises
    def receive_trial_result(self, parameter_id: int, parameters: Any, value: Any, **kwargs: Any) -> None:
        """Keep a result, and end the experiment with the last one.

        ``parameters`` is not looked at: NNI empties it for a trial that was proposed when less was proposed than
        asked for.
        """
        place = self._trials.place(parameter_id)
        if place is not None:
            self._take(place, value)

    @_never_raises
    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        """Note that a trial job has ended; whether it failed is decided when its result is surely not coming."""
        place = self._trials.place(parameter_id)
        if place is None or self._trials.complete:
            return
        self._trials.end(place)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(SETTLE_SECONDS, self._settle)
        self._timer.daemon = True
        self._timer.start()

    @_never_raises
    def import_data(self, data: list[dict[str, Any]]) -> None:
        """Results of trials that an earlier process of this experiment began.

        NNI also sends all finished trials here when an experiment is resumed, but with the parameters that it lists
        for a job and not those that the job ran; those come from NNI's records instead.
        """
        if self._failure is not None:
            return
        for entry in data:
            if "trialJobId" not in entry and entry["parameter"] in self._memo.ranking:
                self._take(self._memo.ranking.index(entry["parameter"]), entry["value"])

    def _on_exit(self) -> None:
        """NNI stops the experiment and waits thirty seconds: learn from what there is."""
        if self._timer is not None:
            self._timer.cancel()
        if self._ready and self._trials.results:
            self._end("the experiment was stopped")

    # -------------------------------------------------------------------------------------------- in between

    def _restore(self) -> None:
        """Take over what NNI's records say about an earlier process of this experiment."""
        for outcome in self._records.outcomes():
            if outcome.parameters in self._memo.ranking:
                place = self._memo.ranking.index(outcome.parameters)
                result = None if outcome.value is None else self._read(place, outcome.value)
                self._trials.restore(place, ended=outcome.ended, result=result)
        self._inherited = bool(self._trials.unfinished)
        if self._task.status == "done":
            self._ended = True
            logger.info("This experiment has updated the platform already; it will not do so again.")

    def _end_silent_trials(self) -> None:
        """NNI does not tell the end of trials that it started again with ``nnictl resume``; its records do."""
        if not self._inherited:
            return
        for outcome in self._records.outcomes():
            if outcome.ended and outcome.parameters in self._memo.ranking:
                self._trials.end(self._memo.ranking.index(outcome.parameters))

    def _read(self, place: int, value: Any) -> Result | None:
        try:
            return read_metric(value)
        except PluginError as error:
            logger.error("Trial of configuration %d counts as failed: %s.", place + 1, error)
            return None

    def _take(self, place: int, value: Any) -> None:
        result = self._read(place, value)
        if result is None or not self._trials.result(place, result):
            return
        logger.info(
            "Result %d: AP@50 %.4f with configuration %d", len(self._trials.results), result.ap, place + 1
        )
        try:
            self._customer.record(self._task, self._memo.ranking[place], result, self._training)
        except HyperFDError as error:
            logger.error("The platform did not take this result (%s); it is sent again at the end.", error)
        if self._trials.complete:
            self._end("all results are there")

    @_never_raises
    def _settle(self) -> None:
        """Some time after a trial's end: replace it if it failed, or end an experiment that has nothing left to try."""
        for parameter_id, place in self._trials.settle():
            if self._send is not None:
                self._send(parameter_id, dict(self._memo.ranking[place]))
        if self._trials.over or self._records.no_trial_left():
            self._end("no trial is left")

    def _end(self, reason: str) -> None:
        """Update the platform, once in this process and, by the platform's care, once ever."""
        from nni_hyperfd.plugin.experiment_end import end_experiment, in_words

        with self._ending:
            if self._ended:
                return
            results = self._trials.results
            outcomes: list[tuple[Mapping[str, Any], Result | None]] = [
                (self._memo.ranking[place], result) for place, result in sorted(results.items())
            ]
            outcomes += [(self._memo.ranking[place], None) for place in self._trials.failures]
            logger.info("The experiment ends (%s): updating the platform", reason)
            try:
                receipt = end_experiment(self._customer, self._task, outcomes, self._training)
            except Exception as error:
                if not isinstance(error, HyperFDError):
                    logger.exception("unexpected error")
                logger.error(
                    "The platform was not updated (%s); nothing is lost: run `hyperfd finish %s`.",
                    error,
                    self._records.experiment_id,
                )
                return
            self._ended = True
        logger.info("Done: %s.", in_words(receipt))
        if reason != "the experiment was stopped":
            self._say_done()

    def _say_done(self) -> None:
        try:
            Page(os.environ["NNI_TUNER_COMMAND_CHANNEL"]).finish(self._records.started())
        except (OSError, HyperFDError) as error:
            logger.warning("NNI's page will not say DONE: %s", error)

    # -------------------------------------------------------------------------------------------- errors

    def _fail(self, sentence: str) -> None:
        self._failure = sentence
        if self._send is not None:
            self._report()

    def _report(self) -> None:
        """Show the error wherever NNI shows any: its manager's log and status, the dispatcher's log, the terminal."""
        sentence = f"HyperFD: {self._failure}"
        dispatcher = getattr(self._send, "__self__", None)
        if dispatcher is not None:
            dispatcher.report_error(sentence)
        print(sentence, file=sys.stderr, flush=True)
        logger.error(sentence)
