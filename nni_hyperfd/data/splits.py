"""Which images are trained on, chosen by and measured with: as the customer has split them, else 6:1:3, drawn.

The customer says it by, the first that speaks of an image decides: ``splits.json``; lists of names (``ImageSets/Main/train.txt``,
``train.txt``); the annotation (a column of a table, a COCO file a split); the folders that ``data.yaml`` names; folders called
train, valid, test. A split that is missing is drawn from train, by groups of images that belong together: copies of one
photograph, pictures of one sequence or person, told by their names.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nni_hyperfd.data.draw import SPLITS, draw
from nni_hyperfd.data.duplicates import copies
from nni_hyperfd.data.faces import FaceImage
from nni_hyperfd.data.formats.annotation import Annotations
from nni_hyperfd.data.formats.folder import SPLITS_FILE, DataFolder
from nni_hyperfd.data.formats.yolo_names import yaml_mapping
from nni_hyperfd.data.names import SPLIT_WORDS, AmbiguousName, split_of_path, split_word
from nni_hyperfd.data.report import Findings, Problem
from nni_hyperfd.errors import DataError

YAML_FILES = (".yaml", ".yml")


@dataclass(frozen=True)
class Splits:
    """Positions of images in each split, where each split comes from, and that in one phrase."""

    members: dict[str, tuple[int, ...]]
    sources: dict[str, str]
    source: str


def split(
    annotations: Annotations,
    annotation_files: Iterable[str],
    names: Sequence[str],
    images: Sequence[FaceImage],
    seed: int,
) -> Splits:
    """The splits of ``images``, called ``names``; see above.

    Raises:
        DataError: ``splits.json`` cannot be used, or there is nothing to train on.
    """
    folder, findings = annotations.folder, annotations.findings
    if (folder.root / SPLITS_FILE).exists():
        claims = [(_splits_json(folder, findings), SPLITS_FILE)]
    else:
        claims = [
            (_lists(folder, {*annotation_files}, findings), "lists of names"),
            (_annotated(annotations), "the annotation"),
            (_yaml_folders(folder), "data.yaml"),
            ({name: word for name in names if (word := split_of_path(os.path.dirname(name)))}, "folders"),
        ]
    chosen: dict[str, tuple[str, str]] = {}
    for claim, source in claims:
        for name, word in claim.items():
            chosen.setdefault(name, (word, source))
    position = {name: index for index, name in enumerate(names)}
    members: dict[str, list[int]] = {word: [] for word in SPLITS}
    sources: dict[str, Counter[str]] = {word: Counter() for word in SPLITS}
    for name, (word, source) in chosen.items():
        if name in position:
            members[word].append(position[name])
            sources[word][source] += 1
    phrases = {word: " and ".join(sorted(found)) for word, found in sources.items() if found}
    return _completed(folder, names, images, members, phrases, findings, seed)


def _completed(
    folder: DataFolder,
    names: Sequence[str],
    images: Sequence[FaceImage],
    members: dict[str, list[int]],
    phrases: dict[str, str],
    findings: Findings,
    seed: int,
) -> Splits:
    explicit = (folder.root / SPLITS_FILE).exists()
    there = [word for word in SPLITS if members[word]]
    drawn = f"drawn 6:1:3 with seed {seed}"
    rng = np.random.default_rng(seed)
    if not explicit and len(there) <= 1:
        with_faces = sum(bool((~image.ignored).any()) for image in images)
        if with_faces < len(SPLITS):
            raise DataError(
                f"{folder.root} has only {with_faces} usable images with faces, too few for train, val and test: add images."
            )
        everything = draw(names, images, range(len(images)), SPLITS, rng, findings)
        return Splits(everything, dict.fromkeys(SPLITS, drawn), drawn)
    if not members["train"]:
        if explicit:
            raise DataError(
                f"the train split of {folder.root} is empty ({SPLITS_FILE}): name images of this folder in it."
            )
        raise DataError(
            f"{folder.root} has images for {' and '.join(there)} ({phrases[there[0]]}) and none to train on: add a train folder or a "
            f"{SPLITS_FILE} with lists of file names."
        )
    taken = {index for word in SPLITS for index in members[word]}
    for index, name in enumerate(names):
        if index not in taken:
            findings.add(Problem.NO_SPLIT, name)
    listed = _explicit_words(folder) if explicit else set(there)
    missing = [word for word in SPLITS if not members[word] and word not in listed]
    if missing:
        parts = draw(names, images, sorted(members["train"]), ["train", *missing], rng, findings)
        for word, found in parts.items():
            members[word] = list(found)
        phrases |= dict.fromkeys(missing, f"drawn from train with seed {seed}")
    _tell_copies(names, images, members, findings)
    kept = {word: tuple(sorted(members[word])) for word in SPLITS}
    phrases = {word: phrases.get(word, SPLITS_FILE) for word in SPLITS}
    if len({*phrases.values()}) == 1:
        return Splits(kept, phrases, phrases["train"])
    return Splits(kept, phrases, "; ".join(f"{word}: {phrase}" for word, phrase in phrases.items()))


def _tell_copies(
    names: Sequence[str],
    images: Sequence[FaceImage],
    members: Mapping[str, Sequence[int]],
    findings: Findings,
) -> None:
    """Count images of which the customer's own splits hold a copy on another side."""
    where = {index: word for word, found in members.items() for index in found}
    for same in copies([image.path for image in images]):
        if len({where[index] for index in same if index in where}) > 1:
            for index in same:
                if index in where:
                    findings.add(Problem.SHARED_GROUP, names[index])


def _explicit_words(folder: DataFolder) -> set[str]:
    return {SPLIT_WORDS.get(key, key) for key in folder.json(SPLITS_FILE)}


