"""Names of YOLO's class numbers, from wherever the tools keep them: the file nearest to the labels counts.

``data.yaml`` and its variants (Ultralytics, Roboflow, FiftyOne), ``classes.txt`` (LabelImg, Label Studio), ``obj.names`` and
``_darknet.labels`` (Darknet, CVAT, Roboflow), ``notes.json`` (Label Studio).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import yaml

from nni_hyperfd.data.formats.folder import DataFolder, is_image_name
from nni_hyperfd.errors import DataError

LISTS = frozenset(
    {
        "classes.txt",
        "labels.txt",
        "class.txt",
        "names.txt",
        "class_names.txt",
        "_darknet.labels",
        "predefined_classes.txt",
    }
)
LIST_SUFFIXES = (".names", ".labels")
YAML_SUFFIXES = (".yaml", ".yml")
NAMES_LINE = re.compile(r"^\s*names\s*:\s*\[(.*?)\]", re.MULTILINE | re.DOTALL)
NUMBERED = re.compile(r"(\d+)(?:\s*[:,;=]\s*|\s+)(\D.*)")
OURS_LINE = re.compile(r"^\s*['\"]?(?:names|train|val|valid|test)['\"]?\s*:", re.MULTILINE)


def is_class_file(name: str) -> bool:
    """Whether a file is a list of class names, one a line, by its name."""
    last = os.path.basename(name).casefold()
    return last in LISTS or last.endswith(LIST_SUFFIXES)


class ClassNames:
    """The names for every label file of a folder, and how many keypoints a line has.

    Raises:
        DataError: Two files beside each other name the classes differently, or one has a name twice.
    """

    def __init__(self, folder: DataFolder) -> None:
        self.keypoints: tuple[int, int] | None = None
        self._by_folder: dict[str, tuple[str, dict[str, str]]] = {}
        for file in folder.with_suffix(""):
            names = self._read(folder, file)
            if not names:
                continue
            twice = next((name for name, count in Counter(names.values()).items() if count > 1), None)
            if twice is not None:
                raise DataError(
                    f"{folder.root / file} has two classes called {twice!r}: a line too much gives all further numbers another name; mend it."
                )
            place = os.path.dirname(file)
            other = self._by_folder.get(place)
            if other is not None and any(
                names.get(number, name) != name for number, name in other[1].items()
            ):
                raise DataError(
                    f"{folder.root / other[0]} and {folder.root / file} name the classes differently: keep the one that is right."
                )
            self._by_folder[place] = (file, {**(other[1] if other else {}), **names})

    def every(self) -> set[str]:
        """All names of the folder."""
        return {name for _, names in self._by_folder.values() for name in names.values()}

    def label(self, number: str, file: str) -> str | None:
        """Name of class ``number`` in label file ``file``; None where it has none."""
        try:
            number = f"{float(number):.0f}"
        except (ValueError, OverflowError):
            return None
        places = list(self._by_folder)
        if not places:
            return None
        here = os.path.dirname(file).split("/")

        def near(place: str) -> tuple[int, int]:
            there = place.split("/") if place else []
            common = next(
                (n for n, (a, b) in enumerate(zip(here, there)) if a != b), min(len(here), len(there))
            )
            return common, -len(there)

        return self._by_folder[max(places, key=near)][1].get(number)

    def _read(self, folder: DataFolder, file: str) -> dict[str, str]:
        last = os.path.basename(file).casefold()
        if is_class_file(file):
            lines = folder.text(file).splitlines()
            if any(is_image_name(line.strip()) for line in lines):
                return {}
            return _listed(lines)
        if last.endswith(YAML_SUFFIXES):
            document = yaml_mapping(folder, file)
            self.keypoints = _keypoints(document.get("kpt_shape")) or self.keypoints
            return _names(document.get("names"))
        if last == "notes.json":
            return _notes(folder, file)
        return {}


class _OnceLoader(yaml.BaseLoader):
    """All texts: neither "no" nor "1" becomes anything else; a key that stands twice has no one meaning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of ``node``.

        Raises:
            RepeatedKey: A key stands twice with different values.
        """
        pairs: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, value = str(key_node.value), self.construct_object(value_node, deep=True)
            if pairs.setdefault(key, value) != value:
                raise RepeatedKey(key)
        return super().construct_mapping(node, deep)


class RepeatedKey(DataError):
    """A key of a YAML file that has two values."""


def yaml_mapping(folder: DataFolder, file: str) -> dict[str, Any]:
    """A YAML file as a mapping of texts; empty where it is none. Tabs, which YAML forbids, are blanks.

    Raises:
        DataError: A key stands twice with different values, in a file of classes or splits.
    """
    text = folder.text(file)
    try:
        document = yaml.load(text.expandtabs(2), Loader=_OnceLoader)
        return document if isinstance(document, dict) else {}
    except RepeatedKey as error:
        if not OURS_LINE.search(text):
            return {}  # a file of another purpose
        raise DataError(
            f"{folder.root / file} has two values for the key {str(error)!r}: keep the one that is right."
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError):
        found = NAMES_LINE.search(text)
        return {"names": [word.strip().strip("'\"") for word in found.group(1).split(",")]} if found else {}


def _listed(lines: Sequence[str]) -> dict[str, str]:
    """Names one a line, from the first that is not empty; or behind numbers of their own (``1: face``); or in one line, with commas."""
    told = [line.strip() for line in "\n".join(lines).strip().splitlines() if not line.startswith("#")]
    numbered = [NUMBERED.fullmatch(line) for line in told if line]
    pairs = [(str(int(match[1])), match[2].strip()) for match in numbered if match is not None]
    if pairs and len(dict(pairs)) == len(numbered):
        return dict(pairs)
    if len(told) == 1 and "," in told[0]:
        told = [word.strip().strip("'\"") for word in told[0].strip("[]").split(",")]
    return {str(number): line for number, line in enumerate(told) if line}


def _names(names: Any) -> dict[str, str]:
    if isinstance(names, str) and names.strip():
        names = [word.strip().strip("'\"") for word in names.strip("[] ").split(",")]
    if isinstance(names, list):
        return {
            str(number): str(name).strip()
            for number, name in enumerate(names)
            if not isinstance(name, dict | list)
        }
    if isinstance(names, dict):
        pairs = [(str(key).strip(), str(value).strip()) for key, value in names.items()]
        if all(key.isdigit() for key, _ in pairs):
            return {str(int(key)): value for key, value in pairs}
        if all(value.isdigit() for _, value in pairs):
            return {str(int(value)): key for key, value in pairs}
    return {}


def _keypoints(shape: Any) -> tuple[int, int] | None:
    if isinstance(shape, list) and len(shape) == 2 and all(str(side).isdigit() for side in shape):
        return int(shape[0]), int(shape[1])
    return None


def _notes(folder: DataFolder, file: str) -> dict[str, str]:
    try:
        document = folder.json(file)
    except ValueError:
        return {}
    categories = document.get("categories") if isinstance(document, dict) else None
    return {
        str(each["id"]): str(each["name"])
        for each in (categories if isinstance(categories, list) else [])
        if isinstance(each, dict) and {"id", "name"} <= each.keys()
    }
