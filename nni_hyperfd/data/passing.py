"""Errors that say nothing about a file: the disk, the network share or the machine failed, and may not next time."""

from __future__ import annotations

import errno
from pathlib import Path

from nni_hyperfd.errors import DataError

# What the file or its place is like. EINVAL: a damaged picture sends Pillow to a place before its beginning.
_LASTING = frozenset(
    {
        errno.ENOENT,
        errno.EACCES,
        errno.EPERM,
        errno.ELOOP,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.ENAMETOOLONG,
        errno.EINVAL,
    }
)


def is_passing(error: BaseException) -> bool:
    """Whether reading the same file again may go well. Pillow's own complaints about damage have no ``errno``."""
    if isinstance(error, OSError):
        return error.errno is not None and error.errno not in _LASTING
    return isinstance(error, MemoryError)


def not_now(path: Path, error: BaseException) -> DataError:
    """The sentence about a passing error."""
    if isinstance(error, MemoryError):
        return DataError(
            f"there was not enough memory to read {path}: let less run beside it, or take a picture of that size away"
        )
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return DataError(
        f"cannot read {path} ({reason}): see to the disk or network share that it is on, or to the limit of open files, and try again"
    )
