"""AutoHAS's equations, by hand, by sampling and by finite differences on a toy space."""

from __future__ import annotations

import math

import torch

from nni_hyperfd.detection.autohas.encodings import (
    derived_choice,
    derived_value,
    entropy,
    gumbel_noise,
    hardened,
    mixture,
    relaxed,
)
from nni_hyperfd.detection.autohas.look_ahead import Weights, look_ahead, mixed, step


def test_relaxed_by_hand() -> None:
    # softmax(0, ln 3) = (1/4, 3/4); plus noise (1, 0) at temperature 2: exp(0.625), exp(0.375)
    found = relaxed(torch.tensor([0.0, math.log(3)]), torch.tensor([1.0, 0.0]), 2.0)
    first = math.exp(0.625) / (math.exp(0.625) + math.exp(0.375))
    torch.testing.assert_close(found, torch.tensor([first, 1 - first]))


def test_choices_come_as_often_as_gumbel_says() -> None:
    # arg max of log-weights plus Gumbel noise is a draw from their softmax; here the log-weights are a softmax themselves
    encoding, generator = torch.tensor([1.0, 0.0, -2.0]), torch.Generator().manual_seed(0)
    counts = torch.zeros(3)
    for _ in range(4000):
        counts += hardened(relaxed(encoding, gumbel_noise(encoding.shape, generator), 10.0))
    torch.testing.assert_close(counts / 4000, encoding.softmax(0).softmax(0), atol=0.03, rtol=0)


def test_the_noise_has_the_moments_of_gumbel() -> None:
    noise = gumbel_noise(torch.Size([200_000]), torch.Generator().manual_seed(0))
    assert abs(float(noise.mean()) - 0.57722) < 0.01
    assert abs(float(noise.var()) - math.pi**2 / 6) < 0.02


def test_hardened_is_one_hot_with_the_soft_gradient() -> None:
    encoding, noise = torch.tensor([0.3, -0.1, 0.2], requires_grad=True), torch.tensor([0.1, 0.9, -0.4])
    value = torch.tensor([1.0, 5.0, -2.0])
    soft = relaxed(encoding, noise, 0.5)
    hard = hardened(soft)
    assert hard.tolist() == [0.0, 1.0, 0.0]
    (found,) = torch.autograd.grad((hard * value).sum(), encoding, retain_graph=True)
    (expected,) = torch.autograd.grad((soft * value).sum(), encoding)
    torch.testing.assert_close(found, expected)


def test_derivation_by_hand() -> None:
    encoding, basis = torch.tensor([0.0, math.log(3)]), torch.tensor([1.0, 10.0])
    assert derived_choice(encoding) == 1
    assert abs(derived_value(encoding, basis) - (0.25 * 1 + 0.75 * 10)) < 1e-5
    assert entropy(torch.zeros(5)) > 1 - 1e-6
    assert entropy(torch.tensor([50.0, 0.0])) < 1e-6
    assert entropy(torch.zeros(1)) == 0


def test_one_mixed_step_is_the_mixture_of_the_basis_steps() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {"a": torch.rand(3, generator=generator), "b": torch.rand(2, 2, generator=generator)}
    gradient = {name: torch.rand(value.shape, generator=generator) for name, value in weights.items()}
    basis, probabilities = torch.tensor([0.1, 1.0, 10.0]), torch.tensor([0.2, 0.5, 0.3])
    copies = mixed([step(weights, gradient, float(rate)) for rate in basis], probabilities)
    once = step(weights, gradient, mixture(probabilities, basis))
    for name in weights:
        torch.testing.assert_close(copies[name], once[name])


def test_the_look_ahead_gradient_is_that_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.rand(6, 4, dtype=torch.float64, generator=generator) for _ in range(2)]
    truth = [torch.rand(6, dtype=torch.float64, generator=generator) for _ in range(2)]
    weights = {"w": torch.rand(4, 2, dtype=torch.float64, generator=generator).requires_grad_()}
    momentum = {"w": torch.rand(4, 2, dtype=torch.float64, generator=generator)}
    basis = torch.tensor([0.01, 0.1, 1.0], dtype=torch.float64)

    def after(encodings: torch.Tensor) -> torch.Tensor:
        """A toy network whose two columns are mixed by a choice, trained one step with a mixed rate."""
        columns, rates = encodings[:2].softmax(0), encodings[2:].softmax(0)

        def loss(split: int, w: Weights) -> torch.Tensor:
            return ((torch.tanh(drawn[split] @ w["w"]) @ columns - truth[split]) ** 2).mean()

        rate = mixture(rates, basis)
        return look_ahead(weights, momentum, rate, lambda w: loss(0, w), lambda w: loss(1, w), decay=0.9)

    encodings = torch.tensor([0.2, -0.3, 0.1, 0.4, -0.2], dtype=torch.float64)
    leaf = encodings.clone().requires_grad_()
    (found,) = torch.autograd.grad(after(leaf), leaf)
    for position in range(5):
        shift = torch.zeros(5, dtype=torch.float64)
        shift[position] = 1e-6
        slope = (after(encodings + shift) - after(encodings - shift)) / 2e-6
        torch.testing.assert_close(found[position], slope.detach(), rtol=1e-5, atol=1e-9)
