"""Which picture an annotation means by a name that was written on another machine, by another tool, in another alphabet."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from urllib.parse import parse_qs, unquote, urlsplit

from nni_hyperfd.errors import DataError

# Folders that sort files by kind, not by content: images/a/1.jpg and labels/a/1.txt belong together.
KIND_FOLDERS = frozenset(
    {
        *(
            "images",
            "image",
            "imgs",
            "img",
            "jpegimages",
            "labels",
            "label",
            "annotations",
            "annotation",
            "ann",
        ),
        *("xml", "xmls", "pictures", "photos"),
    }
)
MEASURED = "eval"
"""A split that is measured with: val, or test where another one is called val."""
SPLIT_WORDS = {
    **dict.fromkeys(
        (
            *("train", "training", "trn", "trainset", "traindata", "trainings", "trainingsdaten", "entrenamiento", "treino"),
            *("entrainement", "entraînement", "apprentissage", "addestramento", "训练", "训练集", "訓練", "学習", "학습", "обучение"),
        ),
        "train",
    ),
    **dict.fromkeys(
        (
            *("val", "valid", "validation", "validate", "dev", "valset", "valdata", "validierung", "validierungsdaten"),
            *("validacion", "validación", "validacao", "validação", "validazione", "验证", "验证集", "検証", "검증", "валидация"),
        ),
        "val",
    ),
    **dict.fromkeys(
        (
            *("test", "testing", "tst", "testset", "testdata", "testdaten", "holdout", "heldout", "prueba", "pruebas", "teste"),
            *("测试", "测试集", "測試", "テスト", "시험", "тест"),
        ),
        "test",
    ),
    **dict.fromkeys(("eval", "evaluation", "evaluate", "evalset", "evaldata"), MEASURED),
}  # fmt: skip
# What stands beside the word in names such as instances_train2017.json, wider_face_val_bbx_gt.txt, faces-test.
COMPANIONS = frozenset(
    {
        *KIND_FOLDERS,
        *("instances", "person", "keypoints", "face", "faces", "wider", "coco", "voc", "yolo", "bbx", "bbox", "boxes", "box"),
        *("gt", "data", "set", "dataset", "split", "list", "filelist", "file", "files", "info", "challenge", "imgs", "ground"),
        *("truth", "custom", "annot", "anno", "annos", "bboxes", "detection", "detections", "csv", "json", "autosplit"),
    }
)  # fmt: skip
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # Label Studio's, before the name of an uploaded file
LONGER_PREFIX = re.compile(r"^[0-9a-f]{4,32}[-_]")


class AmbiguousName(DataError):
    """A name that fits several pictures equally well; ``images`` are they."""

    def __init__(self, name: str, images: Sequence[str] = ()) -> None:
        super().__init__(name)
        self.images = tuple(images)


def composed(text: str) -> str:
    """One form for names that look alike: macOS keeps ü as u and two dots, other systems as one letter."""
    return unicodedata.normalize("NFC", text)


def key_of(path: str) -> tuple[str, ...]:
    """Path components that tell pictures apart: lower case, composed, without kind folders such as ``images``."""
    parts = [part for part in composed(path).casefold().split("/") if part not in ("", ".", "..")]
    return tuple(part for part in parts[:-1] if part not in KIND_FOLDERS) + tuple(parts[-1:])


def split_word(name: str) -> str | None:
    """A value of `SPLIT_WORDS` where a file's or folder's name says nothing else: WIDER_train, instances_val2017.json."""
    words = re.findall(r"[^\W\d_]+", os.path.splitext(composed(name).casefold())[0])
    said = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    others = [word for word in words if word not in SPLIT_WORDS and word not in COMPANIONS]
    return said.pop() if len(said) == 1 and not others else None


def split_of_path(path: str) -> str | None:
    """The split that a path's file or, from the nearest on, its folders name."""
    return next((word for part in reversed(path.split("/")) if (word := split_word(part))), None)


