"""Quick-Tune and DyHPO by Quick-Tune-Tool as tuners of NNI, the same methods that are played by price on the tables (benchmarks/nni_rivals.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nni import NoMoreTrialError
from nni.tuner import Tuner

from nni_hyperfd.customer.result import read_metric
from nni_hyperfd.errors import HyperFDError
from nni_hyperfd.evidence.curves import CurveMethod, CurveTable, CurveTask, FloatArray, curves_of
from nni_hyperfd.evidence.rivals.ensemble import describe_texts
from nni_hyperfd.evidence.rivals.quick_tune import DyHPO, QuickTuneForFew
from nni_hyperfd.evidence.table import SERVER, LookupTable, canonical, parameters_of
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.stages import TRIAL_CHECKPOINTS, TRIAL_EPOCHS, Stage

TABLES = Path(__file__).parent / "tables"
METHODS = {kind.name: kind for kind in (QuickTuneForFew, DyHPO)}
"""Of Quick-Tune-Tool those that need no images of the data sets whose curves are known."""


class Wanted(HyperFDError):
    """A search asks for a validation that nobody has trained yet."""

    def __init__(self, index: int, at: int) -> None:
        super().__init__(f"validation {at + 1} of training {index}")
        self.index, self.at = index, at


class Replayed(CurveTask):
    """A customer of whose curves ``[K, T]`` only what was trained is known, NaN elsewhere; trainings in ``failed`` fail where theirs end."""

    def __init__(self, curves: FloatArray, failed: set[int], validations: int) -> None:
        super().__init__(np.zeros(0), curves, validations)
        self._unknown, self._broken = np.isnan(curves), failed

    def go_on(self, index: int) -> float:
        """See :meth:`.CurveTask.go_on`.

        Raises:
            Wanted: It is to be trained first.
        """
        at = int((~np.isnan(self.seen[index])).sum())
        if self.left > 0 and at < self.length and index not in self._broken and self._unknown[index, at]:
            raise Wanted(index, at)
        return super().go_on(index)


class Playing:
    """A method by price whose customer is trained elsewhere, step by step.

    At every step the search is played anew from its start with all that is known by now: the same seed decides the same, up to the first
    validation that is missing.

    Args:
        method: Who searches.
        offline: What is known beforehand; its configurations are what can be trained.
        length: Validations of a full training.
        validations: That are paid for.
        seed: Of the search.
    """

    def __init__(
        self, method: CurveMethod, offline: CurveTable, length: int, validations: int, seed: int
    ) -> None:
        self._method, self._offline, self._validations, self._seed = method, offline, validations, seed
        self._curves = np.full((len(offline.described), length), np.nan)
        self._failed: set[int] = set()

    def next(self) -> Wanted | None:
        """What is to be trained next; None at the search's end."""
        self._method.reset(self._offline, self._seed)
        try:
            self._method.search(Replayed(self._curves, self._failed, self._validations))
        except Wanted as wanted:
            return wanted
        return None

    def tell(self, wanted: Wanted, ap: float) -> None:
        """What came out of it; NaN: the training failed."""
        if np.isnan(ap):
            self._failed.add(wanted.index)
        self._curves[wanted.index, wanted.at] = ap


class QuickTune(Tuner):
    """One of :data:`METHODS` with a trial for each epoch, which goes on from the checkpoint of the one before; one trial at a time.

    Who learns from curves beforehand learns from those in ``benchmarks/tables``. It is told what a trial reports, the best AP so far.

    Args:
        method: Its name on the tables.
        epochs: Of a full training, with a validation after each.
        price: To be spent, in full trainings.
        checkpoints: Folder where one trial finds what another left.
    """

    def __init__(
        self, method: str, epochs: int, price: int, checkpoints: str, optimize_mode: str = "maximize"
    ) -> None:
        self._method = METHODS[method]()
        self._epochs, self._price, self._checkpoints = epochs, price, checkpoints
        self._texts: list[str] = []
        self._asked: dict[int, Wanted] = {}

    def update_search_space(self, search_space: dict[str, Any]) -> None:
        """Learns the curves of all that can be trained in the space."""
        space = Space.from_search_space(search_space)
        self._texts = [canonical(space.parameters(each)) for each in space.enumerate()]
        offline = known_curves(space, self._texts, self._epochs)
        self._playing = Playing(self._method, offline, self._epochs, self._price * self._epochs, seed=1)

    def generate_parameters(self, parameter_id: int, **rest: Any) -> dict[str, Any]:
        """A configuration and the epoch of it that is to be trained.

        Raises:
            NoMoreTrialError: The price is spent.
        """
        wanted = self._playing.next()
        if wanted is None:
            raise NoMoreTrialError("the price is spent")
        self._asked[parameter_id] = wanted
        return {
            **parameters_of(self._texts[wanted.index]),
            TRIAL_EPOCHS: str(Stage(wanted.at, wanted.at + 1, self._epochs)),
            TRIAL_CHECKPOINTS: self._checkpoints,
        }

    def receive_trial_result(
        self, parameter_id: int, parameters: dict[str, Any], value: Any, **rest: Any
    ) -> None:
        """The best AP on val that the training has had."""
        self._playing.tell(self._asked.pop(parameter_id), read_metric(value).ap)

    def trial_end(self, parameter_id: int, success: bool, **rest: Any) -> None:
        """A trial that ends without a result has failed."""
        if (wanted := self._asked.pop(parameter_id, None)) is not None:
            self._playing.tell(wanted, np.nan)


def known_curves(space: Space, texts: list[str], epochs: int) -> CurveTable:
    """Those of the offline sets and of the server, read off after each of ``epochs`` equal parts of a training."""
    server = LookupTable.load(TABLES / "hpo.csv.gz").select(data_sets=(SERVER,))
    rows = LookupTable.merge([LookupTable.load(TABLES / "offline_hpo.csv.gz"), server])
    names = sorted({row.data_set for row in rows})
    measured = curves_of(rows, texts, names)
    times = np.arange(1, measured.shape[-1] + 1) / measured.shape[-1]
    parts = np.arange(1, epochs + 1) / epochs
    curves = np.stack([np.interp(parts, times, curve) for curve in measured.reshape(-1, len(times))])
    curves = curves.reshape(*measured.shape[:2], epochs)
    order = np.arange(len(texts))
    return CurveTable(curves, describe_texts(space, texts), np.zeros((len(names), 0)), order)
