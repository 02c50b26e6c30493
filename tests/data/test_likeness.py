"""Copies among images: byte for byte, or nearly so."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.likeness import NEAR_BITS, across, difference_hash, likeness, near_pairs


def scene(seed: int) -> Image.Image:
    """A smooth picture, unlike those of other seeds."""
    cells = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((160, 120), Image.Resampling.BICUBIC)


def test_copies_are_found_within_and_across_splits(tmp_path) -> None:
    """Equal bytes; smaller, darker and compressed anew; a flat picture, which is like no other; a broken one."""
    flat = Image.new("RGB", (160, 120), (90, 90, 90))
    pictures = {
        "train/a": scene(1),
        "train/b": scene(2),
        "train/flat": flat,
        "val/a2": scene(1),
        "val/c": scene(3),
        "test/b-small": scene(2).resize((80, 60)).point(lambda level: round(0.9 * level)),
        "test/flat2": flat,
        "test/d": scene(4),
    }
    for name, picture in pictures.items():
        file = tmp_path / "images" / f"{name}.png"
        if name == "test/b-small":
            file = file.with_suffix(".jpg")
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file)
        label = tmp_path / "labels" / f"{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.4 0.4\n")
    broken = tmp_path / "images" / "test" / "broken.png"
    scene(5).save(broken)
    broken.write_bytes(broken.read_bytes()[:-2000])
    (tmp_path / "labels" / "test" / "broken.txt").write_text("0 0.5 0.5 0.4 0.4\n")

    dataset = load_dataset(tmp_path)
    found = likeness(dataset)

    def named(groups: tuple[tuple[int, ...], ...]) -> set[frozenset[str]]:
        return {frozenset(dataset.images[index].path.stem for index in group) for group in groups}

    assert named(found.same) == {frozenset({"a", "a2"}), frozenset({"flat", "flat2"})}
    assert named(found.alike) == named(found.same) | {frozenset({"b", "b-small"})}
    assert [dataset.images[index].path.stem for index in found.undecodable] == ["broken"]
    assert named(across(found.alike, dataset)) == named(found.alike)
    a, b = (next(i for i, image in enumerate(dataset.images) if image.path.stem == stem) for stem in "ab")
    assert across(((a, b),), dataset) == ()


def test_the_hash_by_hand() -> None:
    """Cells of 8 × 8 pixels that rise from left to right in the upper half and fall in the lower one."""
    ramp = np.repeat(np.arange(9, dtype=np.uint8) * 20, 8)
    gray = np.concatenate([np.tile(ramp, (32, 1)), np.tile(ramp[::-1], (32, 1))])
    found = difference_hash(np.stack([gray] * 3, axis=2))
    assert found is not None
    assert found.tolist() == [255] * 4 + [0] * 4
    assert difference_hash(np.full((64, 72, 3), 7, np.uint8)) is None


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12), st.integers(0, 63), st.integers(0, 6))
def test_near_pairs_are_those_with_few_different_bits(values: list[int], start: int, flips: int) -> None:
    """Against counting bits of integers, over random hashes and one that differs in ``flips`` bits."""
    near = values[0]
    for bit in range(flips):
        near ^= 1 << (start + bit) % 64
    values = [*values, near]
    hashes = np.array([list(value.to_bytes(8, "big")) for value in values], dtype=np.uint8)
    expected = {
        (a, b)
        for a in range(len(values))
        for b in range(a + 1, len(values))
        if bin(values[a] ^ values[b]).count("1") <= NEAR_BITS
    }
    assert set(near_pairs(hashes)) == expected