def spellings(name: str) -> Iterator[str]:
    """``name`` as it may lie on disk, the most literal first: paths of other systems, addresses, quoted letters."""
    plain = name.strip().replace("\\", "/")
    yield plain
    address = plain
    if re.match(r"^[a-z][a-z0-9+.-]+://", plain, re.IGNORECASE) or "?" in plain:
        parts = urlsplit(plain)
        query = parse_qs(parts.query)
        address = next(
            (query[word][0] for word in ("d", "path", "file", "filename") if word in query), parts.path
        )
        address = address.replace("\\", "/")
        yield address
    quoted = address
    for _ in range(2):  # addresses within addresses are quoted twice
        unquoted = unquote(quoted)
        if unquoted == quoted:
            break
        yield unquoted
        quoted = unquoted
    if "+" in address and address != plain:  # as forms quote a blank
        yield unquote(address.replace("+", " "))
    folder, last = os.path.split(quoted)
    for prefix in (UPLOAD_PREFIX, *([LONGER_PREFIX] if "upload" in folder.casefold() else [])):
        if prefix.match(last):
            yield prefix.sub("", last)


def normalized_name(name: str) -> str:
    """What different spellings of one name have in common, to tell two names from one name written twice."""
    return composed(os.path.normpath([*spellings(name)][-1].lstrip("/"))).casefold()


class ImageNames:
    """All pictures of a folder, found by whatever name.

    Args:
        images: Names relative to the folder, with slashes.
    """

    def __init__(self, images: Sequence[str]) -> None:
        self._exact = {name: [name] for name in images}
        for image in images:
            self._exact.setdefault(composed(image), []).append(image)
        for name in images:
            self._exact[name] = [name]  # what is written as on disk means that file
        self._by_key: dict[tuple[str, ...], list[str]] = {}
        self._by_last: dict[str, list[str]] = {}
        self._by_upload: dict[str, list[str]] = {}
        for image in images:
            for key in (key_of(image), key_of(os.path.splitext(image)[0])):
                self._by_key.setdefault(key, []).append(image)
                self._by_last.setdefault(key[-1] if key else "", []).append(image)
            last = os.path.basename(composed(image)).casefold()
            before = UPLOAD_PREFIX.sub("", unquote(last))
            if before != last:
                self._by_upload.setdefault(before, []).append(image)

    def find(self, name: str, beside: str = "") -> str | None:
        """See `DataFolder.resolve`."""
        found: list[str] = []
        for plain in spellings(name):
            found = self._find(plain, beside)
            if found:
                break
        if not found:  # pictures with names of a server, annotations with the names before the upload
            found = self._by_upload.get(os.path.basename(composed(name)).casefold(), [])
        if len(found) > 1:
            raise AmbiguousName(name, found)
        return found[0] if found else None

    def _find(self, plain: str, beside: str) -> list[str]:
        for candidate in (plain, f"{os.path.dirname(beside)}/{plain}"):
            candidate = os.path.normpath(candidate).lstrip("/").replace(os.sep, "/") if plain else ""
            for form in (candidate, composed(candidate)):
                if len(self._exact.get(form, ())) == 1:
                    return self._exact[form]
        key = key_of(plain)
        if not key:
            return []
        found = self._by_key.get(key)
        if found is None:
            found = self._longest_common_end(key, self._by_last.get(key[-1], []))
        if len(found) > 1 and "/" in beside:
            near = os.path.dirname(beside) + "/"
            found = [image for image in found if image.startswith(near)] or found
        if len(found) > 1 and (split := split_of_path(beside)):
            found = [image for image in found if split_of_path(os.path.dirname(image)) == split] or found
        if len(found) > 1:
            last = plain.rsplit("/", 1)[-1]
            found = [image for image in found if os.path.basename(image) == last] or found
        return found

    @staticmethod
    def _longest_common_end(key: tuple[str, ...], candidates: list[str]) -> list[str]:
        best = 0
        found: list[str] = []
        for image in candidates:
            parts = key_of(image)
            if parts[-1] != key[-1]:
                parts = key_of(os.path.splitext(image)[0])
            shorter = min(len(parts), len(key))
            if parts[-shorter:] != key[-shorter:] or shorter < best:
                continue
            found = [*found, image] if shorter == best else [image]
            best = shorter
        return found
