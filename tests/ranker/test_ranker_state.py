"""F: scores, seeds, and a state that is either taken over whole or refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nni_hyperfd.errors import PlatformError, SpaceError
from nni_hyperfd.protocol.tensors import from_blob, to_blob
from nni_hyperfd.ranker.encoders import EncoderShape
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.ranker import CHUNK, Ranker
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_space

HPO, NAS, JOINT = (standard_space(kind) for kind in ("hpo", "nas", "joint"))


def build(seed: int = 0) -> Ranker:
    return Ranker.build({space.key: EncoderShape.of(space) for space in (HPO, NAS, JOINT)}, seed)


def same(one: Ranker, other: Ranker) -> bool:
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(tensor, states[1][name]) for name, tensor in states[0].items()
    )


def test_score_is_the_inner_product() -> None:
    ranker, phi = build(), torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
    encodings = encode(HPO, HPO.enumerate())
    codes = ranker.embed(HPO.key, encodings)
    slow = [[sum(a * b for a, b in zip(p.tolist(), c.tolist())) for c in codes] for p in phi]
    assert torch.allclose(ranker.scores(phi, codes), torch.tensor(slow), atol=1e-4)
    assert torch.allclose(ranker.predict(HPO.key, phi[1], encodings), ranker.scores(phi, codes)[1], atol=1e-5)


@pytest.mark.parametrize("space", [NAS, JOINT])
def test_a_score_does_not_depend_on_the_company(space: Space) -> None:
    ranker = build().train()
    encodings = encode(space, space.sample(CHUNK + 5, np.random.default_rng(0)))
    phi = torch.randn(64, generator=torch.Generator().manual_seed(1))
    whole = ranker.predict(space.key, phi, encodings)
    picked = torch.tensor([CHUNK + 3, 0, 17])
    assert torch.allclose(ranker.predict(space.key, phi, encodings[picked]), whole[picked], atol=1e-4)
    assert ranker.encoder(space.key).training, "scoring must leave the mode as it was"


def test_nothing_to_score_is_nothing() -> None:
    ranker = build()
    empty = encode(NAS, NAS.sample(1, np.random.default_rng(0)))[:0]
    assert ranker.embed(NAS.key, empty).shape == (0, 64)


def test_the_seed_decides_and_the_world_outside_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, other, third = build(1), build(1), build(2)
    assert torch.equal(before, torch.random.get_rng_state())
    assert same(one, other)
    assert not same(one, third)


def test_bytes_give_back_the_ranker() -> None:
    ranker = build(3)
    again = Ranker.from_bytes(ranker.to_bytes())
    assert same(ranker, again)
    assert again.shapes == ranker.shapes
    assert again.extractor.variant == "full"


def test_a_new_space_gets_a_fresh_encoder_and_keeps_it() -> None:
    ranker = build()
    own = Space.from_search_space({"rate": {"_type": "loguniform", "_value": [1e-4, 1]}})
    with pytest.raises(SpaceError, match=f"knows no search space {own.key}"):
        ranker.encoder(own.key)
    ranker.add_space(own, seed=4)
    first = {name: tensor.clone() for name, tensor in ranker.encoder(own.key).state_dict().items()}
    ranker.add_space(own, seed=5)
    assert all(torch.equal(first[name], t) for name, t in ranker.encoder(own.key).state_dict().items())
    twin = build()
    twin.add_space(own, seed=4)
    assert same(ranker, twin)
    assert same(ranker, Ranker.from_bytes(ranker.to_bytes()))


def test_a_state_that_does_not_fit_is_refused_whole() -> None:
    ranker, other = build(0), build(1)
    state = other.parameters_state()
    state["extractor.project.bias"] = torch.zeros(3)
    state["stranger"] = torch.zeros(1)
    del state["extractor.center"]
    state["extractor.scale"][0] = torch.nan
    with pytest.raises(PlatformError) as caught:
        ranker.load(state)
    for fault in (
        "missing extractor.center",
        "unexpected stranger",
        "extractor.project.bias is [3] instead of [64]",
        "extractor.scale is not finite",
    ):
        assert fault in str(caught.value)
    assert same(ranker, build(0))


def test_damaged_and_mistaken_bytes() -> None:
    data = build().to_bytes()
    for broken in (b"", data[:100], data[:-10], b"\xff" * 64):
        with pytest.raises(PlatformError, match="stored ranker is damaged"):
            Ranker.from_bytes(broken)
    with pytest.raises(PlatformError, match="A stored ranker was found where a transformation belongs"):
        from_blob("transformation", data)
    newer = to_blob("ranker", {"a": torch.zeros(1)}, {}).replace(b'"schema":"1"', b'"schema":"9"')
    with pytest.raises(PlatformError, match="format 9, newer than format 1"):
        from_blob("ranker", newer)
