"""A 6:1:3 split, drawn so that what belongs together stays on one side.

Copies of one photograph always do; pictures of one sequence or person where their names tell of at least three.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from nni_hyperfd.data.duplicates import copies, origin
from nni_hyperfd.data.faces import FaceImage
from nni_hyperfd.data.names import KIND_FOLDERS, split_word
from nni_hyperfd.data.report import Findings

SPLITS = ("train", "val", "test")
SPLIT_SHARES = {"train": 0.6, "val": 0.1, "test": 0.3}  # of the paper: 6:1:3
SEQUENCE = re.compile(r"^(?P<name>.*?)[ _.\-]*(?:frame|img|image|f)?[ _.\-]+0*\d+$", re.IGNORECASE)
# Names that cameras and programs give to unrelated pictures.
CAMERAS = frozenset(
    {
        *("img", "image", "images", "dsc", "dscn", "dscf", "pict", "p", "photo", "pic", "picture", "frame", "f", "face", "faces", "file", "scan"),
        *("screenshot", "pxl", "mvi", "gopr", "wp", "sample", "train", "val", "valid", "test", "data", "output", "untitled", "imagen", "bild"),
        *("foto", "i", "im", "n", "no", "nr", "whatsapp image", "signal", "vlcsnap", "snapshot", "capture", "crop", "coco", "photos", "x"),
        "",
    }
)  # fmt: skip


def draw(
    names: Sequence[str],
    images: Sequence[FaceImage],
    members: Iterable[int],
    words: Sequence[str],
    rng: np.random.Generator,
    findings: Findings,
) -> dict[str, tuple[int, ...]]:
    """``members`` in the shares of ``words``; what belongs together stays on one side, and no split is without faces by bad luck."""
    indices = list(members)
    total = sum(SPLIT_SHARES[word] for word in words)
    shares = {word: SPLIT_SHARES[word] / total for word in words}
    has_faces = {index: bool((~images[index].ignored).any()) for index in indices}
    groups = together(names, images, indices)
    if len({*groups.values()}) == len(indices):
        return _draw_images(indices, has_faces, shares, rng)
    if len({groups[index] for index in indices if has_faces[index]}) < len(words):
        findings.note(
            f"pictures that belong together are on both sides of the split that was drawn: names tell only of "
            f"{len({*groups.values()})} photographs or sequences"
        )
        return _draw_images(indices, has_faces, shares, rng)
    findings.note(
        f"the split is drawn by {len({*groups.values()})} groups of pictures that belong together (copies, sequences or persons, told by "
        "their names)"
    )
    return _draw_groups(groups, has_faces, shares, rng)


def _draw_images(
    indices: Sequence[int],
    has_faces: Mapping[int, bool],
    shares: Mapping[str, float],
    rng: np.random.Generator,
) -> dict[str, tuple[int, ...]]:
    """Drawn apart for images with and without faces."""
    members: dict[str, list[int]] = {word: [] for word in shares}
    every = np.array(indices, dtype=np.int64)
    faces = np.array([has_faces[index] for index in indices], dtype=bool)
    words = [word for word in ("val", "test") if word in shares]
    for group in (every[faces], every[~faces]):
        order = rng.permutation(group)
        smallest = 1 if len(group) >= len(shares) else 0
        counts = [max(smallest, round(shares[word] * len(group))) for word in words]
        for word, part in zip([*words, "train"], np.split(order, np.cumsum(counts))):
            members[word] += part.tolist()
    return {word: tuple(sorted(found)) for word, found in members.items()}


def _draw_groups(
    groups: Mapping[int, Hashable],
    has_faces: Mapping[int, bool],
    shares: Mapping[str, float],
    rng: np.random.Generator,
) -> dict[str, tuple[int, ...]]:
    """Largest groups first, each to the split that lacks most; then every split gets a group with faces."""
    units: dict[Hashable, list[int]] = {}
    for index, group in groups.items():
        units.setdefault(group, []).append(index)
    order = [list(units.values())[number] for number in rng.permutation(len(units))]
    order.sort(key=len, reverse=True)
    parts: dict[str, list[list[int]]] = {word: [] for word in shares}
    lacking = {word: share * len(groups) for word, share in shares.items()}
    for unit in order:
        word = max(lacking, key=lambda each: lacking[each])
        parts[word].append(unit)
        lacking[word] -= len(unit)
    for word in parts:
        if not any(_shows(unit, has_faces) for unit in parts[word]):
            rich = max(parts, key=lambda each: sum(_shows(unit, has_faces) for unit in parts[each]))
            unit = min((unit for unit in parts[rich] if _shows(unit, has_faces)), key=len)
            parts[rich].remove(unit)
            parts[word].append(unit)
    return {word: tuple(sorted(index for unit in found for index in unit)) for word, found in parts.items()}


def _shows(unit: Sequence[int], has_faces: Mapping[int, bool]) -> bool:
    return any(has_faces[index] for index in unit)


def together(
    names: Sequence[str], images: Sequence[FaceImage], indices: Sequence[int]
) -> dict[int, Hashable]:
    """A group for each image: copies of one photograph always, sequences and persons where their names tell of three or more."""
    paths: list[Path] = [images[index].path for index in indices]
    alone: dict[int, Hashable] = {index: index for index in indices}
    for same in copies(paths):
        for member in same:
            alone[indices[member]] = indices[same[0]]
    told: dict[Hashable, Hashable] = {}
    for index in indices:
        sequence = sequence_of(names[index])
        if sequence is not None:
            told.setdefault(alone[index], sequence)
    sizes = Counter(told.values())
    if len(sizes) < len(SPLITS) or max(sizes.values(), default=0) < 2:
        return alone
    return {index: told.get(group, group) for index, group in alone.items()}


def sequence_of(name: str) -> tuple[str, str] | None:
    """Folder and name that pictures of one video or person share, None where the name tells of none."""
    folder, last = os.path.split(name)
    stem = origin(last) or os.path.splitext(last)[0]
    stem = re.sub(r"_(jpe?g|png|bmp|webp)$", "", stem, flags=re.IGNORECASE)
    match = SEQUENCE.match(stem)
    if match and match["name"].strip(" _.-").casefold() not in CAMERAS:
        return folder, match["name"]
    plain = re.fullmatch(r"(?:frame|img|image|f)?[ _.\-]*0*\d+", stem, re.IGNORECASE)
    own = [
        part
        for part in folder.split("/")
        if part.casefold() not in KIND_FOLDERS and part and split_word(part) is None
    ]
    return (folder, "") if plain and own else None
