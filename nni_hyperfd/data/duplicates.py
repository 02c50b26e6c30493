"""Pictures that are copies of one photograph: the same bytes, or copies that Roboflow has augmented (``name.rf.HASH.jpg``)."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

COPY = re.compile(r"\.rf\.[0-9A-Za-z]{6,}$")


def copies(paths: Sequence[Path]) -> list[tuple[int, ...]]:
    """Positions of paths that are copies of each other, for every photograph that is there more than once.

    Only files of equal length are read.
    """
    leaders = list(range(len(paths)))

    def leader(index: int) -> int:
        while leaders[index] != index:
            index = leaders[index]
        return index

    for same in (_by_origin(paths), _by_bytes(paths)):
        for members in same:
            for member in members[1:]:
                leaders[leader(member)] = leader(members[0])
    found: dict[int, list[int]] = {}
    for index in range(len(paths)):
        found.setdefault(leader(index), []).append(index)
    return [tuple(members) for members in found.values() if len(members) > 1]


def origin(path: str) -> str | None:
    """The photograph of which Roboflow made this copy, None where the name does not tell of one."""
    stem = os.path.splitext(os.path.basename(path))[0]
    return COPY.sub("", stem) if COPY.search(stem) else None


def _by_origin(paths: Sequence[Path]) -> list[list[int]]:
    found: dict[str, list[int]] = {}
    for index, path in enumerate(paths):
        name = origin(path.name)
        if name is not None:
            found.setdefault(name, []).append(index)
    return list(found.values())


def _by_bytes(paths: Sequence[Path]) -> list[list[int]]:
    lengths: dict[int, list[int]] = {}
    for index, path in enumerate(paths):
        try:
            lengths.setdefault(path.stat().st_size, []).append(index)
        except OSError:
            continue  # whoever reads its pixels says so
    found: dict[bytes, list[int]] = {}
    for members in lengths.values():
        for index in members if len(members) > 1 else ():
            try:
                found.setdefault(
                    hashlib.blake2b(paths[index].read_bytes(), digest_size=16).digest(), []
                ).append(index)
            except OSError:
                continue
    return list(found.values())
