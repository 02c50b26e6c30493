r"""Synaptic Intelligence (Zenke et al., 2017; HyperFD eq. 8-10): parameters that mattered may move less.

While a task is learnt, :math:`\omega \leftarrow \omega - g \odot \Delta\theta` at each step, g the gradient *without*
the penalty; at its end :math:`\Omega \leftarrow \mathrm{relu}(\Omega + \omega / (\Delta^2 + \xi))` with Δ the way from the
task's start to its end. The penalty is :math:`\sum \Omega (\theta - \theta_\mathrm{start})^2`, without ½. The relu is the
authors' (eq. 9 has none): a negative importance would reward moving away without bound.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class SynapticIntelligence:
    """The state of one task's learning.

    Args:
        parameters: θ by name, live tensors at the values the task starts from.
        importance: Ω by name from the tasks before; a parameter that is not in it has none.
        damping: ξ.
    """

    def __init__(
        self, parameters: Mapping[str, Tensor], importance: Mapping[str, Tensor], damping: float
    ) -> None:
        self._parameters = parameters
        self._damping = damping
        self._start = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        self._importance = {
            name: importance[name] if name in importance else torch.zeros_like(start)
            for name, start in self._start.items()
        }
        self._path = {name: torch.zeros_like(start) for name, start in self._start.items()}

    @torch.no_grad()
    def penalty(self) -> Tensor:
        """L_reg ``[]`` (eq. 10) at the current parameters."""
        terms = (
            (self._importance[name] * (parameter - self._start[name]).square()).sum()
            for name, parameter in self._parameters.items()
        )
        return torch.stack(list(terms)).sum()

    @torch.no_grad()
    def penalty_gradient(self) -> dict[str, Tensor]:
        """∂L_reg/∂θ = 2 Ω (θ − θ_start), by name."""
        return {
            name: 2 * self._importance[name] * (parameter - self._start[name])
            for name, parameter in self._parameters.items()
        }

    @torch.no_grad()
    def accumulate(self, before: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
        """Adds one step to ω (eq. 8).

        Args:
            before: θ before the step, by name; the live parameters are those after it.
            gradients: Of the loss without the penalty, at ``before``.
        """
        for name, parameter in self._parameters.items():
            self._path[name] -= gradients[name] * (parameter - before[name])

    @torch.no_grad()
    def consolidate(self) -> dict[str, Tensor]:
        """Ω after this task (eq. 9), by name."""
        return {
            name: torch.relu(
                self._importance[name]
                + self._path[name] / ((parameter - self._start[name]).square() + self._damping)
            )
            for name, parameter in self._parameters.items()
        }
