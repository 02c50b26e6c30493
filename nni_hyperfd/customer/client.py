"""The customer's side of the protocol: holds what must stay at home, and sends what may leave.

The same code runs against a platform in this process and behind a network.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from nni_hyperfd.customer.rehearsal import Planned, rehearse
from nni_hyperfd.errors import PlatformError, UpdateLostError
from nni_hyperfd.metafeature.extractor import MetaFeatureExtractor
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.metafeature.noise import Noise
from nni_hyperfd.metafeature.sending import load_extractor, received_extractor
from nni_hyperfd.metafeature.view import ExactView, View
from nni_hyperfd.protocol import tensors
from nni_hyperfd.protocol.calls import PlatformAPI
from nni_hyperfd.protocol.messages import (
    BeginUpdate,
    CommitUpdate,
    FeatureStep,
    GradientStep,
    OpenTask,
    ReadExtractor,
    Recommendation,
    RecommendRequest,
    RecordReceipt,
    Subject,
    Task,
    TrialRecord,
    UpdateReceipt,
    UpdateTicket,
    build,
)
from nni_hyperfd.ranker.drive import drive
from nni_hyperfd.spaces.architecture import FLOPS_LIMIT

WAIT_LIMIT = 900.0
"""Longest wait for the updates of others, in seconds."""


class TaskClient:
    """One customer's data set at a platform.

    Args:
        platform: In this process or behind a network.
        features: Image-level features of the data; they stay here.
        base_id: Of the base detector with which they were computed.
        seed: Of the image samples; with the same one, the same numbers are sent.
        noise: Is put on everything that is computed from the images; None to send it as it is.
    """

    def __init__(
        self,
        platform: PlatformAPI,
        features: ImageFeatures,
        base_id: str,
        seed: int = 0,
        noise: Noise | None = None,
    ) -> None:
        self._platform, self._features, self._base_id = platform, features, base_id
        self._seed, self._noise = seed, noise

    def subject(self, search_space: Mapping[str, Any], flops_limit: float = FLOPS_LIMIT) -> Subject:
        """What a recommendation is for: the space, and φ under the platform's newest extractor."""
        state = self._platform.ask(ReadExtractor())
        return build(
            Subject,
            space=dict(search_space),
            phi=_numbers(self._view(received_extractor(state), state.images).meta_feature()),
            extractor_version=state.version,
            base_id=self._base_id,
            flops_limit=flops_limit,
        )

    def request(
        self, search_space: Mapping[str, Any], budget: int, flops_limit: float = FLOPS_LIMIT, **options: Any
    ) -> RecommendRequest:
        """What :meth:`preview` sends; ``options`` are further fields of RecommendRequest."""
        subject = self.subject(search_space, flops_limit)
        return build(RecommendRequest, subject=subject, budget=budget, **options)

    def preview(
        self, search_space: Mapping[str, Any], budget: int, flops_limit: float = FLOPS_LIMIT, **options: Any
    ) -> Recommendation:
        """Recommendation that leaves no trace on the platform."""
        return self._platform.ask(self.request(search_space, budget, flops_limit, **options))

    def rehearse(self, request: RecommendRequest) -> list[Planned]:
        """What an experiment that begins with ``request`` would send."""
        # A gradient has the extractor's own size, but for the buffers of the normalization.
        return rehearse(request, len(self._platform.ask(ReadExtractor()).tensors))

    def open(
        self, experiment_id: str, search_space: Mapping[str, Any], flops_limit: float = FLOPS_LIMIT
    ) -> Task:
        """Begin the task of an experiment, or find it again."""
        subject = self.subject(search_space, flops_limit)
        return self._platform.ask(build(OpenTask, experiment_id=experiment_id, subject=subject))

    def recommend(self, task: Task, budget: int, **options: Any) -> Recommendation:
        """Configurations to try; ``options`` are further fields of RecommendRequest."""
        return self._platform.ask(build(RecommendRequest, task_id=task.task_id, budget=budget, **options))

    def record(
        self,
        task: Task,
        parameters: Mapping[str, Any],
        ap: float | None,
        seed: int = 0,
        budget: str = "paper",
        trial_key: str | None = None,
        curve: Sequence[tuple[float, float]] = (),
        **measured: float | None,
    ) -> RecordReceipt:
        """Report a trial: AP@50 on val, or None where it failed; one that has a curve but no AP was left before its end.

        ``measured`` may have ``test_ap``, ``heldout_ap`` and ``seconds``.  Without a ``trial_key`` the trial is known by its
        configuration, seed and budget, so that a result reported by two ways counts once.
        """
        return self._platform.ask(
            build(
                TrialRecord,
                task_id=task.task_id,
                trial_key=trial_key or content_key(parameters, seed, budget),
                parameters=dict(parameters),
                status="ok" if ap is not None else "begun" if curve else "failed",
                ap=ap,
                seed=seed,
                budget=budget,
                curve=tuple(curve),
                **measured,
            )
        )

    def update(self, task: Task, wait_limit: float = WAIT_LIMIT) -> UpdateReceipt:
        """Let the platform learn from the task's trials, exactly once; an update that was done is only looked up.

        An update of the same experiment that was interrupted is taken over; updates of others are waited for.

        Raises:
            PlatformError: Other updates took longer than ``wait_limit`` seconds, or a message was refused.
        """
        deadline = time.monotonic() + wait_limit
        takeover = True
        while True:
            try:
                answer = self._platform.ask(
                    build(BeginUpdate, task_id=task.task_id, seed=self._seed, takeover=takeover)
                )
                if isinstance(answer, UpdateReceipt):
                    return answer
                if isinstance(answer, UpdateTicket):
                    return self._run(task, answer)
                pause = answer.seconds
            except UpdateLostError:
                pause = 0.0
            # Taking over once is enough; two processes that always do would never let each other finish.
            takeover = False
            if time.monotonic() + pause > deadline:
                raise PlatformError(
                    f"other updates of the platform took longer than {wait_limit:g} seconds; the results are kept, "
                    "finish the experiment later"
                )
            time.sleep(pause)

    def _run(self, task: Task, ticket: UpdateTicket) -> UpdateReceipt:
        update = _RemoteUpdate(self._platform, task, ticket)
        view, remaining = (self._view(update.extractor, ticket.extractor.images) for _ in range(2))
        # What remains is of the same images as the φ by which trials were recommended.
        return drive(update, view, remaining)

    def _view(self, extractor: MetaFeatureExtractor, images: int) -> View:
        if self._noise is not None:
            return self._noise.view(extractor, self._features)
        return ExactView(extractor, self._features, torch.Generator().manual_seed(self._seed), images)


