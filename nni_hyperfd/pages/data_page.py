"""The page of ``hyperfd data --html``: what was read, to be looked at before training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nni_hyperfd.data.dataset import FaceDataset, FaceImage
from nni_hyperfd.data.decode import decode
from nni_hyperfd.detection.anchors import SIZES
from nni_hyperfd.detection.evaluation.detections import IGNORED_SIDE, REFERENCE_SIDE
from nni_hyperfd.pages.charts import histogram
from nni_hyperfd.pages.data_facts import DataFacts, SplitFacts, problems, shorter_sides
from nni_hyperfd.pages.html import Markup, cards, element, html_table, page, section
from nni_hyperfd.pages.tiles import TILE, DrawnBox, sheet, tile

SHOWN = 10
"""Images of each split on its contact sheet."""

PAIRS = 8
"""Groups of copies across splits that are shown."""

FACE, SMALL, IGNORED = "#2f8bff", "#ff9f1c", "#c7ccd4"


def data_page(facts: DataFacts) -> str:
    """The document; it holds small copies of some images, so it belongs on the customer's machine."""
    dataset, report = facts.dataset, facts.dataset.report
    warnings = [element("p", each, _class="warning") for each in facts.warnings()]
    return page(
        f"{report.name}: what was read",
        element("p", f"{dataset.root} · {report.format}", _class="soft"),
        cards(
            [
                (report.images, "images"),
                (report.faces, "faces"),
                (report.ignored, "ignored regions"),
                (len(report.left_out), "images left out"),
            ]
        ),
        *(warnings or [element("p", "Nothing stands out that would spoil AP.", _class="soft")]),
        section("Splits", split_table(facts)),
        section("Classes", _classes(dataset)),
        section("What was left out, repaired, or is worth a look", *_findings(facts)),
        section("Contact sheets", _legend(), *(_contact(facts, split) for split in facts.splits)),
        section("Sizes of faces", *_sizes(facts)),
        section("Copies", *_copies(facts)),
    )


def split_table(facts: DataFacts) -> Markup:
    """One line for each split."""
    return html_table(SPLIT_HEAD, split_rows(facts))


SPLIT_HEAD = (
    "split",
    "images",
    "with faces",
    "faces",
    "under the size rule",
    "ignored",
    "AP known to ±",
    "from",
)


def split_rows(facts: DataFacts) -> list[tuple[object, ...]]:
    """Cells of :data:`SPLIT_HEAD`."""
    return [
        (
            each.name,
            each.images,
            each.with_faces,
            each.faces,
            each.small,
            each.ignored,
            "" if each.name == "train" else f"{each.points:.1f} points",
            each.source,
        )
        for each in facts.splits
    ]


CLASS_HEAD = ("class", "boxes", "are", "why")


def class_rows(dataset: FaceDataset) -> list[tuple[object, ...]]:
    """Cells of :data:`CLASS_HEAD`."""
    return [
        ("(no name)" if each.name is None else each.name, each.boxes, each.role.value, each.why)
        for each in dataset.report.classes
    ]


def _classes(dataset: FaceDataset) -> Markup:
    return html_table(CLASS_HEAD, class_rows(dataset))


def _sizes(facts: DataFacts) -> list[Markup]:
    scale = facts.budget.evaluation_size / REFERENCE_SIDE
    rule = {"!counts from": IGNORED_SIDE * scale}
    anchors = {f"{side}": float(side) for level in SIZES for side in level}
    parts = [
        element(
            "p",
            f"Shorter side in pixels where the picture's short side is {facts.budget.evaluation_size}, as the budget "
            f"“{facts.budget.name}” evaluates it. Gray dashes: sides of the detector's anchors; red: the size from which on a face "
            f"counts in AP ({IGNORED_SIDE} pixels at {REFERENCE_SIDE}).",
            _class="soft",
        )
    ]
    sides = {split.name: (split.sides * scale).tolist() for split in facts.splits if len(split.sides)}
    marks = {**anchors, **rule}
    every = [value for values in (*sides.values(), marks.values()) for value in values]
    x_title, x_range = "shorter side of the face, pixels", (min(every), max(every))
    drawn = [
        element("div", element("h3", name), histogram(values, marks, x_title, "faces", x_range))
        for name, values in sides.items()
    ]
    return [*parts, element("div", *drawn, _class="charts")]


