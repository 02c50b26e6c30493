"""What lies in the cache on a customer's disk, and what is taken away when it grows too large.

Decoded images and image features can be made again from the data, so those that nobody has opened for the longest time go first. An entry
is all files of a folder that share a name up to its first dot.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from nni_hyperfd.errors import DataError

KINDS = {"pixels": "decoded images", "features": "image features"}
"""Folders of the cache that are bounded, and what they hold."""

DEFAULT_LIMIT = 20.0
"""Gigabytes that all entries together may have."""


@dataclass(frozen=True)
class CacheEntry:
    """What belongs together.

    Args:
        path: Its files but for what follows their first dot.
        kind: One of :data:`KINDS`.
        size: Of all its files, in bytes.
        used: When it was last opened, in seconds since 1970.
    """

    path: Path
    kind: str
    size: int
    used: float

    def remove(self) -> bool:
        """Take it away; False where somebody is making it. Who has it open may go on reading."""
        try:
            with FileLock(_lock(self.path), timeout=0):
                for file in _files(self.path):
                    file.unlink(missing_ok=True)
        except Timeout:
            return False
        # The lock stays: another process may be waiting for it.
        return True


def entries(cache: Path) -> list[CacheEntry]:
    """Everything in a cache folder that can be made again, what was opened last first."""
    found = []
    for kind in KINDS:
        sizes: dict[str, list[os.stat_result]] = defaultdict(list)
        for file in (cache / kind).glob("*.*"):
            try:
                if file.suffix != ".lock" and file.is_file():
                    sizes[file.name.split(".")[0]].append(file.stat())
            except FileNotFoundError:
                continue  # another process has taken it away
        for name, stats in sizes.items():
            size, used = sum(each.st_size for each in stats), max(each.st_mtime for each in stats)
            found.append(CacheEntry(cache / kind / name, kind, size, used))
    return sorted(found, key=lambda entry: -entry.used)


def opened(path: Path) -> None:
    """Note that an entry is used now."""
    for file in _files(path):
        os.utime(file)


def evict(cache: Path, limit: float | None = None) -> list[CacheEntry]:
    """Take away what was opened longest ago until the rest has at most ``limit`` bytes; returns what has gone.

    By default the limit is ``HYPERFD_CACHE_GB`` or :data:`DEFAULT_LIMIT` gigabytes, and the entry that was opened last stays
    however large it is.

    Raises:
        DataError: ``HYPERFD_CACHE_GB`` is not a number.
    """
    kept, gone = 0, []
    for place, entry in enumerate(entries(cache)):
        spared = limit is None and place == 0
        if kept + entry.size <= (default_limit() if limit is None else limit) or spared or not entry.remove():
            kept += entry.size
        else:
            gone.append(entry)
    return gone


def default_limit() -> float:
    """Bytes that a cache may have: ``HYPERFD_CACHE_GB`` or :data:`DEFAULT_LIMIT` gigabytes.

    Raises:
        DataError: The variable is no number.
    """
    text = os.environ.get("HYPERFD_CACHE_GB") or str(DEFAULT_LIMIT)
    try:
        return float(text) * 1e9
    except ValueError:
        raise DataError(f"HYPERFD_CACHE_GB is {text!r}; set it to a number of gigabytes") from None


def _files(path: Path) -> list[Path]:
    return [file for file in path.parent.glob(f"{path.name}.*") if file.suffix != ".lock"]


def _lock(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")
