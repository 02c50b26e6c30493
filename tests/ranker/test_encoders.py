"""H: the graph network against dense matrices, and that a configuration's code depends on nothing but itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.ranker.encoders import EncoderShape, GINEncoder, JointEncoder, MLPEncoder
from nni_hyperfd.ranker.encodings import GraphBatch, encode
from nni_hyperfd.spaces.standard import standard_space


def graph_encoder() -> GINEncoder:
    """With every number away from its initial value, ε and the running statistics too."""
    torch.manual_seed(0)
    encoder = GINEncoder().eval()
    for name, tensor in encoder.state_dict().items():
        if name.endswith("eps"):
            tensor.fill_(0.3)
        elif name.endswith("running_mean"):
            tensor.normal_()
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
    return encoder


def perceptron(layers: nn.Sequential, x: Tensor) -> Tensor:
    """64 → 128 → batch norm with running statistics → ReLU → 64, written out."""
    first, norm, _, second = layers
    x = x @ first.weight.T + first.bias
    x = (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    return torch.relu(x) @ second.weight.T + second.bias


def dense(encoder: GINEncoder, graph: GraphBatch) -> Tensor:
    """One graph with an explicit adjacency matrix A[i, j] = 1 where j → i."""
    n = len(graph.nodes)
    adjacency = torch.zeros(n, n)
    adjacency[graph.edges[1], graph.edges[0]] = 1
    x = graph.nodes @ encoder.embed.weight.T + encoder.embed.bias
    v = [encoder.virtual[0], encoder.virtual[1]]
    for layer in range(2):
        x = x + v[0] + v[1]
        x = perceptron(encoder.convolutions[layer].nn, 1.3 * x + adjacency @ x)
        v = [v[k] + perceptron(encoder.virtual_updates[layer][k], (v[k] + x.sum(0))[None])[0] for k in (0, 1)]
    return encoder.read_out(torch.cat(v))


def test_graph_network_is_the_dense_arithmetic() -> None:
    encoder, nas = graph_encoder(), standard_space("nas")
    batch = encode(nas, nas.sample(6, np.random.default_rng(0)))
    with torch.no_grad():
        expected = torch.stack([dense(encoder, batch[i : i + 1]) for i in range(6)])
        assert torch.allclose(encoder(batch), expected, rtol=1e-4, atol=1e-4)


def test_any_graph_not_only_a_chain() -> None:
    encoder = graph_encoder()
    edges = torch.tensor([[0, 0, 1, 2, 3], [1, 2, 3, 3, 0]])
    graph = GraphBatch(
        torch.randn(4, 16, generator=torch.Generator().manual_seed(1)), edges, torch.tensor([4])
    )
    with torch.no_grad():
        assert torch.allclose(encoder(graph)[0], dense(encoder, graph), rtol=1e-4, atol=1e-4)


def test_epsilon_is_learnable_and_starts_at_zero() -> None:
    encoder = GINEncoder()
    assert [c.eps.item() for c in encoder.convolutions] == [0.0, 0.0]
    assert all(isinstance(c.eps, nn.Parameter) for c in encoder.convolutions)


def test_every_parameter_of_every_encoder_learns() -> None:
    for kind in ("hpo", "nas", "joint"):
        space = standard_space(kind)
        torch.manual_seed(0)
        encoder = EncoderShape.of(space).build()
        encoder(encode(space, space.sample(8, np.random.default_rng(0)))).square().sum().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_where_a_block_stands_matters() -> None:
    """The same blocks in another order are another network: sums alone could not tell them apart."""
    encoder = graph_encoder()
    nodes = torch.eye(16)[:4]
    chain = torch.tensor([[0, 1, 2], [1, 2, 3]])
    one = GraphBatch(nodes, chain, torch.tensor([4]))
    other = GraphBatch(nodes[[0, 2, 1, 3]], chain, torch.tensor([4]))
    with torch.no_grad():
        assert not torch.allclose(encoder(one), encoder(other), atol=1e-3)


def test_joint_is_a_linear_map_of_both_codes() -> None:
    joint = standard_space("joint")
    torch.manual_seed(0)
    encoder = EncoderShape.of(joint).build().eval()
    assert isinstance(encoder, JointEncoder)
    batch = encode(joint, joint.sample(3, np.random.default_rng(0)))
    both = torch.cat([encoder.rows(batch.rows), encoder.graphs(batch.graphs)], 1)
    expected = functional.linear(both, encoder.merge.weight, encoder.merge.bias)
    assert torch.allclose(encoder(batch), expected)


def test_shapes_follow_the_space_and_refuse_another() -> None:
    hpo, nas = standard_space("hpo"), standard_space("nas")
    shape = EncoderShape.of(hpo)
    assert isinstance(shape.build(), MLPEncoder)
    assert EncoderShape(**shape.to_json()) == shape
    shape.check(encode(hpo, hpo.enumerate()))
    with pytest.raises(SpaceError, match="encoded for a gin encoder"):
        shape.check(encode(nas, nas.sample(2, np.random.default_rng(0))))
    with pytest.raises(SpaceError, match="with 3 inputs"):
        shape.check(torch.zeros(1, 3))
