"""The server's images as other cameras and hands would have made them: offline data sets that lie far from the base.

    python benchmarks/degrade.py --server GROUPS WIDER200 --out DEGRADED

Offline sets cut out of the server's own images are all near to what the base detector was trained on, and so say little about
how to train on a domain that is far from it. Here every image passes through one of ten common changes, drawn at random; boxes
and splits stay. The folder can then stand wherever server folders are named. Pictures of people do not belong in a repository.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.merge import merge
from nni_hyperfd.data.orientation import orientation_of, upright

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def gray(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageOps.autocontrast(ImageOps.grayscale(image)).convert("RGB")


def negative(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageOps.invert(image)


def false_color(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    dark, middle, bright = (tuple(rng.integers(low, low + 96, 3).tolist()) for low in (0, 80, 160))
    return ImageOps.colorize(ImageOps.grayscale(image), dark, bright, middle)


def swapped_channels(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    order = ((2, 1, 0), (1, 2, 0), (2, 0, 1))[rng.integers(3)]
    return Image.fromarray(np.asarray(image)[..., list(order)])


def posterized(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    smooth = image.filter(ImageFilter.MedianFilter(5))
    return ImageOps.posterize(ImageEnhance.Color(smooth).enhance(2.0), 2)


def drawn(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(1.0)).filter(ImageFilter.CONTOUR)


def blurred(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(2.0, 4.0))))


def coarse(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    factor = int(rng.integers(3, 6))
    small = image.resize(
        (max(1, image.width // factor), max(1, image.height // factor)), Image.Resampling.BOX
    )
    return small.resize(image.size, Image.Resampling.NEAREST)


def noisy_dark(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, np.float32) * float(rng.uniform(0.1, 0.3)) + rng.normal(
        0, 10, (*image.size[::-1], 3)
    )
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def washed_out(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    share = float(rng.uniform(0.5, 0.8))
    return Image.blend(image, Image.new("RGB", image.size, (215, 215, 215)), share)


CHANGES: tuple[Change, ...] = (
    gray,
    negative,
    false_color,
    swapped_channels,
    posterized,
    drawn,
    blurred,
    coarse,
    noisy_dark,
    washed_out,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    server = merge("server", [load_dataset(folder) for folder in options.server])
    (options.out / "images").mkdir(parents=True, exist_ok=True)
    names, rows = [], ["image,xmin,ymin,xmax,ymax,label"]
    for index, found in enumerate(server.images):
        change = CHANGES[rng.integers(len(CHANGES))]
        names.append(f"{index:05d}_{change.__name__}.jpg")
        with Image.open(found.path) as image:
            change(upright(image.convert("RGB"), orientation_of(image)), rng).save(
                options.out / "images" / names[-1], quality=92
            )
        boxes = found.boxes[~found.ignored].tolist()
        rows += [f"{names[-1]},{','.join(f'{value:.2f}' for value in box)},face" for box in boxes]
        rows += [] if boxes else [f"{names[-1]},,,,,"]
    (options.out / "boxes.csv").write_text("\n".join(rows) + "\n")
    splits = {split: [names[index] for index in members] for split, members in server.splits.items()}
    (options.out / "splits.json").write_text(json.dumps(splits))
    print(f"{options.out}: {len(names)} images.")


if __name__ == "__main__":
    main()
