"""One walk over a data folder: which files are there, which image an annotation means, how large it is."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from nni_hyperfd.errors import DataError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
)
SPLITS_FILE = "splits.json"
# Folders that sort files by kind, not by content: images/a/1.jpg and labels/a/1.txt belong together.
KIND_FOLDERS = frozenset(
    {"images", "image", "imgs", "jpegimages", "labels", "label", "annotations", "xml", "xmls"}
)
EXIF_ORIENTATION = 274


@dataclass(frozen=True)
class Header:
    """Size in pixels as stored, Pillow's mode, and whether EXIF asks viewers to turn the picture."""

    width: int
    height: int
    mode: str
    transparent: bool
    turned: bool


class AmbiguousName(Exception):
    """An annotated name that fits several images equally well; readers count it and go on."""


def is_image_name(name: str) -> bool:
    """Whether ``name`` ends like an image file."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


class DataFolder:
    """The files below ``root``; hidden files and folders are not seen.

    Raises:
        DataError: the folder is missing, cannot be read or has no images.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        if not os.fspath(root).strip():
            raise DataError("no data folder is named: give the folder with images and annotations.")
        self.root = Path(root).expanduser().absolute()
        if not self.root.is_dir():
            raise DataError(
                f"data folder {self.root} does not exist or is no folder: give the folder with images and annotations."
            )
        if not os.access(self.root, os.R_OK | os.X_OK):
            raise DataError(f"data folder {self.root} cannot be read: check its permissions.")
        files = sorted(_walk(self.root))
        self.images = [name for name in files if is_image_name(name)]
        self._others = [name for name in files if not is_image_name(name)]
        if not self.images:
            suffixes = " ".join(sorted(IMAGE_SUFFIXES))
            raise DataError(
                f"no images in {self.root} or below it: put image files ({suffixes}) there, for example in images/."
            )
        self._exact = set(self.images)
        self._by_key: dict[tuple[str, ...], list[str]] = {}
        self._by_last: dict[str, list[str]] = {}
        for image in self.images:
            for key in (_key(image), _key(os.path.splitext(image)[0])):
                self._by_key.setdefault(key, []).append(image)
                self._by_last.setdefault(key[-1] if key else "", []).append(image)
        self._headers: dict[str, Header | None] = {}

    def with_suffix(self, suffix: str) -> list[str]:
        """Relative names of the files that end in ``suffix`` (any case), sorted; images are never among them."""
        return [name for name in self._others if name.lower().endswith(suffix)]

    def head(self, name: str, size: int = 4096) -> str:
        """The first ``size`` bytes of a file as text, for recognising its format; empty when it cannot be read."""
        try:
            with open(self.root / name, "rb") as file:
                return file.read(size).decode("utf-8-sig", errors="replace")
        except OSError:
            return ""

    def bytes(self, name: str) -> bytes:
        """Content of a file.

        Raises:
            DataError: it cannot be read.
        """
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise DataError(
                f"cannot read {self.root / name}: {error.strerror or error}; check its permissions."
            ) from error

    def text(self, name: str) -> str:
        """Content of a text file; bytes that are not UTF-8 become replacement characters."""
        return self.bytes(name).decode("utf-8-sig", errors="replace")

    def resolve(self, name: str, beside: str = "") -> str | None:
        """The image that an annotation calls ``name``, or None when there is none.

        ``name`` may be relative to the folder, to its annotation file ``beside``, to an image folder, or
        an absolute path of the machine where it was written: what counts is that the shorter of the two
        paths ends the longer one. Between images that fit equally well, place (below the folder of the
        annotation file) and then case decide. A name without
        suffix stands for an image with that stem. Only files below the folder can be meant.

        Raises:
            AmbiguousName: several images fit equally well.
        """
        plain = name.strip().replace("\\", "/")
        for candidate in (plain, f"{os.path.dirname(beside)}/{plain}"):
            candidate = os.path.normpath(candidate).lstrip("/").replace(os.sep, "/") if plain else ""
            if candidate in self._exact:
                return candidate
        key = _key(plain)
        if not key:
            return None
        found = self._by_key.get(key)
        if found is None:
            found = self._longest_common_end(key, self._by_last.get(key[-1], []))
        if len(found) > 1 and "/" in beside:
            near = os.path.dirname(beside) + "/"
            found = [image for image in found if image.startswith(near)] or found
        if len(found) > 1:
            last = plain.rsplit("/", 1)[-1]
            found = [image for image in found if os.path.basename(image) == last] or found
        if len(found) > 1:
            raise AmbiguousName(name)
        return found[0] if found else None

    @staticmethod
    def _longest_common_end(key: tuple[str, ...], candidates: list[str]) -> list[str]:
        best, found = 0, []
        for image in candidates:
            parts = _key(image)
            if parts[-1] != key[-1]:
                parts = _key(os.path.splitext(image)[0])
            shorter = min(len(parts), len(key))
            if parts[-shorter:] != key[-shorter:] or shorter < best:
                continue
            found = [*found, image] if shorter == best else [image]
            best = shorter
        return found

    def header(self, image: str) -> Header | None:
        """Size and mode of an image from its header alone, or None when the file is no readable image."""
        if image not in self._headers:
            self._headers[image] = _read_header(self.root / image)
        return self._headers[image]


def _walk(root: Path) -> list[str]:
    """Relative names of all files below ``root``; folders linked into a loop are visited once."""
    found: list[str] = []
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        prefix = os.path.relpath(folder, root).replace(os.sep, "/")
        found += [name if prefix == "." else f"{prefix}/{name}" for name in files if not name.startswith(".")]
    return found


def _key(path: str) -> tuple[str, ...]:
    """Path components that tell images apart: lower case, without kind folders such as ``images``."""
    parts = [part for part in path.casefold().split("/") if part not in ("", ".", "..")]
    return tuple(part for part in parts[:-1] if part not in KIND_FOLDERS) + tuple(parts[-1:])


def _read_header(path: Path) -> Header | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Pillow warns of odd metadata and of large pictures; neither stops us
            with Image.open(path) as image:
                transparent = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
                turned = _orientation(image) not in (None, 0, 1)
                return Header(image.width, image.height, image.mode, transparent, turned)
    except Exception:
        # Pillow's decoders answer damaged files with almost any exception type; all mean the same here.
        return None


def _orientation(image: Image.Image) -> int | None:
    if "exif" not in image.info and image.format != "TIFF":
        return None  # asking Pillow further would decode a whole PNG
    try:
        return image.getexif().get(EXIF_ORIENTATION)
    except Exception:
        return None  # damaged metadata say nothing about the pixels
