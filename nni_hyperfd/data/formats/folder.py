"""One walk over a data folder: which files are there, which image an annotation means, how large it is."""

from __future__ import annotations

import codecs
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from PIL import Image

from nni_hyperfd import strict_json
from nni_hyperfd.data.formats.class_words import FACE_WITNESSES
from nni_hyperfd.data.names import AmbiguousName, ImageNames
from nni_hyperfd.data.orientation import UPRIGHT, orientation_of, stored_size, upright_size
from nni_hyperfd.data.passing import is_passing, not_now
from nni_hyperfd.data.text import decode_text, parse_xml
from nni_hyperfd.errors import DataError

__all__ = ["IMAGE_SUFFIXES", "SPLITS_FILE", "AmbiguousName", "DataFolder", "ImageHeader", "is_image_name"]

SPLITS_FILE = "splits.json"

# What Pillow calls by a plugin but cannot decode by itself, or what is no picture of a camera or a scanner.
NO_PICTURES = frozenset({"BUFR", "EPS", "FITS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"})
# Pictures that Pillow has no plugin for: seen, and reported as pictures that cannot be opened.
UNREADABLE_SUFFIXES = frozenset({".heic", ".heif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw"})


def _image_suffixes() -> frozenset[str]:
    Image.init()
    readable = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    return frozenset(
        {s for s in readable if Image.registered_extensions()[s] not in NO_PICTURES} | UNREADABLE_SUFFIXES
    )


IMAGE_SUFFIXES = _image_suffixes()


@dataclass(frozen=True)
class ImageHeader:
    """Size in pixels as stored, Pillow's mode, and how EXIF asks viewers to turn the picture (1: not at all)."""

    width: int
    height: int
    mode: str
    transparent: bool
    orientation: int

    @property
    def turned(self) -> bool:
        """Whether EXIF asks viewers to turn the picture."""
        return self.orientation != UPRIGHT

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        return upright_size(self.width, self.height, self.orientation)


def is_image_name(name: str) -> bool:
    """Whether ``name`` ends like an image file."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


class DataFolder:
    """The files below ``root``; hidden files and folders are not seen.

    Raises:
        DataError: The folder is missing, cannot be read or has no images.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        if not os.fspath(root).strip():
            raise DataError("no data folder is named: give the folder with images and annotations.")
        try:
            self.root = Path(root).expanduser().absolute()
        except RuntimeError:  # ~somebody, who is not on this machine
            self.root = Path(root).absolute()
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
        self._names = ImageNames(self.images)
        self._witnesses = witnesses([*files])
        self._headers: dict[str, ImageHeader | None] = {}
        self._encodings: dict[str, set[str]] = {}

    def with_suffix(self, suffix: str) -> list[str]:
        """Relative names of the files that end in ``suffix`` (any case), sorted; images are never among them."""
        return [name for name in self._others if name.lower().endswith(suffix)]

    def head(self, name: str, size: int = 4096) -> str:
        """The first ``size`` bytes of a file as text, for recognising its format; empty when it is not to be read.

        Raises:
            DataError: It could not be read this time.
        """
        try:
            with open(self.root / name, "rb") as file:
                content = file.read(size)
        except OSError as error:
            if is_passing(error):
                raise not_now(self.root / name, error) from error
            return ""
        try:  # the last letter may be cut
            return codecs.getincrementaldecoder("utf-8-sig")().decode(content)
        except UnicodeDecodeError:
            return decode_text(content, self._witnesses)[0]

    def bytes(self, name: str) -> bytes:
        """Content of a file.

        Raises:
            DataError: It cannot be read.
        """
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise DataError(
                f"cannot read {self.root / name}: {error.strerror or error}; check its permissions."
            ) from error

    def text(self, name: str) -> str:
        """Content of a text file in whatever encoding; see `decode_text`."""
        text, encoding = decode_text(self.bytes(name), self._witnesses)
        self._remember(name, encoding)
        return text

    def xml(self, name: str) -> ElementTree.Element:
        """Root element of an XML file in whatever encoding.

        Raises:
            ElementTree.ParseError: it is no well-formed XML.
        """
        root, encoding = parse_xml(self.bytes(name), self._witnesses)
        self._remember(name, encoding)
        return root

    def json(self, name: str) -> Any:
        """Content of a JSON file in whatever encoding.

        Raises:
            ValueError: It is no JSON, or one key has two values.
        """
        try:
            return strict_json.loads(self.text(name))
        except RecursionError as error:
            raise ValueError("nested too deeply") from error

    def required_json(self, name: str) -> Any:
        """Content of the one JSON file that says everything.

        Raises:
            DataError: It is no JSON.
        """
        try:
            return self.json(name)
        except ValueError as error:
            raise DataError(f"{self.root / name} is no valid JSON ({error}): export it again.") from error

    def encodings(self) -> dict[str, list[str]]:
        """Encodings other than UTF-8 that files were read with, and those files."""
        return {encoding: sorted(files) for encoding, files in sorted(self._encodings.items())}

    def _remember(self, name: str, encoding: str) -> None:
        if encoding.lower().replace("-", "") not in ("utf8", "utf8sig"):
            self._encodings.setdefault(encoding, set()).add(name)

    def resolve(self, name: str, beside: str = "") -> str | None:
        """The image that an annotation calls ``name``, or None when there is none.

        ``name`` may be relative to the folder, to its annotation file ``beside``, to an image folder, or
        an absolute path or an address of the machine where it was written: what counts is that the shorter
        of the two paths ends the longer one. Between images that fit equally well, place (below the folder of the
        annotation file) and then case decide. A name without
        suffix stands for an image with that stem. Only files below the folder can be meant.

        Raises:
            AmbiguousName: Several images fit equally well.
        """
        return self._names.find(name, beside)

    def fits(self, name: str) -> bool:
        """Whether ``name`` means one image or several."""
        try:
            return self.resolve(name) is not None
        except AmbiguousName:
            return True

    def header(self, image: str) -> ImageHeader | None:
        """Size and mode of an image from its header alone, or None when the file is no readable image.

        Raises:
            DataError: It could not be read this time, which says nothing about the picture in it.
        """
        if image not in self._headers:
            self._headers[image] = _read_header(self.root / image)
        return self._headers[image]


def witnesses(files: Sequence[str]) -> list[str]:
    """Words that annotation files in an old encoding must hold: names of files with other letters than ASCII ones."""
    parts = {os.path.splitext(part)[0] for name in files for part in name.split("/") if not part.isascii()}
    return [*sorted(parts)[:50], *FACE_WITNESSES]


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


def _read_header(path: Path) -> ImageHeader | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Pillow warns of odd metadata and of large pictures; neither stops us
            with Image.open(path) as image:
                transparent = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
                return ImageHeader(*stored_size(image), image.mode, transparent, orientation_of(image))
    except Exception as error:
        if is_passing(error):
            raise not_now(path, error) from error
        # Pillow's decoders answer damaged files with almost any exception type; all mean the same here.
        return None
