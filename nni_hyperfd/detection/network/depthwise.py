"""Depthwise convolution for CPUs that multiply bfloat16 in hardware: two bytes a value wherever that is quick.

PyTorch's bfloat16 kernels are about twice as quick as float32 going forward and as quick going back, with two
exceptions (docs/throughput.md): the gradient of the input at stride 2 takes 10 to 100 times as long, and the
gradient of 5×5 and 7×7 weights several times. Those two are computed in float32.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Depthwise(nn.Conv2d):
    """A depthwise ``nn.Conv2d``; under CPU autocast it takes and gives the autocast type.

    Shapes: ``[B, C, H, W] -> [B, C, ceil(H / stride), ceil(W / stride)]`` with 'same' padding.
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        return depthwise(input, self.weight, self.stride, self.padding)


def depthwise(x: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...] | str) -> Tensor:
    """``[B, C, H, W]`` by ``weight`` ``[C, 1, k, k]``, as :class:`Depthwise` does it; ``weight`` may depend on other tensors."""
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return F.conv2d(x, weight, None, stride, padding, 1, x.shape[1])
    return cast(Tensor, _Mixed.apply(x.to(torch.get_autocast_dtype("cpu")), weight, stride, padding))


class _Mixed(torch.autograd.Function):
    """Forward in the type of ``x``; each gradient in the type that is quick; ``weight`` and its gradient float32."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        with torch.autocast("cpu", enabled=False):
            return F.conv2d(x, weight.to(x.dtype), None, stride, padding, 1, x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        whole = ctx.stride == (1, 1)
        for_input = x.dtype if whole else torch.float32
        for_weight = x.dtype if whole and weight.shape[-1] == 3 else torch.float32

        def gradients(dtype: torch.dtype, of_input: bool, of_weight: bool) -> tuple[Tensor, Tensor]:
            # aten's own backward: the public torch.nn.grad functions compute one gradient a call.
            return torch.ops.aten.convolution_backward(
                gradient.to(dtype),
                x.to(dtype),
                weight.to(dtype),
                None,
                ctx.stride,
                ctx.padding,
                (1, 1),
                False,
                (0, 0),
                x.shape[1],
                (of_input, of_weight, False),
            )[:2]

        of_input, of_weight = ctx.needs_input_grad[:2]
        if for_input == for_weight:
            dx, dw = gradients(for_input, of_input, of_weight)
        else:
            dx, dw = gradients(for_input, of_input, False)[0], gradients(for_weight, False, of_weight)[1]
        return dx.to(x.dtype) if of_input else None, dw.float() if of_weight else None, None, None
