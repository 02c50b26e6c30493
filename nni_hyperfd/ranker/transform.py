r"""Z: the matrix that carries meta-features of an old extractor to the newest one (HyperFD eq. 4, METHOD §7).

For version t, X = G^(t)(D_offline) was kept and Y = G(D_offline) is computed with the newest parameters:

.. math:: L_\mathrm{trans}(Z) = \sum_d \| Z x_d - y_d \|^2 .
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RIDGE = 3e-3
"""Strength of the pull towards the identity, relative to the mean eigenvalue of XᵀX. It decides in directions in which
the offline data sets hardly vary. Much less of it fits their noise and can be worse for an unseen customer than no
transformation at all (with fewer offline data sets than dimensions); this much still fits better than the iteration."""


def transformation_loss(transform: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """L_trans (eq. 4): transform ``[..., 64, 64]``, old ``[..., S, 64]``, new ``[S, 64]`` -> ``[...]``."""
    return (old @ transform.mT - new).square().sum((-2, -1))


@dataclass(frozen=True)
class ExactTransform:
    r"""The minimizer of :math:`L_\mathrm{trans}(Z) + \rho \|Z - I\|^2`, for one old version or a stack of them.

    Setting the gradient to zero gives :math:`Z = (Y^\top X + \rho I)(X^\top X + \rho I)^{-1}`. X does not change during
    an update, so the inverse is applied to it once, and a new Y costs one product.

    Args:
        projection: ``[..., S, 64]``, X (XᵀX + ρI)⁻¹.
        offset: ``[..., 64, 64]``, ρ (XᵀX + ρI)⁻¹.
    """

    projection: Tensor
    offset: Tensor

    @classmethod
    def factor(cls, old: Tensor, ridge: float = RIDGE) -> ExactTransform:
        """Prepares old meta-features ``[..., S, 64]``; ``ridge`` as :data:`RIDGE`."""
        # Meta-features have a large common part: the Gram matrix is too badly conditioned for single precision.
        wide = old.double()
        gram = wide.mT @ wide
        identity = torch.eye(old.shape[-1], dtype=gram.dtype)
        rho = ridge * gram.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None].clamp(min=1e-12)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram + rho * identity))
        return cls((wide @ inverse).to(old.dtype), (rho * inverse).to(old.dtype))

    def refresh(self, new: Tensor) -> Tensor:
        """Z ``[..., 64, 64]`` towards new meta-features ``[S, 64]``."""
        return new.mT @ self.projection + self.offset


class IterativeTransform:
    """The paper's way (Algorithm 1): some Adam steps on L_trans for every old version, whenever G has changed.

    Args:
        old: ``[T, S, 64]`` meta-features of the old versions.
        start: ``[T, 64, 64]`` where the matrices were left.
        learning_rate: η_z.
    """

    def __init__(self, old: Tensor, start: Tensor, learning_rate: float) -> None:
        self._old = old
        self._transforms = start.clone().requires_grad_()
        self._optimizer = torch.optim.Adam([self._transforms], lr=learning_rate)

    def refresh(self, new: Tensor, iterations: int) -> Tensor:
        """Z ``[T, 64, 64]`` after ``iterations`` more steps towards new meta-features ``[S, 64]``."""
        with torch.enable_grad():
            for _ in range(iterations):
                self._optimizer.zero_grad()
                transformation_loss(self._transforms, self._old, new).sum().backward()
                self._optimizer.step()
        return self._transforms.detach().clone()
