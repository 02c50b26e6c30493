"""Full trainings and trainings that are begun, gone on with and left, on one table and by one currency (METHOD.md §11).

At a price of P a method that trains everything to its end has P trials; one that looks at beginnings has as many epochs. All choose by the
AP on val, which is all that a running training shows, and are ranked by the scenario's measure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.comparison import Outcome, Scenario, run_rival
from nni_hyperfd.evidence.curves import (
    CurveMethod,
    CurveScenario,
    CurveTable,
    HyperFDMF,
    Probes,
    curves_of,
    play,
    portfolio_order,
)
from nni_hyperfd.evidence.inputs import Inputs
from nni_hyperfd.evidence.methods import WARM_UPS
from nni_hyperfd.evidence.rivals.base import Rival
from nni_hyperfd.evidence.rivals.completion import Completion
from nni_hyperfd.evidence.rivals.early_stopping import STOPPERS
from nni_hyperfd.evidence.rivals.ensemble import describe_texts
from nni_hyperfd.evidence.rivals.hyperfd import HyperFD
from nni_hyperfd.evidence.runs import Laboratory
from nni_hyperfd.evidence.scenario import Measure
from nni_hyperfd.evidence.table import LookupTable
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.spaces.space import Space

FloatArray = NDArray[np.float64]

BY_PRICE = Measure("val_ap", "heldout_ap")
"""Chosen by what a training shows, ranked by the least noisy AP that there is."""
BY_PRICE_TEST = Measure("val_ap", "test_ap")


@dataclass(frozen=True, eq=False)
class Priced:
    """A comparison whose trainings have beginnings.

    Args:
        scenario: By full trainings; its candidates are those of which every customer has a curve.
        curves: ``[D, K, T]`` of the customers on val.
        offline: ``[S, U, T]`` of what is known beforehand; NaN where no row has a curve.
    """

    scenario: Scenario
    curves: FloatArray
    offline: FloatArray

    @classmethod
    def of(cls, inputs: Inputs, space: str, measure: Measure = BY_PRICE) -> Priced:
        """What the rows with curves make of a space; rows without one are passed over, but failed ones are not.

        Raises:
            DataError: There are too few such rows.
        """
        with_curves = inputs.only(lambda row: bool(row.curve or row.failure))
        for name, table in (("customer", with_curves.customers), ("offline set", with_curves.offline)):
            if not any(row.curve for row in table.select(space=space)):
                raise DataError(
                    f"{space}: no {name} has rows with learning curves, so nothing can be played by price; measure them anew with "
                    "'hyperfd table build'."
                )
        scenario = with_curves.scenario(space, measure)
        known = scenario.experience
        customers = with_curves.customers.select(space=space)
        offline = LookupTable.merge([with_curves.offline.select(space=space), customers])
        curves = curves_of(customers, known.configurations[: known.candidates], scenario.tasks)
        curves = np.where(np.isnan(scenario.choose.T)[..., None], np.nan, curves)
        return cls(scenario, curves, curves_of(offline, known.configurations, known.data_sets))

    def seen_by(self, ranker: HyperFD, space: Space) -> CurveScenario:
        """With φ of a warmed-up ranker as what data sets look like."""
        scenario, known = self.scenario, self.scenario.experience
        order = np.concatenate(
            [
                portfolio_order(Completion.of(known).complete(known.aps)),
                np.arange(known.candidates, len(known.configurations)),
            ]
        )
        looks, theirs = (
            np.stack([ranker.meta_features(each, 1)[0].double().numpy() for each in profiles])
            for profiles in (known.profiles, scenario.profiles)
        )
        offline = CurveTable(self.offline, describe_texts(space, known.configurations), looks, order)
        return CurveScenario(
            scenario.name, offline, self.curves, theirs, scenario.judge.T.copy(), scenario.tasks
        )


@dataclass(frozen=True)
class Stopper:
    """A method that leaves trainings, as a line of a table; see :class:`~nni_hyperfd.evidence.methods.Contender`."""

    name: str
    make: Callable[[Space], CurveMethod]
    settings: str
    seeds: int
    trains: bool = False


def stopping_methods() -> Mapping[str, Stopper]:
    """By name. That which fits processes for seconds a run has fewer seeds."""
    kinds: tuple[type[CurveMethod], ...] = (*STOPPERS, Probes)
    found = [*(_stopper(kind, 20) for kind in kinds), _stopper(HyperFDMF, 10, trains=True)]
    return {each.name: each for each in found}


def _stopper(kind: type[CurveMethod], seeds: int, trains: bool = False) -> Stopper:
    return Stopper(kind.name, lambda space: kind(), kind.name, seeds, trains)


class Player:
    """Plays methods of both kinds; those that look at customers look with the φ of warm-ups that no customer changed.

    Args:
        priced: Where.
        settings: Of the warm-ups.
        space: Of the configurations.
    """

    def __init__(self, priced: Priced, settings: RankerSettings, space: Space) -> None:
        self.priced, self._settings, self._space = priced, settings, space
        self._seen: dict[int, CurveScenario] = {}

    def play(self, rival: Rival | CurveMethod, prices: Sequence[int], seeds: Sequence[int]) -> Outcome:
        """One method at each price, with each seed."""
        if isinstance(rival, Rival):
            return run_rival(rival, self.priced.scenario, prices, seeds)
        each = [play(rival, self._seen_by(seed % WARM_UPS), prices, (seed,)) for seed in seeds]
        rank, ap = (np.concatenate([getattr(one, name) for one in each], axis=1) for name in ("rank", "ap"))
        return replace(each[0], rank=rank, ap=ap)

    def _seen_by(self, warm_up: int) -> CurveScenario:
        if warm_up not in self._seen:
            ranker = HyperFD(self._space, self._settings, warm_ups=WARM_UPS)
            ranker.reset(self.priced.scenario.experience, warm_up)
            self._seen[warm_up] = self.priced.seen_by(ranker, self._space)
        return self._seen[warm_up]


class PriceLaboratory(Laboratory):
    """Plays both kinds of methods and remembers; budgets are prices.

    Args:
        player: On what.
        space, folder, label, measure, deadline: As of :class:`~nni_hyperfd.evidence.runs.Laboratory`.
    """

    def __init__(
        self,
        player: Player,
        space: Space,
        folder: Path,
        label: str,
        measure: bool = True,
        deadline: float = float("inf"),
    ) -> None:
        super().__init__(player.priced.scenario, space, folder, label, measure, deadline)
        self._player = player
        digest = hashlib.sha256(self.fingerprint.encode())
        for array in (player.priced.curves, player.priced.offline):
            digest.update((np.round(array, 6) + 0.0).tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    def _play(self, rival: Any, budget: int, seed: int) -> Outcome:
        return self._player.play(rival, (budget,), (seed,))
