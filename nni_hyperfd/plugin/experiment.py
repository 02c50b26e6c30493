"""One NNI experiment seen from its dispatcher: its records, its customer, its task, and how it ends."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nni.runtime.msg_dispatcher_base import MsgDispatcherBase

from nni_hyperfd.customer.result import Result
from nni_hyperfd.customer.settings import Settings
from nni_hyperfd.errors import HyperFDError, PlatformAwayError, PluginError, RefusedError
from nni_hyperfd.plugin.continued import Length
from nni_hyperfd.plugin.curve import beginning_of, known_length, result_of
from nni_hyperfd.plugin.memo import Memo, Presence, write_receipt
from nni_hyperfd.plugin.page import Page
from nni_hyperfd.plugin.records import Attempt, Records
from nni_hyperfd.plugin.trials import Job
from nni_hyperfd.spaces.unread import refuse_unread_space

if TYPE_CHECKING:
    from nni_hyperfd.protocol.messages import Progress, Recommendation

logger = logging.getLogger(__name__)


class Experiment:
    """What tuner and advisor do with the platform.

    Opening one reads the data and ranks the configurations, or takes over the ranking of an earlier process.

    Args:
        folder: Of the experiment.
        settings: Checked ``classArgs``.
        search_space: As NNI gives it; an experiment that was begun keeps the one that it began with.
        count: Configurations to recommend.
        drawn: Further ones to draw at random from the space by the settings' seed; they stand behind those.
        validations: Of a full training, where trainings are begun and gone on with.

    Raises:
        HyperFDError: Search space, data or platform cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        search_space: Mapping[str, Any],
        count: int,
        drawn: int = 0,
        validations: int | None = None,
    ) -> None:
        # Imported late: NNI waits ten seconds for the constructor of a tuner, and torch may take longer than that.
        from nni_hyperfd.customer.customer import Customer
        from nni_hyperfd.plugin.opening import platform_of

        self.records = Records(folder)
        memo = Memo.read(folder)
        code = self.records.config().get("trialCodeDirectory") or "."
        # A resumed experiment keeps its settings; only the token is not kept with them.
        settings = replace(memo.settings, token=settings.token) if memo else settings.resolved(Path(code))
        if memo is not None and search_space != memo.search_space:
            # NNI hands over what was last set on its page.
            say_that_the_space_stays()
            search_space = memo.search_space
        command = str(self.records.config().get("trialCommand", ""))
        if isinstance(search_space, Mapping):
            refuse_unread_space(search_space, command, settings.trial_reads)
        self._customer = Customer(settings, search_space, platform_of(settings, folder))
        self._task = self._customer.open(self.records.experiment_id)
        if memo is None or (memo.provisional and not self.records.outcomes()):
            memo = self._recommended(settings, search_space, count, drawn, validations)
            memo.write(folder)
        elif memo.provisional:
            logger.warning("The list of this experiment is not the platform's own: %s.", memo.provisional)
        Presence(folder).announce()
        self._folder, self._memo = folder, memo
        self._reported = False
        self._training, self._length = self.records.training(), known_length(self.records)
        self._ended = self._task.status == "done"
        if self._ended:
            logger.info("This experiment has updated the platform already; it will not do so again.")

    def _recommended(
        self,
        settings: Settings,
        search_space: Mapping[str, Any],
        count: int,
        drawn: int,
        validations: int | None,
    ) -> Memo:
        """The notes of an experiment that begins: the recommended configurations, those drawn, and the spares behind both."""
        from nni_hyperfd.customer.steady import Provisional

        # A share of 0 leaves nothing to recommend but what replaces failed trials.
        if validations is None:
            recommendation = self._customer.recommend(self._task, max(1, count))
        else:
            recommendation = self._customer.next_epochs(
                self._task, count, self._customer.progress(validations, count * validations)
            )
        chosen = recommendation.configurations[:count]
        best = [dict(ranked.parameters) for ranked in chosen]
        others = self._customer.draw(drawn, best)
        spares = [ranked for ranked in recommendation.spares if dict(ranked.parameters) not in others]
        reason = recommendation.reason if isinstance(recommendation, Provisional) else None
        by = "by platform version" if reason is None else "here, with the ranker of platform version"
        logger.info("Recommended %s %d:", by, recommendation.version)
        for number, ranked in enumerate(chosen, start=1):
            configuration = self._customer.space.parse(ranked.parameters)
            logger.info("  %d. %s (score %.4f)", number, configuration, ranked.score)
        return Memo(
            settings,
            search_space,
            (*best, *others, *(dict(ranked.parameters) for ranked in spares)),
            provisional=reason,
            scores=(
                *(ranked.score for ranked in chosen),
                *(None for _ in others),
                *(ranked.score for ranked in spares),
            ),
            version=recommendation.version,
        )

    @property
    def search_space(self) -> Mapping[str, Any]:
        """As NNI gave it at the experiment's beginning."""
        return self._memo.search_space

    @property
    def ranking(self) -> tuple[Mapping[str, Any], ...]:
        """Parameters of the configurations to try, in this order."""
        return self._memo.ranking

    def replan(self, wanted: int, handed_out: Collection[int]) -> None:
        """Have the rest of the ranking made anew from the results so far, where the method does so.

        Should that fail, for whatever reason, the old plan goes on.

        Args:
            wanted: Results that are still missing.
            handed_out: Places that stay as they are.
        """
        if self._memo.settings.method == "hyperfd" or wanted < 1:
            return
        begun = [self.ranking[place] for place in sorted(handed_out)]
        try:
            found = self._customer.recommend(self._task, wanted, begun, self._seen_so_far())
            memo = _replanned(self._memo, handed_out, found)
            following = [self._customer.space.parse(each.parameters) for each in found.configurations[:1]]
            # A resumed experiment reads its plan from the disk, so what is not there must not be tried.
            memo.write(self._folder)
        except Exception as error:
            logger.warning("The plan stays as it is: %s.", error, exc_info=not _is_told(error))
            return
        self._memo = memo
        for configuration in following:
            logger.info("The rest is planned anew; next: %s", configuration)

    def _seen_so_far(self) -> Progress | None:
        """Validations of trials that have no result, for whoever plans beside them; None where no length of a training is known, or nothing was seen."""
        if self._length is None:
            return None
        validations = self._length.validations
        seen = [
            (outcome.configuration, aps, "failed" if outcome.ended else "running", None)
            for outcome in self.records.outcomes()
            if self.place(outcome.configuration) is not None and (aps := beginning_of(outcome, self._length))
        ]
        return self._customer.progress(validations, 0, seen) if seen else None

    def next_epochs(
        self,
        validations: int,
        left: int,
        trainings: Sequence[tuple[Mapping[str, Any], Sequence[float], str, int | None]],
    ) -> list[dict[str, Any]]:
        """Configurations to begin or to go on with, best first; the ranking gets those that it does not have yet.

        Should the platform not answer, for whatever reason, trainings that were begun are gone on with, the furthest first, before others.

        Args:
            validations: Of a full training.
            left: How many can still be paid for.
            trainings: Of each that was begun as :meth:`~nni_hyperfd.customer.customer.Customer.progress` has it.
        """
        try:
            found = self._customer.next_epochs(
                self._task, self._memo.settings.budget, self._customer.progress(validations, left, trainings)
            )
            memo = _met(self._memo, found)
            # A resumed experiment reads its plan from the disk, so what is not there must not be tried.
            memo.write(self._folder)
        except Exception as error:
            logger.warning("The plan goes on as it is: %s.", error, exc_info=not _is_told(error))
            begun = sorted(trainings, key=lambda each: -len(each[1]))
            return [dict(each) for each in (*(each[0] for each in begun), *self.ranking)]
        self._memo = memo
        return [dict(each.parameters) for each in (*found.configurations, *found.spares)]

    def place(self, parameters: Mapping[str, Any]) -> int | None:
        """Place of a configuration in the ranking, 0 the best; None where it is not one of them."""
        return self.ranking.index(parameters) if parameters in self.ranking else None

    def met(self, parameters: Mapping[str, Any]) -> int:
        """Place of a configuration that was tried; one that a damaged plan does not have any more stands last from now on."""
        if self.place(parameters) is None:
            self._memo = replace(
                self._memo, ranking=(*self.ranking, dict(parameters)), scores=(*self._memo.scores, None)
            )
        return self.ranking.index(parameters)

    @property
    def checkpoints(self) -> Path:
        """Folder in which trials find where others stopped; nothing else is in it."""
        named = self._memo.settings.checkpoints
        return named / self.records.experiment_id if named else self._folder / "checkpoints"

    def leave_checkpoints(self) -> None:
        """Say where trainings wait that may be gone on with."""
        files, size = _sizes(self.checkpoints)
        if files:
            logger.info(
                "Trainings that may be gone on with wait in %s (%d checkpoints, %.1f MB); remove that folder if this experiment is not to go on.",
                self.checkpoints,
                files,
                size,
            )

    def remove_checkpoints(self) -> None:
        """Remove them when no trial can go on from any: the best weights of each trial are in its own folder."""
        files, size = _sizes(self.checkpoints)
        if not files:
            return
        try:
            shutil.rmtree(self.checkpoints)
        except OSError as error:
            logger.warning(
                "No trial goes on from the checkpoints in %s any more, and they could not be removed (%s): remove that folder.",
                self.checkpoints,
                error.strerror or error,
            )
            return
        logger.info(
            "No trial goes on from the %d checkpoints in %s any more: %.1f MB were removed.",
            files,
            self.checkpoints,
            size,
        )

    def jobs(self, epochs: int | None = None) -> list[Job[Result]]:
        """The trial jobs in NNI's records that run configurations of the ranking for so many epochs (None: full length)."""
        found = []
        for outcome in self.records.outcomes():
            place = self.place(outcome.configuration)
            if place is not None and outcome.epochs == epochs:
                result, trouble = _read(outcome, self._length)
                found.append(Job(place, outcome.ended, outcome.reported, result, trouble))
        return found

    def record(self, place: int, result: Result | None) -> None:
        """Have the platform keep a result or a failure (None) at once. Should it not, it is sent again at the end."""
        try:
            self._customer.record(self._task, self.ranking[place], result, self._training)
        except RefusedError as error:
            logger.error("%s.", error)
        except Exception as error:
            logger.error(
                "The platform did not take this (%s); it is sent again at the end.",
                error,
                exc_info=not _is_told(error),
            )

    def end(self, reason: str, outcomes: Iterable[tuple[int, Result | None, int | None]]) -> bool:
        """Update the platform, once in this process and, by the platform's care, once ever; False if it failed.

        While a platform is away, or will not have the experiment, that is over, too: its results are kept on this disk.

        Args:
            reason: For the log.
            outcomes: Place, result (None for a failure) and, where it was shortened, the epochs of the training.
        """
        from nni_hyperfd.plugin.experiment_end import end_experiment, in_words

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
        except RefusedError as error:
            logger.error("%s.", error)
            return True
        except Exception as error:
            logger.error(
                "The platform was not updated (%s); nothing is lost: run `hyperfd finish %s`.",
                error,
                self.records.experiment_id,
                exc_info=not _is_told(error),
            )
            return False
        self._ended = True
        logger.info("Done: %s.", in_words(receipt))
        try:
            write_receipt(self._folder, receipt)
        except PluginError as error:
            logger.warning("A report will not say what the platform learned: %s.", error)
        return True

    def say_done(self) -> None:
        """Let NNI's page say DONE."""
        try:
            Page(os.environ["NNI_TUNER_COMMAND_CHANNEL"]).finish(self.records.started())
        except (OSError, HyperFDError) as error:
            logger.warning("NNI's page will not say DONE: %s", error)

    def leave_report(self) -> None:
        """Write a page on the experiment into its folder, once, and say where it is in the last line of the log.

        Called when everything else is done: whatever goes wrong here, the experiment is over and the platform has learned.
        """
        if self._reported:
            return
        self._reported = True
        experiment = self.records.experiment_id
        try:
            from nni_hyperfd.plugin.report import write_page

            page = write_page(self._folder)
        except Exception as error:
            logger.warning(
                "There is no report yet (%s): run `hyperfd report %s`.",
                error,
                experiment,
                exc_info=not _is_told(error),
            )
            return
        logger.info(
            "The report is %s; `hyperfd report %s --out FOLDER` copies the best detector out, too.",
            page,
            experiment,
        )