class _RemoteUpdate:
    """An update on a platform: its steps as messages.

    Args:
        platform: In this process or behind a network.
        task: To learn from.
        ticket: Of the update's beginning.

    Attributes:
        extractor: Always as the platform has it.
    """

    def __init__(self, platform: PlatformAPI, task: Task, ticket: UpdateTicket) -> None:
        self._platform, self._task, self._ticket = platform, task, ticket
        self.extractor = received_extractor(ticket.extractor)

    @property
    def steps_left(self) -> int:
        return 0 if self._ticket.step is None else self._ticket.steps - self._ticket.step

    def pass_over_others(self) -> None:
        """The platform has done the steps that do not need this customer before it wrote the ticket."""

    def begin_step(self, phi: Tensor, phi_tilde: Tensor) -> tuple[Tensor, Tensor]:
        answer = self._platform.ask(
            build(
                FeatureStep,
                session_id=self._ticket.session_id,
                step=self._ticket.step,
                phi=_numbers(phi),
                phi_tilde=_numbers(phi_tilde),
            )
        )
        return torch.tensor(answer.phi), torch.tensor(answer.phi_tilde)

    def finish_step(self, extractor_gradient: Mapping[str, Tensor]) -> None:
        clipped = tensors.clip(extractor_gradient, self._ticket.gradient_norm)
        self._ticket = self._platform.ask(
            build(
                GradientStep,
                session_id=self._ticket.session_id,
                step=self._ticket.step,
                tensors=tensors.pack(clipped),
            )
        )
        load_extractor(self.extractor, self._ticket.extractor)

    def finish(self, phi: Tensor) -> UpdateReceipt:
        return self._platform.ask(
            build(
                CommitUpdate,
                task_id=self._task.task_id,
                session_id=self._ticket.session_id,
                phi=_numbers(phi),
            )
        )


def content_key(parameters: Mapping[str, Any], seed: int, budget: str) -> str:
    """Names a trial by what it ran: the same configuration, seed and budget give the same key."""
    items = sorted((key, repr(value)) for key, value in parameters.items())
    return sha256(repr((items, seed, budget)).encode()).hexdigest()[:32]


def _numbers(vector: Tensor) -> tuple[float, ...]:
    return tuple(vector.tolist())
