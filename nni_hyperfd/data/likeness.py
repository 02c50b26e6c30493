"""Which images of a data set are the same picture, byte for byte or nearly so.

Nearly: their difference hashes (64 bits: whether each of 8 × 8 gray cells is darker than its right neighbor) differ in few
bits. It survives scaling, another compression and small changes of brightness; crops and turns it does not see.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nni_hyperfd.data.dataset import FaceDataset
from nni_hyperfd.data.decode import decode

NEAR_BITS = 4
"""Pictures whose hashes differ in no more bits than this are called alike."""

FLATTEST = 4.0
"""Standard deviation of the gray cells, of 255, below which a picture is too flat to be told from others."""

_DECODED_SIDE = 128  # pixels; JPEG decoders are quick at an eighth of the size
_ROWS_AT_ONCE = 256
_BITS_SET = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


@dataclass(frozen=True)
class Likeness:
    """What looking at all pixels once tells.

    Args:
        same: Groups of two or more images (indices into the data set) with equal bytes.
        alike: Groups of two or more images that are the same or nearly so.
        undecodable: Images whose pixels cannot be read.
    """

    same: tuple[tuple[int, ...], ...]
    alike: tuple[tuple[int, ...], ...]
    undecodable: tuple[int, ...]


def difference_hash(pixels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Hash of RGB ``pixels`` ``[h, w, 3]`` as 8 bytes; None for a picture without any structure."""
    gray = Image.fromarray(pixels).convert("L").resize((9, 8), Image.Resampling.BOX)
    cells = np.asarray(gray, dtype=np.int16)
    if cells.std() < FLATTEST:
        return None
    return np.packbits(cells[:, :-1] < cells[:, 1:])


def likeness(dataset: FaceDataset) -> Likeness:
    """Reads every image of ``dataset`` once."""
    digests: dict[bytes, list[int]] = {}
    hashed: list[tuple[int, NDArray[np.uint8]]] = []
    undecodable = []
    for index, image in enumerate(dataset.images):
        content = _digest(image.path)
        pixels = None if content is None else decode(image.path, _DECODED_SIDE)
        if content is None or pixels is None:
            undecodable.append(index)
            continue
        digests.setdefault(content, []).append(index)
        found = difference_hash(pixels)
        if found is not None:
            hashed.append((index, found))
    same = [members for members in digests.values() if len(members) > 1]
    pairs = [(members[0], other) for members in same for other in members[1:]]
    if hashed:
        numbers = [index for index, _ in hashed]
        pairs += [(numbers[a], numbers[b]) for a, b in near_pairs(np.stack([found for _, found in hashed]))]
    return Likeness(tuple(map(tuple, same)), _groups(pairs), tuple(undecodable))


def near_pairs(hashes: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Pairs (a < b) of rows of ``hashes`` ``[n, 8]`` that differ in at most ``NEAR_BITS`` bits."""
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(hashes), _ROWS_AT_ONCE):
        rows = hashes[start : start + _ROWS_AT_ONCE]
        distance = np.zeros((len(rows), len(hashes)), dtype=np.uint8)
        for byte in range(hashes.shape[1]):
            distance += _BITS_SET[rows[:, byte, None] ^ hashes[None, :, byte]]
        for row, other in np.argwhere(distance <= NEAR_BITS).tolist():
            if start + row < other:
                pairs.append((start + row, other))
    return pairs


def across(groups: tuple[tuple[int, ...], ...], dataset: FaceDataset) -> tuple[tuple[int, ...], ...]:
    """Those groups that have members in more than one split."""
    split_of = {index: name for name, members in dataset.splits.items() for index in members}
    return tuple(group for group in groups if len({split_of.get(index) for index in group} - {None}) > 1)


def _digest(path: Path) -> bytes | None:
    try:
        return blake2b(path.read_bytes(), digest_size=16).digest()
    except OSError:
        return None


def _groups(pairs: list[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    """Connected components of the graph with these edges, each sorted."""
    leader: dict[int, int] = {}

    def find(index: int) -> int:
        while leader.setdefault(index, index) != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for a, b in pairs:
        leader[max(find(a), find(b))] = min(find(a), find(b))
    members: dict[int, list[int]] = {}
    for index in sorted(leader):
        members.setdefault(find(index), []).append(index)
    return tuple(tuple(group) for group in members.values())