def _met(memo: Memo, found: Recommendation) -> Memo:
    """The notes with whatever is new in a plan behind what they have, and what was last foretold for each."""
    fresh = {
        json.dumps(each.parameters, sort_keys=True): each for each in (*found.configurations, *found.spares)
    }
    known = [json.dumps(each, sort_keys=True) for each in memo.ranking]
    new = [each for key, each in fresh.items() if key not in known]
    scores = [
        fresh[key].score if key in fresh else memo.score(each) for key, each in zip(known, memo.ranking)
    ]
    return replace(
        memo,
        ranking=(*memo.ranking, *(dict(each.parameters) for each in new)),
        scores=(*scores, *(each.score for each in new)),
        provisional=None,
    )


def _replanned(memo: Memo, fixed: Collection[int], found: Recommendation) -> Memo:
    """The notes with a new plan at all places but the ``fixed`` ones, and what was last foretold for each."""
    ranking = _rearranged(memo.ranking, fixed, found)
    begun = [memo.ranking[place] for place in fixed]
    fresh = [(dict(each.parameters), each.score) for each in (*found.configurations, *found.spares)]

    def score(parameters: Mapping[str, Any]) -> float | None:
        new = (value for each, value in fresh if each == parameters and each not in begun)
        return next(new, memo.score(parameters))

    return replace(memo, ranking=ranking, scores=tuple(map(score, ranking)), provisional=None)


