"""What a detector found on val and test, kept and read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nni_hyperfd.detection.evaluation.detections import Detections, GroundTruth
from nni_hyperfd.detection.evaluation.held_out import (
    HeldOut,
    marks_by_image,
    read_held_out,
    save_held_out,
)
from nni_hyperfd.errors import DataError

FACE = np.array([0, 0, 10, 10], np.float32)


def by_hand() -> HeldOut:
    """Three pictures: a face found, and a second time in vain; a face missed, an ignored one found, a false one; nobody."""
    truth = GroundTruth(
        np.array([0, 1, 1]),
        np.stack([FACE, FACE, FACE + 50]),
        np.array([False, False, True]),
    )
    found = Detections(
        np.array([0, 0, 1, 1, 2]),
        np.stack([FACE, FACE + 1, FACE + 50, FACE + 200, FACE]),
        np.array([0.9, 0.8, 0.95, 0.7, 0.3], np.float32),
    )
    return HeldOut(("a.png", "ü/b.png", "c.png"), np.array([[96, 128]] * 3), found, truth)


def test_what_is_read_is_what_was_saved_without_pickle(tmp_path: Path) -> None:
    split = by_hand()
    save_held_out(tmp_path / "detections.npz", {"val": split, "test": split})
    with np.load(tmp_path / "detections.npz", allow_pickle=False) as file:
        assert all(array.dtype != object for array in file.values())
    for each in read_held_out(tmp_path / "detections.npz").values():
        assert each.names == split.names
        assert each.ap == split.ap
        np.testing.assert_array_equal(each.size, split.size)
        for mine, theirs in ((each.found, split.found), (each.truth, split.truth)):
            for name, value in vars(theirs).items():
                np.testing.assert_array_equal(getattr(mine, name), value)


def test_steps_of_precision_and_recall_by_hand_enclose_ap() -> None:
    split = by_hand()
    # Surest first: neither, right, wrong, wrong, wrong; one of the two faces that count is found, at precision 1.
    assert split.precision_recall() == [(0.0, 1.0), (0.5, 1.0)]
    assert (split.faces, split.ap) == (2, 0.5)


def test_marks_by_hand() -> None:
    first, second, third = marks_by_image(by_hand(), 0.5)
    assert (first.right, first.wrong, first.missed) == (1, 1, 0)
    assert (second.right, second.wrong, second.missed) == (0, 1, 1)
    assert (third.right, third.wrong, third.missed) == (0, 0, 0)
    assert second.rows.tolist() == [2, 3]
    assert second.is_right.tolist() == [False, False]
    assert second.is_wrong.tolist() == [False, True], "an ignored face counts for neither side"
    assert marks_by_image(by_hand(), 0.2)[2].wrong == 1


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_a_torn_file_is_told(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "detections.npz"
    save_held_out(path, {"val": by_hand(), "test": by_hand()})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="cannot be read"):
        read_held_out(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_held_out(tmp_path / "absent.npz")


def test_a_file_that_contradicts_itself_is_told(tmp_path: Path) -> None:
    split = by_hand()
    strange = HeldOut(split.names[:1], split.size[:1], split.found, split.truth)
    save_held_out(tmp_path / "detections.npz", {"val": strange, "test": split})
    with pytest.raises(DataError, match="an image that it does not name"):
        read_held_out(tmp_path / "detections.npz")
