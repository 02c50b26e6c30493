"""What the shipped methods by price share: the platform's one ranker, which looks at a customer's images and learns from the results."""

from __future__ import annotations

from abc import abstractmethod

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.curves import CurveMethod, CurveTable, CurveTask
from nni_hyperfd.evidence.rivals.base import Tried
from nni_hyperfd.evidence.rivals.hyperfd import HyperFD, features_of
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.spaces.space import Space


class WithRanker(CurveMethod):
    """See the module.

    Args:
        space: The search space that the table's configurations are points of.
        settings: Of the ranker and its updates.
        warm_ups: Distinct warm-ups; further seeds use them again, in other orders of tasks. One a seed by default.
    """

    def __init__(
        self, space: Space, settings: RankerSettings | None = None, warm_ups: int | None = None
    ) -> None:
        self._space = space
        self._platform = HyperFD(space, settings, name=self.name, warm_ups=warm_ups)

    def reset(self, offline: CurveTable, seed: int) -> None:
        """See :meth:`.CurveMethod.reset`.

        Raises:
            DataError: It is a world without images.
        """
        if offline.known is None:
            raise DataError(f"{self.name} looks at images, and this is a world without any.")
        self._platform.reset(offline.known, seed)
        self._offline = offline

    def search(self, task: CurveTask) -> None:
        """See :meth:`.CurveMethod.search`.

        Raises:
            DataError: The customer has no images.
        """
        if task.profile is None:
            raise DataError(f"{self.name} looks at images, and this customer has none.")
        features = features_of(task.profile)
        self._play(task, features)
        results = [Tried(index, task.best(index)) for index in self._results(task)]
        if results:
            # As on a platform, a customer without any teaches nothing.
            self._platform.learn(results, features, task.candidates)

    @abstractmethod
    def _play(self, task: CurveTask, features: ImageFeatures) -> None:
        """Spends what is left, before the ranker learns of it."""

    @abstractmethod
    def _results(self, task: CurveTask) -> list[int]:
        """Trainings whose results the ranker learns from."""
