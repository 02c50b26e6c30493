"""G: its arithmetic, its ablations, and what it does not depend on."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from nni_hyperfd.errors import DataError
from nni_hyperfd.metafeature.extractor import (
    VARIANTS,
    MetaFeatureExtractor,
    Variant,
    backpropagate,
    dataset_statistics,
    image_inputs,
    meta_feature,
    sample_images,
    samples,
)
from nni_hyperfd.metafeature.features import ImageFeatures


def features(n: int = 40, seed: int = 0) -> ImageFeatures:
    generator = torch.Generator().manual_seed(seed)
    return ImageFeatures(
        torch.randn(n, 3, 86, generator=generator),
        torch.randn(n, 3, 86, generator=generator),
        torch.randint(0, 9, (n,), generator=generator),
        torch.randn(n, 2048, generator=generator),
        torch.randn(n, 256, generator=generator),
    )


def extractor(variant: Variant = "full") -> MetaFeatureExtractor:
    torch.manual_seed(1)
    made = MetaFeatureExtractor(variant)
    made.set_normalization(image_inputs(features(), variant), torch.tensor([[3.0, 4.0], [5.0, 7.0]]))
    return made


def test_columns_of_each_variant() -> None:
    f = features(2)
    levels = [f.gwap[:, k] for k in range(3)]
    assert torch.equal(image_inputs(f, "full"), torch.cat(levels, 1))
    assert torch.equal(image_inputs(f, "no_statistics"), torch.cat(levels, 1))
    assert torch.equal(image_inputs(f, "no_attention"), torch.cat(levels, 1))
    assert torch.equal(image_inputs(f, "no_gwap"), torch.cat([f.mean[:, k] for k in range(3)], 1))
    assert torch.equal(image_inputs(f, "no_labels"), torch.cat([level[:, :80] for level in levels], 1))
    assert torch.equal(image_inputs(f, "last_level"), levels[2])
    assert torch.equal(image_inputs(f, "resnet"), f.resnet)
    assert torch.equal(image_inputs(f, "mobilenet"), f.mobilenet)
    assert image_inputs(f, "statistics").shape == (2, 0)


def test_statistics_are_logarithms_and_defined_without_a_box() -> None:
    assert dataset_statistics(torch.tensor([3, 0, 4])).tolist() == pytest.approx([math.log(3), math.log(8)])
    assert dataset_statistics(torch.tensor([0])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_gives_64_numbers_a_data_set_and_learns(variant: Variant) -> None:
    g = extractor(variant)
    inputs = image_inputs(features(), variant)
    phi = g(torch.stack([inputs[:32], inputs[8:]]), torch.tensor([[3.0, 4.0], [4.0, 5.0]]))
    assert phi.shape == (2, 64)
    weights = torch.linspace(-1, 1, 64)
    (phi @ weights).sum().backward()
    assert all(p.grad is not None for p in g.parameters())
    assert g.project.weight.grad.abs().sum() > 0


def test_standardization_linear_map_and_mean_without_attention() -> None:
    g = extractor("no_attention")
    inputs, statistics = image_inputs(features()), torch.tensor([[3.0, 4.0], [5.0, 7.0]])
    images = inputs[:6].view(2, 3, -1)
    expected = []
    for dataset in range(2):
        rows = []
        for image in range(3):
            standard = (images[dataset, image] - inputs.mean(0)) / inputs.std(0, correction=0)
            own = (statistics[dataset] - torch.tensor([4.0, 5.5])) / torch.tensor([1.0, 1.5])
            row = torch.cat([standard, own]).clamp(-5, 5)
            rows.append(g.project.weight @ row + g.project.bias)
        expected.append(sum(rows) / 3)
    assert torch.allclose(g(images, statistics), torch.stack(expected), atol=1e-5)


def test_attention_is_one_post_norm_encoder_layer() -> None:
    """Written out by hand for one data set: four heads, residuals, layer norms, ReLU between 64 → 128 → 64."""
    g = extractor()
    layer = g.attention
    images, statistics = image_inputs(features())[None, :5], torch.tensor([[3.0, 4.0]])
    plain = extractor("no_attention")
    plain.load_state_dict({k: v for k, v in g.state_dict().items() if not k.startswith("attention")})
    x = torch.cat([plain(images[:, i : i + 1], statistics) for i in range(5)])
    q, k, v = (x @ layer.self_attn.in_proj_weight.T + layer.self_attn.in_proj_bias).chunk(3, 1)
    heads = []
    for h in range(4):
        part = slice(16 * h, 16 * h + 16)
        heads.append(torch.softmax(q[:, part] @ k[:, part].T / 4, 1) @ v[:, part])
    x = functional.layer_norm(
        x + layer.self_attn.out_proj(torch.cat(heads, 1)), (64,), layer.norm1.weight, layer.norm1.bias
    )
    x = functional.layer_norm(
        x + layer.linear2(torch.relu(layer.linear1(x))), (64,), layer.norm2.weight, layer.norm2.bias
    )
    assert torch.allclose(g(images, statistics)[0], x.mean(0), atol=1e-5)


@pytest.mark.parametrize("variant", ["full", "no_attention"])
def test_order_of_images_does_not_matter(variant: Variant) -> None:
    g, images = extractor(variant), image_inputs(features())[None]
    shuffled = images[:, torch.randperm(40, generator=torch.Generator().manual_seed(2))]
    statistics = torch.tensor([[3.0, 4.0]])
    assert torch.allclose(g(images, statistics), g(shuffled, statistics), atol=1e-5)


def test_data_sets_of_a_batch_do_not_mix() -> None:
    g, inputs = extractor(), image_inputs(features())
    statistics = torch.tensor([[3.0, 4.0], [4.0, 6.0]])
    both = g(torch.stack([inputs[:20], inputs[20:]]), statistics)
    assert torch.allclose(both[1:], g(inputs[None, 20:], statistics[1:]), atol=1e-5)


def test_shared_pool_is_only_a_shortcut() -> None:
    g, pool = extractor().eval(), image_inputs(features())
    indices = torch.tensor([[0, 1, 2, 2], [7, 0, 39, 5]])
    statistics = torch.tensor([[3.0, 4.0], [4.0, 6.0]])
    with torch.no_grad():
        assert torch.allclose(
            g.forward_indexed(pool, indices, statistics), g(pool[indices], statistics), atol=1e-5
        )


def test_a_column_that_never_varies_stays_harmless() -> None:
    g = MetaFeatureExtractor("last_level")
    constant = torch.ones(10, 86)
    g.set_normalization(constant, torch.zeros(3, 2))
    assert torch.equal(g.scale, torch.ones(88))
    assert torch.isfinite(g(1e6 * constant[None], torch.zeros(1, 2))).all()


def test_samples_are_without_replacement_unless_the_set_is_too_small() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(50.0)[:, None]
    drawn = sample_images(rows, 32, generator)
    assert drawn.shape == (32, 1)
    assert len(drawn.unique()) == 32
    small = sample_images(rows[:3], 32, generator)
    assert small.shape == (32, 1)
    assert set(small.flatten().tolist()) == {0.0, 1.0, 2.0}
    again = torch.Generator().manual_seed(0)
    assert torch.equal(drawn, sample_images(rows, 32, again))


def test_meta_feature_is_the_mean_of_samples() -> None:
    g, f = extractor().eval(), features()
    phi = meta_feature(g, f, torch.Generator().manual_seed(3), images=16, repeats=4)
    drawn = samples(g, f, torch.Generator().manual_seed(3), images=16)
    assert torch.allclose(phi, torch.stack([next(drawn) for _ in range(4)]).mean(0), atol=1e-5)
    assert not phi.requires_grad


def test_back_propagation_through_two_samples_is_the_gradient_of_the_whole() -> None:
    g, f = extractor(), features()
    weights = torch.randn(2, 64, generator=torch.Generator().manual_seed(4))
    drawn = samples(g, f, torch.Generator().manual_seed(5))
    one, other = next(drawn), next(drawn)
    ((one * weights[0]).sum() + (other * weights[1]).sum()).backward()
    expected = {name: p.grad for name, p in g.named_parameters()}
    drawn = samples(g, f, torch.Generator().manual_seed(5))
    found = backpropagate(g, [next(drawn), next(drawn)], list(weights))
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[name], expected[name], atol=1e-5) for name in found)


def test_unknown_variant_and_missing_resnet_features_are_named() -> None:
    with pytest.raises(DataError, match="'best' is unknown; use one of full, resnet"):
        MetaFeatureExtractor("best")  # type: ignore[arg-type]
    plain = features(3)
    for variant in ("resnet", "mobilenet"):
        with pytest.raises(DataError, match=f"needs {variant} features"):
            image_inputs(ImageFeatures(plain.gwap, plain.mean, plain.boxes), variant)
