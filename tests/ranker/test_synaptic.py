"""Equations 8 to 10: two parameters and two tasks by hand, and the authors' formula over a real training."""

from __future__ import annotations

import pytest
import torch

from nni_hyperfd.ranker.synaptic import SynapticIntelligence


def test_two_parameters_over_two_tasks_by_hand() -> None:
    theta = {"a": torch.tensor([1.0]), "b": torch.tensor([2.0])}

    task = SynapticIntelligence(theta, {}, damping=0.1)
    for gradients, steps in [((0.5, -1.0), (-0.1, 0.2)), ((0.2, 2.0), (-0.3, 0.1))]:
        before = {name: value.clone() for name, value in theta.items()}
        theta["a"] += steps[0]
        theta["b"] += steps[1]
        task.accumulate(before, {"a": torch.tensor([gradients[0]]), "b": torch.tensor([gradients[1]])})
    # a: ω = −(−.1·.5 − .3·.2) = .11, Δ = −.4;  b: ω = −(.2·(−1) + .1·2) = 0, Δ = .3.
    first = task.consolidate()
    assert first["a"].item() == pytest.approx(0.11 / (0.16 + 0.1))
    assert first["b"].item() == pytest.approx(0.0, abs=1e-5)

    task = SynapticIntelligence(theta, {"a": first["a"]}, damping=0.1)
    assert task.penalty().item() == 0
    before = {name: value.clone() for name, value in theta.items()}
    theta["a"] += 0.2
    theta["b"] += 0.5
    assert task.penalty().item() == pytest.approx(first["a"].item() * 0.04, rel=1e-5)
    gradient = task.penalty_gradient()
    assert gradient["a"].item() == pytest.approx(2 * first["a"].item() * 0.2, rel=1e-5)
    assert gradient["b"].item() == 0
    task.accumulate(before, {"a": torch.tensor([4.0]), "b": torch.tensor([-1.0])})
    second = task.consolidate()
    # a went uphill: ω = −.8, and .423 − .8 / .14 is negative, so nothing is left;  b: .5 / (.25 + .1).
    assert second["a"].item() == 0
    assert second["b"].item() == pytest.approx(0.5 / 0.35)


def test_authors_formula_over_a_training_with_adam() -> None:
    """Zenke et al. accumulate −g·Δθ of the unregularized loss; here for three tasks with the penalty in the descent."""
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(6, generator=generator, requires_grad=True)
    reference_importance, importance = torch.zeros(6), {}
    for _ in range(3):
        target, scale = torch.randn(6, generator=generator), torch.rand(6, generator=generator)
        task = SynapticIntelligence({"theta": theta}, importance, damping=0.1)
        optimizer = torch.optim.Adam([theta], lr=0.05)
        start, path = theta.detach().clone(), torch.zeros(6)
        for _ in range(30):
            (gradient,) = torch.autograd.grad((scale * (theta - target).square()).sum(), theta)
            (whole,) = torch.autograd.grad(
                (scale * (theta - target).square()).sum()
                + 0.7 * (reference_importance * (theta - start).square()).sum(),
                theta,
            )
            before = theta.detach().clone()
            theta.grad = gradient + 0.7 * task.penalty_gradient()["theta"]
            assert torch.allclose(theta.grad, whole, atol=1e-6)
            optimizer.step()
            task.accumulate({"theta": before}, {"theta": gradient})
            path += -gradient * (theta.detach() - before)
        reference_importance = torch.relu(reference_importance + path / ((theta.detach() - start) ** 2 + 0.1))
        importance = task.consolidate()
        assert torch.allclose(importance["theta"], reference_importance, atol=1e-6)
    assert reference_importance.max() > 0.1


def test_a_new_parameter_starts_without_importance_and_an_old_one_is_kept() -> None:
    theta = {"old": torch.ones(2), "new": torch.ones(3)}
    task = SynapticIntelligence(theta, {"old": torch.tensor([1.0, 2.0])}, damping=0.1)
    theta["new"] += 5
    assert task.penalty().item() == 0
    kept = task.consolidate()
    assert kept["old"].tolist() == [1.0, 2.0]
    assert kept["new"].tolist() == [0.0, 0.0, 0.0]
