"""Writers of the annotation formats that `nni_hyperfd.data.formats` reads, for drawn scenes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from nni_hyperfd.synthetic.scenes import Scene

Pages = Sequence[tuple[str, Scene]]


def _corner_and_size(box: np.ndarray) -> list[float]:
    return [round(float(value), 2) for value in (box[0], box[1], box[2] - box[0], box[3] - box[1])]


def _keypoint(x: float, y: float) -> tuple[float, float, int]:
    """x, y, visibility; 0 0 0 for a point outside the picture."""
    return (0, 0, 0) if math.isnan(x) else (round(x, 2), round(y, 2), 2)


def _write_wider(folder: Path, pages: Pages) -> None:
    lines = []
    for name, scene in pages:
        lines += [name, str(len(scene.boxes))]
        lines += ["0 0 0 0 0 0 0 0 0 0"] if not len(scene.boxes) else []
        for box, ignored in zip(scene.boxes, scene.ignored):
            lines.append(
                " ".join(map(str, _corner_and_size(box))) + f" 0 0 0 {int(ignored)} {2 * int(ignored)} 0"
            )
    (folder / "wider_face_bbx_gt.txt").write_text("\n".join(lines) + "\n")


def _write_coco(folder: Path, pages: Pages) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, scene) in enumerate(pages, start=1):
        width, height = scene.picture.size
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for box, points, ignored in zip(scene.boxes, scene.landmarks, scene.ignored):
            corner_and_size = _corner_and_size(box)
            keypoints = [value for x, y in points for value in _keypoint(float(x), float(y))]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": corner_and_size,
                    "area": round(corner_and_size[2] * corner_and_size[3], 2),
                    "iscrowd": int(ignored),
                    "keypoints": keypoints,
                    "num_keypoints": sum(seen > 0 for seen in keypoints[2::3]),
                }
            )
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "face"}]}
    (folder / "annotations.coco.json").write_text(json.dumps(document))


def _write_voc(folder: Path, pages: Pages) -> None:
    (folder / "annotations").mkdir(exist_ok=True)
    for name, scene in pages:
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "filename").text = name
        size = ElementTree.SubElement(root, "size")
        for side, value in zip(("width", "height", "depth"), (*scene.picture.size, 3)):
            ElementTree.SubElement(size, side).text = str(value)
        for box, ignored in zip(scene.boxes, scene.ignored):
            item = ElementTree.SubElement(root, "object")
            ElementTree.SubElement(item, "name").text = "face"
            ElementTree.SubElement(item, "difficult").text = str(int(ignored))
            corners = ElementTree.SubElement(item, "bndbox")
            for corner, value in zip(("xmin", "ymin", "xmax", "ymax"), box):
                ElementTree.SubElement(corners, corner).text = f"{value:.2f}"
        ElementTree.ElementTree(root).write(
            folder / "annotations" / f"{Path(name).stem}.xml", encoding="unicode"
        )


def _write_yolo(folder: Path, pages: Pages) -> None:
    (folder / "labels").mkdir(exist_ok=True)
    for name, scene in pages:
        width, height = scene.picture.size
        lines = []
        for left, top, right, bottom in scene.boxes[~scene.ignored].astype(float):
            middle = ((left + right) / 2 / width, (top + bottom) / 2 / height)
            lines.append(
                "0 "
                + " ".join(
                    f"{value:.6f}" for value in (*middle, (right - left) / width, (bottom - top) / height)
                )
            )
        (folder / "labels" / f"{Path(name).stem}.txt").write_text("".join(line + "\n" for line in lines))


def _write_retinaface(folder: Path, pages: Pages) -> None:
    lines = []
    for name, scene in pages:
        lines.append(f"# {name}")
        for box, points in zip(scene.boxes[~scene.ignored], scene.landmarks[~scene.ignored]):
            triples = ["-1 -1 -1" if math.isnan(x) else f"{x:.2f} {y:.2f} 0.0" for x, y in points]
            lines.append(" ".join([*map(str, _corner_and_size(box)), *triples, "0.9"]))
    (folder / "label.txt").write_text("\n".join(lines) + "\n")


def _write_csv(folder: Path, pages: Pages) -> None:
    lines = ["image,xmin,ymin,xmax,ymax,label"]
    for name, scene in pages:
        rows = [
            ",".join([name, *(f"{value:.2f}" for value in box), "face"])
            for box in scene.boxes[~scene.ignored]
        ]
        lines += rows or [f"{name},,,,,"]
    (folder / "boxes.csv").write_text("\n".join(lines) + "\n")


# Ignored faces are left out where the format has no mark for them.
WRITERS: dict[str, Callable[[Path, Pages], None]] = {
    "wider": _write_wider,
    "coco": _write_coco,
    "voc": _write_voc,
    "yolo": _write_yolo,
    "retinaface": _write_retinaface,
    "csv": _write_csv,
}
