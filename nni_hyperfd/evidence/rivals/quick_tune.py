"""Quick-Tune (Arango et al. 2024) and DyHPO (Wistuba et al. 2022) by Quick-Tune-Tool (Rapant et al. 2024); optional, and on its own.

Before each validation a Gaussian process behind a network foretells what every training would show next, from its configuration and its
curve so far, and the largest expected improvement goes on by one. Quick-Tune's network was trained on the curves of other data sets before.

Quick-Tune-Tool 0.0.4 needs NumPy below 2 and scikit-learn 1.5.0, so it has an extra of its own: pip install -e .[quicktune] into an
environment made for it.
"""

from __future__ import annotations

import logging
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from nni_hyperfd.evidence.curves import CurveTable, CurveTask
from nni_hyperfd.evidence.rivals.base import FloatArray, Profile
from nni_hyperfd.evidence.rivals.early_stopping import EarlyStopping
from nni_hyperfd.evidence.rivals.optional import needed, quiet
from nni_hyperfd.ranker.seeding import seeded


class ByQuickOptimizer(EarlyStopping):
    """Who asks Quick-Tune-Tool's optimizer which training goes on by one validation, and tells it what came out.

    The library decides; ours is what a finite table and a price ask for:

    * Its tuner hands out its incumbent, the best score at any validation. A customer wants a training that was brought to its end, so
      as much is kept as the incumbent's end takes, whoever it is after the next validation.
    * It calls a search finished when every configuration was begun. A sample of a large space never is; a table is, and goes on.
    * Its first configurations are the first of the list, so the list is in random order.
    * Trainings of a table cost the same, so it is not aware of costs.
    """

    STARTS: ClassVar[int] = 3
    """Configurations that get one validation before the process is asked; 3 is the library's default."""
    REFIT: ClassVar[bool] = False
    """Whether the process is fitted to the customer's validations before each step; the library's default is that it is not."""
    FIT: ClassVar[dict[str, Any]]
    """Settings of the first fit, where they are not the library's own."""

    @classmethod
    def settings(cls) -> str:
        """All that a run depends on beside the table."""
        return f"{cls.name} {cls.STARTS} {cls.REFIT} {cls.FIT}"

    def reset(self, offline: CurveTable, seed: int) -> None:
        """See :meth:`.CurveMethod.reset`.

        Raises:
            DataError: The library is not installed.
        """
        needed("qtt", self.name, "quicktune")
        super().reset(offline, seed)

    @abstractmethod
    def _predictor(self, folder: str) -> Any:
        """What the optimizer of one customer foretells with; it may still have to be fitted."""

    @abstractmethod
    def _meta_features(self, task: CurveTask) -> FloatArray | None:
        """``[F]`` of the customer's data; None if they are of no use."""

    def _play(self, task: CurveTask) -> None:
        seed = int(self._rng.integers(2**31))
        with library_alone(seed) as folder:
            incumbent = self._ask_and_tell(task, folder)
        if incumbent is not None:
            task.train(incumbent, task.length)

    def _ask_and_tell(self, task: CurveTask, folder: str) -> int | None:
        """Returns the incumbent; None if no training came to a validation."""
        from qtt import QuickOptimizer

        order = self._rng.permutation(task.candidates)
        optimizer = QuickOptimizer(
            cs=None,
            max_fidelity=task.length,
            perf_predictor=self._predictor(folder),
            refit=self.REFIT,
            refit_init_steps=self.STARTS,
            path=folder,
            verbosity=0,
        )
        meta = self._meta_features(task)
        optimizer.setup_pandas(
            frame(self._offline.described[order]),
            None if meta is None else dict(frame(np.zeros((1, 0)), meta[None]).iloc[0]),
        )
        incumbent: int | None = None
        while task.left and len(optimizer.stoped | optimizer.failed) < task.candidates:
            optimizer.finished = False
            optimizer.init_random_search_steps = min(self.STARTS, task.candidates - len(optimizer.failed))
            begun = len(optimizer.evaled) >= optimizer.init_random_search_steps
            if begun and not optimizer.perf_predictor.is_fit:
                optimizer.fit(optimizer.pipelines.copy(), optimizer.curves, None)
            optimizer.ante()
            asked = optimizer.ask()
            index = int(order[asked["config-id"]])
            if not can_pay(task, index, incumbent):
                break
            ap = task.go_on(index)
            optimizer.tell({**asked, "score": ap, "status": not np.isnan(ap)})
            if not np.isnan(ap) and (incumbent is None or task.best(index) > task.best(incumbent)):
                incumbent = index
        return incumbent


