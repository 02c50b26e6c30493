"""What the numbers of YOLO lines are: a box, a box and landmarks, a polygon, or one of these with a confidence and a track behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nni_hyperfd.data.formats.annotation import NO_POINT, Points
from nni_hyperfd.data.formats.around import hull
from nni_hyperfd.data.tables import ENOUGH, corners_of

__all__ = ["LANDMARKS", "OUTSIDE", "are_tracks", "is_inside", "is_track", "shape_of"]

LANDMARKS = 5
OUTSIDE = 0.1  # fraction of the picture by which a box may stick out and still be one in fractions
ROUNDED = 0.005  # fraction of the picture by which rounding may lead outside
MOST = 0.9  # share of the lines of one length that decides what they are


def shape_of(lines: Sequence[tuple[float, ...]], keypoints: tuple[int, int] | None) -> str | None:
    """What lines of one length are: "box", "polygon", or "box and points" with two or three numbers a point; None: nothing known."""
    count = len(lines[0])
    if count in (4, 5):
        return "box"
    if keypoints is not None and count == 4 + keypoints[0] * keypoints[1]:
        return f"points {keypoints[1]}"
    for dimension in (3, 2):
        extra = count - 4 - LANDMARKS * dimension
        if extra in (0, 1) and _are_landmarks(lines, dimension):
            return f"points {dimension}"
    if count % 2 == 0 and count >= 6:
        surrounded = sum(_surrounds(values) for values in lines)
        return "points 2" if surrounded >= MOST * len(lines) else "polygon"
    if (count - 4) % 3 == 0 and all(value in (0, 1, 2) for values in lines for value in values[6::3]):
        return "points 3"  # of a whole body, say: their boxes can be read
    return None


def _are_landmarks(lines: Sequence[tuple[float, ...]], dimension: int) -> bool:
    """Whether lines of one length are a box and five points in it, rather than a polygon.

    Five points of a face lie as two lines of the same direction, eyes and mouth; a polygon goes round, there and back.
    """
    found = [_points(values, dimension) for values in lines]
    inside = sum(points is not None for points in found)
    whole = [points for points in found if points is not None and not any(math.isnan(x) for x, _ in points)]
    alike = sum(_same_direction(points) for points in whole)
    return inside >= MOST * len(lines) and alike >= len(whole) / 2


def _surrounds(values: Sequence[float]) -> bool:
    """Whether the first four numbers are a box that the points behind them fill: a polygon's first corner is not in its middle."""
    around = hull(zip(values[4::2], values[5::2]))
    if around is None or len(values) < 4 + 2 * LANDMARKS:
        return False
    box = corners_of(values[:4], "centre and size")
    width, height = around[2] - around[0], around[3] - around[1]
    inside = all(
        box[side] <= around[side] + OUTSIDE * (box[side + 2] - box[side]) for side in (0, 1)
    ) and all(box[side] >= around[side] - OUTSIDE * (box[side] - box[side - 2]) for side in (2, 3))
    middle = (
        around[0] + width / 4 <= values[0] <= around[2] - width / 4
        and around[1] + height / 4 <= values[1] <= around[3] - height / 4
    )
    return inside and middle and width * height >= values[2] * values[3] / 4


def _points(values: Sequence[float], dimension: int) -> Points | None:
    """Five points behind a box as fractions, NaN where absent; None if there are none that lie in the box or near it."""
    left, top, right, bottom = corners_of(values[:4], "centre and size")
    if not (-OUTSIDE <= left < right <= 1 + OUTSIDE and -OUTSIDE <= top < bottom <= 1 + OUTSIDE):
        return None
    tail = values[4 : 4 + LANDMARKS * dimension]
    flags = tail[2::3] if dimension == 3 else [1.0] * LANDMARKS
    if any(flag not in (-1, 0, 1, 2) for flag in flags):
        return None
    room_x, room_y = (right - left) / 2, (bottom - top) / 2
    points = []
    for start, flag in zip(range(0, len(tail), dimension), flags):
        x, y = tail[start : start + 2]
        if flag <= 0 or x < 0 or y < 0 or not math.isfinite(x + y) or not (x or y):
            points.append(NO_POINT)
        elif left - room_x <= x <= right + room_x and top - room_y <= y <= bottom + room_y:
            points.append((x, y))
        else:
            return None
    return tuple(points)


def _same_direction(points: Points) -> bool:
    eyes = (points[1][0] - points[0][0], points[1][1] - points[0][1])
    mouth = (points[4][0] - points[3][0], points[4][1] - points[3][1])
    return eyes[0] * mouth[0] + eyes[1] * mouth[1] > 0


def is_inside(values: Sequence[float]) -> bool:
    """Whether the first four numbers are a box that lies in its picture."""
    left, top, right, bottom = corners_of(values[:4], "centre and size")
    return min(left, top) >= -ROUNDED and max(right, bottom) <= 1 + ROUNDED


def are_tracks(lines: Sequence[tuple[float, ...]]) -> bool | None:
    """Whether lines that might be polygons end in a confidence and the number of a track, as Ultralytics writes what it follows.

    The last corners of polygons lie anywhere, and not all of them on the lower edge, alone. A set too small to tell is None.
    """
    found = [values for values in lines if is_track(values)]
    if not lines or len(found) < MOST * len(lines):
        return False
    alone = sum(max(values[1:-2:2]) < 1 - ROUNDED for values in found)
    return True if alone >= ENOUGH or any(values[-1] > 1 for values in found) else None


def is_track(values: tuple[float, ...]) -> bool:
    """Whether a line may end in a confidence and the number of a track, and if nothing else stands before them, begins with a box."""
    ends = 0 <= values[-2] <= 1 and values[-1] >= 1 and values[-1] % 1 == 0
    return ends and (len(values) > 6 or (min(values[2:4]) > 0 and is_inside(values)))
