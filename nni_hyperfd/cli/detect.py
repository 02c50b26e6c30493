"""``hyperfd detect``: faces in pictures and videos, found by a detector that a trial left behind."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nni_hyperfd.cli.options import named_path
from nni_hyperfd.errors import DataError, PluginError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LARGEST_SIDE = 1 << 16  # of a picture in pixels; larger ones are scaled down, and their boxes with them
COLOR = (255, 196, 0)


class CannotWrite(DataError):
    """The output folder refuses, so there is no use in going on."""


@dataclass(frozen=True)
class Picture:
    """A picture to look at: as it is called in the output, its pixels ``[h, w, 3]``, the stem of what is drawn."""

    name: str
    pixels: NDArray[np.uint8]
    stem: str


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "detect",
        help="find faces in pictures and videos with a trained detector",
        description="Draws the faces that a trained detector finds. Every picture is written anew, as PNG, into the output folder; the pictures themselves are left alone. What cannot be read is told at the end, and the exit status is 1 then.",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        type=named_path,
        metavar="INPUT",
        help="pictures, videos (which need the extra `video`), or folders of them",
    )
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
    parser.add_argument(
        "--every",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="between two frames of a video, 0 for all (default: %(default)s)",
    )
    written = parser.add_mutually_exclusive_group()
    written.add_argument("--json", action="store_true", help="print all boxes as JSON")
    written.add_argument(
        "--coco", action="store_true", help="print all boxes as COCO annotations with scores"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Draw all pictures, and print what was found.

    Raises:
        PluginError: An option is out of range.
        DataError: The weights or some of the inputs cannot be read, or a picture cannot be written.
    """
    from nni_hyperfd.cli.table import table
    from nni_hyperfd.detection.network.weights import load_detector, read_notes
    from nni_hyperfd.detection.training.budgets import get_budget

    if not 0 <= options.score <= 1:
        raise PluginError(f"--score is {options.score}: give a number from 0 to 1")
    if options.size is not None and not 32 <= options.size <= 4096:
        raise PluginError(f"--size is {options.size}: give 32 to 4096 pixels")
    if not 0 <= options.every < 1e6:
        raise PluginError(f"--every is {options.every}: give seconds, 0 for all frames")
    model = load_detector(options.weights)
    noted = read_notes(options.weights).get("evaluation_size", "")
    usual = int(noted) if noted.isdigit() else get_budget("short").evaluation_size
    results: list[dict[str, Any]] = []
    troubles: list[str] = []
    taken: set[str] = set()
    for given in options.inputs:
        for path in _files(given, options.out, troubles):
            _spare(path, options.out)
            try:
                for picture in _pictures(path, given, options.every):
                    target = options.out / f"{_free(picture.stem, taken)}.png"
                    results.append(_draw(model, picture, target, options.size or usual, options.score))
            except CannotWrite:
                raise
            except DataError as error:
                troubles.append(str(error))
    if options.json:
        print(json.dumps(results, indent=1))
    elif options.coco:
        print(json.dumps(_coco(results), indent=1))
    elif results or not troubles:
        rows = [(one["image"], len(one["faces"]), one["drawn"]) for one in results]
        print(table(["image", "faces", "drawn in"], rows))
    if troubles:
        sys.stdout.flush()
        raise DataError(f"{len(troubles)} of the inputs could not be read: {'; '.join(troubles)}")


def _spare(path: Path, out: Path) -> None:
    """Refuse to draw into the folder of a picture: a drawing is called like its picture, and PNG pictures would be lost.

    Raises:
        CannotWrite: ``path`` lies in ``out``.
    """
    if path.resolve().parent == out.resolve():
        raise CannotWrite(
            f"{path} lies in the output folder, where a drawing may overwrite it: name another folder with --out"
        )


def _files(given: Path, out: Path, troubles: list[str]) -> Iterator[Path]:
    """The file itself, or all pictures and videos below a folder, in the order of their names, but for what was drawn into ``out``."""
    from nni_hyperfd.data.formats.folder import is_image_name
    from nni_hyperfd.data.video import is_video_name

    if not given.exists():
        troubles.append(f"{given} does not exist: check its name")
        return
    if not given.is_dir():
        yield given
        return
    found = [
        path for path in sorted(given.rglob("*")) if is_image_name(path.name) or is_video_name(path.name)
    ]
    found = [
        path for path in found if not any(part.startswith(".") for part in path.relative_to(given).parts)
    ]
    if out.resolve() != given.resolve():
        found = [path for path in found if not path.resolve().is_relative_to(out.resolve())]
    if not found:
        troubles.append(f"{given} holds no picture and no video")
    yield from found


def _pictures(path: Path, given: Path, every: float) -> Iterator[Picture]:
    """One picture, or frames of a video."""
    from nni_hyperfd.data.decode import decode
    from nni_hyperfd.data.video import frames, is_video_name

    # Below a folder that was named, sub-folders tell files of one name apart.
    stem = path.stem if path == given else "-".join(path.relative_to(given).with_suffix("").parts)
    if is_video_name(path.name):
        for frame in frames(path, every):
            yield Picture(f"{path}#t={frame.seconds:.3f}", frame.pixels, f"{stem}-{frame.number:06d}")
        return
    pixels = decode(path, LARGEST_SIDE)
    if pixels is None:
        raise DataError(f"{path} is no picture that can be read")
    yield Picture(str(path), pixels, stem)


def _free(stem: str, taken: set[str]) -> str:
    """``stem``, numbered where it is taken."""
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    return name


def _draw(model: Any, picture: Picture, target: Path, size: int, score: float) -> dict[str, Any]:
    from PIL import Image, ImageDraw

    from nni_hyperfd.detection.evaluation.single import find_faces

    boxes, scores = find_faces(model, picture.pixels, size)
    boxes, scores = boxes[scores >= score], scores[scores >= score]
    faces: list[dict[str, Any]] = [
        {"box": [round(float(edge), 1) for edge in box], "score": round(float(value), 4)}
        for box, value in zip(boxes, scores)
    ]
    drawn = Image.fromarray(picture.pixels)
    pen = ImageDraw.Draw(drawn)
    line = max(1, round(min(drawn.size) / 200))
    for face in faces:
        # What is listed is what is drawn, in whole pixels: versions of Pillow round broken ones each in their own way.
        x0, y0, x1, y1 = (int(edge) for edge in face["box"])
        pen.rectangle((x0, y0, x1, y1), outline=COLOR, width=line)
        pen.text((x0 + line + 1, y0 + line), f"{face['score']:.2f}", fill=COLOR)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        drawn.save(target)
    except OSError as error:
        raise CannotWrite(
            f"cannot write {target} ({error.strerror or error}): free some disk space or name another folder with --out"
        ) from error
    return {
        "image": picture.name,
        "width": drawn.width,
        "height": drawn.height,
        "drawn": str(target),
        "faces": faces,
    }


def _coco(results: list[dict[str, Any]]) -> dict[str, Any]:
    """All results as COCO writes annotations: a corner and the sides, ids from 1."""
    images = [
        {"id": number, "file_name": one["image"], "width": one["width"], "height": one["height"]}
        for number, one in enumerate(results, start=1)
    ]
    annotations: list[dict[str, Any]] = []
    for number, one in enumerate(results, start=1):
        for face in one["faces"]:
            x0, y0, x1, y1 = face["box"]
            sides = [round(x1 - x0, 1), round(y1 - y0, 1)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [x0, y0, *sides],
                    "area": round(sides[0] * sides[1], 1),
                    "iscrowd": 0,
                    "score": face["score"],
                }
            )
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "face"}]}