def _findings(facts: DataFacts) -> list[Markup]:
    report = facts.dataset.report
    parts = [element("p", note) for note in report.notes]
    if report.left_out:
        reasons = [(count, problem.text) for problem, count in report.left_out_by_reason().items()]
        parts += [element("h3", "Images that are not used"), html_table(("images", "reason"), reasons)]
    rows = [(element("span", done, style="white-space: nowrap"), *rest) for done, *rest in problems(facts)]
    if rows:
        parts += [element("h3", "Everything that was counted")]
        parts += [html_table(("done", "how often", "what", "for example"), rows)]
    return parts or [element("p", "Nothing.", _class="soft")]


def _copies(facts: DataFacts) -> list[Markup]:
    rows = copy_rows(facts)
    if not any(count for _, count, *_ in rows):
        return [element("p", "No two images are the same or nearly so.", _class="soft")]
    parts = [html_table(COPY_HEAD, rows)]
    split_of = {index: name for name, members in facts.dataset.splits.items() for index in members}
    tiles = [
        shown
        for group in facts.alike_across[:PAIRS]
        for index in _one_of_each(group, split_of)
        if (shown := _tile(facts.dataset.images[index], f"{split_of[index]}: ")) is not None
    ]
    if tiles:
        parts += [element("h3", "Some that lie in more than one split"), sheet(tiles)]
    return parts


def _one_of_each(group: tuple[int, ...], split_of: Mapping[int, str]) -> list[int]:
    """The first two images of a group that lie in different splits."""
    first = {split_of[index]: index for index in reversed(group) if index in split_of}
    return sorted(first.values())[:2]


COPY_HEAD = ("copies", "groups", "images", "groups across splits", "images in them")


def copy_rows(facts: DataFacts) -> list[tuple[object, ...]]:
    """Cells of :data:`COPY_HEAD`."""
    rows: list[tuple[object, ...]] = []
    for title, groups, split in (
        ("byte for byte", facts.likeness.same, facts.same_across),
        ("the same or nearly so", facts.likeness.alike, facts.alike_across),
    ):
        rows.append((title, len(groups), sum(map(len, groups)), len(split), sum(map(len, split))))
    return rows


def _legend() -> Markup:
    return element(
        "p",
        "Blue: faces that count. Orange: faces under the size rule. Gray, dashed: ignored regions.",
        _class="soft",
    )


def _contact(facts: DataFacts, split: SplitFacts) -> Markup:
    indices = facts.dataset.splits[split.name]
    chosen = np.unique(np.linspace(0, len(indices) - 1, SHOWN).round().astype(int)).tolist()
    images = [facts.dataset.images[indices[place]] for place in chosen]
    tiles = [shown for image in images if (shown := _tile(image)) is not None]
    return element("div", element("h3", f"{split.name}: {len(tiles)} of {split.images}"), sheet(tiles))


def _tile(image: FaceImage, before: str = "") -> Markup | None:
    """The picture with its boxes, under its name; None where it has vanished since it was read."""
    pixels = decode(image.path, 2 * TILE)
    if pixels is None:
        return None
    scale = np.array([pixels.shape[1] / image.width, pixels.shape[0] / image.height] * 2)
    sides = iter(shorter_sides([image]))
    boxes = []
    for corners, ignored in zip(image.boxes, image.ignored):
        color = IGNORED if ignored else FACE if next(sides) >= IGNORED_SIDE else SMALL
        boxes.append(DrawnBox((corners * scale).tolist(), color, dashed=bool(ignored)))
    return tile(pixels, boxes, f"{before}{image.path.name} · {image.width} × {image.height}")
