"""Synthetic data: drawn scenes with faces, for demonstrations and tests where no real data are at hand.

Every picture is drawn by this package from a seed; no photograph and no person is behind any of them, and
accuracies measured on them say nothing about real faces. The same style, number and seed give the same data.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.errors import DataError
from nni_hyperfd.synthetic.scenes import Scene
from nni_hyperfd.synthetic.styles import STYLES
from nni_hyperfd.synthetic.writers import WRITERS

__all__ = ["STYLES", "WRITERS", "Scene", "draw_scenes", "generate"]


def draw_scenes(style: str, images: int, seed: int = 0) -> list[Scene]:
    """Drawn scenes of at most 256 pixels a side; the first ``n`` do not depend on how many follow.

    Args:
        style: A key of ``STYLES``.
        images: How many.
        seed: Of everything random.

    Raises:
        DataError: An unknown style.
    """
    if style not in STYLES:
        raise DataError(f"unknown style {style!r} of synthetic data: use one of {', '.join(STYLES)}.")
    number = list(STYLES).index(style)
    return [STYLES[style].draw(np.random.default_rng([seed, number, index])) for index in range(images)]


def generate(
    folder: str | os.PathLike[str],
    style: str,
    images: int = 200,
    seed: int = 0,
    format: str = "coco",
    splits: bool = True,
) -> Path:
    """Write a synthetic data set: ``images/``, annotations in one format and, on demand, a 6:1:3 ``splits.json``.

    Args:
        folder: Made when it does not exist, and must be empty otherwise.
        style: A key of ``STYLES``.
        images: How many.
        seed: Of everything random.
        format: A key of ``WRITERS``.
        splits: Whether to write ``splits.json``.

    Returns:
        The folder.

    Raises:
        DataError: An unknown style or format, a folder with files in it, or too few images to split.
    """
    root = Path(folder)
    if format not in WRITERS:
        raise DataError(f"unknown annotation format {format!r}: use one of {', '.join(WRITERS)}.")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root} is not empty: name a new folder for the synthetic data.")
    scenes = draw_scenes(style, images, seed)
    (root / "images").mkdir(parents=True, exist_ok=True)
    pages = [(f"{style}_{index:04d}.jpg", scene) for index, scene in enumerate(scenes)]
    for name, scene in pages:
        scene.picture.save(root / "images" / name, quality=92)
    WRITERS[format](root, pages)
    if splits:
        dataset = load_dataset(root, format, seed)
        parts = {split: [image.path.name for image in dataset.split(split)] for split in dataset.splits}
        (root / "splits.json").write_text(json.dumps(parts, indent=1))
    return root
