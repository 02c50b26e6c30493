"""One NNI experiment seen from its dispatcher: its records, its customer, its task, and how it ends."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nni.runtime.msg_dispatcher_base import MsgDispatcherBase

from nni_hyperfd.customer.result import Result, read_metric
from nni_hyperfd.customer.settings import Settings
from nni_hyperfd.errors import HyperFDError, PlatformAwayError, PluginError
from nni_hyperfd.plugin.memo import Memo, Presence
from nni_hyperfd.plugin.page import Page
from nni_hyperfd.plugin.records import Records
from nni_hyperfd.spaces.unread import refuse_unread_space

logger = logging.getLogger(__name__)

SETTLE_SECONDS = 3.0
"""How long after the end of a trial NNI's two queues are surely worked off."""


class Session:
    """What tuner and advisor do with the platform.

    Opening one reads the data and ranks the configurations, or takes over the ranking of an earlier process.

    Args:
        folder: of the experiment.
        settings: checked ``classArgs``.
        search_space: as NNI gives it.
        count: configurations to recommend.

    Raises:
        HyperFDError: search space, data or platform cannot be used.
    """

    def __init__(self, folder: Path, settings: Settings, search_space: Mapping[str, Any], count: int) -> None:
        # Imported late: NNI waits ten seconds for the constructor of a tuner, and torch may take longer than that.
        from nni_hyperfd.customer.customer import Customer, platform_of

        self.records = Records(folder)
        memo = Memo.read(folder)
        code = self.records.config().get("trialCodeDirectory") or "."
        # A resumed experiment keeps its settings; only the token is not kept with them.
        settings = replace(memo.settings, token=settings.token) if memo else settings.resolved(Path(code))
        command = str(self.records.config().get("trialCommand", ""))
        if isinstance(search_space, Mapping):
            refuse_unread_space(search_space, command, settings.trial_reads)
        self._customer = Customer(settings, search_space, platform_of(settings, folder))
        self._task = self._customer.open(self.records.experiment_id)
        if memo is None:
            recommendation = self._customer.recommend(self._task, count)
            ranking = [*recommendation.configurations, *recommendation.spares]
            memo = Memo(settings, search_space, tuple(dict(ranked.parameters) for ranked in ranking))
            memo.write(folder)
            logger.info("Recommended by platform version %d:", recommendation.version)
            for number, ranked in enumerate(recommendation.configurations, start=1):
                configuration = self._customer.space.parse(ranked.parameters)
                logger.info("  %d. %s (score %.4f)", number, configuration, ranked.score)
        Presence(folder).announce()
        self._folder, self._memo = folder, memo
        self.steady_ranking = threading.RLock()
        """To be held from the moment in which a place is chosen until its configuration is read."""
        self._training = self.records.training()
        self._ending = threading.Lock()
        self._ended = self._task.status == "done"
        if self._ended:
            logger.info("This experiment has updated the platform already; it will not do so again.")

    @property
    def search_space(self) -> Mapping[str, Any]:
        """As NNI gave it."""
        return self._memo.search_space

    @property
    def ranking(self) -> tuple[Mapping[str, Any], ...]:
        """Parameters of the configurations to try, in this order."""
        return self._memo.ranking

    def replan(self, wanted: int, handed_out: Callable[[], Collection[int]]) -> None:
        """Have the rest of the ranking made anew from the results so far, where the method does so.

        Should the platform not do it, the old plan goes on.

        Args:
            wanted: results that are still missing.
            handed_out: places that stay as they are; asked again when the new plan is there.
        """
        if self._memo.settings.method == "hyperfd" or wanted < 1:
            return
        try:
            begun = [self.ranking[place] for place in sorted(handed_out())]
            found = self._customer.recommend(self._task, wanted, begun)
        except HyperFDError as error:
            logger.warning("The plan stays as it is: %s.", error)
            return
        with self.steady_ranking:
            fixed = sorted(handed_out())
            kept = [self.ranking[place] for place in fixed]
            fresh = [dict(each.parameters) for each in (*found.configurations, *found.spares)]
            # Spares that the new plan does not name stay behind it, so that no place is without a configuration.
            rest = [each for each in (*fresh, *self.ranking) if each not in kept]
            rest = [each for i, each in enumerate(rest) if each not in rest[:i]]
            ranking = list(self.ranking)
            for place in range(len(ranking)):
                if place not in fixed:
                    ranking[place] = rest.pop(0)
            memo = replace(self._memo, ranking=tuple(ranking))
            try:
                memo.write(self._folder)
            except OSError as error:
                # A resumed experiment reads its plan from the disk, so what is not there must not be tried.
                logger.warning("The plan stays as it is, because the new one cannot be written: %s.", error)
                return
            self._memo = memo
        for following in found.configurations[:1]:
            logger.info(
                "The rest is planned anew; next: %s", self._customer.space.parse(following.parameters)
            )

    def place(self, parameters: Mapping[str, Any]) -> int | None:
        """Place of a configuration in the ranking, 0 the best; None where it is not one of them."""
        return self.ranking.index(parameters) if parameters in self.ranking else None

    def read(self, place: int, value: Any) -> Result | None:
        """The final metric of a trial; None, with a line in the log, where it is no result."""
        try:
            return read_metric(value)
        except PluginError as error:
            logger.error("Trial of configuration %d counts as failed: %s.", place + 1, error)
            return None

    def record(self, place: int, result: Result) -> None:
        """Have the platform keep a result at once. Should it not, it is sent again at the end."""
        try:
            self._customer.record(self._task, self.ranking[place], result, self._training)
        except HyperFDError as error:
            logger.error("The platform did not take this result (%s); it is sent again at the end.", error)

    def end(self, reason: str, outcomes: Iterable[tuple[int, Result | None, int | None]]) -> bool:
        """Update the platform, once in this process and, by the platform's care, once ever; False if it failed.

        While a platform is away the experiment is over, too: its results wait on this disk.

        Args:
            reason: for the log.
            outcomes: place, result (None for a failure) and, where it was shortened, the epochs of the training.
        """
        from nni_hyperfd.plugin.experiment_end import end_experiment, in_words

        with self._ending:
            if self._ended:
                return True
            logger.info("The experiment ends (%s): updating the platform", reason)
            trials = [
                (self.ranking[place], result, self._training.shortened(epochs))
                for place, result, epochs in outcomes
            ]
            try:
                receipt = end_experiment(self._customer, self._task, trials)
            except PlatformAwayError as error:
                logger.error(
                    "The results wait on this disk (%s): run `hyperfd sync %s` when the platform is back.",
                    error,
                    self.records.experiment_id,
                )
                return True
            except Exception as error:
                if not isinstance(error, HyperFDError):
                    logger.exception("unexpected error")
                logger.error(
                    "The platform was not updated (%s); nothing is lost: run `hyperfd finish %s`.",
                    error,
                    self.records.experiment_id,
                )
                return False
            self._ended = True
        logger.info("Done: %s.", in_words(receipt))
        return True

    def say_done(self) -> None:
        """Let NNI's page say DONE."""
        try:
            Page(os.environ["NNI_TUNER_COMMAND_CHANNEL"]).finish(self.records.started())
        except (OSError, HyperFDError) as error:
            logger.warning("NNI's page will not say DONE: %s", error)


class Delay:
    """Calls ``action`` in a thread of its own, :data:`SETTLE_SECONDS` after the last :meth:`restart`."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action
        self._timer: threading.Timer | None = None

    def restart(self) -> None:
        """Wait from now on."""
        self.cancel()
        self._timer = threading.Timer(SETTLE_SECONDS, self._action)
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        """Do not wait any longer."""
        if self._timer is not None:
            self._timer.cancel()


def experiment_folder() -> Path:
    """Folder of the experiment whose dispatcher this process is."""
    return Path(os.environ["NNI_LOG_DIRECTORY"]).parent


def complain(dispatcher: MsgDispatcherBase | None, sentence: str) -> None:
    """Show an error wherever NNI shows any: its manager's log and status, the dispatcher's log, the terminal."""
    sentence = f"HyperFD: {sentence}"
    if dispatcher is not None:
        dispatcher.report_error(sentence)
    print(sentence, file=sys.stderr, flush=True)
    logger.error(sentence)
