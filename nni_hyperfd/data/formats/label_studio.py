"""Label Studio's own json (JSON and JSON-MIN): tasks with ``annotations``, whose regions are in percent of the picture.

Rectangles and ellipses (turned ones: the box around them) and polygons become boxes; key points and brushes have none. A task that
nobody has submitted says nothing of its picture, whatever a model predicted for it; one that was submitted without a region has no
faces, unless a reviewer has rejected that. Several annotators of one picture must agree, unless one annotation is marked as the
ground truth.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from nni_hyperfd.data.formats.annotation import Annotations
from nni_hyperfd.data.formats.folder import DataFolder, is_image_name
from nni_hyperfd.data.formats.label_studio_regions import add_regions, is_region
from nni_hyperfd.data.names import spellings, split_of_path
from nni_hyperfd.data.report import Problem
from nni_hyperfd.errors import DataError

NAME = "labelstudio"
TITLE = "Label Studio json"
SKIPPED = ("was_cancelled", "skipped")  # "skipped" before version 1.0, which called annotations completions


def find(folder: DataFolder) -> list[str]:
    """JSON files that mention the ``result`` of annotations of ``data``, or the ``original_width`` of regions."""
    found = []
    for name in folder.with_suffix(".json"):
        text = folder.text(name)
        tasks = (
            '"data"' in text and '"result"' in text and ('"annotations"' in text or '"completions"' in text)
        )
        if (tasks or '"original_width"' in text) and '"images"' not in text:
            found.append(name)
    return found


def read(folder: DataFolder, files: Sequence[str], annotations: Annotations) -> None:
    """See `Reader.read`."""
    for file in files:
        document = folder.required_json(file)
        if not isinstance(document, list | dict):
            raise DataError(
                f"{folder.root / file} is no list of tasks, as Label Studio writes it: export it again."
            )
        for place, task in enumerate(document if isinstance(document, list) else [document]):
            _read_task(task, f"{file} task {place}", file, annotations)


def _read_task(task: Any, place: str, file: str, annotations: Annotations) -> None:
    name = _name(task, annotations, file) if isinstance(task, dict) else None
    if name is None:
        annotations.orphan(file, place)
        return
    submitted = _submitted(task)
    counting = _counting(submitted)
    for number, version in enumerate(counting or submitted):
        entry = annotations.entry(name, file, f"{place} {number}")
        if entry is None:
            return
        entry.split = annotations.stated_split(task.get("data", task), file) or split_of_path(file)
        if not counting:
            annotations.malformed(place, entry.image, Problem.REJECTED)
            return
        regions = version.get("result") if isinstance(version, dict) else None
        if isinstance(regions, list):
            add_regions(regions, entry, place, annotations)
        else:
            annotations.malformed(place, entry.image)


def _name(task: Mapping[str, Any], annotations: Annotations, file: str) -> str | None:
    """What a task calls its picture: the value of its data that looks like an image, the first that is one before others."""
    data = task.get("data")
    values = [*(data if isinstance(data, dict) else task).values(), task.get("file_upload")]
    names = [value for value in values if isinstance(value, str) and _may_be_image(value)]
    return next((name for name in names if annotations.folder.fits(name)), next(iter(names), None))


def _may_be_image(text: str) -> bool:
    return len(text) < 4096 and any(is_image_name(os.path.basename(form)) for form in spellings(text))


def _submitted(task: Mapping[str, Any]) -> list[Any]:
    """Every annotation that was not skipped."""
    if "data" not in task:
        # JSON-MIN has the lists of regions beside the picture, and none where there is no region
        lists = [value for value in task.values() if isinstance(value, list) and any(map(is_region, value))]
        return [{"result": [region for regions in lists for region in regions]}] if lists else []
    versions = task.get("annotations", task.get("completions"))
    if not isinstance(versions, list):
        return [None]
    return [each for each in versions if not (isinstance(each, dict) and any(map(each.get, SKIPPED)))]


def _counting(submitted: Sequence[Any]) -> Sequence[Any]:
    """Those that no reviewer has rejected; of these, the ground truth where there is one."""
    kept = [
        each for each in submitted if not (isinstance(each, dict) and each.get("last_action") == "rejected")
    ]
    best = [each for each in kept if isinstance(each, dict) and each.get("ground_truth") is True]
    return best or kept
