"""A customer at a platform: data set and search space on one side, ranked configurations on the other."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.customer.limits import limited_space
from nni_hyperfd.customer.noise_account import KeptNoise
from nni_hyperfd.customer.profiling import profile_apart
from nni_hyperfd.customer.rehearsal import Planned
from nni_hyperfd.customer.result import Regime, Result
from nni_hyperfd.customer.settings import Settings
from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.detection.network.weights import base_id
from nni_hyperfd.detection.training.budgets import BUDGETS
from nni_hyperfd.errors import PlatformError, PluginError
from nni_hyperfd.protocol.calls import PlatformAPI
from nni_hyperfd.protocol.messages import (
    BegunTraining,
    Progress,
    Recommendation,
    RecommendRequest,
    Task,
    UpdateReceipt,
    build,
)

logger = logging.getLogger(__name__)


class Customer:
    """One data set and one search space, with a platform to ask.

    Everything that can be wrong is looked at before the expensive part, the image-level features.

    Args:
        settings: Checked and with absolute paths.
        search_space: As NNI gives it.
        platform: Where the recommendation comes from, and the results go.

    Raises:
        HyperFDError: The search space, the platform's state or the data cannot be used; one sentence says why.
    """

    def __init__(self, settings: Settings, search_space: Mapping[str, Any], platform: PlatformAPI) -> None:
        # Threads that wait for each other on cores that trials keep busy cost more than they bring.
        torch.set_num_threads(1)
        self.settings = settings
        self.space = limited_space(search_space, settings)
        if settings.space not in (None, self.space.kind):
            raise PluginError(
                f"classArgs say space: {settings.space}, but the search space is of the kind {self.space.kind}; "
                "name another searchSpaceFile, or leave space out."
            )
        self._noise = KeptNoise(settings.privacy_noise) if settings.privacy_noise else None
        # Not the settings' seed: the trials split the data by themselves and must come to the same split.
        dataset = load_dataset(settings.data, **settings.reading().arguments())
        logger.info("%s", dataset.report)
        features = profile_apart(dataset, settings)
        noise = None if self._noise is None else self._noise.noise
        self._client = TaskClient(platform, features, base_id(), settings.seed, noise)

    def preview(self) -> Recommendation:
        """The ranked configurations, leaving no trace on the platform.

        Raises:
            PlatformError: It is refused, or nothing of what the platform proposes keeps to the limits.
        """
        return self._within_limits(
            self._client.preview(
                self.space.search_space, self.settings.budget, self.space.flops_limit, **self._options()
            )
        )

    def rehearse(self) -> tuple[RecommendRequest, list[Planned]]:
        """What :meth:`preview` would send, and what a whole experiment would; only the ranker is asked for."""
        request = self._client.request(
            self.space.search_space, self.settings.budget, self.space.flops_limit, **self._options()
        )
        return request, self._client.rehearse(request)

    def open(self, experiment_id: str) -> Task:
        """Begin the task of an experiment, or find it again."""
        task = self._client.open(experiment_id, self.space.search_space, self.space.flops_limit)
        self._say_what_was_spent()
        return task

    def recommend(
        self,
        task: Task,
        count: int,
        begun: Sequence[Mapping[str, Any]] = (),
        progress: Progress | None = None,
    ) -> Recommendation:
        """``count`` configurations for a task, and spares; ``begun`` are those that were handed out before.

        ``progress`` says how far those of them are that have no result, for the method hyperfd-gp.

        Raises:
            PlatformError: It is refused, or nothing of what the platform proposes keeps to the limits.
        """
        begun = tuple(dict(each) for each in begun)
        options = self._options() | ({"progress": progress} if progress else {})
        return self._within_limits(self._client.recommend(task, count, begun=begun, **options))

    def next_epochs(self, task: Task, count: int, progress: Progress) -> Recommendation:
        """``count`` trainings to begin or to go on with, best first, and spares, when they are as far as ``progress`` says.

        Raises:
            PlatformError: It is refused, or nothing of what the platform proposes keeps to the limits.
        """
        options = self._options() | {"progress": progress}
        return self._within_limits(self._client.recommend(task, count, **options))

    def progress(
        self,
        validations: int,
        left: int,
        trainings: Sequence[tuple[Mapping[str, Any], Sequence[float], str, int | None]] = (),
    ) -> Progress:
        """As the platform is told of it.

        Args:
            validations: Of a full training.
            left: How many can still be paid for.
            trainings: Configuration, APs so far, state, and where it is running the validations until its trial stops, of each that was begun.
        """
        begun = tuple(
            build(BegunTraining, parameters=dict(parameters), aps=tuple(aps), state=state, until=until)
            for parameters, aps, state, until in trainings
        )
        return build(Progress, validations=validations, left=left, trainings=begun)

    def draw(self, count: int, without: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """``count`` configurations at random, or as many as the space has beside those that are named."""
        if not count:
            return []
        known = {self.space.parse(each) for each in without}
        sample = self.space.sample_up_to(count + len(known), np.random.default_rng(self.settings.seed))
        return [self.space.parameters(each) for each in sample if each not in known][:count]

    def record(
        self, task: Task, parameters: Mapping[str, Any], result: Result | None, training: Regime
    ) -> None:
        """Have a result, or a failure (None), kept on the platform; repeating it changes nothing."""
        seed, budget = training.seed, training.budget
        if result is None:
            self._client.record(task, parameters, None, seed, budget)
            return
        if result.begun:
            self._client.record(task, parameters, None, seed, budget, curve=result.curve)
            return
        self._client.record(
            task,
            parameters,
            result.ap,
            seed,
            budget,
            curve=result.curve,
            test_ap=result.test_ap,
            heldout_ap=result.heldout_ap,
            seconds=result.seconds,
        )

    def update(self, task: Task) -> UpdateReceipt:
        """Let the platform learn from the task, once."""
        try:
            return self._client.update(task)
        finally:
            self._say_what_was_spent()

    def _say_what_was_spent(self) -> None:
        if self._noise is not None:
            # As it is now: a log may be written later.
            logger.info("%s", str(self._noise))

    def _within_limits(self, found: Recommendation) -> Recommendation:
        """What is over a limit is never tried, whatever a platform proposes."""
        named = [
            tuple(each for each in ranked if self.space.admits(self.space.parse(each.parameters)))
            for ranked in (found.configurations, found.spares)
        ]
        if not named[0]:
            raise PlatformError(
                "of the networks that the platform proposed none keeps to the limits; ask its operator"
            )
        return found.model_copy(update={"configurations": named[0], "spares": named[1]})

    def _options(self) -> dict[str, Any]:
        settings, costs = self.settings, self.space.costs
        return {
            "network_costs": None if costs is None else costs.rows(),
            "candidates": settings.candidates,
            "exploration": settings.exploration,
            "method": settings.method,
            "seed": settings.seed,
            "progress": _nothing_begun(settings) if settings.method == "hyperfd-mf" else None,
        }


def _nothing_begun(settings: Settings) -> Progress:
    """Of an experiment without a trial.

    A preview does not know how long its trainings are, so they have as many validations as the budget ``short``.
    """
    validations = BUDGETS["short"].validations
    return build(Progress, validations=validations, left=settings.budget * validations)
