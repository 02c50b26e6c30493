"""Small exports of every format this package reads, with what stands in them: written by hand, not by the code under test."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

Box = tuple[float, float, float, float]
Boxes = list[tuple[str, Box]]
Truth = dict[str, Boxes]
Files = dict[str, str]

SIZES: dict[str, tuple[int, int]] = {
    "one.jpg": (90, 60),
    "Zoë 2.jpg": (80, 70),
    "three_a.jpg": (64, 96),
    "IMG 4.jpg": (100, 50),
    "five.jpg": (70, 70),
    "six.jpg": (88, 66),
    "nobody.jpg": (60, 60),
}
# Every number of a box has a decimal point, and no other number has one: mutations find them by it.
FACES: Truth = {
    "one.jpg": [("face", (10.25, 12.5, 40.75, 50.25)), ("face", (50.5, 5.25, 80.25, 30.5))],
    "Zoë 2.jpg": [("face", (20.5, 20.25, 50.25, 60.75))],
    "three_a.jpg": [("face", (5.25, 40.5, 45.75, 90.25)), ("person", (2.5, 20.25, 60.5, 95.5))],
    "IMG 4.jpg": [("face", (60.25, 10.5, 90.5, 40.75))],
    "five.jpg": [("face", (30.5, 30.25, 60.25, 65.5)), ("face", (5.5, 5.25, 25.75, 28.5))],
    "six.jpg": [("face", (40.25, 20.5, 70.5, 55.25))],
    "nobody.jpg": [],
}


def _wh(box: Box) -> Box:
    return box[0], box[1], box[2] - box[0], box[3] - box[1]


def _faces_only(truth: Truth) -> Truth:
    """For formats without classes."""
    return {name: [each for each in boxes if each[0] == "face"] for name, boxes in truth.items()}


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0]


def wider(truth: Truth) -> Files:
    lines = []
    for name, boxes in _faces_only(truth).items():
        lines += [name, str(len(boxes)), *([] if boxes else ["0 0 0 0 0 0 0 0 0 0"])]
        lines += [f"{x} {y} {w} {h} 2 0 1 0 2 0" for x, y, w, h in (_wh(box) for _, box in boxes)]
    return {"wider_face_bbx_gt.txt": "\n".join(lines) + "\n"}


def coco(truth: Truth) -> Files:
    names = list(truth)
    boxes = [(names.index(name), label, _wh(box)) for name in names for label, box in truth[name]]
    return {
        "faces.json": json.dumps(
            {
                "images": [
                    {"id": i, "file_name": name, "width": SIZES[name][0], "height": SIZES[name][1]}
                    for i, name in enumerate(names)
                ],
                "annotations": [
                    {"id": i, "image_id": image, "category_id": 1 + (label == "person"), "bbox": list(box)}
                    for i, (image, label, box) in enumerate(boxes)
                ],
                "categories": [{"id": 1, "name": "face"}, {"id": 2, "name": "person"}],
            },
            ensure_ascii=False,
        )
    }


def voc(truth: Truth) -> Files:
    files = {}
    for name, boxes in truth.items():
        objects = "".join(
            f"<object><name>{label}</name><bndbox>"
            + "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box))
            + "</bndbox></object>\n"
            for label, box in boxes
        )
        width, height = SIZES[name]
        files[f"annotations/{_stem(name)}.xml"] = (
            f"<annotation><filename>{name}</filename><size><width>{width}</width><height>{height}</height></size>\n{objects}</annotation>"
        )
    return files


def _yolo(name: str, box: Box) -> str:
    width, height = SIZES[name]
    x, y, w, h = _wh(box)
    return f"{(x + w / 2) / width:.6f} {(y + h / 2) / height:.6f} {w / width:.6f} {h / height:.6f}"


def yolo(truth: Truth) -> Files:
    return {
        "data.yaml": "names: [face, person]\n",
        **{
            f"labels/{_stem(name)}.txt": "".join(
                f"{int(label == 'person')} {_yolo(name, box)}\n" for label, box in boxes
            )
            for name, boxes in truth.items()
        },
    }


def yolo_landmarks(truth: Truth) -> Files:
    def points(name: str, box: Box) -> str:
        (width, height), (x, y, w, h) = SIZES[name], _wh(box)
        places = ((0.3, 0.3), (0.7, 0.3), (0.5, 0.5), (0.35, 0.7), (0.65, 0.7))
        return " ".join(f"{(x + a * w) / width:.6f} {(y + b * h) / height:.6f} 2" for a, b in places)

    return {
        f"labels/{_stem(name)}.txt": "".join(
            f"0 {_yolo(name, box)} {points(name, box)}\n" for _, box in boxes
        )
        for name, boxes in _faces_only(truth).items()
    }


def yolo_polygons(truth: Truth) -> Files:
    def polygon(name: str, box: Box) -> str:
        width, height = SIZES[name]
        (a, b, c, d) = (box[0] / width, box[1] / height, box[2] / width, box[3] / height)
        return " ".join(f"{x:.6f} {y:.6f}" for x, y in ((a, b), (c, b), (c, d), (a, d)))

    return {
        "classes.txt": "face\nperson\n",
        **{
            f"labels/{_stem(name)}.txt": "".join(
                f"{int(label == 'person')} {polygon(name, box)}\n" for label, box in boxes
            )
            for name, boxes in truth.items()
        },
    }


def retinaface(truth: Truth) -> Files:
    lines = []
    for name, boxes in _faces_only(truth).items():
        lines += [f"# {name}", *(" ".join(map(str, _wh(box))) for _, box in boxes)]
    return {"label.txt": "\n".join(lines) + "\n"}


def labelv2(truth: Truth) -> Files:
    lines = []
    for name, boxes in _faces_only(truth).items():
        lines += [
            f"# {name} {SIZES[name][0]} {SIZES[name][1]}",
            *(" ".join(map(str, box)) for _, box in boxes),
        ]
    return {"labelv2.txt": "\n".join(lines) + "\n"}


def csv(truth: Truth) -> Files:
    rows = ["image,width,height,xmin,ymin,xmax,ymax,label"]
    for name, boxes in truth.items():
        sides = "{},{}".format(*SIZES[name])
        rows += [f"{name},{sides},{','.join(map(str, box))},{label}" for label, box in boxes] or [
            f"{name},{sides},,,,,"
        ]
    return {"boxes.csv": "\n".join(rows) + "\n"}


def open_images(truth: Truth) -> Files:
    rows = ["ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax"]
    for name, boxes in truth.items():
        (width, height), codes = SIZES[name], {"face": "/m/0dzct", "person": "/m/01g317"}
        rows += [
            f"{_stem(name)},verification,{codes[label]},1,{a / width:.6f},{c / width:.6f},{b / height:.6f},{d / height:.6f}"
            for label, (a, b, c, d) in boxes
        ] or [f"{_stem(name)},verification,,1,,,,"]
    return {"annotations-bbox.csv": "\n".join(rows) + "\n"}


def excel(truth: Truth) -> Files:
    rows = ["Bild;Links;Oben;x_max;y_max;Klasse".replace("Links", "x_min").replace("Oben", "y_min")]
    for name, boxes in truth.items():
        rows += [f"{name};{';'.join(map(str, box))};{label}" for label, box in boxes] or [f"{name};;;;;"]
    return {"tabelle.csv": "\n".join(rows) + "\n"}


def cvat(truth: Truth) -> Files:
    def image(number: int, name: str) -> str:
        width, height = SIZES[name]
        shapes = "".join(
            f'<box label="{label}" xtl="{a}" ytl="{b}" xbr="{c}" ybr="{d}"></box>\n'
            for label, (a, b, c, d) in truth[name]
        )
        return f'<image id="{number}" name="{name}" width="{width}" height="{height}">\n{shapes}</image>\n'

    return {
        "annotations.xml": f"<annotations>\n{''.join(image(i, name) for i, name in enumerate(truth))}</annotations>"
    }


def labelme(truth: Truth) -> Files:
    return {
        f"images/{_stem(name)}.json": json.dumps(
            {
                "shapes": [
                    {"label": label, "points": [[a, b], [c, d]], "shape_type": "rectangle"}
                    for label, (a, b, c, d) in boxes
                ],
                "imagePath": name,
                "imageWidth": SIZES[name][0],
                "imageHeight": SIZES[name][1],
            },
            ensure_ascii=False,
        )
        for name, boxes in truth.items()
    }


def createml(truth: Truth) -> Files:
    def shape(label: str, box: Box) -> dict[str, object]:
        x, y, w, h = _wh(box)
        return {"label": label, "coordinates": {"x": x + w / 2, "y": y + h / 2, "width": w, "height": h}}

    return {
        "_annotations.createml.json": json.dumps(
            [
                {"image": name, "annotations": [shape(*each) for each in boxes]}
                for name, boxes in truth.items()
            ],
            ensure_ascii=False,
        )
    }


def via(truth: Truth) -> Files:
    def region(label: str, box: Box) -> dict[str, object]:
        values = dict(zip(("x", "y", "width", "height"), _wh(box)))
        return {"shape_attributes": {"name": "rect", **values}, "region_attributes": {"class": label}}

    return {
        "via_project.json": json.dumps(
            {
                f"{name}-1": {
                    "filename": name,
                    "size": -1,
                    "regions": [region(*each) for each in boxes],
                    "file_attributes": {},
                }
                for name, boxes in truth.items()
            },
            ensure_ascii=False,
        )
    }


def label_studio(truth: Truth) -> Files:
    def region(name: str, label: str, box: Box) -> dict[str, object]:
        (width, height), (x, y, w, h) = SIZES[name], _wh(box)
        sides = {"x": x / width, "y": y / height, "width": w / width, "height": h / height}
        value = {key: round(100 * side, 5) + 1e-6 for key, side in sides.items()}
        return {
            "type": "rectanglelabels",
            "original_width": width,
            "original_height": height,
            "value": {**value, "rotation": 0, "rectanglelabels": [label]},
        }

    return {
        "project-1.json": json.dumps(
            [
                {
                    "id": number,
                    "data": {"image": name},
                    "annotations": [
                        {"result": [region(name, *each) for each in boxes], "was_cancelled": False}
                    ],
                    "predictions": [],
                }
                for number, (name, boxes) in enumerate(truth.items())
            ],
            ensure_ascii=False,
        )
    }


def supervisely(truth: Truth) -> Files:
    return {
        f"ds/ann/{name}.json": json.dumps(
            {
                "size": {"width": SIZES[name][0], "height": SIZES[name][1]},
                "objects": [
                    {
                        "classTitle": label,
                        "geometryType": "rectangle",
                        "points": {"exterior": [[a, b], [c, d]], "interior": []},
                    }
                    for label, (a, b, c, d) in boxes
                ],
            }
        )
        for name, boxes in truth.items()
    }


EXPORTS: Mapping[str, Callable[[Truth], Files]] = {
    each.__name__: each
    for each in (
        wider, coco, voc, yolo, yolo_landmarks, yolo_polygons, retinaface, labelv2, csv, open_images, excel, cvat, labelme, createml,
        via, supervisely, label_studio,
    )
}  # fmt: skip
PICTURES = {"supervisely": "ds/img"}
