"""The server's images as other annotators would have labelled them: offline sets that differ in *what a label is*.

Customers differ in conventions as much as in pixels: how much hair a box holds, whether the face or the whole head is meant,
which faces are worth a label, how many are forgotten. A convention is one such habit, followed in train, val and test alike.
A set that follows one is called ``<convention>~<name of the set>`` and has the same members.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from nni_hyperfd.data.pixels import Faces, PixelStore
from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.offline_sets import OfflineSet

Convention = Callable[[PixelStore, int], Faces]
"""``(store, seed) -> faces`` of the same shapes; an image's faces depend on the seed, its index and its set, on nothing else."""

MARK = "~"
"""Between the name of a convention and that of a set."""

LEAST_SIDE = 1.0
"""Pixels of the stored image: a box that the image's border leaves less of counts neither for nor against a detector."""


def conventional(name: str) -> str | None:
    """The convention that a set's name speaks of, None for the annotators' own.

    Raises:
        DataError: It is none of :data:`CONVENTIONS`.
    """
    convention, mark, _ = name.partition(MARK)
    if mark and convention not in CONVENTIONS:
        raise DataError(
            f"the offline set {name} is labelled by an unknown convention {convention!r}: known are {', '.join(CONVENTIONS)}"
        )
    return convention if mark else None


def relabelled(store: PixelStore, convention: str, seed: int = 0) -> PixelStore:
    """The same images with the labels of a convention, in all splits of ``store``.

    Args:
        store: Images and faces; what is measured over a set is measured over its splits' images.
        convention: A key of :data:`CONVENTIONS`.
        seed: Of what is left to chance: which labels are missing.
    """
    faces = CONVENTIONS[convention](store, seed)
    height, width = (side.view(-1, 1).to(faces.boxes.dtype) for side in store.sizes.T)
    x1, y1, x2, y2 = faces.boxes.unbind(-1)
    boxes = torch.stack(
        [
            x1.clamp(min=0).minimum(width),
            y1.clamp(min=0).minimum(height),
            x2.clamp(min=0).minimum(width),
            y2.clamp(min=0).minimum(height),
        ],
        dim=-1,
    )
    lost = faces.valid & ((boxes[..., 2:] - boxes[..., :2]).amin(-1) < LEAST_SIDE)
    return replace(store, faces=replace(faces, boxes=boxes, ignored=faces.ignored | lost))


def dealt(sets: tuple[OfflineSet, ...], count: int, seed: int = 0) -> tuple[OfflineSet, ...]:
    """``count`` different sets drawn at random, the conventions dealt to them in turn.

    Raises:
        DataError: There are fewer sets.
    """
    if count > len(sets):
        raise DataError(f"cannot label {count} offline sets anew: there are {len(sets)}")
    drawn = np.random.default_rng(seed).permutation(len(sets))[:count]
    names = list(CONVENTIONS)
    return tuple(
        replace(sets[index], name=f"{names[place % len(names)]}{MARK}{sets[index].name}")
        for place, index in enumerate(drawn)
    )


def _resized(faces: Faces, factor: float, up: float = 0.0) -> Faces:
    """Boxes ``factor`` times as wide and tall, their centres moved up by ``up`` of the height they had."""
    low, high = faces.boxes.split(2, dim=-1)
    center, half = (low + high) / 2, (high - low) / 2
    center = center - torch.stack([torch.zeros_like(half[..., 1]), 2 * up * half[..., 1]], dim=-1)
    return replace(faces, boxes=torch.cat([center - factor * half, center + factor * half], dim=-1))


def _kept(faces: Faces, keep: Tensor) -> Faces:
    """Without the labels outside of ``keep`` ``[N, G]``; what is ignored stays so, as no label speaks of it."""
    return replace(faces, valid=faces.valid & (keep | faces.ignored))


def loose(store: PixelStore, seed: int) -> Faces:
    """Boxes a quarter wider and taller than the face."""
    return _resized(store.faces, 1.25)


def tight(store: PixelStore, seed: int) -> Faces:
    """Eyes, nose and mouth: boxes a fifth narrower and lower."""
    return _resized(store.faces, 0.8)


def raised(store: PixelStore, seed: int) -> Faces:
    """From the hair to the mouth: boxes moved up by 15 % of their height."""
    return _resized(store.faces, 1.0, up=0.15)


def heads(store: PixelStore, seed: int) -> Faces:
    """Heads in place of faces: boxes 1.45 times as wide and tall that end a little below the chin."""
    return _resized(store.faces, 1.45, up=0.18)


def large(store: PixelStore, seed: int) -> Faces:
    """Small faces have no label: those lower, in shares of the image's longer side, than the median face of the set."""
    faces = store.faces
    share = (faces.boxes[..., 3] - faces.boxes[..., 1]) / store.sizes.amax(1).clamp(min=1).view(-1, 1)
    mine = torch.cat(list(store.splits.values()))
    counted = (faces.valid & ~faces.ignored)[mine]
    return _kept(faces, share >= share[mine][counted].median())


def missing(store: PixelStore, seed: int) -> Faces:
    """A third of the labels forgotten, face by face at random."""
    total, most = store.faces.valid.shape
    kept = np.stack([np.random.default_rng((seed, index)).random(most) >= 1 / 3 for index in range(total)])
    return _kept(store.faces, torch.from_numpy(kept))


CONVENTIONS: Mapping[str, Convention] = {
    each.__name__: each for each in (loose, tight, raised, large, missing, heads)
}
