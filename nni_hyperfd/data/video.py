"""Frames of a video, one after the other; nothing of it is held in memory but the frame that is looked at."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.errors import DataError

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".ts", ".3gp"}
)


@dataclass(frozen=True)
class Frame:
    """One frame: ``pixels`` ``[h, w, 3]`` uint8 RGB, upright; ``seconds`` from the beginning; its ``number`` from 0."""

    pixels: NDArray[np.uint8]
    seconds: float
    number: int


def is_video_name(name: str) -> bool:
    """Whether a file of this name is looked at as a video."""
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def frames(path: Path, every: float) -> Iterator[Frame]:
    """The first frame of a video, and then one each ``every`` seconds; 0: all of them.

    Raises:
        DataError: The file is no video that can be read, or PyAV is not installed. Frames up to a damaged place come before.
    """
    try:
        import av
    except ModuleNotFoundError:
        raise DataError(
            f"{path} is a video, and PyAV, which reads them, is not installed: run pip install 'av>=14.2', or install this package with [video]"
        ) from None
    logging.getLogger("libav").setLevel(logging.CRITICAL)  # what is wrong is said once, below
    due = 0.0
    try:
        with av.open(str(path)) as video:
            if not video.streams.video:
                raise DataError(f"{path} holds no pictures: name a video")
            stream = video.streams.video[0]
            stream.thread_type = "AUTO"
            for number, frame in enumerate(video.decode(stream)):
                seconds = frame.time if frame.time is not None else number / float(stream.average_rate or 25)
                if seconds + 1e-6 >= due:
                    due = max(due, seconds) + every
                    # The display matrix says by how much players turn the picture, counter-clockwise.
                    turns = round(frame.rotation / 90) % 4
                    pixels = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
                    yield Frame(pixels, seconds, number)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a video ({error}): name another file") from error
