"""The supernet against networks that are remapped out of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nni_hyperfd.detection.autohas.supernet import Supernet, architecture_of, gates_of, sub_network
from nni_hyperfd.detection.network.remap import remap
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.errors import SpaceError
from nni_hyperfd.spaces.architecture import Architecture, largest, mobilenet_v2
from nni_hyperfd.spaces.networks import read_networks, standard_network_space


def lively_detector() -> RetinaFace:
    """The largest network with random weights, scales, shifts and statistics: a channel mixed up is seen."""
    generator = torch.Generator().manual_seed(0)
    model = RetinaFace(largest())
    model.reset_parameters(generator)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                tensor.uniform_(-0.5, 0.5, generator=generator)
    return model


def networks() -> list[Architecture]:
    drawn = read_networks(standard_network_space()).draw(np.random.default_rng(0), 4)
    return [mobilenet_v2(), largest(), *map(Architecture.from_codes, drawn)]


@pytest.mark.parametrize("training", [False, True])
def test_a_sub_network_computes_what_the_remapped_network_computes(training: bool) -> None:
    detector = lively_detector()
    supernet = Supernet(detector).train(training)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 255
    for architecture in networks():
        alone = RetinaFace(architecture)
        alone.load_state_dict(remap(detector.state_dict(), largest(), alone))
        with torch.no_grad():
            expected = alone.train(training)(images)
            found = supernet(images, gates_of(architecture))
        for a, b in zip(found, expected):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_a_sub_network_learns_what_the_remapped_network_learns() -> None:
    detector, architecture = lively_detector(), mobilenet_v2()
    alone = RetinaFace(architecture)
    alone.load_state_dict(remap(detector.state_dict(), largest(), alone))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 255
    alone.eval()(images).logits.sum().backward()
    Supernet(detector).eval()(images, gates_of(architecture)).logits.sum().backward()
    shared = {name: p.grad for name, p in detector.named_parameters() if p.grad is not None}
    for name, wanted in alone.named_parameters():
        if wanted.grad is None:  # heads of other levels
            continue
        found = remap({name: shared[name]}, largest(), _Only(name, wanted))[name]  # type: ignore[arg-type]
        torch.testing.assert_close(found, wanted.grad, rtol=1e-3, atol=1e-3 * float(wanted.grad.abs().max()))


class _Only:
    """A target of remapping with one tensor."""

    def __init__(self, name: str, tensor: torch.Tensor) -> None:
        self.tensors = {name: tensor}

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self.tensors


def test_a_sub_network_is_a_view_of_what_remapping_copies() -> None:
    shared = lively_detector().state_dict()
    for architecture in networks():
        alone, own = sub_network(shared, architecture)
        expected = remap(shared, largest(), RetinaFace(architecture))
        assert alone.architecture == architecture
        assert own.keys() == expected.keys()
        for name, value in own.items():
            assert torch.equal(value, expected[name]), name
            assert value.untyped_storage().data_ptr() == shared[name].untyped_storage().data_ptr()


def test_gates_are_read_back() -> None:
    for architecture in networks():
        assert architecture_of(gates_of(architecture)) == architecture


def test_closed_gates_have_gradients() -> None:
    gates = gates_of(mobilenet_v2())
    for stage in gates:
        for gate in (stage.depth, *stage.blocks):
            gate.requires_grad_()
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 255
    Supernet(lively_detector()).eval()(images, gates).logits.sum().backward()
    closed = gates[3].blocks[0]
    assert closed.grad is not None
    assert closed.grad.unique().numel() == 6  # each operation would change something else


def test_only_the_largest_detector_holds_all_others() -> None:
    with pytest.raises(SpaceError, match="largest"):
        Supernet(RetinaFace(mobilenet_v2()))
