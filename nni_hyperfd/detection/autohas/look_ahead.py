"""One step of training as the mixture of the steps that the basis would take (AutoHAS, equations 5 and 9).

The paper takes the training of a step for a black box whose results, one for each value of the basis, are weighed by the
encodings: gradients go into the weights of that sum, not through the training (equation 5). A step of gradient descent is linear
in the rate and in the weight of a part of the loss, so the sum over all pairs of them is one step with the mixed rate and weight, of
which the gradients below are known apart. That is how it is computed here, at the price of one copy in place of one for each pair.
"""

from __future__ import annotations

from torch import Tensor

Weights = dict[str, Tensor]


def direction(fixed: Weights, weighted: Weights, weight: Tensor | float) -> Weights:
    """Where a step goes: gradients of what has no searched weight, plus ``weight`` ``[]`` times those of the part that has one."""
    return {name: value + weight * weighted[name] for name, value in fixed.items()}


def step(weights: Weights, directions: Weights, rate: Tensor | float) -> Weights:
    """The weights after one step of ``rate`` ``[]`` against ``directions`` (equation 9); differentiable in all three."""
    return {name: value - rate * directions[name] for name, value in weights.items()}
