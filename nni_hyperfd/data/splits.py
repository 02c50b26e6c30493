"""Which images are trained on, chosen by and measured with: as the customer has split them, else 6:1:3, drawn.

The customer says it by, the first that speaks of an image decides: ``splits.json``; lists of names (``ImageSets/Main/train.txt``,
``train.txt``); the annotation (a column of a table, a COCO file a split); the folders that ``data.yaml`` names; folders called
train, valid, test, of the pictures and then of their annotations. A split that is missing is drawn from train, by groups of images that belong together: copies of one
photograph, pictures of one sequence or person, told by their names.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nni_hyperfd.data.draw import SPLITS, draw
from nni_hyperfd.data.duplicates import copies
from nni_hyperfd.data.faces import FaceImage
from nni_hyperfd.data.formats.annotation import Annotations
from nni_hyperfd.data.formats.folder import SPLITS_FILE, DataFolder
from nni_hyperfd.data.names import MEASURED, SPLIT_WORDS, split_of_path
from nni_hyperfd.data.report import Findings, Problem
from nni_hyperfd.data.split_files import (
    ORDER,
    by_siblings,
    listed_images,
    lists,
    not_understood,
    yaml_folders,
)
from nni_hyperfd.errors import DataError


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
    folder, findings, files = annotations.folder, annotations.findings, {*annotation_files}
    beside: dict[str, str] = {}
    if (folder.root / SPLITS_FILE).exists():
        claims = [(_splits_json(folder, findings), SPLITS_FILE)]
    else:
        annotated = _annotated(annotations)
        beside = _annotation_folders(annotations, annotated)
        claims = [
            (lists(folder, files, findings), "lists of names"),
            (annotated, "the annotation"),
            (yaml_folders(folder), "data.yaml"),
            (_folders(names), "folders"),
            (beside, "folders of annotations"),
        ]
    chosen: dict[str, tuple[str, str]] = {}
    for claim, source in claims:
        for name, word in claim.items():
            chosen.setdefault(name, (word, source))
    for name in names:
        word, source = chosen.get(name, ("", ""))
        if source == "folders" and _contradict(word, beside.get(name, word)):
            findings.add(Problem.SPLIT_REPEATED, name)
            chosen[name] = max(word, beside[name], key=ORDER.index), source
    measured = "test" if any(word == "val" for word, _ in chosen.values()) else "val"
    position = {name: index for index, name in enumerate(names)}
    members: dict[str, list[int]] = {word: [] for word in SPLITS}
    sources: dict[str, Counter[str]] = {word: Counter() for word in SPLITS}
    for name, (word, source) in chosen.items():
        word = measured if word == MEASURED else word
        if name in position:
            members[word].append(position[name])
            sources[word][source] += 1
    phrases = {word: " and ".join(sorted(found)) for word, found in sources.items() if found}
    done = _completed(folder, names, images, members, phrases, findings, seed)
    doubtful = not_understood(folder, files)
    if doubtful and "drawn" in done.source:
        findings.note(
            f"{doubtful[0]} speaks of splits by its name, and not so that it is understood, while a split is drawn: if it is yours, write "
            f"{SPLITS_FILE} with lists of names for train, val and test"
        )
    return done


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
    others = [index for index in range(len(names)) if all(index not in found for found in members.values())]
    if not explicit and there in (["val"], ["test"]) and others:
        members["train"], phrases["train"] = others, "all other images"
        there = [word for word in SPLITS if members[word]]
    if not explicit and (not there or (len(there) == 1 and not others)):
        if there not in ([], ["train"]):
            findings.note(
                f"all images are in {there[0]} ({phrases[there[0]]}): splits are drawn anew from them"
            )
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
    return {*_by_word(folder.json(SPLITS_FILE))}


def _by_word(document: Mapping[str, Any]) -> dict[str, Any]:
    """What ``splits.json`` has, by split; keys that name none stay as they are."""
    listed = {SPLIT_WORDS.get(key.strip().casefold(), key): value for key, value in document.items()}
    if MEASURED in listed:
        listed["test" if "val" in listed else "val"] = listed.pop(MEASURED)
    return listed


def _splits_json(folder: DataFolder, findings: Findings) -> dict[str, str]:
    path = folder.root / SPLITS_FILE
    try:
        document = folder.json(SPLITS_FILE)
    except ValueError as error:
        raise DataError(f"{path} is no valid JSON ({error}): write it again or remove it.") from error
    listed = _by_word(document) if isinstance(document, dict) else {}
    for key, value in listed.items():
        if key not in SPLITS and isinstance(value, list) and "train" in listed:
            raise DataError(f"{path} has {key!r}, which is none of train, val and test: rename or remove it.")
    for word in SPLITS:
        value = listed.get(word) if word == "train" else listed.get(word, [])
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise DataError(
                f"{path} has no list of file names called {word!r}: give train, val and test, or remove the file."
            )
    return listed_images(
        folder, {word: [(name, "") for name in listed.get(word, [])] for word in SPLITS}, findings
    )


def _folders(names: Sequence[str]) -> dict[str, str]:
    siblings = by_siblings(os.path.dirname(name) for name in names)
    said = {
        name: split_of_path(os.path.dirname(name)) or siblings.get(os.path.dirname(name)) for name in names
    }
    return {name: word for name, word in said.items() if word is not None}


def _annotation_folders(annotations: Annotations, annotated: Mapping[str, str]) -> dict[str, str]:
    """The split of each image that is not ``annotated`` by the folder of its annotation, as ``labels/val`` beside one folder of pictures."""
    entries = [entry for entry in annotations.entries() if entry.image not in annotated]
    named = _folders([*dict.fromkeys(entry.file for entry in entries)])
    return _one_each(annotations, ((entry.image, named.get(entry.file)) for entry in entries))


def _contradict(word: str, other: str) -> bool:
    """Whether a picture's folder and its annotation's name two splits; what is measured with may be either of two."""
    return word != other and (MEASURED not in (word, other) or "train" in (word, other))


def _annotated(annotations: Annotations) -> dict[str, str]:
    named = _names_of_files(annotations)
    return _one_each(
        annotations, ((entry.image, entry.split or named.get(entry.file)) for entry in annotations.entries())
    )


def _one_each(annotations: Annotations, said: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    """One split for each image, counting those of which two are said."""
    found: dict[str, str] = {}
    for image, word in said:
        if word is None:
            continue
        before = found.get(image, word)
        if before != word:
            annotations.findings.add(Problem.SPLIT_REPEATED, image)
        found[image] = max(before, word, key=ORDER.index)
    return found


def _names_of_files(annotations: Annotations) -> dict[str, str]:
    """The split that the path of an annotation file names, for files of many images.

    A file of one image is called like it, which says nothing of a split; so are all of an export that has a file an image.
    """
    images: dict[str, set[str]] = {}
    for entry in annotations.entries():
        images.setdefault(entry.file, set()).add(entry.image)
    if all(len(found) == 1 for found in images.values()):
        return {}
    siblings = by_siblings(file for file, found in images.items() if len(found) > 1)
    said = {
        file: split_of_path(file) or siblings.get(file)
        for file, found in images.items()
        if not (len(found) == 1 and _called_like(file, *found))
    }
    return {file: word for file, word in said.items() if word is not None}


def _called_like(file: str, image: str) -> bool:
    stem = os.path.splitext(os.path.basename(file))[0].casefold()
    name = os.path.basename(image).casefold()
    return stem in (name, os.path.splitext(name)[0])
