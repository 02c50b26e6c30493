"""The NNI tuner: hands out recommended configurations and lets the platform learn from their results."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec

from nni.tuner import Tuner

from nni_hyperfd.customer.result import Result
from nni_hyperfd.customer.settings import Settings
from nni_hyperfd.errors import HyperFDError
from nni_hyperfd.plugin.session import Delay, Session, complain, experiment_folder
from nni_hyperfd.plugin.trials import Trials

logger = logging.getLogger(__name__)

P = ParamSpec("P")


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
    :class:`~nni_hyperfd.customer.settings.Settings`; only ``data`` is required.

    NNI runs callbacks in two threads, gives the constructor ten seconds, and does not notice when a callback raises.
    So the constructor only checks its arguments, errors are kept until NNI asks for trials, which is when
    they can be reported to its manager, and progress is counted by
    :class:`~nni_hyperfd.plugin.trials.Trials`. The update runs in the thread that takes the last result, so that NNI
    hears of the experiment's end after the update.

    The search space can be set once; NNI's page cannot change it later.
    """

    def __init__(self, **class_args: Any) -> None:
        super().__init__()
        self._failure: str | None = None
        self._send: Callable[[int, Mapping[str, Any]], None] | None = None
        self._session: Session | None = None
        self._delay = Delay(self._settle)
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
        if self._session is not None:
            if search_space != self._session.search_space:
                logger.error(
                    "The search space of a running experiment stays as it is; start a new experiment."
                )
            return
        budget = self._settings.budget
        session = Session(experiment_folder(), self._settings, search_space, budget)
        self._trials: Trials[Result] = Trials(len(session.ranking), budget)
        self._restore(session)
        self._session = session

    def generate_multiple_parameters(
        self, parameter_id_list: list[int], **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Configurations for as many ids as there are trials to start; fewer than asked for ends the experiment
        until a failure makes room for a replacement."""
        self._send = kwargs.get("st_callback")
        proposed: list[dict[str, Any]] = []
        if self._failure is None:
            self._propose(parameter_id_list, proposed)
        else:
            complain(self._dispatcher(), self._failure)
        return proposed

    @_never_raises
    def _propose(self, parameter_ids: list[int], proposed: list[dict[str, Any]]) -> None:
        if self._session is not None:
            self._end_silent_trials(self._session)
            with self._session.steady_ranking:
                places = self._trials.request(parameter_ids)
                proposed += [dict(self._session.ranking[place]) for place in places]

    @_never_raises
    def receive_trial_result(self, parameter_id: int, parameters: Any, value: Any, **kwargs: Any) -> None:
        """Keep a result, and end the experiment with the last one.

        ``parameters`` is not looked at: NNI empties it for a trial that was proposed when less was proposed than
        asked for.
        """
        place = None if self._session is None else self._trials.place(parameter_id)
        if place is not None:
            self._take(place, value)

    @_never_raises
    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        """Note that a trial job has ended; whether it failed is decided when its result is surely not coming."""
        place = None if self._session is None else self._trials.place(parameter_id)
        if place is not None and not self._trials.complete:
            self._trials.end(place)
            self._delay.restart()

    @_never_raises
    def import_data(self, data: list[dict[str, Any]]) -> None:
        """Results of trials that an earlier process of this experiment began.

        NNI also sends all finished trials here when an experiment is resumed, but with the parameters that it lists
        for a job and not those that the job ran; those come from NNI's records instead.
        """
        for entry in data:
            place = None if self._session is None else self._session.place(entry["parameter"])
            if place is not None and "trialJobId" not in entry:
                self._take(place, entry["value"])

    def _on_exit(self) -> None:
        """NNI stops the experiment and waits thirty seconds: learn from what there is."""
        self._delay.cancel()
        if self._session is not None and self._trials.results:
            self._end("it was stopped")

    # -------------------------------------------------------------------------------------------- in between

    def _restore(self, session: Session) -> None:
        """Take over what NNI's records say about an earlier process of this experiment."""
        for outcome in session.records.outcomes():
            place = session.place(outcome.parameters)
            if place is not None:
                result = None if outcome.value is None else session.read(place, outcome.value)
                self._trials.restore(place, ended=outcome.ended, result=result)
        self._inherited = bool(self._trials.unfinished)

    def _end_silent_trials(self, session: Session) -> None:
        """NNI does not tell the end of trials that it started again with ``nnictl resume``; its records do."""
        if self._inherited:
            for outcome in session.records.outcomes():
                place = session.place(outcome.parameters)
                if outcome.ended and place is not None:
                    self._trials.end(place)

    def _take(self, place: int, value: Any) -> None:
        session = self._session
        if session is None:
            return
        result = session.read(place, value)
        if result is None or not self._trials.result(place, result):
            return
        logger.info(
            "Result %d: AP@50 %.4f with configuration %d", len(self._trials.results), result.ap, place + 1
        )
        session.record(place, result)
        if self._trials.complete and self._end("all results are there"):
            session.say_done()
        missing = self._settings.budget - len(self._trials.results)
        session.replan(missing, lambda: self._trials.handed_out)

    @_never_raises
    def _settle(self) -> None:
        """Some time after a trial's end: replace it if it failed, or end an experiment that has nothing left to try."""
        session = self._session
        if session is None:
            return
        with session.steady_ranking:
            ready = [(name, dict(session.ranking[place])) for name, place in self._trials.settle()]
        for parameter_id, parameters in ready:
            if self._send is not None:
                self._send(parameter_id, parameters)
        if (self._trials.over or session.records.no_trial_left()) and self._end("no trial is left"):
            session.say_done()

    def _end(self, reason: str) -> bool:
        if self._session is None:
            return False
        results = sorted(self._trials.results.items())
        outcomes = [(place, result, None) for place, result in results]
        return self._session.end(
            reason, [*outcomes, *((place, None, None) for place in self._trials.failures)]
        )

    # -------------------------------------------------------------------------------------------- errors

    def _fail(self, sentence: str) -> None:
        self._failure = sentence
        if self._send is not None:
            complain(self._dispatcher(), sentence)

    def _dispatcher(self) -> Any:
        """NNI's dispatcher, which a tuner meets only as the owner of a callback."""
        return getattr(self._send, "__self__", None)
