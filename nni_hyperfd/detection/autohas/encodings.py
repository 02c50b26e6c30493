"""Choices as vectors that a gradient can move (AutoHAS, equations 3, 6 to 8 and 10)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def gumbel_noise(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Independent samples of Gumbel(0, 1), ``[*shape]`` float32 (equation 8)."""
    # An exponential variable is -log(u), without the zero that a rounded u may be.
    return -torch.empty(shape).exponential_(generator=generator).clamp_min(1e-20).log()


def relaxed(encoding: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Probabilities ``[m]``: softmax, at ``temperature``, of the softmax of an encoding ``[m]`` plus noise ``[m]`` (equation 7)."""
    return ((encoding.softmax(0) + noise) / temperature).softmax(0)


def hardened(probabilities: Tensor) -> Tensor:
    """One-hot at the largest (equation 6) with the gradient of ``probabilities`` ``[m]``."""
    one_hot = F.one_hot(probabilities.argmax(), len(probabilities)).to(probabilities)
    # The difference is 0 in value and exactly so: the one-hot stays one of zeros and a one.
    return one_hot + (probabilities - probabilities.detach())


def mixture(probabilities: Tensor, basis: Tensor) -> Tensor:
    """The value ``[]`` of a continuous hyper-parameter: the sum of its basis ``[m]``, weighed by ``[m]`` (equation 3)."""
    return (probabilities * basis).sum()


def derived_choice(encoding: Tensor) -> int:
    """Position of the option that a categorical choice with ``encoding`` ``[m]`` ends with (equation 10, below)."""
    return int(encoding.argmax())


def derived_value(encoding: Tensor, basis: Tensor) -> float:
    """What a continuous hyper-parameter ends with: its basis ``[m]`` mixed by the softmax of its encoding ``[m]`` (equation 10, above)."""
    return float(mixture(encoding.detach().softmax(0), basis))


def entropy(encoding: Tensor) -> float:
    """Entropy of the softmax of an encoding ``[m]`` as a share of the largest possible: 1 undecided, 0 decided or without a choice."""
    if len(encoding) == 1:
        return 0.0
    probabilities = encoding.detach().softmax(0)
    return float(torch.special.entr(probabilities).sum()) / math.log(len(encoding))
