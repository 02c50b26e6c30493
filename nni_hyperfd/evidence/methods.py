"""Every method of the comparison by the name it has on the results page, and how many seeds it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.rivals.base import Known, Rival
from nni_hyperfd.evidence.rivals.best_on_server import BestOnServer
from nni_hyperfd.evidence.rivals.dycors import DYCORSSearch
from nni_hyperfd.evidence.rivals.ensemble import RANKERS, Ensemble, EnsembleGP, EnsembleRanking
from nni_hyperfd.evidence.rivals.gp_prior import GPPrior
from nni_hyperfd.evidence.rivals.hyperfd import HyperFD
from nni_hyperfd.evidence.rivals.hyperfd_gp import HyperFDGP
from nni_hyperfd.evidence.rivals.hyperstar import HyperSTAR, HyperSTARSettings
from nni_hyperfd.evidence.rivals.mean_rank import MeanRank
from nni_hyperfd.evidence.rivals.multi_task_gp import MultiTaskGP
from nni_hyperfd.evidence.rivals.optuna_tpe import OptunaTPE
from nni_hyperfd.evidence.rivals.portfolio import Portfolio, RankPortfolio
from nni_hyperfd.evidence.rivals.random_search import RandomSearch
from nni_hyperfd.evidence.rivals.rgpe import RGPE
from nni_hyperfd.evidence.rivals.scot import SCoT
from nni_hyperfd.evidence.rivals.syne_tune_transfer import SyneTuneBoundingBox, SyneTuneZeroShot
from nni_hyperfd.evidence.rivals.tpe import TPE
from nni_hyperfd.evidence.rivals.tr_automl import TrAutoML
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.spaces.space import Space

SEEDS = 20
"""Seeds of the protocol. One order of tasks costs HyperFD some hundred steps of training, so its variants have fewer."""
VARIANT_SEEDS = 10
WARM_UPS = 3
"""Distinct warm-ups; a seed beyond these begins with one of them again, in another order of tasks."""


@dataclass(frozen=True)
class Contender:
    """One line of a table.

    Args:
        name: On the page.
        make: For a search space.
        settings: What its results depend on beside the scenario; stored runs with others are not used.
        seeds: Runs at each budget.
        trains: Whether a run takes seconds rather than milliseconds.
    """

    name: str
    make: Callable[[Space], Rival]
    settings: str
    seeds: int = SEEDS
    trains: bool = False


class _OnServerAlone(HyperFD):
    """Table 6 without augmentation: the server's images are one data set, and nothing else is known.

    A warm-up needs something to stop by, so the configurations are dealt into two lists of that one data set.
    """

    _alone: tuple[Known, Known] | None = None

    def reset(self, experience: Known, seed: int) -> None:
        if self._alone is None or self._alone[0] is not experience:
            self._alone = experience, server_alone(experience)
        super().reset(self._alone[1], seed)


def server_alone(experience: Known) -> Known:
    """The server's own row as two data sets with the same images, each with every other configuration.

    Raises:
        DataError: There is no such row.
    """
    if experience.server is None:
        raise DataError("the table has no rows of 'server', all that is known without augmentation")
    row = experience.aps[experience.server]
    halves = np.full((2, len(row)), np.nan)
    known = np.flatnonzero(~np.isnan(row))
    halves[0, known[::2]], halves[1, known[1::2]] = row[known[::2]], row[known[1::2]]
    profile = experience.profiles[experience.server]
    return replace(
        experience, data_sets=("server/0", "server/1"), profiles=(profile,) * 2, aps=halves, server=None
    )


def methods(quick: bool = False) -> Mapping[str, Contender]:
    """All methods by name.

    Args:
        quick: Hardly any training, to see whether everything runs; the figures mean nothing.
    """
    base = RankerSettings(batches=2, warmup_epochs=2) if quick else RankerSettings()
    star = HyperSTARSettings(warmup_steps=5, task_steps=1) if quick else HyperSTARSettings()
    found = [
        *(Contender(kind.name, _plain(kind), kind.name) for kind in SIMPLE),
        *(Contender(kind.name, _plain(kind), kind.name, 8, trains=True) for kind in SLOW),
        Contender("hyperstar", lambda space: HyperSTAR(star), repr(star), trains=True),
        _hyperfd("hyperfd", base, SEEDS),
        _hyperfd("hyperfd (resnet)", base, variant="resnet"),
        _hyperfd("hyperfd (mobilenet)", base, variant="mobilenet"),
        _hyperfd("hyperfd (statistics)", base, variant="statistics"),
        _hyperfd("hyperfd (mse)", replace(base, loss="mse")),
        _hyperfd("hyperfd, no exploration", base, SEEDS, exploration=0.0),
        _hyperfd("latest data only", replace(base, mode="latest_only")),
        _hyperfd("frozen extractor", replace(base, mode="freeze_extractor")),
        _hyperfd("frozen ranker", replace(base, mode="freeze_all"), SEEDS),
        _hyperfd("no transformation", replace(base, transform="none")),
        _hyperfd("the paper's iteration", replace(base, transform="iterative")),
        _hyperfd("oracle", base, oracle=True),
        _hyperfd("no triplet loss", replace(base, triplet_weight=0.0)),
        _hyperfd("no synaptic intelligence", replace(base, synaptic_weight=0.0)),
        _hyperfd("no labels", base, variant="no_labels"),
        _hyperfd("no gwap", base, variant="no_gwap"),
        _hyperfd("no pyramid", base, variant="last_level"),
        _hyperfd("no statistics", base, variant="no_statistics"),
        _hyperfd("no attention", base, variant="no_attention"),
        _hyperfd("no warm-up", replace(base, warmup_epochs=0)),
        _hyperfd("no augmentation", base, kind=_OnServerAlone),
        _shipped_gp("hyperfd-gp", base),
        _shipped_gp("hyperfd-gp, frozen ranker", replace(base, mode="freeze_all")),
        _shipped_gp("hyperfd-gp, two at a time", base, at_once=2),
        *(_of_warm_ups(name, base) for name in STEPS),
    ]
    return {method.name: method for method in found}


def _plain(kind: type[Rival]) -> Callable[[Space], Rival]:
    return lambda space: kind()


def _hyperfd(
    name: str,
    settings: RankerSettings,
    seeds: int = VARIANT_SEEDS,
    kind: type[HyperFD] = HyperFD,
    **options: Any,
) -> Contender:
    """HyperFD or a variant of it; ``options`` are those of :class:`HyperFD`."""

    def make(space: Space) -> Rival:
        return kind(space, settings, name=name, warm_ups=WARM_UPS, **options)

    return Contender(name, make, f"{settings} {options} {WARM_UPS} {kind.__name__}", seeds, True)


def _shipped_gp(name: str, settings: RankerSettings, at_once: int = 1) -> Contender:
    def make(space: Space) -> Rival:
        return HyperFDGP(space, settings, name, WARM_UPS, at_once)

    return Contender(name, make, f"{settings} {WARM_UPS} {at_once} shipped", VARIANT_SEEDS, True)


def _of_warm_ups(name: str, settings: RankerSettings) -> Contender:
    def make(space: Space) -> Rival:
        return STEPS[name](space, lambda count: Ensemble.of(space, settings, count), name)

    return Contender(name, make, f"{settings} {RANKERS} {name}")


Step = Callable[[Space, Callable[[int], Ensemble], str], Rival]
STEPS: Mapping[str, Step] = {
    "warm-ups together": lambda space, of, name: EnsembleRanking(of(RANKERS), name),
    "process": lambda space, of, name: EnsembleGP(space, [None], own=(1.0,), name=name),
    "process with φ": lambda space, of, name: EnsembleGP(space, [of(RANKERS)], own=(1.0,), name=name),
    "without φ": lambda space, of, name: EnsembleGP(space, [None], name=name),
    "ensemble sure of φ": lambda space, of, name: EnsembleGP(space, [of(RANKERS)], name=name),
    "ensemble, not shipped": lambda space, of, name: EnsembleGP(space, [of(RANKERS), None], name=name),
}
"""What the variant consists of, φ and hypotheses about how far customers differ from each other, with the φ of several warm-ups, which no
platform has."""


SIMPLE: tuple[type[Rival], ...] = (
    RandomSearch,
    BestOnServer,
    MeanRank,
    Portfolio,
    RankPortfolio,
    GPPrior,
    TrAutoML,
    SCoT,
    TPE,
    DYCORSSearch,
    OptunaTPE,
    SyneTuneZeroShot,
    SyneTuneBoundingBox,
)
SLOW: tuple[type[Rival], ...] = (MultiTaskGP, RGPE)
"""These fit Gaussian processes for some seconds a task."""
