"""Two transfer methods of Syne Tune (Salinas et al. 2022), optional: pip install -e .[rivals]."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from nni_hyperfd.evidence.rivals.base import FloatArray, Known, Study
from nni_hyperfd.evidence.rivals.choices import Choices
from nni_hyperfd.evidence.rivals.completion import TableRival
from nni_hyperfd.evidence.rivals.optional import global_numpy_seed, needed, quiet

_TRANSFER = "syne_tune.optimizer.schedulers.transfer_learning"
_METRIC = "ap"


class _SyneTune(TableRival):
    """The table in Syne Tune's terms: one categorical choice a key, the known data sets as its past tasks.

    It compares tasks column by column, and its own surrogates for gaps (``use_surrogates``) do not run in 0.16. So it is
    given the completed table, as are all methods that are defined on full ones.
    """

    def reset(self, experience: Known, seed: int) -> None:
        needed(f"{_TRANSFER}.zero_shot", self.name)
        super().reset(experience, seed)
        self._rng = np.random.default_rng(seed)
        self._choices = Choices(experience)

    def _known(self, expected: FloatArray) -> dict[str, Any]:
        """Arguments that all its transfer methods share, for ``expected`` ``[S, K]``."""
        import pandas
        from syne_tune.config_space import choice
        from syne_tune.optimizer.schedulers.transfer_learning.transfer_learning_task_evaluation import (
            TransferLearningTaskEvaluations,
        )

        # Values by their text: Syne Tune sorts those of one key, which may be of several types.
        space = {
            key: choice([str(value) for value in values]) for key, values in self._choices.values.items()
        }
        rows = [{key: str(value) for key, value in each.items()} for each in self._choices.parameters]
        tasks = {
            str(s): TransferLearningTaskEvaluations(
                space, pandas.DataFrame(rows), [_METRIC], row[:, None, None, None]
            )
            for s, row in enumerate(expected)
        }
        return {
            "config_space": space,
            "metric": _METRIC,
            "transfer_learning_evaluations": tasks,
            "do_minimize": False,
            "random_seed": int(self._rng.integers(2**31)),
        }

    def _evaluate(self, config: dict[str, str], study: Study) -> None:
        """Tries the suggestion, or what is left nearest to it."""
        study.evaluate(self._choices.nearest(self._choices.from_text(config), study, self._rng))


class SyneTuneZeroShot(_SyneTune):
    """``ZeroShotTransfer``: the greedy portfolio (Wistuba et al. 2015) with ranks within a data set as its loss."""

    name: ClassVar[str] = "syne-tune-zero-shot"

    def _spend(self, study: Study, expected: FloatArray) -> None:
        from syne_tune.optimizer.schedulers.transfer_learning.zero_shot import ZeroShotTransfer

        with _quiet():
            transfer = ZeroShotTransfer(
                **self._known(expected), sort_transfer_learning_evaluations=False, use_surrogates=False
            )
        while study.left:
            # Not suggest(): in 0.16 that one is random search and never looks at the transfer.
            config = transfer.get_config()
            self._evaluate(config, study)


class SyneTuneBoundingBox(_SyneTune):
    """``BoundingBox`` (Perrone et al. 2019): random search among the values that the best configurations have."""

    name: ClassVar[str] = "syne-tune-box"

    def _spend(self, study: Study, expected: FloatArray) -> None:
        from syne_tune.optimizer.baselines import RandomSearch
        from syne_tune.optimizer.schedulers.transfer_learning.bounding_box import BoundingBox

        def inside(box: dict[str, Any], metric: str, do_minimize: bool, random_seed: int) -> RandomSearch:
            return RandomSearch(box, [metric], do_minimize, random_seed)

        # Its random searcher does not use the seed that it is given.
        with _quiet(), global_numpy_seed(int(self._rng.integers(2**31))):
            transfer = BoundingBox(inside, **self._known(expected))
            while study.left:
                self._evaluate(transfer.suggest().config, study)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """It prints the box, and warns of rows in another order, which ours are not."""
    with quiet("syne_tune", logging.ERROR), contextlib.redirect_stdout(io.StringIO()):
        yield
