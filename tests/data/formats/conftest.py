"""Reads one annotation file over a few pictures, without the checks of `load_dataset`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from nni_hyperfd.data.formats import READERS, Annotations, DataFolder
from nni_hyperfd.data.report import Findings

Read = Callable[..., Annotations]


@pytest.fixture
def read(tmp_path: Path, draw_pictures) -> Read:
    """``read("wider", {"list.txt": text})``; pictures: images/a.jpg and images/b.jpg, 100 x 80 pixels, unless named."""

    def run(
        format: str, files: Mapping[str, str], images: tuple[str, ...] = ("images/a.jpg", "images/b.jpg")
    ) -> Annotations:
        draw_pictures(tmp_path, dict.fromkeys(images, (100, 80)))
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        folder = DataFolder(tmp_path)
        annotations = Annotations(folder, Findings())
        reader = READERS[format]
        reader.read(folder, reader.find(folder), annotations)
        return annotations

    return run
