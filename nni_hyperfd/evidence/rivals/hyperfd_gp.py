"""``method: hyperfd-gp`` behind the rivals' interface: the code that the platform runs, with the one ranker that it has.

Trials are planned by :class:`~nni_hyperfd.recommendation.expectation.Expectation`, anew after each result, as the tuner does; after
the last of them the ranker is updated as in the faithful method, and finished customers take part with the φ that the update left,
carried to the newest ranker by Z.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nni_hyperfd.evidence.rivals.base import Known, Study
from nni_hyperfd.evidence.rivals.hyperfd import HyperFD, features_of
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.ranker.update import PastTask
from nni_hyperfd.recommendation.expectation import Expectation
from nni_hyperfd.spaces.space import Space


class HyperFDGP(HyperFD):
    """See the module.

    Args:
        space: The search space that the table's configurations are points of.
        settings: Of the ranker and its updates.
        name: In the results.
        warm_ups: Distinct warm-ups; further seeds use them again, in other orders of tasks. One a seed by default.
        at_once: Trials that run at the same time.
    """

    def __init__(
        self,
        space: Space,
        settings: RankerSettings | None = None,
        name: str = "hyperfd-gp",
        warm_ups: int | None = None,
        at_once: int = 1,
    ) -> None:
        super().__init__(space, settings, name=name, warm_ups=warm_ups)
        self._at_once = at_once

    def reset(self, experience: Known, seed: int) -> None:
        super().reset(experience, seed)
        self._expectation: Expectation | None = None

    def search(self, study: Study) -> None:
        features = features_of(study.profile)
        phi = self.phi(features).tolist()
        candidates = self._prepared.configurations[: study.candidates]
        if self._expectation is None:
            self._expectation = Expectation(
                self._ranker, self._settings.images, self._prepared.offline, self._space
            )
        while study.left:
            results = {
                candidates[each.index]: None if np.isnan(each.ap) else each.ap for each in study.trials
            }
            plan = self._expectation.plan(
                self._space, candidates, phi, self._at_once, results, (), CustomersSoFar(self._past)
            )
            study.evaluate_ranking(plan.order, self._at_once)
        self.learn(study.trials, features, study.candidates)
        if self._settings.mode != "freeze_all":
            self._expectation = None


class CustomersSoFar:
    """The run's customers so far, as an expectation asks for them; all of one search space."""

    def __init__(self, tasks: Sequence[PastTask]) -> None:
        self._tasks = {task.key: task for task in tasks}

    def of_space(self, space_key: str) -> list[str]:
        """See :meth:`.Past.of_space`."""
        return [key for key, task in self._tasks.items() if task.trials.space == space_key]

    def read(self, task_id: str, most: int | None = None) -> PastTask:
        """See :meth:`.Past.read`."""
        # Budgets of the comparison are far below any ``most``.
        return self._tasks[task_id]
