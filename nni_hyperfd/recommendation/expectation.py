"""What the platform's experience lets one expect of a customer's configurations, and what to try by that: ``hyperfd-gp``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.protocol.messages import Progress, Recommendation, RecommendRequest
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.offline import OfflineData
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.transform import ExactTransform
from nni_hyperfd.ranker.update import PastTask
from nni_hyperfd.recommendation.gaussian.description import describe
from nni_hyperfd.recommendation.gaussian.learning_curves import Remaining
from nni_hyperfd.recommendation.gaussian.observed import FloatArray
from nni_hyperfd.recommendation.gaussian.search import (
    Eye,
    GaussianSearch,
    Glimpses,
    Plan,
    Remembered,
    fair_share,
)
from nni_hyperfd.recommendation.ranking import SPARES, in_order
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.space import Space

LOOKED_AT = 512
"""Spaces up to this size are looked at whole; larger ones by a sample, which is never larger than this."""

PAST = 100
"""Finished tasks that take part, the latest ones."""

TRIALS = 64
"""Results of one of them that are looked at, evenly over its course; of these the most telling ones take part, see
:data:`~nni_hyperfd.recommendation.gaussian.search.ROWS`."""

OWN_RESULTS, OWN_RUNNING = 256, 128
"""Results and running trials of the task itself that take part beside the sample of a large space: of the results the best one and, of
twice as many evenly over its course, the most telling others; of the trials the latest."""

MEASUREMENTS = 1000
"""Offline results that take part, about; the time for fitting grows with the third power of their number. Where there are more, data
sets are left out evenly, and where few data sets have very many, so are their results."""

Results = Mapping[Configuration, float | None]
Newest = Mapping[Configuration, tuple[float, float]]
"""Of trainings without a result: the share of a full training after which they were last validated, and AP@50 on val there."""


class Past(Protocol):
    """Finished tasks, fetched from where they are kept."""

    def of_space(self, space_key: str) -> list[str]:
        """Ids of those of one search space, oldest first."""

    def read(self, task_id: str, most: int | None = None) -> PastTask:
        """One of them, with no more than ``most`` of its results, evenly over its course."""


class Expectation:
    """One ranker version's view of all experience in one search space.

    Two processes are asked: one in which φ under this version says where data sets are (that of finished tasks is carried to it
    by Z, METHOD §7), and one that does not know what they look like.

    Args:
        ranker: The version.
        images: Size of an image sample.
        offline: The server's data and experience.
        space: Any of those with the key in question.

    Example:
        >>> from nni_hyperfd.platform.first import read_assets
        >>> from nni_hyperfd.spaces.standard import standard_space
        >>> shipped = read_assets()
        >>> ranker, offline = Ranker.from_bytes(shipped.ranker), OfflineData.from_bytes(shipped.offline)
        >>> space = standard_space("nas")
        >>> expectation = Expectation(ranker, 100, offline, space)
        >>> networks = space.sample(40, np.random.default_rng(0))
        >>> class Nobody:  # has finished a task yet
        ...     def of_space(self, space_key):
        ...         return []
        >>> plan = expectation.plan(space, networks, [0.0] * 64, 2, {networks[0]: 0.5}, (), Nobody())
        >>> len(plan.order), 0 in plan.order, plan.expected.shape
        (2, False, (40,))

    Raises:
        PlatformError: There is no offline experience in this space.
    """

    def __init__(self, ranker: Ranker, images: int, offline: OfflineData, space: Space) -> None:
        experience = offline.experience.get(space.key)
        if experience is None or not experience.lists:
            raise PlatformError(
                f"method hyperfd-gp needs results on the platform's own data sets, and for a search space of this kind "
                f"({space.kind}) it has none; leave method out, or search one of the standard spaces hpo and nas"
            )
        self._offline_phi = offline.meta_features(ranker.extractor, images)
        aps = np.full((len(offline), len(experience.encodings)), np.nan)
        aps[experience.sets.numpy(), experience.configurations.numpy()] = experience.aps.double().numpy()
        sets = _spread(np.flatnonzero(~np.isnan(aps).all(axis=1)), len(experience.aps))
        aps = _thinned(aps[sets])
        columns = np.flatnonzero(~np.isnan(aps).all(axis=0))
        aps, described = (
            aps[:, columns],
            describe(space, experience.encodings[torch.from_numpy(columns)]),
        )
        phi = self._offline_phi[torch.from_numpy(sets)].double().numpy()
        self._seeing, self._blind = Eye(aps, described, phi), Eye(aps, described, phi[:, :0])
        self._finished: dict[str, tuple[Remembered, Remembered]] = {}
        self._remaining = Remaining.of(experience.curves.double().numpy())

    def recommend(
        self,
        version: int,
        space: Space,
        phi: Sequence[float],
        request: RecommendRequest,
        results: Results,
        begun: Iterable[Configuration],
        past: Past,
    ) -> Recommendation:
        """The configurations to try next, and spares.

        Args:
            version: That this is the view of.
            space: The customer's.
            phi: ``[64]`` of the data, under this version.
            request: For how many, how a large space is sampled, and how far trials are that have no result.
            results: AP@50 of the task's finished trials, None of the failed ones.
            begun: Configurations that are not to be proposed; the results of those that have none are still to come.
            past: Finished tasks.

        Raises:
            SpaceError: The space has fewer configurations than candidates are asked for.
            PlatformError: There is no configuration that could be recommended.
        """
        begun = list(begun)
        running = [each for each in begun if each not in results]
        newest = _newest(space, request.progress)
        candidates = self._candidates(space, request, results, [*newest, *running])
        if not candidates:
            raise PlatformError(
                "there is no configuration to recommend; widen the search space, or its limits"
            )
        count = request.budget + max(request.budget, SPARES)
        plan = self.plan(space, candidates, phi, count, results, running, past, newest)
        return in_order(
            version, space, candidates, plan.order.tolist(), plan.expected.tolist(), request.budget
        )

    def plan(
        self,
        space: Space,
        candidates: Sequence[Configuration],
        phi: Sequence[float],
        count: int,
        results: Results,
        running: Iterable[Configuration],
        past: Past,
        newest: Newest | None = None,
    ) -> Plan:
        """The next trials among K candidates, as positions in ``candidates``; whoever has a table of them asks here.

        Args:
            space: The customer's.
            candidates: What can be tried or was.
            phi: ``[64]`` of the data, under this version.
            count: Trials to name, or as many as are left.
            results: AP@50 of the task's finished trials, None of the failed ones.
            running: Candidates whose results are still to come.
            past: Finished tasks.
            newest: What was seen of candidates that have no result: they run or failed.
        """
        described = describe(space, encode(space, candidates))
        finished = self._learnt(space, past)
        search = GaussianSearch(
            [
                self._seeing.view(np.array(phi), described, [seen for seen, _ in finished]),
                self._blind.view(np.zeros(0), described, [unseen for _, unseen in finished]),
            ]
        )
        awaited = set(running)
        aps = np.array([results.get(each) for each in candidates], dtype=np.float64)
        return search.plan(
            aps,
            np.array([each in awaited for each in candidates]),
            np.array([each in results for each in candidates]) & np.isnan(aps),
            count,
            self._glimpses(candidates, aps, newest or {}),
        )

    def _glimpses(
        self, candidates: Sequence[Configuration], aps: FloatArray, newest: Newest
    ) -> Glimpses | None:
        """Of those that have no result, as far as the offline curves say anything."""
        if self._remaining is None:
            return None
        named = enumerate(candidates)
        at = np.array([i for i, each in named if each in newest and np.isnan(aps[i])], dtype=np.intp)
        shares, seen = np.array([newest[candidates[i]] for i in at], dtype=np.float64).reshape(-1, 2).T
        return self._remaining.glimpses(at, shares, seen)

    def _learnt(self, space: Space, past: Past) -> list[tuple[Remembered, Remembered]]:
        """The finished tasks that take part, as the two processes see them; those that do not any more are forgotten."""
        known, tasks = self._finished, past.of_space(space.key)[-PAST:]
        self._finished = {
            task: known[task] if task in known else self._learn(space, past.read(task, TRIALS))
            for task in tasks
        }
        return list(self._finished.values())

    def _learn(self, space: Space, task: PastTask) -> tuple[Remembered, Remembered]:
        phi = ExactTransform.factor(task.offline_phi).refresh(self._offline_phi) @ task.phi
        trials = describe(space, task.trials.encodings), task.trials.aps.double().numpy()
        return (
            self._seeing.finished(phi.double().numpy(), *trials),
            self._blind.finished(np.zeros(0), *trials),
        )

    def _candidates(
        self,
        space: Space,
        request: RecommendRequest,
        results: Results,
        running: Sequence[Configuration],
    ) -> list[Configuration]:
        """The space, or a sample of it and what is known of the task beside that."""
        if space.size <= LOOKED_AT:
            return space.enumerate()
        sampled = space.sample_up_to(min(request.candidates, LOOKED_AT), np.random.default_rng(request.seed))
        measured = [(each, ap) for each, ap in results.items() if ap is not None]
        if len(measured) > OWN_RESULTS:
            best = max(measured, key=lambda each: each[1])
            even = np.linspace(0, len(measured) - 1, min(2 * OWN_RESULTS, len(measured))).astype(int)
            measured = list(dict.fromkeys([best, *(measured[i] for i in even)]))
            described = describe(space, encode(space, [each for each, _ in measured]))
            measured = [measured[i] for i in self._blind.telling(described, OWN_RESULTS, [0])]
        known = [*(each for each, _ in measured), *running[-OWN_RUNNING:]]
        return list(dict.fromkeys([*sampled, *known]))


def _newest(space: Space, progress: Progress | None) -> dict[Configuration, tuple[float, float]]:
    """Of the trainings that were validated; nothing is known of others."""
    if progress is None:
        return {}
    return {
        space.parse(each.parameters): (len(each.aps) / progress.validations, each.aps[-1])
        for each in progress.trainings
        if each.aps
    }


def _spread(sets: NDArray[np.intp], measurements: int) -> NDArray[np.intp]:
    """All sets, or so many of them that about :data:`MEASUREMENTS` remain."""
    if measurements <= MEASUREMENTS:
        return sets
    kept = max(2, len(sets) * MEASUREMENTS // measurements)
    return sets[np.linspace(0, len(sets) - 1, kept).astype(int)]


def _thinned(aps: FloatArray) -> FloatArray:
    """``[S, U]`` with about :data:`MEASUREMENTS` left: no row has more than its fair share of them, evenly chosen."""
    most = fair_share((~np.isnan(aps)).sum(axis=1).tolist(), MEASUREMENTS * 5 // 4)
    found = np.full_like(aps, np.nan)
    for row, thin in zip(aps, found):
        measured = np.flatnonzero(~np.isnan(row))
        kept = measured[np.linspace(0, len(measured) - 1, min(most, len(measured))).astype(int)]
        thin[kept] = row[kept]
    return found
