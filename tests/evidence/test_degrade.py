"""Degraded copies keep boxes and splits, and do not look like the images they were made from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from nni_hyperfd.data.dataset import load_dataset

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "degrade.py"


def test_boxes_and_splits_stay_and_pixels_do_not(drawn_faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "degraded"
    subprocess.run([sys.executable, SCRIPT, "--server", drawn_faces, "--out", out], check=True, timeout=120)
    before, after = load_dataset(drawn_faces), load_dataset(out)
    place = {int(Path(image.path).name[:5]): index for index, image in enumerate(after.images)}
    assert len(place) == len(after.images) == len(before.images)
    for split, members in before.splits.items():
        assert sorted(place[index] for index in members) == sorted(after.splits[split])
    changed = []
    for index, image in enumerate(before.images):
        copy = after.images[place[index]]
        assert (copy.width, copy.height) == (image.width, image.height)
        # The csv has two decimals, and a copy's ignored faces are left out.
        expected = image.boxes[~image.ignored]
        np.testing.assert_allclose(
            copy.boxes[np.lexsort(copy.boxes.T)], expected[np.lexsort(expected.T)], atol=0.01
        )
        pixels = [np.asarray(Image.open(each.path).convert("RGB"), dtype=float) for each in (image, copy)]
        changed.append(np.abs(pixels[0] - pixels[1]).mean())
    assert np.median(changed) > 10
