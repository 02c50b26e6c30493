"""The loop of an update, from the customer's side: one for an update in this process and for one on a platform elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

from torch import Tensor

from nni_hyperfd.metafeature.view import View

Left = TypeVar("Left", covariant=True)


class Steps(Protocol[Left]):
    """What :func:`drive` drives: a :class:`~nni_hyperfd.ranker.update.ContinualUpdate`, or one on a platform elsewhere.

    φ and φ̃, and the gradients for them, are ``[64]`` each.
    """

    @property
    def steps_left(self) -> int: ...
    def pass_over_others(self) -> None: ...
    def begin_step(self, phi: Tensor, phi_tilde: Tensor, /) -> tuple[Tensor | None, Tensor | None]: ...
    def finish_step(self, extractor_gradient: Mapping[str, Tensor], /) -> None: ...
    def finish(self, phi: Tensor, /) -> Left: ...


def drive(update: Steps[Left], view: View, remaining: View | None = None) -> Left:
    """The customer's part of an update, from its first step to its end.

    Args:
        update: Not yet begun.
        view: Of the current task's images through the extractor that ``update`` moves.
        remaining: Is asked for the φ that will remain; by default ``view``, whose image samples go on from those of the steps.

    Returns:
        What the update leaves behind: an :class:`~nni_hyperfd.ranker.update.UpdatedState` here, a receipt from elsewhere.

    Raises:
        TrainingError: The loss is not finite.
    """
    update.pass_over_others()
    while update.steps_left:
        wanted = [gradient for gradient in update.begin_step(*view.pair()) if gradient is not None]
        update.finish_step(view.gradient(*wanted))
        update.pass_over_others()
    return update.finish((remaining or view).meta_feature())
