"""How a customer's folder is to be read: the settings that go with ``data`` wherever it is named."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypedDict

FORMATS = (
    "wider",
    "coco",
    "voc",
    "yolo",
    "retinaface",
    "csv",
    "cvat",
    "labelme",
    "createml",
    "via",
    "supervisely",
    "labelstudio",
)
EXIF = ("upright", "stored")


class ReadingArguments(TypedDict):
    """Keywords of ``load_dataset``, as :class:`Reading` explains them."""

    format: str | None
    faces: tuple[str, ...] | None
    ignore: tuple[str, ...] | None
    exif: str | None


@dataclass(frozen=True)
class Reading:
    """The same settings in ``classArgs``, on command lines and as keywords of ``load_dataset``.

    Args:
        format: Annotation format, one of ``FORMATS``; None: recognized from the folder.
        faces: Names of the classes whose boxes are faces; None: decided by the names.
        ignore: Names of the classes whose boxes count neither for nor against a detector.
        exif: How the annotation tool showed pictures that EXIF turns, where their annotations do not tell: "upright", or
            lying as "stored"; None: upright, and the report asks.
    """

    format: str | None = None
    faces: tuple[str, ...] | None = None
    ignore: tuple[str, ...] | None = None
    exif: str | None = None

    @classmethod
    def of(cls, options: object) -> Reading:
        """The settings among parsed arguments, or other attributes of the same names."""
        given = ((field.name, getattr(options, field.name)) for field in fields(cls))
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in given
        }
        return cls(**values)

    def arguments(self) -> ReadingArguments:
        """Keywords of ``load_dataset``."""
        return {"format": self.format, "faces": self.faces, "ignore": self.ignore, "exif": self.exif}

    def command_line(self) -> list[str]:
        """Options from which a command makes the same settings."""
        words: list[str] = []
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if isinstance(value, str):
                words.append(f"--{name}={value}")
            elif value is not None:
                words += [f"--{name}={one}" for one in value]
        return words


class _Names(argparse.Action):
    """``--faces a b --faces=c``: all of them, in order."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[str] | None,
        option_string: str | None = None,
    ) -> None:
        more = [values] if isinstance(values, str) else list(values or ())
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or []), *more])


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--format``, ``--faces``, ``--ignore`` and ``--exif`` to a command that takes a data folder."""
    parser.add_argument("--format", choices=FORMATS, help="annotation format (default: recognized)")
    parser.add_argument(
        "--faces",
        nargs="+",
        action=_Names,
        metavar="CLASS",
        help="classes that are faces (default: told by their names)",
    )
    parser.add_argument(
        "--ignore",
        nargs="+",
        action=_Names,
        metavar="CLASS",
        help="classes that count neither for nor against a detector",
    )
    parser.add_argument(
        "--exif",
        choices=EXIF,
        help="how pictures that EXIF turns were annotated, where nothing tells (default: upright)",
    )
