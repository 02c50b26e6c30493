"""The table of parts: what is measured is what a detector is made of. How long anything takes is not asserted."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nni_hyperfd.detection.network.backbone import Backbone
from nni_hyperfd.detection.network.latency import HEIGHT, WIDTH, Latency, measure
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.spaces.architecture import Architecture, backbone_flops, largest, mobilenet_v2
from nni_hyperfd.spaces.standard import standard_space


def counted(run: Callable[[], object]) -> float:
    """Multiply-adds of all convolutions that ``run`` calls, by forward hooks on the real modules."""
    total = 0

    def count(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            kernel = math.prod(module.kernel_size) * module.in_channels // module.groups
            total += output.numel() * kernel

    handle = nn.modules.module.register_module_forward_hook(count)
    try:
        run()
    finally:
        handle.remove()
    return float(total)


def networks() -> list[Architecture]:
    import numpy as np

    sample = standard_space("nas").sample(3, np.random.default_rng(0))
    return [mobilenet_v2(), largest(), *(each.architecture for each in sample if each.architecture)]


@torch.inference_mode()
def test_multiply_adds_are_those_of_the_real_backbone() -> None:
    for network in networks():
        backbone = Backbone(network).eval()
        image = torch.zeros(1, 3, 360, 640)
        assert counted(lambda: backbone(image)) == backbone_flops(network)  # noqa: B023


@torch.inference_mode()
def test_parts_add_up_to_the_whole_detector() -> None:
    """With multiply-adds for a clock, the sum over the parts is what the whole forward pass costs, exactly."""
    costs = measure(torch.device("cpu"), counted)
    for network in networks():
        detector = RetinaFace(network).eval()
        image = torch.zeros(1, 3, HEIGHT, WIDTH)
        assert costs.of(network) == counted(lambda: detector(image))  # noqa: B023


def test_a_device_is_measured_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = Latency.of_this_device(tmp_path)
    assert all(ms > 0 for ms in (first.milliseconds.rest, *first.milliseconds.parts))
    (path,) = (tmp_path / "latency").iterdir()
    content = json.loads(path.read_text())
    assert torch.__version__ in content["device"]

    content["rest_ms"] = 12345.0
    path.write_text(json.dumps(content))
    assert Latency.of_this_device(tmp_path).milliseconds.rest == 12345.0, "it was measured before"
    assert Latency.of_this_device(tmp_path).milliseconds.parts == first.milliseconds.parts

    del content["parts_ms"]["s2 first k3e4"]
    path.write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING):
        again = Latency.of_this_device(tmp_path)
    assert "the device is measured anew" in caplog.text
    assert again.milliseconds.rest != 12345.0
    assert Latency.of_this_device(tmp_path) == again