class QuickTune(ByQuickOptimizer):
    """With a predictor that learned from the curves of all data sets known beforehand, as the library has it.

    Statistics of the images are its meta-features. It is trained once a run, and each customer begins with it anew: by the library's default
    it is not fitted to the customer, whose curves are inputs of the network. So customers do not teach it anything either.
    """

    name: ClassVar[str] = "quick-tune"
    FIT: ClassVar[dict[str, Any]] = {}
    META: ClassVar[bool] = True
    """Whether the predictor gets meta-features."""

    def __init__(self) -> None:
        self._trained: dict[int, Any] = {}
        self._trained_on: CurveTable | None = None

    @classmethod
    def settings(cls) -> str:
        """All that a run depends on beside the table."""
        return f"{super().settings()} {cls.META}"

    def reset(self, offline: CurveTable, seed: int) -> None:
        """See :meth:`ByQuickOptimizer.reset`.

        Raises:
            DataError: The library is not installed.
        """
        super().reset(offline, seed)
        if self._trained_on is not offline:
            self._trained, self._trained_on = {}, offline
        if seed not in self._trained:
            with library_alone(seed) as folder:
                self._trained[seed] = self._meta_train(folder)
        self._now = self._trained[seed]

    def _meta_train(self, folder: str) -> Any:
        from qtt import PerfPredictor

        known = self._offline
        sets, configurations = np.nonzero(~np.isnan(known.aps[..., 0]))
        meta = None
        if self.META:
            profiles = known.known.profiles if known.known else [None] * len(known.looks)
            meta = np.stack([data_set_numbers(*each) for each in zip(known.looks, profiles)])[sets]
        predictor = PerfPredictor(fit_params=self.FIT, path=folder, verbosity=0)
        return predictor.fit(frame(known.described[configurations], meta), known.aps[sets, configurations])

    def _predictor(self, folder: str) -> Any:
        return self._now

    def _meta_features(self, task: CurveTask) -> FloatArray | None:
        return data_set_numbers(task.looks, task.profile) if self.META else None


class QuickTuneForFew(QuickTune):
    """With what foretold left-out offline sets better where there are few curves, and the predictor asked from the first validation on.

    The library's settings are for many thousands of curves: here an epoch is one step, and the fit ends after a dozen. Few data sets are also
    too few to learn from what they look like.
    """

    name: ClassVar[str] = "quick-tune, for few curves"
    STARTS: ClassVar[int] = 0
    FIT: ClassVar[dict[str, Any]] = {"batch_size": 64, "learning_rate_init": 0.01, "patience": 20}
    META: ClassVar[bool] = False


class DyHPO(ByQuickOptimizer):
    """Without meta-training: the predictor is fitted to the customer's own first validations, and refitted before each further one."""

    name: ClassVar[str] = "dyhpo"
    REFIT: ClassVar[bool] = True
    FIT: ClassVar[dict[str, Any]] = {"early_stop": False}
    """There is nothing to hold out of three validations."""

    def _predictor(self, folder: str) -> Any:
        from qtt import PerfPredictor

        return PerfPredictor(fit_params=self.FIT, path=folder, verbosity=0)

    def _meta_features(self, task: CurveTask) -> None:
        """They are the same for all that it learns from."""


def can_pay(task: CurveTask, index: int, incumbent: int | None) -> bool:
    """Whether one more validation of ``index`` leaves enough to end the incumbent, be it the one there is or this one."""
    missing = np.isnan(task.seen).sum(axis=1)
    keep = missing[index] - 1
    if incumbent is not None and incumbent != index:
        keep = max(keep, missing[incumbent])
    return bool(task.left > keep)


def data_set_numbers(looks: FloatArray, profile: Profile | None) -> FloatArray:
    """``[F + P]`` what is known of a data set: its looks ``[F]`` and, where there are images, their statistics ``[P]``."""
    return looks if profile is None else np.concatenate([looks, profile.statistics])


def frame(described: FloatArray, meta: FloatArray | None = None) -> pd.DataFrame:
    """One line a training, for the library: a column for each number.

    Choices would be text, but the library's network counts columns before it turns text into one column a value, and would see the first of
    these alone. So it gets the numbers by which all processes here know a configuration.

    Args:
        described: ``[n, P]`` configurations.
        meta: ``[n, F]`` of their data sets.
    """
    columns = {f"c{i}": column for i, column in enumerate(described.T)}
    if meta is not None:
        columns |= {f"m{i}": column for i, column in enumerate(meta.T)}
    return pd.DataFrame(columns)


@contextmanager
def library_alone(seed: int) -> Iterator[str]:
    """A folder for what the library writes; meanwhile it draws from ``seed``, says nothing, and loads its data without further processes."""
    from qtt.predictors import perf

    loader = perf.DataLoader

    def alone(*rest: Any, num_workers: int = 0, **named: Any) -> Any:
        return loader(*rest, **named)

    # Four processes each epoch, for some hundred numbers.
    perf.DataLoader = alone
    try:
        with (
            TemporaryDirectory() as folder,
            seeded(seed),
            quiet("qtt", logging.ERROR),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield folder
    finally:
        perf.DataLoader = loader


QUICK: tuple[type[ByQuickOptimizer], ...] = (QuickTune, QuickTuneForFew, DyHPO)
