from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.spaces import architecture as module
from nni_hyperfd.spaces.architecture import (
    BLOCKS,
    FLOPS_LIMIT,
    GRAPH_FEATURES,
    NETWORKS,
    STAGE_1_BLOCK,
    STAGE_CHOICES,
    STAGES,
    Architecture,
    Block,
    backbone_flops,
    codes_of,
    flops_of_codes,
    graph,
    graphs,
    largest,
    mobilenet_v2,
)
from tests.fixtures.work import Count

architectures = st.tuples(*(st.integers(0, len(choices) - 1) for choices in STAGE_CHOICES)).map(
    Architecture.from_codes
)


def uniform(depths: tuple[int, ...], block: Block) -> Architecture:
    return Architecture(((STAGE_1_BLOCK,), *((block,) * depth for depth in depths[1:])))


def walk_flops(architecture: Architecture, height: int, width: int) -> int:
    """Layer by layer, as a network would be built; shares nothing with the tables but the stage constants."""

    def convolution(channels_in: int, channels_out: int, kernel: int, stride: int, groups: int = 1) -> int:
        nonlocal height, width
        padding = kernel // 2
        height = (height + 2 * padding - kernel) // stride + 1
        width = (width + 2 * padding - kernel) // stride + 1
        return height * width * channels_out * (channels_in // groups) * kernel * kernel

    total = convolution(3, 16, 3, 2)
    channels = 16
    for stage, blocks in zip(STAGES, architecture.stages):
        for position, block in enumerate(blocks):
            hidden = channels * block.expand
            if block.expand != 1:
                total += convolution(channels, hidden, 1, 1)
            total += convolution(
                hidden, hidden, block.kernel, stage.stride if position == 0 else 1, groups=hidden
            )
            total += convolution(hidden, stage.width, 1, 1)
            channels = stage.width
    return total


def test_number_of_networks_is_the_exact_product() -> None:
    six = len(BLOCKS)
    short = six + six**2 + six**3
    middle = six**2 + six**3 + six**4
    product = 1 * short * short * middle * (six**3 + six**4) * middle * six
    assert product == NETWORKS == 1_447_052_760_824_832
    assert [len(choices) for choices in STAGE_CHOICES] == [1, 258, 258, 1548, 1512, 1548, 6]


def test_the_standard_and_the_largest_network() -> None:
    assert mobilenet_v2().depths == (1, 2, 3, 4, 3, 3, 1)
    assert largest().depths == (1, 3, 3, 4, 4, 4, 1)
    assert {block for blocks in largest().stages[1:] for block in blocks} == {Block(7, 6)}
    assert str(mobilenet_v2()) == "36.36|36.36.36|36.36.36.36|36.36.36|36.36.36|36"


def test_flops_of_a_two_by_two_image_by_hand() -> None:
    # Every feature map is a single pixel, so the cost is the number of weights.
    smallest = uniform((1, 1, 1, 2, 3, 2, 1), Block(3, 4))
    stem = 27 * 16
    stage_1 = 9 * 16 + 16 * 8
    stage_2 = 8 * 32 + 9 * 32 + 32 * 12
    stage_3 = 12 * 48 + 9 * 48 + 48 * 16
    stage_4 = (16 * 64 + 9 * 64 + 64 * 32) + (32 * 128 + 9 * 128 + 128 * 32)
    stage_5 = (32 * 128 + 9 * 128 + 128 * 48) + 2 * (48 * 192 + 9 * 192 + 192 * 48)
    stage_6 = (48 * 192 + 9 * 192 + 192 * 80) + (80 * 320 + 9 * 320 + 320 * 80)
    stage_7 = 80 * 320 + 9 * 320 + 320 * 160
    by_hand = stem + stage_1 + stage_2 + stage_3 + stage_4 + stage_5 + stage_6 + stage_7
    assert by_hand == 228_176
    assert backbone_flops(smallest, 2, 2) == by_hand


def test_kernel_expansion_and_stride_each_cost_what_they_should() -> None:
    # 7x5 image: 4x3 after the stem and stage 1, 2x2 in stage 2, one pixel from stage 3 on.
    smallest = uniform((1, 1, 1, 2, 3, 2, 1), Block(3, 4))

    def with_stage_2(*blocks: Block) -> int:
        stages = (smallest.stages[0], blocks, *smallest.stages[2:])
        return backbone_flops(Architecture(stages), 7, 5)

    base = with_stage_2(Block(3, 4))
    # The first block expands on 12 pixels (8 -> 32 or 48) and does the rest on 4.
    assert with_stage_2(Block(5, 4)) - base == 4 * 32 * (25 - 9)
    assert with_stage_2(Block(3, 6)) - base == 12 * 8 * 16 + 4 * 9 * 16 + 4 * 16 * 12
    # A second block works on 4 pixels throughout, from 12 channels to 12.
    assert with_stage_2(Block(3, 4), Block(3, 4)) - base == 4 * (12 * 48 + 9 * 48 + 48 * 12)


@given(architectures, st.integers(1, 700), st.integers(1, 700))
def test_flops_agree_with_a_walk_through_the_layers(
    architecture: Architecture, height: int, width: int
) -> None:
    assert flops_of_codes(codes_of([architecture]), height, width)[0] == walk_flops(
        architecture, height, width
    )


def test_flops_at_the_size_of_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backbone_flops(mobilenet_v2()) == 364_348_800
    assert backbone_flops(largest()) == 679_248_000 < FLOPS_LIMIT
    # The usual MobileNetV2 x0.5 rounds the 12 channels of stage 2 up to 16; its measured cost is 401M.
    usual = tuple(stage._replace(width=16) if stage.width == 12 else stage for stage in STAGES)
    monkeypatch.setattr(module, "STAGES", usual)
    module.stage_flops.cache_clear()
    try:
        assert backbone_flops(mobilenet_v2()) == pytest.approx(401e6, rel=2e-3)
    finally:
        module.stage_flops.cache_clear()


def test_equal_networks_are_equal_keys_and_survive_pickling() -> None:
    first, second = mobilenet_v2(), mobilenet_v2()
    assert first == second
    assert hash(first) == hash(second)
    assert first != largest()
    assert pickle.loads(pickle.dumps(first)) == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: (Block(3, 6),)}, r"^Stage 1 has a block k3e6; use one of k3e1\.$"),
        ({1: (Block(9, 6),)}, r"^Stage 2 has a block k9e6; use one of k3e4, "),
        ({1: (Block(3, 6),) * 4}, r"^Stage 2 has 4 blocks; it may have 1 or 2 or 3\.$"),
        ({4: ()}, r"^Stage 5 has 0 blocks; it may have 3 or 4\.$"),
        ({3: [Block(3, 6)] * 2}, r"^Stage 4 of an architecture is \[.*; give a tuple of Block\.$"),
        ({3: ("k3e6", "k3e6")}, r"^Stage 4 has a block 'k3e6'; use one of"),
    ],
)
def test_a_stage_out_of_the_space_is_refused(change: dict[int, object], message: str) -> None:
    stages = tuple(change.get(i, blocks) for i, blocks in enumerate(mobilenet_v2().stages))
    with pytest.raises(SpaceError, match=message):
        Architecture(stages)  # type: ignore[arg-type]


