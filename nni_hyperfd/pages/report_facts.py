"""What a finished experiment has to tell; the page, the model card and the terminal show the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nni_hyperfd.detection.evaluation.bootstrap import APInterval, ap_interval
from nni_hyperfd.detection.evaluation.held_out import FILE_NAME, RESULT, HeldOut, read_held_out
from nni_hyperfd.detection.network.weights import BEST
from nni_hyperfd.errors import DataError, SpaceError
from nni_hyperfd.spaces.architecture import backbone_flops
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.unread import configuration_of


@dataclass(frozen=True)
class TrialFolder:
    """What a trial of this package left in its folder.

    Args:
        folder: With its weights.
        result: Content of its ``result.json``.
    """

    folder: Path
    result: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path | None) -> TrialFolder | None:
        """What lies in ``folder``; None where there is no result of such a trial, or its weights are gone."""
        if folder is None or not (folder / BEST).is_file():
            return None
        try:
            result = json.loads((folder / RESULT).read_text())
            numbers = [
                result["val_ap"],
                result["test_ap"],
                result["base"]["val_ap"],
                result["base"]["test_ap"],
                *result.get("handed_out", {}).values(),
            ]
            whole = all(isinstance(each, int | float) for each in numbers)
            whole = whole and isinstance(result["budget"], dict) and isinstance(result["curve"], list)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return cls(folder, result) if whole else None

    @property
    def kept_base(self) -> bool:
        """Training did not beat the base on val, so the weights are the base's."""
        return self.result.get("kept") == "base"

    @property
    def drawn_back(self) -> bool:
        """The weights are the trained ones, drawn back a little towards the base."""
        return self.result.get("kept") == "drawn back"

    @property
    def val_ap(self) -> float:
        """AP@50 on val of the weights in the folder."""
        # Trials of earlier releases did not say it.
        before = self.result["base"] if self.kept_base else self.result
        measured = self.result.get("handed_out", before)
        return float(measured["val_ap"])

    @property
    def curve(self) -> list[tuple[float, float]]:
        """(epoch, AP@50 on val), beginning with the base."""
        points = [(float(epoch), float(ap)) for epoch, ap in self.result["curve"]]
        return [(0.0, float(self.result["base"]["val_ap"])), *points]


@dataclass(frozen=True)
class TrialFacts:
    """One trial.

    Args:
        number: Counted from 1, in the order in which they began.
        job_id: NNI's.
        parameters: What it ran.
        place: In the recommended ranking, counted from 1; None where it is not in there.
        score: What the platform foretold for it.
        ap, test_ap: AP@50 as it was reported; None where there is none.
        seconds: Of its training.
        reports: AP@50 after each validation, as it was reported.
        ended: It has stopped.
        training: What it left in its folder.
    """

    number: int
    job_id: str
    parameters: Mapping[str, Any]
    place: int | None
    score: float | None
    ap: float | None
    test_ap: float | None
    seconds: float | None
    reports: tuple[float, ...]
    ended: bool
    training: TrialFolder | None

    @property
    def name(self) -> str:
        """Its configuration, in one line."""
        try:
            return str(Configuration.from_parameters(self.parameters))
        except SpaceError:
            return ", ".join(f"{key} {value}" for key, value in self.parameters.items())

    @cached_property
    def madds(self) -> float | None:
        """Multiply-adds of its network in millions, as ``max_madds`` counts them; None where it chose no network."""
        try:
            network = Configuration.from_parameters(self.parameters).architecture
        except SpaceError:
            return None
        return None if network is None else backbone_flops(network) / 1e6

    @property
    def curve(self) -> list[tuple[float, float]]:
        """(epoch, AP@50 on val); a trial of the user's own says no epochs, so its reports are counted."""
        if self.training:
            return self.training.curve
        return [(float(number), ap) for number, ap in enumerate(self.reports, start=1)]

    @property
    def epochs(self) -> int | None:
        """Epochs that were trained, as far as validations tell."""
        return int(self.training.curve[-1][0]) if self.training else None

    @property
    def in_hand(self) -> float:
        """AP@50 on val of the detector that it left; less than any AP where it left none."""
        return self.training.val_ap if self.training else -1.0


@dataclass(frozen=True)
class OnSplit:
    """The best detector on one split: AP@50 with its interval, and everything that it found."""

    name: str
    split: HeldOut
    ap: float
    interval: APInterval


@dataclass(frozen=True)
class Sent:
    """Messages of one kind that left the machine: how many, and bytes in all."""

    call: str
    messages: int
    bytes: int


@dataclass(frozen=True)
class ReportFacts:
    """One experiment.

    Args:
        experiment_id: NNI's.
        folder: Of the experiment.
        data: Folder of the images; None where nobody knows.
        state: One sentence on whether it is over.
        method, version: Of the recommendation, where there was one.
        wanted: Results that were wanted.
        platform: Where the platform is.
        trials: All of them, in their order.
        seconds: That NNI ran.
        sent: What left the machine.
        learned: One sentence on the platform's update.
    """

    experiment_id: str
    folder: Path
    data: Path | None
    state: str
    method: str | None
    version: int | None
    wanted: int | None
    platform: str | None
    trials: tuple[TrialFacts, ...]
    seconds: float
    sent: tuple[Sent, ...]
    learned: str

    @property
    def finished(self) -> list[TrialFacts]:
        """Trials with a result."""
        return [trial for trial in self.trials if trial.ap is not None]

    @cached_property
    def best(self) -> TrialFacts | None:
        """The trial that left the detector with the best AP@50 on val; of equal ones the one that trained better.

        Where no trial left a detector, the one that reported the best result.
        """
        return max(self.finished, key=lambda trial: (trial.in_hand, trial.ap or 0.0), default=None)

    @cached_property
    def front(self) -> list[TrialFacts]:
        """Finished trials of networks that no cheaper one is as good as (the Pareto front of cost against AP), the cheapest first."""
        found: list[TrialFacts] = []
        priced = [trial for trial in self.finished if trial.madds is not None]
        for trial in sorted(priced, key=lambda trial: (trial.madds or 0.0, -(trial.ap or 0.0))):
            if not found or (trial.ap or 0.0) > (found[-1].ap or 0.0):
                found.append(trial)
        return found

    @cached_property
    def measured(self) -> tuple[OnSplit, ...]:
        """The best detector on val and test; empty where its trial kept no detections."""
        if self.best is None or self.best.training is None:
            return ()
        try:
            splits = read_held_out(self.best.training.folder / FILE_NAME)
        except DataError:
            return ()
        return tuple(
            OnSplit(name, split, split.ap, ap_interval(split.found, split.truth, len(split.names)))
            for name, split in splits.items()
        )

    def notes(self) -> list[str]:
        """What cannot be shown or known, a sentence each."""
        said = []
        top = max((trial.ap or 0.0 for trial in self.finished), default=0.0)
        # Parts of one training are one.
        configurations = (configuration_of(trial.parameters) for trial in self.finished if trial.ap == top)
        tied = {json.dumps(each, sort_keys=True) for each in configurations}
        if len(tied) > 1:
            said.append(
                f"{len(tied)} configurations reached the same AP@50 on val, {top:.3f}, so val does not say which of them is best: put more "
                "images into it."
            )
        if self.best and self.best.training is None:
            said.append(
                "The best trial left no detector of this package in its folder (the trial is your own, or its folder is gone), so there "
                "are no intervals, no precision-recall curves, no pictures, and no detector to hand out."
            )
        elif self.best and not self.measured:
            said.append(
                f"The best trial kept no {FILE_NAME} that can be read, so there are no intervals, no precision-recall curves and no pictures."
            )
        return said