def _rearranged(
    ranking: Sequence[Mapping[str, Any]], fixed: Collection[int], found: Recommendation
) -> tuple[Mapping[str, Any], ...]:
    """``ranking`` with a new plan at all places but the ``fixed`` ones."""
    kept = [ranking[place] for place in fixed]
    fresh = [dict(each.parameters) for each in (*found.configurations, *found.spares)]
    # Spares that the new plan does not name stay behind it, so that no place is without a configuration.
    rest = [each for each in (*fresh, *ranking) if each not in kept]
    rest = [each for i, each in enumerate(rest) if each not in rest[:i]]
    return tuple(each if place in fixed else rest.pop(0) for place, each in enumerate(ranking))


def _sizes(folder: Path) -> tuple[int, float]:
    """How many files there are in a folder, and their megabytes."""
    sizes = [path.stat().st_size for path in folder.glob("*") if path.is_file()]
    return len(sizes), sum(sizes) / 1e6


def _read(outcome: Attempt, length: Length | None) -> tuple[Result | None, str | None]:
    """What a trial brought, if anything, or why it is no result."""
    try:
        return result_of(outcome, length), None
    except PluginError as error:
        return None, str(error)


def _is_told(error: Exception) -> bool:
    """Whether an error is one of ours, whose sentence says everything."""
    return isinstance(error, HyperFDError)


def experiment_folder() -> Path:
    """Folder of the experiment whose dispatcher this process is."""
    return Path(os.environ["NNI_LOG_DIRECTORY"]).parent


def say_that_the_space_stays() -> None:
    """Tell who has changed the search space on NNI's page what will come of it."""
    logger.error(
        "The search space was changed, and this experiment goes on with the one that it began with, whatever NNI's page shows; "
        "to search the new one, write it into a file and start a new experiment with `nnictl create`."
    )


def complain(dispatcher: MsgDispatcherBase | None, sentence: str) -> None:
    """Show an error wherever NNI shows any: on its page, in its manager's log, the dispatcher's log, the terminal."""
    sentence = f"HyperFD: {sentence}"
    try:
        Page(os.environ["NNI_TUNER_COMMAND_CHANNEL"]).show(sentence)
    except OSError as error:
        logger.warning("NNI's page does not show this error: %s", error)
    if dispatcher is not None:
        dispatcher.report_error(sentence)
    print(sentence, file=sys.stderr, flush=True)
    logger.error(sentence)
