"""The mixed-precision depthwise convolution against PyTorch's own in float32."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nni_hyperfd.detection.network.depthwise import Depthwise


def run(layer: Depthwise, image: Tensor, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output, gradient of the input and gradient of the weights."""
    image = image.clone().requires_grad_()
    layer.weight.grad = None
    out = layer(image)
    out.backward(direction.to(out.dtype))
    return out.detach(), image.grad, layer.weight.grad


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_autocast_changes_rounding_only(kernel: int, stride: int) -> None:
    generator = torch.Generator().manual_seed(kernel)
    layer = Depthwise(8, kernel, stride)
    layer.weight.data = torch.randn(layer.weight.shape, generator=generator) / kernel
    image = torch.randn(2, 8, 13, 14, generator=generator).contiguous(memory_format=torch.channels_last)
    # Values that bfloat16 holds exactly, so that what differs is the arithmetic.
    image = image.bfloat16().float()
    layer.weight.data = layer.weight.data.bfloat16().float()
    direction = torch.randn(2, 8, -(-13 // stride), -(-14 // stride), generator=generator).bfloat16().float()
    exact = run(layer, image, direction)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = run(layer, image, direction)
    assert exact[0].dtype == torch.float32
    assert mixed[0].dtype == torch.bfloat16
    assert mixed[1].dtype == mixed[2].dtype == torch.float32
    window, positions = kernel**2, direction[:, 0].numel()
    for a, b, summed in zip(exact, mixed, (window, window, positions)):
        assert a.shape == b.shape
        assert (a - b.float()).norm() < rounding(summed) * a.norm()


def rounding(terms: int) -> float:
    """How far a sum of so many terms of random signs may be off, in units of itself, where bfloat16 holds it after each of them.

    Some processors do that and others sum in float32. Of the sum's square, about n/2 terms in the mean, each step loses a share of
    the square of 2^-9 to 2^-8; twice that is allowed.
    """
    return float(2 * 2**-8 * (terms / 2) ** 0.5)


def test_only_wanted_gradients_are_computed() -> None:
    layer, image = Depthwise(4, 3), torch.randn(1, 4, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        layer(image).sum().backward()
        assert layer.weight.grad is not None
        layer.weight.requires_grad_(False)
        image.requires_grad_()
        layer(image).sum().backward()
        assert image.grad is not None
        with torch.no_grad():
            assert not layer(image).requires_grad
