"""Decoded images, once: a memory-mapped uint8 file on the customer's disk, at most twice the training size."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import Tensor

from nni_hyperfd.data import cache
from nni_hyperfd.data.dataset import FaceDataset
from nni_hyperfd.data.decode import decode
from nni_hyperfd.errors import DataError
from nni_hyperfd.files import replacing, write_file

logger = logging.getLogger(__name__)

VERSION = 1
"""Of the decoded form; to be raised with whatever changes a pixel, so that nothing older is found."""


def default_cache_dir() -> Path:
    """Where decoded images and features are kept: ``HYPERFD_CACHE`` or ``~/.cache/hyperfd``."""
    return Path(os.environ.get("HYPERFD_CACHE") or Path.home() / ".cache" / "hyperfd")


@dataclass(frozen=True)
class Faces:
    """Faces of many images, padded to the largest count G.

    boxes ``[N, G, 4]`` corners in pixels of the stored image; valid, ignored ``[N, G]`` bool;
    landmarks ``[N, G, 10]`` (x, y alternating), NaN where a face has none.
    """

    boxes: Tensor
    valid: Tensor
    ignored: Tensor
    landmarks: Tensor

    def __getitem__(self, index: Tensor) -> Faces:
        return Faces(self.boxes[index], self.valid[index], self.ignored[index], self.landmarks[index])

    def to(self, device: torch.device | str) -> Faces:
        return Faces(*(x.to(device) for x in (self.boxes, self.valid, self.ignored, self.landmarks)))


@dataclass(frozen=True)
class PixelStore:
    """All images of a data set, decoded, with their faces.

    sizes ``[N, 2]`` int64 (height, width) of the stored images; splits: indices per split, broken images left out.
    """

    flat: np.ndarray
    offsets: np.ndarray
    sizes: Tensor
    faces: Faces
    splits: dict[str, Tensor]
    broken: tuple[str, ...]

    @property
    def undecodable(self) -> list[int]:
        """Positions of the images whose pixels could not be decoded."""
        return (self.sizes[:, 0] == 0).nonzero().squeeze(1).tolist()

    def image(self, index: int) -> Tensor:
        """Pixels of one image, ``[3, h, w]`` uint8 (a view of the file)."""
        height, width = self.sizes[index].tolist()
        start = int(self.offsets[index])
        pixels = self.flat[start : start + height * width * 3].reshape(height, width, 3)
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def padded(self, side: int) -> Tensor:
        """All images in the top left corner of squares, ``[N, 3, side, side]`` uint8, for an accelerator's memory."""
        out = torch.zeros(len(self.sizes), 3, side, side, dtype=torch.uint8)
        for index, (height, width) in enumerate(self.sizes.tolist()):
            out[index, :, :height, :width] = self.image(index)
        return out


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """``[3, h, w]`` uint8 -> ``[3, height, width]`` uint8, bilinear, anti-aliased when it shrinks."""
    if tuple(image.shape[-2:]) == (height, width):
        return image
    return F.interpolate(image.unsqueeze(0), (height, width), mode="bilinear", antialias=True).squeeze(0)


def open_pixels(dataset: FaceDataset, max_side: int, cache_dir: Path | None = None) -> PixelStore:
    """Opens the decoded form of ``dataset``, making it on first use (one process at a time, never half a file).

    Images that cannot be decoded are left out of the splits, with one warning.

    Raises:
        DataError: If a split has no image or no face that can be used, or the cache folder cannot be written.
    """
    cache_folder = cache_dir or default_cache_dir()
    folder = cache_folder / "pixels"
    stem = folder / f"{dataset.fingerprint()[:24]}-{max_side}-v{VERSION}"
    pixels, index = stem.with_suffix(".u8"), stem.with_suffix(".json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(stem.with_suffix(".lock")):
            sizes = _read_index(index, pixels)
            if sizes is None:
                sizes = _write(dataset, max_side, pixels, index)
                cache.evict(cache_folder)
            cache.opened(stem)
            flat = np.memmap(pixels, dtype=np.uint8, mode="c")
    except OSError as error:
        raise DataError(
            f"cannot write decoded images to {folder} ({error.strerror or error}): free some disk space or set "
            "HYPERFD_CACHE to another folder"
        ) from error
    return _assemble(dataset, flat, sizes)


def _read_index(index: Path, pixels: Path) -> np.ndarray | None:
    """(height, width) of every image ``[N, 2]``; None where the two files are absent, damaged or not of one writing."""
    try:
        sizes = np.asarray(json.loads(index.read_text())["sizes"], dtype=np.int64).reshape(-1, 2)
        return sizes if pixels.stat().st_size == sizes.prod(1).sum() * 3 else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _write(dataset: FaceDataset, max_side: int, pixels: Path, index: Path) -> np.ndarray:
    """Decodes all images into the two files; returns their sizes ``[N, 2]``, zero where an image cannot be decoded."""
    sizes = []
    with replacing(pixels) as partial:
        with open(partial, "wb") as out:
            for image in dataset.images:
                decoded = decode(image.path, max_side)
                sizes.append((0, 0) if decoded is None else decoded.shape[:2])
                if decoded is not None:
                    out.write(decoded.tobytes())
        if not any(height for height, _ in sizes):
            raise DataError(
                f"none of the {len(sizes)} images in {dataset.root} can be decoded: check the files"
            )
    write_file(index, json.dumps({"sizes": sizes}))
    return np.asarray(sizes, dtype=np.int64)


def _assemble(dataset: FaceDataset, flat: np.ndarray, sizes: np.ndarray) -> PixelStore:
    areas = sizes.prod(1) * 3
    offsets = np.concatenate([[0], np.cumsum(areas)[:-1]])
    decoded = areas > 0
    broken = tuple(image.path.name for image, good in zip(dataset.images, decoded) if not good)
    if broken:
        logger.warning("%d images cannot be decoded and are left out, e.g. %s", len(broken), broken[0])
    splits = {}
    for name, indices in dataset.splits.items():
        kept = [index for index in indices if decoded[index]]
        if not kept:
            raise DataError(
                f"the {name} split of {dataset.root} has no image that can be decoded: check the files"
            )
        if all(dataset.images[index].ignored.all() for index in kept):
            raise DataError(
                f"the {name} split of {dataset.root} has no face in the images that can be decoded: check the files"
            )
        splits[name] = torch.tensor(kept, dtype=torch.int64)
    return PixelStore(flat, offsets, torch.from_numpy(sizes), _pad_faces(dataset, sizes), splits, broken)


def _pad_faces(dataset: FaceDataset, sizes: np.ndarray) -> Faces:
    count = max(1, max(len(image.boxes) for image in dataset.images))
    total = len(dataset.images)
    boxes = torch.zeros(total, count, 4)
    valid, ignored = torch.zeros(total, count, dtype=torch.bool), torch.zeros(total, count, dtype=torch.bool)
    landmarks = torch.full((total, count, 10), torch.nan)
    for row, image in enumerate(dataset.images):
        n = len(image.boxes)
        if n == 0 or not sizes[row, 0]:
            continue
        scale = torch.tensor([sizes[row, 1] / image.width, sizes[row, 0] / image.height], dtype=torch.float32)
        boxes[row, :n] = torch.from_numpy(np.asarray(image.boxes)) * scale.repeat(2)
        valid[row, :n] = True
        ignored[row, :n] = torch.from_numpy(np.asarray(image.ignored))
        landmarks[row, :n] = torch.from_numpy(np.asarray(image.landmarks)).reshape(n, 10) * scale.repeat(5)
    return Faces(boxes, valid, ignored, landmarks)
