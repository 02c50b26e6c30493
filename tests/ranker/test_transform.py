"""Equation 4: the exact minimizer against torch's least squares, and the paper's iteration against the exact one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nni_hyperfd.ranker.transform import RIDGE, ExactTransform, IterativeTransform, transformation_loss


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def meta_features(seed: int, datasets: int = 300) -> Tensor:
    """Like those of an extractor: a large common part, and less and less variation from one direction to the next."""
    return (
        2 * normal(7, 64) + normal(seed, datasets, 64) * torch.logspace(0, -1.5, 64) @ normal(8, 64, 64) / 8
    )


def test_loss_is_the_double_loop() -> None:
    z, old, new = normal(0, 64, 64), normal(1, 5, 64), normal(2, 5, 64)
    slow = sum(float(((z @ old[d] - new[d]) ** 2).sum()) for d in range(5))
    assert transformation_loss(z, old, new).item() == pytest.approx(slow, rel=1e-5)


@pytest.mark.parametrize("ridge", [RIDGE, 1e-1])
def test_exact_is_least_squares(ridge: float) -> None:
    old = meta_features(0)
    new = old @ (torch.eye(64) + 0.1 * normal(3, 64, 64)).T + 0.05 * normal(4, 300, 64)
    wide = old.double()
    rho = ridge * wide.square().sum() / 64
    # The ridge as 64 more data sets: old = √ρ · e_i should become new = √ρ · e_i.
    rows = torch.cat([wide, rho.sqrt() * torch.eye(64)])
    targets = torch.cat([new.double(), rho.sqrt() * torch.eye(64)])
    expected = torch.linalg.lstsq(rows, targets).solution.T
    assert torch.allclose(ExactTransform.factor(old, ridge).refresh(new).double(), expected, atol=1e-4)


def test_without_a_ridge_exact_is_plain_least_squares() -> None:
    old, new = normal(0, 300, 64).double(), normal(1, 300, 64).double()
    plain = torch.linalg.lstsq(old, new).solution.T
    assert torch.allclose(ExactTransform.factor(old, 1e-12).refresh(new), plain, atol=1e-8)


def test_a_linear_change_of_the_extractor_is_undone() -> None:
    change = torch.eye(64) + 0.1 * normal(3, 64, 64)
    old = meta_features(0)
    z = ExactTransform.factor(old).refresh(old @ change.T)
    unseen = meta_features(5, 10)
    error = (unseen @ z.T - unseen @ change.T).square().sum()
    assert error < 1e-2 * (unseen - unseen @ change.T).square().sum()


def test_directions_that_offline_data_never_shows_stay_as_they_are() -> None:
    basis = torch.linalg.qr(normal(1, 64, 64)).Q
    old = normal(2, 200, 3) @ basis[:, :3].T
    new = normal(2, 200, 3) @ normal(3, 3, 64)
    z = ExactTransform.factor(old).refresh(new)
    assert torch.allclose(z @ basis[:, 3:], basis[:, 3:], atol=1e-3)
    assert torch.allclose(old @ z.T, new, atol=1e-2)


def test_nothing_changed_means_identity() -> None:
    old = meta_features(0)
    assert torch.allclose(ExactTransform.factor(old).refresh(old), torch.eye(64), atol=1e-3)


def test_a_stack_of_versions_is_each_of_them() -> None:
    old, new = torch.stack([meta_features(0), meta_features(1)]), meta_features(2)
    together = ExactTransform.factor(old).refresh(new)
    for version, z in zip(old, together):
        assert torch.allclose(z, ExactTransform.factor(version).refresh(new), atol=1e-4)


def test_the_papers_iteration_goes_to_the_exact_transformation() -> None:
    # Adam is not invariant to a rotation, so well-conditioned data keep this test short.
    old = torch.stack([normal(0, 300, 64), normal(1, 300, 64)])
    new = old[0] @ (torch.eye(64) + 0.05 * normal(3, 64, 64)).T + 0.1 * normal(4, 300, 64)
    exact = ExactTransform.factor(old).refresh(new)
    best = transformation_loss(exact, old, new)
    iterative = IterativeTransform(old, torch.eye(64).expand(2, 64, 64), learning_rate=1e-2)
    z = iterative.refresh(new, 300)
    assert torch.allclose(z, exact, atol=5e-3)
    assert (transformation_loss(z, old, new) <= 1.001 * best).all()


def test_one_iteration_is_one_step_of_adam_on_each_matrix() -> None:
    old, new, start = normal(0, 2, 50, 64), normal(1, 50, 64), normal(2, 2, 64, 64)
    found = IterativeTransform(old, start, learning_rate=1e-4).refresh(new, 2)
    for t in range(2):
        z = start[t].clone().requires_grad_()
        optimizer = torch.optim.Adam([z], lr=1e-4)
        for _ in range(2):
            optimizer.zero_grad()
            sum(((z @ old[t, d] - new[d]) ** 2).sum() for d in range(50)).backward()
            optimizer.step()
        assert torch.allclose(found[t], z.detach(), atol=1e-7)


def test_exact_is_never_worse_than_the_papers_twenty_steps() -> None:
    old = meta_features(0)
    new = old @ (torch.eye(64) + 0.02 * normal(3, 64, 64)).T
    twenty = IterativeTransform(old[None], torch.eye(64)[None], learning_rate=1e-4).refresh(new, 20)[0]
    exact = ExactTransform.factor(old).refresh(new)
    assert transformation_loss(exact, old, new) < 0.05 * transformation_loss(twenty, old, new)