def test_the_number_of_stages_is_checked() -> None:
    with pytest.raises(SpaceError, match=r"has 7 stages, but 6 were given"):
        Architecture(mobilenet_v2().stages[:6])


@given(architectures)
def test_graph_has_one_described_node_a_block_on_a_chain(architecture: Architecture) -> None:
    features, edges = graph(architecture)
    count = sum(architecture.depths)
    assert features.shape == (count, GRAPH_FEATURES) == (count, 16)
    assert edges.tolist() == [list(range(count - 1)), list(range(1, count))]
    node = 0
    for number, (stage, blocks) in enumerate(zip(STAGES, architecture.stages)):
        for position, block in enumerate(blocks):
            operation = 0 if number == 0 else 1 + BLOCKS.index(block)
            assert np.flatnonzero(features[node, :7]).tolist() == [operation]
            assert np.flatnonzero(features[node, 7:14]).tolist() == [number]
            assert features[node, 14] == (stage.stride == 2 and position == 0)
            assert features[node, 15] == pytest.approx(np.log(stage.width / 8) / np.log(20))
            node += 1


@given(st.lists(architectures, min_size=1, max_size=5))
def test_graphs_are_the_single_graphs_side_by_side(several: list[Architecture]) -> None:
    features, edges, index = graphs(several)
    start = 0
    parts = []
    for architecture in several:
        single_features, single_edges = graph(architecture)
        assert (features[start : start + len(single_features)] == single_features).all()
        parts.append(single_edges + start)
        start += len(single_features)
    assert start == len(features)
    assert (edges == np.concatenate(parts, axis=1)).all()
    assert index.tolist() == np.repeat(np.arange(len(several)), [sum(a.depths) for a in several]).tolist()


def test_no_architectures_make_an_empty_graph() -> None:
    features, edges, index = graphs([])
    assert (features.shape, edges.shape, index.shape) == ((0, 16), (2, 0), (0,))


def test_graphs_of_many_networks_are_as_many_steps_as_those_of_few(calls: Count) -> None:
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, len(choices), 20_000) for choices in STAGE_CHOICES], axis=1)
    many = [Architecture.from_codes(row) for row in codes.tolist()]
    graph(many[0])
    features, _, _ = graphs(many)
    assert len(features) == sum(sum(a.depths) for a in many)
    assert calls(lambda: graphs(many)) < 2 * calls(lambda: graphs(many[:2000]))
