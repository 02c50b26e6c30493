"""Folders of small pictures for tests that read or train on data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

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
