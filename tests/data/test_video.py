"""Frames of videos: which ones, when, and the right way up."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nni_hyperfd.data.video import frames, is_video_name
from nni_hyperfd.errors import DataError

MakeVideo = Callable[[Path], Path]


def levels(path: Path, every: float) -> list[tuple[int, float, float]]:
    """(number, seconds, mean gray level below the band) of the frames taken."""
    return [(f.number, round(f.seconds, 3), float(f.pixels[16:].mean())) for f in frames(path, every)]


def test_all_frames_or_one_each_so_many_seconds(make_video: MakeVideo, tmp_path: Path) -> None:
    """Ten frames a second, each 20 levels brighter than the one before."""
    video = make_video(tmp_path / "ten.mp4")
    found = levels(video, 0)
    assert [number for number, _, _ in found] == list(range(10))
    assert [seconds for _, seconds, _ in found] == pytest.approx([n / 10 for n in range(10)])
    assert [level for _, _, level in found] == pytest.approx([20 + 20 * n for n in range(10)], abs=4)
    assert [(number, seconds) for number, seconds, _ in levels(video, 0.4)] == [(0, 0.0), (4, 0.4), (8, 0.8)]
    assert [number for number, _, _ in levels(video, 5)] == [0]


def test_a_video_is_turned_as_players_turn_it(make_video: MakeVideo, tmp_path: Path) -> None:
    """A phone held upright writes lying frames and a matrix; here (x, y) goes to (height - y, x), clockwise."""
    video = make_video(tmp_path / "lying.mp4")
    lying = next(frames(video, 0)).pixels
    content = video.read_bytes()
    place = content.index(b"tkhd") + 4 + 40  # of the matrix in version 0 of the box (ISO/IEC 14496-12, 8.3.2)
    assert struct.unpack(">9i", content[place : place + 36]) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    matrix = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, lying.shape[0] << 16, 0, 1 << 30)
    video.write_bytes(content[:place] + matrix + content[place + 36 :])
    upright = next(frames(video, 0)).pixels
    assert upright.shape == (lying.shape[1], lying.shape[0], 3)
    assert np.array_equal(upright, np.rot90(lying, -1))
    assert upright[:, -4:].mean() > 200 > 50 > upright[:, :-16].mean(), (
        "the band that lay on top stands on the right"
    )


@pytest.mark.parametrize("content", [b"", b"no video at all", None])
def test_what_is_no_video_is_told(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "false.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"false\.mp4 cannot be read as a video"):
        list(frames(path, 1))


def test_a_video_that_breaks_off_gives_what_came_before(make_video: MakeVideo, tmp_path: Path) -> None:
    video = make_video(tmp_path / "cut.avi")
    whole = len(levels(video, 0))
    content = video.read_bytes()
    video.write_bytes(content[: len(content) // 2])
    try:
        found = [frame.number for frame in frames(video, 0)]
    except DataError:
        return
    assert 0 < len(found) < whole


def test_videos_are_told_by_their_names() -> None:
    assert [name for name in ("a.MP4", "b.mov", "c.jpg", "mp4", "d.txt") if is_video_name(name)] == [
        "a.MP4",
        "b.mov",
    ]
