"""``hyperfd detect``: faces in pictures, found by a detector that a trial left behind."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

LARGEST_SIDE = 1 << 16  # of a picture in pixels; larger ones are scaled down, and their boxes with them
COLOR = (255, 196, 0)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "detect",
        help="draw the faces that a trained detector finds in pictures",
        description="Draws the faces that a trained detector finds. Every picture is written anew, as PNG, into the output folder; the pictures themselves are left alone.",
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument(
        "--weights", type=Path, required=True, metavar="FILE", help="best.safetensors of a trial"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("detections"),
        metavar="FOLDER",
        help="output folder (default: %(default)s)",
    )
    parser.add_argument(
        "--score", type=float, default=0.5, help="least score of a face, 0 to 1 (default: %(default)s)"
    )
    parser.add_argument(
        "--size",
        type=int,
        metavar="PIXELS",
        help="short side at which pictures are looked at (default: that of the trial's evaluation)",
    )
    parser.add_argument("--json", action="store_true", help="print all boxes as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Draw all pictures, and print what was found."""
    from nni_hyperfd.cli.table import table
    from nni_hyperfd.detection.network.weights import load_detector, read_notes
    from nni_hyperfd.detection.training.budgets import get_budget
    from nni_hyperfd.errors import PluginError

    if not 0 <= options.score <= 1:
        raise PluginError(f"--score is {options.score}: give a number from 0 to 1")
    if options.size is not None and not 32 <= options.size <= 4096:
        raise PluginError(f"--size is {options.size}: give 32 to 4096 pixels")
    model = load_detector(options.weights)
    noted = read_notes(options.weights).get("evaluation_size", "")
    usual = int(noted) if noted.isdigit() else get_budget("short").evaluation_size
    results = []
    targets = _targets(options.images, options.out)
    for path, target in zip(options.images, targets):
        results.append(_draw(model, path, target, options.size or usual, options.score))
    if options.json:
        print(json.dumps(results, indent=1))
    else:
        print(
            table(
                ["image", "faces", "drawn in"], [(r["image"], len(r["faces"]), r["drawn"]) for r in results]
            )
        )


def _targets(images: list[Path], out: Path) -> list[Path]:
    """One PNG in ``out`` for each picture, numbered where names agree."""
    taken: set[str] = set()
    targets = []
    for path in images:
        name, number = path.stem, 1
        while name in taken:
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name)
        targets.append(out / f"{name}.png")
    return targets


def _draw(model: Any, path: Path, target: Path, size: int, score: float) -> dict[str, Any]:
    from PIL import Image, ImageDraw

    from nni_hyperfd.data.decode import decode
    from nni_hyperfd.detection.evaluation.single import find_faces
    from nni_hyperfd.errors import DataError

    pixels = decode(path, LARGEST_SIDE)
    if pixels is None:
        raise DataError(f"{path} is no picture that can be read: name image files")
    boxes, scores = find_faces(model, pixels, size)
    boxes, scores = boxes[scores >= score], scores[scores >= score]
    picture = Image.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    line = max(1, round(min(picture.size) / 200))
    for box, value in zip(boxes, scores):
        pen.rectangle(box.tolist(), outline=COLOR, width=line)
        pen.text((box[0] + line + 1, box[1] + line), f"{value:.2f}", fill=COLOR)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        picture.save(target)
    except OSError as error:
        raise DataError(
            f"cannot write {target} ({error.strerror or error}): free some disk space or name another folder with --out"
        ) from error
    faces = [
        {"box": [round(float(edge), 1) for edge in box], "score": round(float(value), 4)}
        for box, value in zip(boxes, scores)
    ]
    return {"image": str(path), "drawn": str(target), "faces": faces}
