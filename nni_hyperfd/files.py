"""Files written whole or not at all: the one way in which this package replaces a file.

A reader, another process, or whoever comes after a power cut finds the old file or the new one, never half of one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing", "write_file"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; what is there at the end takes the place of ``path``.

    The name is nobody else's, so that two writers, in one process or in several, do not mix their bytes. The file has the
    permissions that the umask gives to any new file, also where a library makes its own with others. After an error
    nothing of it is left, and ``path`` is as it was.

    Raises:
        OSError: The disk refuses, or nothing was written.
    """
    partial = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.partial")
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    ordinary = partial.stat().st_mode & 0o777
    try:
        yield partial
        descriptor = os.open(partial, os.O_RDONLY)
        try:
            os.fchmod(descriptor, ordinary)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    _keep_name(path.parent)


def write_file(path: Path, content: bytes | str) -> None:
    """Make ``content`` (a text as UTF-8) what ``path`` holds.

    Raises:
        OSError: The disk refuses.
    """
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def _keep_name(folder: Path) -> None:
    """Have the new name survive a power cut; some network disks cannot, and their files are whole all the same."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
