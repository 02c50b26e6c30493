"""Folders of small pictures for tests that read or train on data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nni_hyperfd.detection.pixels import Faces, PixelStore

Sizes = Mapping[str, tuple[int, int]]


@pytest.fixture(scope="session")
def draw_pictures() -> Callable[[Path, Sizes], Path]:
    """Writes plain pictures: ``draw_pictures(folder, {"images/a.jpg": (width, height)})``."""

    def draw(folder: Path, sizes: Sizes) -> Path:
        for number, (name, size) in enumerate(sizes.items()):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, (10 * number % 256, 80, 120)).save(path)
        return folder

    return draw


@pytest.fixture(scope="session")
def store_of() -> Callable[..., PixelStore]:
    """A store without files: ``store_of([pixels [h, w, 3], ...], [[(x0, y0, x1, y1, ignored), ...], ...], splits)``.

    No face has landmarks; without ``splits`` all images are in each.
    """

    def make(
        pictures: Sequence[np.ndarray],
        faces: Sequence[Sequence[tuple]],
        splits: Mapping[str, Sequence[int]] | None = None,
    ) -> PixelStore:
        sizes = np.array([picture.shape[:2] for picture in pictures], dtype=np.int64)
        most = max(1, *map(len, faces)) if len(faces) > 1 else max(1, len(faces[0]))
        boxes = torch.zeros(len(pictures), most, 4)
        valid, ignored = (torch.zeros(len(pictures), most, dtype=torch.bool) for _ in range(2))
        for row, found in enumerate(faces):
            for column, (*box, unclear) in enumerate(found):
                boxes[row, column] = torch.tensor(box)
                valid[row, column], ignored[row, column] = True, unclear
        every = range(len(pictures))
        members = splits or {"train": every, "val": every, "test": every}
        return PixelStore(
            np.concatenate([picture.ravel() for picture in pictures]),
            np.concatenate([[0], np.cumsum(sizes.prod(1) * 3)[:-1]]),
            torch.from_numpy(sizes),
            Faces(boxes, valid, ignored, torch.full((len(pictures), most, 10), torch.nan)),
            {name: torch.tensor(list(rows)) for name, rows in members.items()},
            (),
        )

    return make
