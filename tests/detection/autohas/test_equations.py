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
from nni_hyperfd.detection.autohas.look_ahead import Weights, direction, step


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


RATES, LOCATIONS = torch.tensor([0.01, 0.1, 1.0]).double(), torch.tensor([2.0, 8.0]).double()


def toy() -> tuple[Weights, Weights, Weights]:
    """Weights, and gradients of two parts of a loss."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"a": (4, 2), "b": (3,)}
    found = [
        {name: torch.rand(shape, dtype=torch.float64, generator=generator) for name, shape in shapes.items()}
        for _ in range(3)
    ]
    return found[0], found[1], found[2]


def mixture_of_copies(rates: torch.Tensor, locations: torch.Tensor) -> Weights:
    """Equation 5 as it stands: a copy of the weights for each pair of the basis, trained one step, weighed by the product."""
    weights, fixed, weighted = toy()
    return {
        name: sum(
            p * q * (weights[name] - rate * (fixed[name] + location * weighted[name]))
            for p, rate in zip(rates, RATES)
            for q, location in zip(locations, LOCATIONS)
        )
        for name in weights
    }


def one_step(rates: torch.Tensor, locations: torch.Tensor) -> Weights:
    """How the search takes it."""
    weights, fixed, weighted = toy()
    return step(weights, direction(fixed, weighted, mixture(locations, LOCATIONS)), mixture(rates, RATES))


def judged(weights: Weights) -> torch.Tensor:
    """A loss on other data, not linear in the weights."""
    drawn = torch.rand(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return (torch.tanh(drawn @ weights["a"]) ** 2).mean() + (weights["b"] ** 3).sum()


def encoded(way, encodings: torch.Tensor) -> torch.Tensor:  # type: ignore[no-untyped-def]
    """The loss after a step, as a function of both encodings."""
    return judged(way(encodings[:3].softmax(0), encodings[3:].softmax(0)))


def test_one_mixed_step_is_the_mixture_of_the_basis_steps() -> None:
    """So are its gradients in the encodings, which are those of finite differences."""
    encodings = torch.tensor([0.2, -0.3, 0.1, 0.4, -0.2], dtype=torch.float64, requires_grad=True)
    found, expected = encoded(one_step, encodings), encoded(mixture_of_copies, encodings)
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found, encodings)
    (twin,) = torch.autograd.grad(expected, encodings)
    torch.testing.assert_close(gradient, twin)
    for position in range(5):
        shift = torch.zeros(5, dtype=torch.float64)
        shift[position] = 1e-6
        with torch.no_grad():
            slope = encoded(mixture_of_copies, encodings + shift) - encoded(
                mixture_of_copies, encodings - shift
            )
        torch.testing.assert_close(gradient[position], slope / 2e-6, rtol=1e-5, atol=1e-9)
