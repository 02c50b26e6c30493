"""One update under way: the ranker's steps in the order in which messages may drive them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.metafeature.sending import extractor_state
from nni_hyperfd.protocol import tensors
from nni_hyperfd.protocol.messages import (
    CommitUpdate,
    FeatureGradient,
    FeatureStep,
    GradientStep,
    Message,
    UpdateTicket,
    build,
)
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.update import ContinualUpdate, UpdatedState

GRADIENT_NORM = 10.0
"""Longest gradient that a customer may send; an honest one is far below, so only a broken or hostile one is cut."""


@dataclass(frozen=True)
class UpdateOrigin:
    """What an update is made of: the version it starts from, its seed, and how many trials it learns from."""

    task_id: str
    parent: int
    seed: int
    trials_used: int
    trials_failed: int


class Update:
    """An update, one message at a time.

    Each message may come twice, as when an answer was lost on its way: the repetition gets the same answer and moves
    nothing.

    Args:
        id: Names the session in messages.
        origin: What the update is made of.
        ranker: That ``update`` changes.
        update: Not yet begun.
        images: Size of an image sample.
    """

    def __init__(
        self, id: str, origin: UpdateOrigin, ranker: Ranker, update: ContinualUpdate, images: int
    ) -> None:
        self.id, self.origin, self.ranker = id, origin, ranker
        self._update, self._images = update, images
        self._steps = update.steps_left
        self._begun = False
        self._last: tuple[Message, Message] | None = None

    def advance(self) -> UpdateTicket:
        """Does the steps that need nothing from the customer, and says where the update stands then."""
        self._update.pass_over_others()
        return build(
            UpdateTicket,
            session_id=self.id,
            steps=self._steps,
            step=self._step if self._update.steps_left else None,
            gradient_norm=GRADIENT_NORM,
            extractor=extractor_state(self.ranker.extractor, self.origin.parent, self._images),
        )

    def features(self, message: FeatureStep) -> FeatureGradient:
        """φ, φ̃ -> ∂L/∂φ, ∂L/∂φ̃.

        Raises:
            PlatformError: Out of turn.
            TrainingError: The loss is not finite; the session is of no more use.
        """
        if self._last is not None and self._last[0] == message and isinstance(self._last[1], FeatureGradient):
            return self._last[1]
        self._require_turn(message.step, begun=False)
        phi, phi_tilde = self._update.begin_step(torch.tensor(message.phi), torch.tensor(message.phi_tilde))
        if phi is None or phi_tilde is None:
            raise PlatformError(f"step {message.step} of the update needs nothing from the customer")
        self._begun = True
        answer = build(
            FeatureGradient,
            session_id=self.id,
            step=message.step,
            phi=tuple(phi.tolist()),
            phi_tilde=tuple(phi_tilde.tolist()),
        )
        self._last = message, answer
        return answer

    def gradient(self, message: GradientStep) -> UpdateTicket:
        """∂L/∂θ_G through φ and φ̃ -> what comes next.

        Raises:
            PlatformError: Out of turn, or a gradient that does not fit, is not finite or is too long.
            TrainingError: The loss of a following step is not finite; the session is of no more use.
        """
        if self._last is not None and self._last[0] == message and isinstance(self._last[1], UpdateTicket):
            return self._last[1]
        self._require_turn(message.step, begun=True)
        expected = dict(self.ranker.extractor.named_parameters())
        gradient = tensors.unpack(message.tensors, expected, "extractor gradient", GRADIENT_NORM)
        self._update.finish_step(gradient)
        self._begun = False
        answer = self.advance()
        self._last = message, answer
        return answer

    def finish(self, phi: tuple[float, ...]) -> UpdatedState:
        """The new state; may be called again, as after a commit that found the disk full.

        Raises:
            PlatformError: Steps are left.
        """
        return self._update.finish(torch.tensor(phi))

    def awaits(self, message: FeatureStep | GradientStep | CommitUpdate) -> bool:
        """Whether it is this message that moves the update forward; one that comes again, or out of turn, does not."""
        if isinstance(message, CommitUpdate):
            return not self._update.steps_left and message.task_id == self.origin.task_id
        wanted = GradientStep if self._begun else FeatureStep
        return isinstance(message, wanted) and message.step == self._step and self._update.steps_left > 0

    @property
    def _step(self) -> int:
        return self._steps - self._update.steps_left

    def _require_turn(self, step: int, begun: bool) -> None:
        if step != self._step or begun != self._begun or not self._update.steps_left:
            half = "gradient" if self._begun else "meta-feature"
            raise PlatformError(
                f"a message of step {step} is out of turn; the update waits for the {half} of step {self._step}"
            )
