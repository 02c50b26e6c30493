"""Parameter remapping: kernels by their center, channels from the first, depth by repetition."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nni_hyperfd.detection.network.backbone import InvertedResidual
from nni_hyperfd.detection.network.remap import fit, remap
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.spaces.architecture import Architecture, Block, largest, mobilenet_v2


def random_detector(architecture: Architecture, seed: int = 0) -> RetinaFace:
    """A detector all of whose tensors, statistics too, are random."""
    generator = torch.Generator().manual_seed(seed)
    model = RetinaFace(architecture)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5 * name.endswith("running_var"))
            else:
                value.fill_(17)
    return model


def swap(architecture: Architecture, stage: int, blocks: tuple[Block, ...]) -> Architecture:
    """``architecture`` with other blocks in ``stage`` (counted from 1)."""
    stages = list(architecture.stages)
    stages[stage - 1] = blocks
    return replace(architecture, stages=tuple(stages))


def remapped(source: RetinaFace, target: Architecture) -> dict[str, torch.Tensor]:
    model = RetinaFace(target)
    mapped = remap(source.state_dict(), source.architecture, model)
    model.load_state_dict(mapped)  # every tensor is there and has its shape
    return mapped


@pytest.mark.parametrize("architecture", [mobilenet_v2(), largest()], ids=["standard", "largest"])
def test_the_same_architecture_is_copied(architecture: Architecture) -> None:
    source = random_detector(architecture)
    for name, value in remapped(source, architecture).items():
        assert torch.equal(value, source.state_dict()[name]), name


def test_fit_by_hand() -> None:
    kernel = torch.arange(25.0).view(1, 1, 5, 5)
    assert fit(kernel, torch.Size([1, 1, 3, 3])).flatten().tolist() == [6, 7, 8, 11, 12, 13, 16, 17, 18]
    grown = fit(kernel, torch.Size([1, 1, 7, 7]))
    assert torch.equal(grown[..., 1:6, 1:6], kernel)
    assert grown.sum() == kernel.sum()
    matrix = torch.arange(6.0).view(2, 3, 1, 1)
    assert fit(matrix, torch.Size([1, 2, 1, 1])).flatten().tolist() == [0, 1]
    assert fit(matrix, torch.Size([3, 2, 1, 1])).flatten().tolist() == [0, 1, 3, 4, 0, 0]
    assert fit(torch.arange(4.0), torch.Size([6])).tolist() == [0, 1, 2, 3, 0, 0]


def test_smaller_kernels_are_the_center_and_smaller_widths_the_first_channels() -> None:
    source = random_detector(largest())
    target = swap(largest(), 4, (Block(3, 4),) * 4)
    mapped, have = remapped(source, target), source.state_dict()
    name = "backbone.stages.3.1"
    hidden = 32 * 4
    assert torch.equal(
        mapped[f"{name}.depthwise.0.weight"], have[f"{name}.depthwise.0.weight"][:hidden, :, 2:5, 2:5]
    )
    assert torch.equal(mapped[f"{name}.expand.0.weight"], have[f"{name}.expand.0.weight"][:hidden])
    assert torch.equal(mapped[f"{name}.project.0.weight"], have[f"{name}.project.0.weight"][:, :hidden])
    for part in ("weight", "bias", "running_mean", "running_var"):
        assert torch.equal(mapped[f"{name}.depthwise.1.{part}"], have[f"{name}.depthwise.1.{part}"][:hidden])
    assert int(mapped[f"{name}.depthwise.1.num_batches_tracked"]) == 17


def test_further_blocks_repeat_the_last_one() -> None:
    shallow = swap(largest(), 6, (Block(7, 6),) * 2)
    source = random_detector(shallow)
    mapped, have = remapped(source, largest()), source.state_dict()
    assert len(largest().stages[5]) == 4
    for block, origin in ((0, 0), (1, 1), (2, 1), (3, 1)):
        for part in ("expand.0.weight", "depthwise.0.weight", "project.0.weight", "project.1.running_var"):
            assert torch.equal(
                mapped[f"backbone.stages.5.{block}.{part}"], have[f"backbone.stages.5.{origin}.{part}"]
            )


def test_fewer_blocks_are_the_first_ones_and_all_else_is_copied() -> None:
    source = random_detector(largest())
    mapped, have = remapped(source, swap(largest(), 5, (Block(7, 6),) * 3)), source.state_dict()
    for name, value in mapped.items():
        assert torch.equal(value, have[name]), name


def test_a_stage_of_one_block_grows_although_its_block_has_another_width() -> None:
    narrow = swap(largest(), 2, (Block(7, 6),))  # its only block takes 8 channels, a second one takes 12
    mapped = remapped(random_detector(narrow), swap(largest(), 2, (Block(7, 6),) * 2))
    second = mapped["backbone.stages.1.1.expand.0.weight"]
    assert second.shape[:2] == (72, 12)
    assert (second[48:] == 0).all()
    assert (second[:, 8:] == 0).all()


def test_a_grown_kernel_leaves_the_function_unchanged() -> None:
    small, large = (InvertedResidual(12, 12, kernel, 6, 1).eval() for kernel in (3, 7))
    large.load_state_dict(
        {name: fit(value, large.state_dict()[name].shape) for name, value in small.state_dict().items()}
    )
    image = torch.rand(2, 12, 9, 11, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(small(image), large(image))


def test_a_whole_network_with_grown_kernels_computes_the_same() -> None:
    source = random_detector(mobilenet_v2()).eval()
    source.reset_parameters(torch.Generator().manual_seed(1))
    grown = Architecture(
        (
            mobilenet_v2().stages[0],
            *(tuple(Block(7, 6) for _ in blocks) for blocks in mobilenet_v2().stages[1:]),
        )
    )
    target = RetinaFace(grown).eval()
    target.load_state_dict(remap(source.state_dict(), source.architecture, target))
    image = torch.randint(
        0, 256, (1, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        for one, other in zip(source(image), target(image)):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_the_mapped_state_shares_no_memory_with_its_source() -> None:
    source = random_detector(mobilenet_v2())
    mapped = remapped(source, mobilenet_v2())
    before = mapped["backbone.stem.0.weight"].clone()
    with torch.no_grad():
        source.backbone.stem[0].weight.zero_()
    assert torch.equal(mapped["backbone.stem.0.weight"], before)
