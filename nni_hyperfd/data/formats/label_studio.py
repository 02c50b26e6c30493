"""Label Studio's own json (JSON and JSON-MIN): tasks with ``annotations``, whose regions are in percent of the picture.

Rectangles and ellipses (turned ones: the box around them) and polygons become boxes; key points and brushes have none. A task that
nobody has submitted says nothing of its picture, whatever a model predicted for it; one that was submitted without a region has no
faces, unless a reviewer has rejected that. Several annotators of one picture must agree, unless one annotation is marked as the
ground truth. A task may name several pictures: regions are for the one of their ``to_name``, and say nothing where that tells none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from nni_hyperfd.data.formats.annotation import Annotations
from nni_hyperfd.data.formats.folder import AmbiguousName, DataFolder, is_image_name
from nni_hyperfd.data.formats.label_studio_regions import add_regions, is_region, marks_picture
from nni_hyperfd.data.names import spellings
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
    names = _names(task, annotations, file) if isinstance(task, dict) else {}
    if not names:
        annotations.orphan(file, place)
        return
    submitted = _submitted(task)
    counting = _counting(submitted)
    name = _marked(names, counting or submitted)
    if name is None and submitted:
        annotations.findings.add(Problem.SEVERAL_PICTURES, place)
        for image in (each for written in names.values() for each in _meant(written, annotations, file)):
            annotations.unread(image, Problem.SEVERAL_PICTURES)
    if name is None:
        return
    for number, version in enumerate(counting or submitted):
        entry = annotations.entry(name, file, f"{place} {number}")
        if entry is None:
            return
        annotations.state(entry, task.get("data", task))
        if not counting:
            annotations.malformed(place, entry.image, Problem.REJECTED)
            return
        regions = version.get("result") if isinstance(version, dict) else None
        if isinstance(regions, list):
            add_regions(regions, entry, place, annotations)
        else:
            annotations.malformed(place, entry.image)


def _names(task: Mapping[str, Any], annotations: Annotations, file: str) -> dict[str, str]:
    """What a task calls its pictures, by the keys of its data: those in the folder, else the first that looks like one."""
    data = task.get("data")
    fields = {**(data if isinstance(data, dict) else task), "file_upload": task.get("file_upload")}
    names = {key: value for key, value in fields.items() if isinstance(value, str) and _may_be_image(value)}
    found: dict[str, str] = {}
    seen: set[str] = set()
    for key, name in names.items():
        meant = _meant(name, annotations, file)
        if meant and meant.isdisjoint(seen):
            found[key] = name
        seen |= meant
    return found or dict(list(names.items())[:1])


def _meant(name: str, annotations: Annotations, file: str) -> set[str]:
    """The images of the folder that ``name`` may mean."""
    try:
        image = annotations.folder.resolve(name, file)
    except AmbiguousName as error:
        return set(error.images)
    return set() if image is None else {image}


def _marked(names: Mapping[str, str], versions: Sequence[Any]) -> str | None:
    """The name of the one picture in which all regions are drawn; None where nothing tells which it is."""
    results = [result for each in versions if isinstance(each, dict) for result in _list(each.get("result"))]
    regions = [result for result in results if marks_picture(result)]
    targets = {str(region.get("to_name")) for region in regions}
    in_a_list = any("item_index" in region for region in regions)  # of several pictures under one name
    if len(targets) > 1 or in_a_list:
        return None
    return next(iter(names.values())) if len(names) == 1 else names.get("".join(targets))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


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
