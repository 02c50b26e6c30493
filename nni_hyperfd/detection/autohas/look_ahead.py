"""One step of training, and the gradient of what it leads to (AutoHAS, equations 4, 5 and 9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Weights = dict[str, Tensor]
Loss = Callable[[Weights], Tensor]


def step(weights: Weights, directions: Weights, rate: Tensor | float) -> Weights:
    """The weights after one step of ``rate`` against ``directions`` (equation 9); differentiable in all three."""
    return {name: value - rate * directions[name] for name, value in weights.items()}


def mixed(copies: Sequence[Weights], probabilities: Tensor) -> Weights:
    """The mixture, by ``probabilities`` ``[m]``, of copies of the weights of which each took the step of one basis.

    A step of gradient descent is linear in the rate and in the weight of a part of the loss, so this is one step with the
    mixed rate and weight; that is how the search takes it, at the price of one copy in place of m.
    """
    return {name: sum_of(copies, probabilities, name) for name in copies[0]}


def sum_of(copies: Sequence[Weights], probabilities: Tensor, name: str) -> Tensor:
    """One tensor of the mixture."""
    return torch.stack([p * copy[name] for p, copy in zip(probabilities, copies)]).sum(0)


def look_ahead(
    weights: Weights, momentum: Weights, rate: Tensor, train_loss: Loss, val_loss: Loss, decay: float
) -> Tensor:
    """Loss on validation data after one step on training data (equations 4 and 5), with a graph through the step.

    Args:
        weights: leaves that require gradients; they are not changed.
        momentum: what earlier gradients have left, constants.
        rate: 0-dim; may depend on encodings, as may both losses.
        decay: of the momentum; 0 for plain descent.
    """
    gradients = torch.autograd.grad(train_loss(weights), list(weights.values()), create_graph=True)
    directions = {name: g + decay * momentum[name] for name, g in zip(weights, gradients)}
    return val_loss(step(weights, directions, rate))
