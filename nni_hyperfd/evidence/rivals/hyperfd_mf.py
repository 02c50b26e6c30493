"""``method: hyperfd-mf`` behind the interface of methods by price: the code that the platform runs, with the one ranker that it has.

Trials are planned by :class:`~nni_hyperfd.recommendation.foresight.Foresight`, anew after each; finished customers take part with
their curves and with the φ that their update left, carried to the newest ranker by Z.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from nni_hyperfd.evidence.curves import CurveTable, CurveTask, go_on_by
from nni_hyperfd.evidence.rivals.hyperfd_gp import CustomersSoFar
from nni_hyperfd.evidence.rivals.with_ranker import WithRanker
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.ranker.offline import OfflineData
from nni_hyperfd.ranker.update import PastTask
from nni_hyperfd.recommendation.foresight import CurvePoints, Foresight
from nni_hyperfd.spaces.configuration import Configuration


class HyperFDMF(WithRanker):
    """See the module."""

    name = "hyperfd-mf"

    def reset(self, offline: CurveTable, seed: int) -> None:
        super().reset(offline, seed)
        self._known = _with_curves(self._platform.offline, self._space.key, offline.aps)
        self._courses: dict[str, Mapping[Configuration, CurvePoints]] = {}
        self._foresight: Foresight | None = None

    def search(self, task: CurveTask) -> None:
        before = len(self._platform.past)
        super().search(task)
        if len(self._platform.past) > before:
            self._courses[self._platform.past[-1].key] = self._courses_of(task)
            self._foresight = None

    def _play(self, task: CurveTask, features: ImageFeatures) -> None:
        if self._foresight is None:
            platform, length = self._platform, task.length
            self._foresight = Foresight(platform.ranker, platform.images, self._known, self._space, length)
        plan = partial(
            self._foresight.plan,
            self._space,
            self._platform.configurations[: task.candidates],
            self._platform.phi(features).tolist(),
            past=_CoursesSoFar(self._platform.past, self._courses),
        )
        go_on_by(task, plan)

    def _results(self, task: CurveTask) -> list[int]:
        # The platform keeps the curves of the others, for later foresight, but no AP.
        return task.reached(task.length)

    def _courses_of(self, task: CurveTask) -> dict[Configuration, CurvePoints]:
        """What a platform keeps of a customer's trainings, in the order in which they were begun."""
        shares = (np.arange(task.length) + 1) / task.length
        return {
            self._platform.configurations[index]: [
                (float(share), float(ap)) for share, ap in zip(shares, task.seen[index]) if not np.isnan(ap)
            ]
            for index in task.reached(1)
        }


class _CoursesSoFar(CustomersSoFar):
    """The run's customers so far, as a foresight asks for them."""

    def __init__(
        self, tasks: list[PastTask], courses: Mapping[str, Mapping[Configuration, CurvePoints]]
    ) -> None:
        super().__init__(tasks)
        self._courses = courses

    def curves(self, task_id: str, most: int) -> dict[Configuration, CurvePoints]:
        return dict(list(self._courses[task_id].items())[:most])


def _with_curves(offline: OfflineData, space: str, curves: NDArray[np.float64]) -> OfflineData:
    """Offline data whose results in one space have their curves ``[S, U, T]`` beside them."""
    experience = offline.experience[space]
    rows = torch.from_numpy(curves)[experience.sets, experience.configurations].float()
    return replace(offline, experience={space: replace(experience, curves=rows)})
