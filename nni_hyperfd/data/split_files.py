"""The customer's splits as files state them: lists of names, tables and objects of names with their splits, ``data.yaml``, and names that differ by a word."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nni_hyperfd.data.formats.folder import DataFolder, is_image_name
from nni_hyperfd.data.formats.yolo_names import yaml_mapping
from nni_hyperfd.data.names import MEASURED, SPLIT_WORDS, AmbiguousName, composed, split_word
from nni_hyperfd.data.report import Findings, Problem
from nni_hyperfd.data.tables import delimiter_of, plain, rows_of
from nni_hyperfd.errors import DataError

__all__ = ["ORDER", "by_siblings", "listed_images", "lists", "not_understood", "yaml_folders"]

ORDER = ("train", "val", MEASURED, "test")
"""An image that is in several is in the last of them."""
YAML_FILES = (".yaml", ".yml")
LISTS = (".txt", ".lst", ".list", ".csv", ".tsv")
CELEBA = {"0": "train", "1": "val", "2": "test"}  # of list_eval_partition
_WORD = re.compile("|".join(sorted(map(re.escape, SPLIT_WORDS), key=len, reverse=True)))
_OTHER_WORDS = frozenset({"split", "splits", "fold", "folds", "kfold", "partition", "partitions"})


def listed_images(
    folder: DataFolder, lists: Mapping[str, Sequence[tuple[str, str]]], findings: Findings
) -> dict[str, str]:
    """Images by split from (name, file that names it); an image must not be trained on and measured with."""
    found: dict[str, str] = {}
    for word in reversed(ORDER):
        for name, beside in lists.get(word, ()):
            image = _image(folder, name, beside)
            if image is None:
                findings.add(Problem.SPLIT_UNKNOWN, name)
            elif image in found:
                findings.add(Problem.SPLIT_REPEATED, name)
            else:
                found[image] = word
    return found


def _image(folder: DataFolder, name: str, beside: str) -> str | None:
    first = re.split(r"[,;\t]", name)[0].strip().strip("\"'")
    for candidate in dict.fromkeys((name, name.split()[0] if name.split() else "", first)):
        try:
            found = folder.resolve(candidate, beside)
        except AmbiguousName:
            continue
        if found is not None:
            return found
    return None


def lists(folder: DataFolder, annotation_files: set[str], findings: Findings) -> dict[str, str]:
    """Images by split from files of names, of which none is an annotation.

    Files called train, val or test, or named for a split by a ``data.yaml``, hold names of images; other files whose names speak of splits
    (``split.json``, ``list_eval_partition.csv``) hold names with their splits.

    Raises:
        DataError: Two files split the images differently.
    """
    by_settings = _named_lists(folder)
    lists: dict[str, list[tuple[str, str]]] = {word: [] for word in ORDER}
    rest: list[tuple[str, str]] = []
    whole: dict[str, str] = {}
    source = ""
    for file in folder.with_suffix(""):
        last = os.path.basename(file)
        word = by_settings.get(file) or split_word(last)
        if file in annotation_files or not (word or _speaks_of_splits(last)):
            continue
        if not word and last.casefold() != "trainval.txt":
            stated = _with_splits(folder, file)
            if any(whole.get(image, split) != split for image, split in stated.items()):
                raise DataError(
                    f"{folder.root / source} and {folder.root / file} split the images differently: keep the one that is right."
                )
            whole, source = {**whole, **stated}, file if stated else source
            continue
        named = [(name, file) for name in _names_in(folder, file)]
        if word:
            lists[word] += named
        else:
            rest += named
    if not any(lists.values()):
        return whole
    found = listed_images(
        folder, {word: list(dict.fromkeys(names)) for word, names in lists.items()}, findings
    )
    for name, beside in rest:
        image = _image(folder, name, beside)
        if image is not None:
            found.setdefault(image, "train")
    return {**whole, **found}


def _names_in(folder: DataFolder, file: str) -> list[str]:
    """Names of a list of images; none where it is a list of something else."""
    if file.casefold().endswith(".json"):
        document = _json(folder, file)
        named = [name for name in document if isinstance(name, str)] if isinstance(document, list) else []
        return named if any(_image(folder, name, file) for name in named[:20]) else []
    if not _is_list(file):
        return []
    lines = [line.strip() for line in folder.head(file).splitlines() if line.strip()]
    if not any(_image(folder, line, file) for line in lines[:20]):
        return []
    named = [line.strip() for line in folder.text(file).splitlines() if line.strip()]
    return (
        named[1:]
        if file.casefold().endswith((".csv", ".tsv")) and _image(folder, named[0], file) is None
        else named
    )


def _is_list(file: str) -> bool:
    return file.casefold().endswith(LISTS) or "." not in os.path.basename(file)


def _json(folder: DataFolder, file: str) -> Any:
    try:
        return folder.json(file)
    except ValueError:
        return None


def _with_splits(folder: DataFolder, file: str) -> dict[str, str]:
    """Images by split from a file that states both: lists by split, splits by name, or a table of names and splits."""
    pairs: list[tuple[str, str]] = []
    if file.casefold().endswith(".json"):
        document = _json(folder, file)
        for key, value in document.items() if isinstance(document, dict) else ():
            word = SPLIT_WORDS.get(str(key).casefold())
            if word is not None and isinstance(value, list):
                pairs += [(name, word) for name in value if isinstance(name, str)]
            elif isinstance(value, str) and plain(value) in SPLIT_WORDS:
                pairs.append((str(key), SPLIT_WORDS[plain(value)]))
    elif _is_list(file):
        text = folder.text(file).strip()
        first = text.partition("\n")[0]
        mark = delimiter_of(first)
        rows = (
            [row for _, row in rows_of(text, mark) if row]
            if mark in first
            else [line.split() for line in text.splitlines()]
        )
        words = {**SPLIT_WORDS, **(CELEBA if "partition" in file.casefold() else {})}
        for row in rows:
            said = {words[plain(cell)] for cell in row if plain(cell) in words}
            if len(said) == 1:
                pairs += [(cell, said.copy().pop()) for cell in row if plain(cell) not in words]
    found: dict[str, str] = {}
    for name, word in pairs:
        image = _image(folder, name, file)
        if image is not None:
            found[image] = max(found.get(image, word), word, key=ORDER.index)
    return found


def by_siblings(paths: Iterable[str]) -> dict[str, str]:
    """Split of each folder or file whose name is that of another one beside it but for the word of a split.

    As ``cats_train`` and ``cats_val``, ``trainA`` and ``testA``; of nested folders the innermost counts.
    """
    paths = {*paths}
    words: dict[str, set[str]] = {}
    ways: dict[str, list[tuple[str, str]]] = {}
    for path in paths:
        parts = composed(path).casefold().split("/")
        for depth in reversed(range(len(parts))):
            for match in _WORD.finditer(parts[depth]):
                around = parts[depth][: match.start()], parts[depth][match.end() :]
                template = "/".join([*parts[:depth], "\0".join(around)])
                words.setdefault(template, set()).add(SPLIT_WORDS[match.group()])
                ways.setdefault(path, []).append((template, SPLIT_WORDS[match.group()]))
    return {
        path: said
        for path, found in ways.items()
        if (said := next((word for template, word in found if len(words[template]) > 1), None)) is not None
    }


def not_understood(folder: DataFolder, annotation_files: set[str]) -> list[str]:
    """Folders of images, and files, whose names speak of splits without saying one."""
    folders = {part for image in folder.images for part in image.split("/")[:-1]}
    files = [file for file in folder.with_suffix("") if file not in annotation_files]
    spoken = [
        *sorted(folders),
        *(file for file in files if _is_list(file) or file.casefold().endswith((".json", *YAML_FILES))),
    ]
    return [
        name
        for name in spoken
        if _speaks_of_splits(os.path.basename(name)) and split_word(os.path.basename(name)) is None
    ]


def _speaks_of_splits(name: str) -> bool:
    tokens = re.findall(
        r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", os.path.splitext(composed(name))[0])
    )
    return any(
        token.casefold() in SPLIT_WORDS or token.casefold() in _OTHER_WORDS or token == "trainval"
        for token in tokens
    )


def _named_places(folder: DataFolder) -> Iterator[tuple[str, str, str]]:
    """The split, the file, and a folder or a list of names for each that a ``data.yaml`` or Darknet's ``obj.data`` names for its splits."""
    stated = [
        (file, yaml_mapping(folder, file)) for suffix in YAML_FILES for file in folder.with_suffix(suffix)
    ]
    for file in folder.with_suffix(".data"):
        lines = [line.partition("=") for line in folder.head(file).splitlines()]
        stated.append((file, {key.strip(): value.strip() for key, _, value in lines}))
    for file, settings in stated:
        base = settings.get("path")
        for key, value in settings.items():
            word = SPLIT_WORDS.get(str(key).casefold())
            for path in [value] if isinstance(value, str) else value if isinstance(value, list) else []:
                whole = f"{base}/{path}" if isinstance(base, str) else str(path)
                place = re.sub(r"/[^/]*\*[^/]*$", "", whole.replace("\\", "/")).strip("/")
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


def yaml_folders(folder: DataFolder) -> dict[str, str]:
    """Images below the folders that a ``data.yaml`` names for its splits."""
    found: dict[str, str] = {}
    for word, file, place in _named_places(folder):
        if place.endswith(".txt"):
            continue
        if is_image_name(place):
            named = _image(folder, place, file)
            if named is not None:
                found.setdefault(named, word)
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
