"""Full trainings and trainings that are begun, gone on with and left, on one table and by one currency (METHOD.md §11).

At a price of P a method that trains everything to its end has P trials; one that looks at beginnings has as many epochs. All choose by the
AP on val, which is all that a running training shows, and are ranked by the scenario's measure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.comparison import Outcome, Scenario, run_rival
from nni_hyperfd.evidence.curves import (
    CurveMethod,
    CurveScenario,
    CurveTable,
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
from nni_hyperfd.evidence.rivals.hyperfd_mf import HyperFDMF
from nni_hyperfd.evidence.rivals.quick_tune import QUICK
from nni_hyperfd.evidence.rivals.task_aware import TaskAwareHalving, TaskAwareHyperband
from nni_hyperfd.evidence.rivals.with_ranker import WithRanker
from nni_hyperfd.evidence.runs import fingerprint
from nni_hyperfd.evidence.scenario import Measure
from nni_hyperfd.evidence.table import LookupTable
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.spaces.space import Space

FloatArray = NDArray[np.float64]

BY_PRICE = Measure("val_ap", "heldout_ap")
"""Chosen by what a training shows, ranked by the least noisy AP that there is."""
BY_PRICE_TEST = Measure("val_ap", "test_ap")
BY_PRICE_VAL = Measure("val_ap", "val_ap")
"""What the search itself finds: the luck of choosing by a small val split has no part in it."""


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

    def played(self, space: Space) -> CurveScenario:
        """For methods that leave trainings. Data sets look like nothing here: whoever looks at images has their profiles."""
        scenario, known = self.scenario, self.scenario.experience
        order = np.concatenate(
            [
                portfolio_order(Completion.of(known).complete(known.aps)),
                np.arange(known.candidates, len(known.configurations)),
            ]
        )
        described = describe_texts(space, known.configurations)
        return CurveScenario(
            scenario.name,
            CurveTable(self.offline, described, np.zeros((len(known.data_sets), 0)), order, known),
            self.curves,
            np.zeros((len(scenario.tasks), 0)),
            scenario.judge.T.copy(),
            scenario.tasks,
            scenario.profiles,
        )


@dataclass(frozen=True)
class Stopper:
    """A method that leaves trainings, as a line of a table; see :class:`~nni_hyperfd.evidence.methods.Contender`."""

    name: str
    make: Callable[[Space], CurveMethod]
    settings: str
    seeds: int
    trains: bool = False


def stopping_methods(quick: bool = False) -> Mapping[str, Stopper]:
    """By name. Those that train a ranker or a predictor have fewer seeds.

    Args:
        quick: Hardly any training, to see whether everything runs; the figures mean nothing.
    """
    kinds: tuple[type[CurveMethod], ...] = (*STOPPERS, Probes)
    found = [Stopper(kind.name, _plain(kind), kind.name, 20) for kind in kinds]
    found += [Stopper(kind.name, _plain(kind), kind.settings(), 20, trains=True) for kind in QUICK]
    settings = RankerSettings(batches=2, warmup_epochs=2) if quick else RankerSettings()
    for shipped in (HyperFDMF, TaskAwareHyperband, TaskAwareHalving):
        said = f"{settings} {WARM_UPS} shipped"
        found.append(Stopper(shipped.name, _with_ranker(shipped, settings), said, 10, trains=True))
    return {each.name: each for each in found}


def _plain(kind: type[CurveMethod]) -> Callable[[Space], CurveMethod]:
    return lambda space: kind()


def _with_ranker(kind: type[WithRanker], settings: RankerSettings) -> Callable[[Space], CurveMethod]:
    return lambda space: kind(space, settings, WARM_UPS)


class ByPrice:
    """Plays methods of both kinds; a budget is a price.

    Args:
        priced: Where.
        space: Of the configurations.
    """

    def __init__(self, priced: Priced, space: Space) -> None:
        self.priced, self.scenario = priced, priced.scenario
        self._played = priced.played(space)

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(fingerprint(self.scenario).encode())
        for array in (self.priced.curves, self.priced.offline):
            digest.update((np.round(array, 6) + 0.0).tobytes())
        return digest.hexdigest()[:16]

    def play(self, rival: Rival | CurveMethod, budgets: Sequence[int], seeds: Sequence[int]) -> Outcome:
        """One method at each price, with each seed."""
        if isinstance(rival, Rival):
            return run_rival(rival, self.scenario, budgets, seeds)
        return play(rival, self._played, budgets, seeds)
