"""Trials that go on with each other's trainings (``method: hyperfd-mf``): how far each training is, what it cost, and what comes next.

As with :mod:`~nni_hyperfd.plugin.trials`, NNI's records alone say what became of a trial, and each look reads all of them. A *training* is of
one configuration; a trial is a part of it, from where the trial before stopped to a later validation. The *price* is validations that
were trained for, whoever did: a trial that found no checkpoint trained the epochs before its own once more, and is charged for them, and
so is one that the stop of an experiment cut off, which begins again when that is resumed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nni_hyperfd.customer.result import Result, read_metric
from nni_hyperfd.detection.training.budgets import BUDGETS
from nni_hyperfd.errors import PluginError, SpaceError
from nni_hyperfd.plugin.records import Attempt, Records
from nni_hyperfd.plugin.trials import NO_RESULT
from nni_hyperfd.spaces.stages import TRIAL_CHECKPOINTS, TRIAL_EPOCHS, Stage

logger = logging.getLogger(__name__)

MOST_VALIDATIONS = 20
"""Of a training whose beginning counts; the platform takes no more."""

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Length:
    """Of a full training: epochs, of which every ``step``-th ends with a validation."""

    epochs: int
    step: int

    @property
    def validations(self) -> int:
        """Of a full training."""
        return self.epochs // self.step

    @classmethod
    def of(cls, records: Records) -> Length:
        """That of the trials of an experiment, by the budget that its trial command names.

        Raises:
            PluginError: They have none that is known beforehand.
        """
        name = records.training().budget
        fit = {
            each.name: each
            for each in BUDGETS.values()
            if 1 < each.validations <= min(each.stop_after, MOST_VALIDATIONS)
        }
        if name not in fit:
            raise PluginError(
                f"method hyperfd-mf goes on with trainings of a known length with 2 to {MOST_VALIDATIONS} validations, and those with "
                f"--budget {name} are not so; let the trial command name one of {', '.join(fit)}."
            )
        budget = fit[name]
        return cls(budget.epochs, budget.validate_every)


@dataclass
class Training:
    """How far one configuration is.

    Args:
        configuration: As the platform named it.
        aps: AP@50 on val after each validation.
        stop: Epochs until the last trial that brought a result; 0 where none did.
        result: Of that trial.
        running: What a trial is at.
        trouble: Why it cannot go on.
        paid: Validations that were trained for, those to come of a running trial included.
    """

    configuration: dict[str, Any]
    aps: list[float] = field(default_factory=list)
    stop: int = 0
    result: Result | None = None
    running: Stage | None = None
    trouble: str | None = None
    paid: int = 0

    def take(self, outcome: Attempt, stage: Stage, length: Length, alive: bool) -> None:
        """What became of one of its trials, in the order of the trials; ``alive``: a job runs that may have been swapped with its own."""
        expected, most = (stage.stop - stage.begun) // length.step, stage.stop // length.step
        # What is reported more often than at validations, as in each batch, has not cost more than the validations.
        price = max(1, min(len(outcome.curve), most))
        self.paid += sum(min(validations, most) for validations in outcome.cut_off)
        try:
            curve = [read_metric(value).ap for value in outcome.curve]
            result = None if outcome.value is None else read_metric(outcome.value)
            if result is not None and not expected <= len(curve) <= most:
                raise PluginError(
                    f"it reported {len(curve)} intermediate results, and {expected} validations were wanted of it"
                )
        except PluginError as error:
            self.trouble, self.paid = str(error), self.paid + price
            return
        if result is not None:
            # The last validation is at the stop, wherever the first one was.
            self._see(most - len(curve), curve)
            self.stop, self.result, self.paid = stage.stop, result, self.paid + len(curve)
            return
        if stage.begun == 0:
            self._see(0, curve[:most])
        if outcome.ended and not (outcome.reported and alive):
            # Whether it was this one that failed is certain only when nothing runs; until then it may still cost what was wanted of it.
            self.trouble = NO_RESULT
            self.paid += max(expected, price) if alive else price
        else:
            self.running, self.paid = stage, self.paid + max(expected, price)

    def _see(self, before: int, curve: Sequence[float]) -> None:
        self.aps[before : before + len(curve)] = curve

    @property
    def state(self) -> str:
        """In the platform's words."""
        return "failed" if self.trouble else "running" if self.running else "stopped"

    def until(self, length: Length) -> int | None:
        """Validations that it will have when its trial is done; None where none runs."""
        return self.running.stop // length.step if self.running and not self.trouble else None

    def outcome(self, length: Length) -> tuple[dict[str, Any], Result | None, int | None]:
        """Configuration, result with its curve (None: it failed, or has none yet) and, where it was left before its end, its epochs."""
        if self.result is None or self.trouble:
            return self.configuration, None, None
        shares = [(number + 1) / length.validations for number in range(self.stop // length.step)]
        result = replace(self.result, curve=tuple(zip(shares, self.aps)))
        return self.configuration, result, self.stop if self.stop < length.epochs else None


def trainings_of(outcomes: Iterable[Attempt], length: Length) -> list[Training]:
    """The trainings that NNI's records tell of, in the order of their beginnings."""
    found: dict[str, Training] = {}
    outcomes = list(outcomes)
    alive = any(not outcome.ended for outcome in outcomes)
    for outcome in outcomes:
        stage = _stage(outcome)
        if stage is not None and stage.full == length.epochs:
            configuration = outcome.configuration
            training = found.setdefault(_key(configuration), Training(configuration))
            training.take(outcome, stage, length, alive)
    return list(found.values())


def _stage(outcome: Attempt) -> Stage | None:
    """None also where somebody has written something else into a trial on NNI's page; such a trial ends with a sentence of its own."""
    try:
        return outcome.stage
    except SpaceError:
        return None


def longest(records: Records) -> list[tuple[dict[str, Any], Result | None, int | None]]:
    """:meth:`Training.outcome` of all trainings of an experiment that brought something."""
    length = Length.of(records)
    return _outcomes(trainings_of(records.outcomes(), length), length)


def _outcomes(
    trainings: Iterable[Training], length: Length
) -> list[tuple[dict[str, Any], Result | None, int | None]]:
    return [each.outcome(length) for each in trainings if each.result or each.trouble]


Ask = Callable[[int, Sequence[Training]], list[dict[str, Any]]]
"""From the validations that are left and all trainings so far to configurations to begin or to go on with, best first."""


class ContinuedTrials:
    """Trials of parts of trainings, until the price of so many full ones is paid. To be used by one thread at a time.

    Args:
        records: NNI's.
        budget: Full trainings that all trials together may cost.
        length: Of a full one.
        checkpoints: Folder where trials find what others left.
        ask: The platform.
    """

    def __init__(self, records: Records, budget: int, length: Length, checkpoints: Path, ask: Ask) -> None:
        self._records, self.length, self._checkpoints, self._ask = records, length, checkpoints, ask
        self._price = budget * length.validations
        self._handed_out: dict[str, dict[str, Any]] = {}
        self._trainings: list[Training] = []
        self._unused_ids: list[int] = []
        self._told: set[tuple[str, int]] = set()
        self._exhausted, self._last_left = False, self._price

    def look(self) -> list[Training]:
        """See what has become of the trials; returns the trainings of which there is news."""
        outcomes = self._records.outcomes()
        for outcome in outcomes:
            self._handed_out.pop(_key(outcome.parameters), None)
        self._trainings = trainings_of(outcomes, self.length)
        news = []
        for training in self._trainings:
            what = (_key(training.configuration), -1 if training.trouble else training.stop)
            if what[1] and what not in self._told:
                self._told.add(what)
                news.append(training)
        left = self._left(self._trainings)
        if news or left != self._last_left:
            self._exhausted, self._last_left = False, left
        return news

    def request(self, parameter_ids: Iterable[int]) -> list[dict[str, Any]]:
        """Parameters for the first of ``parameter_ids``; ids left over are kept, as NNI does not ask again."""
        kept, self._unused_ids = self._unused_ids, list(parameter_ids)
        found = self.replacements()
        self._unused_ids = [*kept, *self._unused_ids]
        return [parameters for _, parameters in found]

    def replacements(self) -> list[tuple[int, dict[str, Any]]]:
        """(parameter id, parameters) for kept ids that there is something to train for by now."""
        found: list[tuple[int, dict[str, Any]]] = []
        while self._unused_ids and not self._exhausted:
            parameters = self._next()
            if parameters is None:
                self._exhausted = True
            else:
                found.append((self._unused_ids.pop(0), parameters))
        return found

    def _next(self) -> dict[str, Any] | None:
        trainings = self._with_handed_out()
        left = self._left(trainings)
        known = {_key(each.configuration): each for each in trainings}
        full = self.length.validations
        if not self._can_end_one(trainings):
            return None
        for configuration in self._ask(left, trainings):
            training = known.get(_key(configuration), Training(configuration))
            missing = full - len(training.aps)
            if training.state != "stopped" or not 0 < missing <= left:
                continue
            # Before anything has ended there is nothing in hand: the first training goes to its end in one go.
            first = not any(each.stop == self.length.epochs or _is_whole(each.running) for each in trainings)
            step = self.length.step
            at = len(training.aps) * step
            stage = Stage(at, self.length.epochs if first else at + step, self.length.epochs)
            parameters = {
                **configuration,
                TRIAL_EPOCHS: str(stage),
                TRIAL_CHECKPOINTS: str(self._checkpoints),
            }
            self._handed_out[_key(parameters)] = parameters
            return parameters
        return None

    def _with_handed_out(self) -> list[Training]:
        """The trainings, as if NNI had listed jobs for all that was handed out."""
        waiting = [Attempt(-1, parameters, False, None, False) for parameters in self._handed_out.values()]
        return trainings_of([*self._records.outcomes(), *waiting], self.length)

    def _left(self, trainings: Sequence[Training]) -> int:
        return max(0, self._price - sum(each.paid for each in trainings))

    def _can_end_one(self, trainings: Sequence[Training]) -> bool:
        """Whether what is left pays for the rest of any training."""
        full = self.length.validations
        begun = (full - len(each.aps) for each in trainings if each.state == "stopped")
        return min([full, *(missing for missing in begun if missing)]) <= self._left(trainings)

    # -------------------------------------------------------------------------------------------- what is known

    @property
    def over(self) -> bool:
        """Nothing runs, and nothing is left that can be paid for."""
        idle = not self._handed_out and all(each.running is None for each in self._trainings)
        return idle and (self._exhausted or not self._can_end_one(self._trainings))

    @property
    def paid(self) -> float:
        """Full trainings that the trials cost so far."""
        return sum(each.paid for each in self._trainings) / self.length.validations

    @property
    def trainings(self) -> list[Training]:
        """As of the last look."""
        return list(self._trainings)

    @property
    def outcomes(self) -> list[tuple[dict[str, Any], Result | None, int | None]]:
        """:meth:`Training.outcome` of all that brought something."""
        return _outcomes(self._trainings, self.length)

    def best(self) -> str:
        """One sentence: which training that came to its end is best, and whether one that did not is better."""
        results = [(each.result.ap, each) for each in self._trainings if each.result and not each.trouble]
        whole = [(ap, each) for ap, each in results if each.stop == self.length.epochs]
        if not results:
            return "No training brought a result"
        ap, best = max(whole or results, key=lambda pair: pair[0])
        share = (
            "to its end" if whole else f"for {best.stop} of {self.length.epochs} epochs, and none to its end"
        )
        sentence = f"Best is AP@50 {ap:.4f}, trained {share}, with {_shown(best.configuration)}"
        higher, shorter = max(results, key=lambda pair: pair[0])
        if higher > ap:
            sentence += (
                f"; {higher:.4f} was seen after {shorter.stop} epochs with {_shown(shorter.configuration)}"
            )
        return sentence


def _is_whole(stage: Stage | None) -> bool:
    return stage is not None and stage.stop == stage.full


def _key(parameters: Parameters) -> str:
    return json.dumps(parameters, sort_keys=True)


def _shown(configuration: Parameters) -> str:
    return ", ".join(f"{key} {value}" for key, value in configuration.items())
