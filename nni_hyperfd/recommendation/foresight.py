"""What the beginnings of a customer's trainings say about their ends, and which to begin or go on with by that: ``hyperfd-mf``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.protocol.messages import (
    BegunTraining,
    Recommendation,
    RecommendRequest,
)
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.offline import OfflineData
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.transform import ExactTransform
from nni_hyperfd.ranker.update import PastTask
from nni_hyperfd.recommendation.gaussian.description import describe
from nni_hyperfd.recommendation.gaussian.every_epoch import (
    Curves,
    EveryEpoch,
    Forerunner,
    NextEpochs,
    Standing,
    Trainings,
)
from nni_hyperfd.recommendation.gaussian.observed import FloatArray
from nni_hyperfd.recommendation.ranking import SPARES, in_order
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.space import Space

LOOKED_AT = 256
"""Spaces up to this size are looked at whole; larger ones by a sample, which is never larger than this."""
CURVES = 400
"""Offline curves that take part; the time for fitting grows with the third power of their number. Where there are more, data sets are
left out evenly."""
OWN_TRAININGS = 128
"""Trainings of the task itself that are looked at."""
PAST, PAST_TRAININGS = 32, 24
"""Forerunner tasks that take part, the latest ones, and trainings of each."""

Share = float
CurvePoints = Sequence[tuple[Share, float]]
"""A learning curve: (share of a full training, AP@50 on val) of each validation."""


class PastCurves(Protocol):
    """Forerunner tasks and their learning curves, fetched from where they are kept."""

    def of_space(self, space_key: str) -> list[str]:
        """Ids of those of one search space, oldest first."""

    def read(self, task_id: str, most: int | None = None) -> PastTask:
        """One of them."""

    def curves(self, task_id: str, most: int) -> Mapping[Configuration, CurvePoints]:
        """The longest curve of each configuration, of no more than ``most`` configurations; the end alone where there is no curve."""


class Foresight:
    """One ranker version's view of all learning curves in one search space.

    Args:
        ranker: The version.
        images: Size of an image sample.
        offline: The server's data and experience.
        space: Any of those with the key in question.
        validations: Of the customer's full trainings; the offline curves are read off there.

    Raises:
        PlatformError: There are no offline curves in this space.
    """

    def __init__(
        self, ranker: Ranker, images: int, offline: OfflineData, space: Space, validations: int
    ) -> None:
        experience = offline.experience.get(space.key)
        if experience is None or not (~experience.curves.isnan()).any():
            raise PlatformError(
                "method hyperfd-mf needs learning curves of the platform's own trainings, and for a search space of this kind "
                f"({space.kind}) this platform has none; write method: hyperfd-gp, or ask for a platform of a newer version"
            )
        self.validations = validations
        self._offline_phi = offline.meta_features(ranker.extractor, images)
        rows = experience.curves.double().numpy()
        curves = np.full((len(offline), len(experience.encodings), validations), np.nan)
        curves[experience.sets.numpy(), experience.configurations.numpy()] = at_times(rows, validations)
        known = ~np.isnan(curves[..., -1])
        sets = np.flatnonzero(known.any(axis=1))
        if (total := int(known.sum())) > CURVES:
            sets = sets[np.linspace(0, len(sets) - 1, max(2, len(sets) * CURVES // total)).astype(int)]
        columns = np.flatnonzero(known[sets].any(axis=0))
        described = describe(space, experience.encodings[torch.from_numpy(columns)])
        phi = self._offline_phi[torch.from_numpy(sets)].double().numpy()
        self._every_epoch = EveryEpoch(Curves(curves[np.ix_(sets, columns)], described, phi))
        self._finished: dict[str, Forerunner | None] = {}
        self._current: tuple[object, Trainings] | None = None

    def recommend(
        self,
        version: int,
        space: Space,
        phi: Sequence[float],
        request: RecommendRequest,
        past: PastCurves,
    ) -> Recommendation:
        """The trainings to begin or to go on with, best first, and spares.

        Args:
            version: That this is the view of.
            space: The customer's.
            phi: ``[64]`` of the data, under this version.
            request: With the progress of the task.
            past: Forerunner tasks.

        Raises:
            PlatformError: No training can be brought to its end with what is left.
            SpaceError: A training is not of the space.
        """
        progress = request.progress
        assert progress is not None, "the message sees to it"
        begun = _telling({space.parse(each.parameters): each for each in progress.trainings})
        candidates = self._candidates(space, request, begun)
        plan = self.plan(space, candidates, phi, self._standing(candidates, begun, progress.left), past)
        count = request.budget + max(request.budget, SPARES)
        order = plan.order[:count].tolist()
        if not order:
            raise PlatformError("no training can be brought to its end with what is left")
        return in_order(version, space, candidates, order, plan.expected.tolist(), request.budget)

    def plan(
        self,
        space: Space,
        candidates: Sequence[Configuration],
        phi: Sequence[float],
        standing: Standing,
        past: PastCurves,
    ) -> NextEpochs:
        """What going on with each of K candidates is worth; whoever has a table of them asks here.

        Args:
            space: The customer's.
            candidates: What can be trained.
            phi: ``[64]`` of the data, under this version.
            standing: How far the training of each candidate is.
            past: Forerunner tasks.
        """
        finished = self._learnt(space, past)
        about = (tuple(phi), tuple(candidates), tuple(self._finished))
        if self._current is None or self._current[0] != about:
            described = describe(space, encode(space, candidates))
            self._current = about, self._every_epoch.customer(np.array(phi), described, finished)
        return self._current[1].plan(standing)

    def _standing(
        self,
        candidates: Sequence[Configuration],
        begun: Mapping[Configuration, BegunTraining],
        left: int,
    ) -> Standing:
        seen = np.full((len(candidates), self.validations), np.nan)
        standing = Standing.idle(seen, np.zeros(len(candidates), dtype=bool), left)
        for row, training in enumerate(map(begun.get, candidates)):
            if training is not None:
                done = len(training.aps)
                seen[row, :done] = training.aps
                standing.failed[row] = training.state == "failed"
                if training.state == "running":
                    standing.until[row] = training.until or min(done + 1, self.validations)
        return standing

    def _learnt(self, space: Space, past: PastCurves) -> list[Forerunner]:
        """The finished tasks that take part; those that do not any more are forgotten."""
        tasks = past.of_space(space.key)[-PAST:]
        self._finished = {task: self._finished[task] for task in tasks if task in self._finished}
        for task in tasks:
            if task not in self._finished:
                self._finished[task] = self._learn(space, task, past)
        return [each for each in self._finished.values() if each is not None]

    def _learn(self, space: Space, task_id: str, past: PastCurves) -> Forerunner | None:
        """None where no training of a task brought anything."""
        curves = past.curves(task_id, PAST_TRAININGS)
        if not curves:
            return None
        task = past.read(task_id, 1)
        carried = ExactTransform.factor(task.offline_phi).refresh(self._offline_phi) @ task.phi
        described = describe(space, encode(space, list(curves)))
        seen = np.stack([_seen(course, self.validations) for course in curves.values()])
        return self._every_epoch.finished(carried.double().numpy(), described, seen)

    def _candidates(
        self, space: Space, request: RecommendRequest, begun: Iterable[Configuration]
    ) -> list[Configuration]:
        """The space, or a sample of it and what was begun beside that."""
        if space.size <= LOOKED_AT:
            return space.enumerate()
        sampled = space.sample_up_to(min(request.candidates, LOOKED_AT), np.random.default_rng(request.seed))
        return list(dict.fromkeys([*sampled, *begun]))


def _telling(begun: dict[Configuration, BegunTraining]) -> dict[Configuration, BegunTraining]:
    """All trainings, or so many of them that :data:`OWN_TRAININGS` remain: the best by their newest AP, and the latest."""
    if len(begun) <= OWN_TRAININGS:
        return begun
    named = list(begun)
    best = sorted(named, key=lambda each: -max(begun[each].aps[-1:], default=0.0))[: OWN_TRAININGS // 2]
    latest = [each for each in named if each not in best][-(OWN_TRAININGS - len(best)) :]
    return {each: begun[each] for each in (*best, *latest)}


def at_times(curves: FloatArray, validations: int) -> FloatArray:
    """Curves ``[..., T]`` at so many other equally distant times ``[..., validations]``, between their points on straight lines.

    Before the first point there is nothing to go by but that point. NaN anywhere leaves a curve out.
    """
    count = curves.shape[-1]
    where = np.clip(np.arange(1, validations + 1) / validations * count - 1, 0, count - 1)
    low = np.minimum(np.floor(where).astype(int), count - 1)
    high = np.minimum(low + 1, count - 1)
    found = curves[..., low] + (where - low) * (curves[..., high] - curves[..., low])
    found[np.isnan(curves).any(axis=-1)] = np.nan
    return np.asarray(found)


def _seen(course: CurvePoints, validations: int) -> FloatArray:
    """``[validations]`` a curve with other times at the nearest of ours, as far as it goes; NaN where it says nothing."""
    found = np.full(validations, np.nan)
    for share, ap in course:
        found[max(0, round(share * validations) - 1)] = ap
    return found