def _splits_json(folder: DataFolder, findings: Findings) -> dict[str, str]:
    path = folder.root / SPLITS_FILE
    try:
        document = folder.json(SPLITS_FILE)
    except ValueError as error:
        raise DataError(f"{path} is no valid JSON ({error}): write it again or remove it.") from error
    listed = (
        {SPLIT_WORDS.get(key, key): value for key, value in document.items()}
        if isinstance(document, dict)
        else {}
    )
    for word in SPLITS:
        value = listed.get(word) if word == "train" else listed.get(word, [])
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise DataError(
                f"{path} has no list of file names called {word!r}: give train, val and test, or remove the file."
            )
    return _of_lists(
        folder, {word: [(name, "") for name in listed.get(word, [])] for word in SPLITS}, findings
    )


def _of_lists(
    folder: DataFolder, lists: Mapping[str, Sequence[tuple[str, str]]], findings: Findings
) -> dict[str, str]:
    """Images by split from (name, file that names it); an image must not be trained on and measured with."""
    found: dict[str, str] = {}
    for word in reversed(SPLITS):
        for name, beside in lists[word]:
            image = _image(folder, name, beside)
            if image is None:
                findings.add(Problem.SPLIT_UNKNOWN, name)
            elif image in found:
                findings.add(Problem.SPLIT_REPEATED, name)
            else:
                found[image] = word
    return found


def _image(folder: DataFolder, name: str, beside: str) -> str | None:
    for candidate in dict.fromkeys((name, name.split()[0] if name.split() else "")):
        try:
            found = folder.resolve(candidate, beside)
        except AmbiguousName:
            continue
        if found is not None:
            return found
    return None


def _lists(folder: DataFolder, annotation_files: set[str], findings: Findings) -> dict[str, str]:
    """Text files called train, val or test, or named for a split by a ``data.yaml``, whose lines are names of images."""
    by_settings = _named_lists(folder)
    lists: dict[str, list[tuple[str, str]]] = {word: [] for word in SPLITS}
    rest: list[tuple[str, str]] = []
    for file in folder.with_suffix(".txt"):
        last = os.path.basename(file)
        word = by_settings.get(file) or split_word(last)
        if file in annotation_files or not (word or last.casefold() == "trainval.txt"):
            continue
        lines = [line.strip() for line in folder.head(file).splitlines() if line.strip()]
        if not lines or not any(_image(folder, line, file) for line in lines[:20]):
            continue
        named = [(line.strip(), file) for line in folder.text(file).splitlines() if line.strip()]
        if word:
            lists[word] += named
        else:
            rest += named
    if not any(lists.values()):
        return {}
    found = _of_lists(folder, {word: list(dict.fromkeys(names)) for word, names in lists.items()}, findings)
    for name, beside in rest:
        image = _image(folder, name, beside)
        if image is not None:
            found.setdefault(image, "train")
    return found


def _annotated(annotations: Annotations) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in annotations.entries():
        if entry.split is None:
            continue
        before = found.get(entry.image, entry.split)
        if before != entry.split:
            annotations.findings.add(Problem.SPLIT_REPEATED, entry.image)
        found[entry.image] = max(before, entry.split, key=SPLITS.index)
    return found


def _named_places(folder: DataFolder) -> Iterator[tuple[str, str, str]]:
    """The split, the file, and a folder or a list of names for each that a ``data.yaml`` or Darknet's ``obj.data`` names for its splits."""
    stated = [
        (file, yaml_mapping(folder, file)) for suffix in YAML_FILES for file in folder.with_suffix(suffix)
    ]
    for file in folder.with_suffix(".data"):
        lines = [line.partition("=") for line in folder.head(file).splitlines()]
        stated.append((file, {key.strip(): value.strip() for key, _, value in lines}))
    for file, settings in stated:
        for key, value in settings.items():
            word = SPLIT_WORDS.get(str(key).casefold())
            for path in [value] if isinstance(value, str) else value if isinstance(value, list) else []:
                place = str(path).replace("\\", "/").strip("/")
                if word is not None and place:
                    yield word, file, place


def _named_lists(folder: DataFolder) -> dict[str, str]:
    """The text files of names that a ``data.yaml`` or ``obj.data`` names for its splits, whatever they are called; each with its split."""
    texts = folder.with_suffix(".txt")
    found: dict[str, str] = {}
    for word, file, place in _named_places(folder):
        if place.endswith(".txt"):
            parts = [part for part in place.split("/") if part not in (".", "..", "")]
            here = [part for part in os.path.dirname(file).split("/") if part]
            ways = ["/".join([*here, *parts[cut:]]) for cut in range(len(parts))]
            named = next((way for way in ways if way in texts), None)
            if named is not None:
                found[named] = word
    return found


def _yaml_folders(folder: DataFolder) -> dict[str, str]:
    """Images below the folders that a ``data.yaml`` names for its splits."""
    found: dict[str, str] = {}
    for word, file, place in _named_places(folder):
        if place.endswith(".txt"):
            continue
        parts = [part for part in place.split("/") if part not in (".", "..", "")]
        here = [part for part in os.path.dirname(file).split("/") if part]
        for image in folder.images:
            if _lies_below(image, here + parts, len(here)):
                found.setdefault(image, word)
    return found


def _lies_below(image: str, parts: Sequence[str], here: int) -> bool:
    """Whether an image's folders begin with ``parts``: the ``here`` folders of the ``data.yaml``, and what it names below them.

    Of what it names, the first folders may have been left behind by whoever moved the set.
    """
    folders = image.split("/")[:-1]
    ways = [[*parts[:here], *parts[here + cut :]] for cut in range(len(parts) - here)]
    return any(folders[: len(way)] == way for way in [*ways, list(parts[here:])] if way)
