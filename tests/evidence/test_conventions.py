"""Offline sets as other annotators would have labelled them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_hyperfd.cli import main
from nni_hyperfd.data.pixels import PixelStore
from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.conventions import CONVENTIONS, dealt, relabelled
from nni_hyperfd.evidence.job import TableJob
from nni_hyperfd.evidence.offline_sets import OfflineReport, OfflineSet, OfflineSets, _digest
from nni_hyperfd.evidence.table import LookupTable


@pytest.fixture(scope="module")
def store(store_of: Callable[..., PixelStore]) -> PixelStore:
    """Two pictures of 100 x 200 and 100 x 100: a face in the middle, one in the corner, a small one, one nobody counts."""
    pictures = [np.zeros((100, side, 3), np.uint8) for side in (200, 100)]
    first = [
        (100, 40, 120, 80, False),
        (0, 0, 20, 40, False),
        (150, 50, 154, 58, False),
        (30, 50, 40, 60, True),
    ]
    return store_of(pictures, [first, [(40, 40, 60, 60, False)]])


@pytest.mark.parametrize(
    ("convention", "middle", "corner"),
    [
        ("loose", [97.5, 35, 122.5, 85], [0, 0, 22.5, 45]),
        ("tight", [102, 44, 118, 76], [2, 4, 18, 36]),
        ("raised", [100, 34, 120, 74], [0, 0, 20, 34]),
        # Centre 60 - .18 x 40 = 52.8, half as tall as 1.45 x 40 = 58.
        ("heads", [95.5, 23.8, 124.5, 81.8], [0, 0, 24.5, 41.8]),
    ],
)
def test_boxes_worked_out_by_hand(
    store: PixelStore, convention: str, middle: list[float], corner: list[float]
) -> None:
    faces = relabelled(store, convention).faces
    torch.testing.assert_close(faces.boxes[0, :2], torch.tensor([middle, corner], dtype=torch.float32))
    assert torch.equal(faces.valid, store.faces.valid)
    assert torch.equal(faces.ignored, store.faces.ignored)
    # What nobody counts was drawn by the same hand.
    assert not torch.equal(faces.boxes[0, 3], store.faces.boxes[0, 3])


def test_small_faces_lose_their_label(store: PixelStore) -> None:
    """Heights in shares of the longer side are .2, .2, .04 and .2; the ignored one is no face to be lost."""
    faces = relabelled(store, "large").faces
    assert faces.valid.tolist() == [[True, True, False, True], [True, False, False, False]]
    # A set of the second picture and the small face's equals has another median.
    alone = replace(store, splits={name: torch.tensor([1]) for name in store.splits})
    assert relabelled(alone, "large").faces.valid[1, 0]


def test_a_third_of_the_labels_is_missing(store_of: Callable[..., PixelStore]) -> None:
    row = [(x, 10, x + 5, 20, x % 4 == 0) for x in range(0, 90, 3)]
    many = store_of([np.zeros((100, 100, 3), np.uint8)] * 60, [row] * 60)
    faces = relabelled(many, "missing").faces
    counted = ~many.faces.ignored
    assert faces.valid[counted].float().mean() == pytest.approx(2 / 3, abs=0.04)
    assert faces.valid[~counted].all()
    assert torch.equal(faces.valid, relabelled(many, "missing").faces.valid)
    assert not torch.equal(faces.valid, relabelled(many, "missing", seed=1).faces.valid)
    # An image is labelled alike whatever stands beside it.
    few = store_of([np.zeros((100, 100, 3), np.uint8)] * 2, [row] * 2)
    assert torch.equal(relabelled(few, "missing").faces.valid, faces.valid[:2])


@settings(max_examples=25, deadline=None)
@given(
    corners=st.lists(
        st.tuples(*[st.floats(0, 90) for _ in range(2)], *[st.floats(1, 60) for _ in range(2)]), min_size=1
    )
)
def test_boxes_stay_in_the_image_and_none_appears(
    store_of: Callable[..., PixelStore], corners: list[tuple[float, ...]]
) -> None:
    boxes = [(x, y, min(x + w, 100), min(y + h, 100), False) for x, y, w, h in corners]
    before = store_of([np.zeros((100, 100, 3), np.uint8)], [boxes])
    for convention in CONVENTIONS:
        faces = relabelled(before, convention).faces
        counted = faces.valid & ~faces.ignored
        assert not (faces.valid & ~before.faces.valid).any()
        assert (faces.boxes >= 0).all()
        assert (faces.boxes <= 100).all()
        assert ((faces.boxes[..., 2:] - faces.boxes[..., :2])[counted] >= 1).all()


def sets_of(parts: list[tuple[int, ...]]) -> tuple[OfflineSet, ...]:
    return tuple(OfflineSet(f"labels.c{i}-{_digest(part)}", part) for i, part in enumerate(parts))


def test_conventions_are_dealt_evenly_and_names_stay_good(tmp_path: Path) -> None:
    sets = sets_of([(i, i + 1, i + 2) for i in range(30)])
    found = dealt(sets, 18)
    assert Counter(each.name.partition("~")[0] for each in found) == dict.fromkeys(CONVENTIONS, 3)
    assert len({each.members for each in found}) == 18
    assert found == dealt(sets, 18) != dealt(sets, 18, seed=1)
    OfflineSets(found, OfflineReport.of_sample(found, 30)).save(tmp_path / "sets.json")
    assert OfflineSets.load(tmp_path / "sets.json").sets == found
    with pytest.raises(DataError, match="there are 30"):
        dealt(sets, 31)


def test_rows_of_relabelled_sets(drawn_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real trainings on the same members: the labels alone make the difference."""
    monkeypatch.setenv("HYPERFD_CACHE", str(tmp_path / "cache"))
    plain = sets_of([tuple(range(24))])[0]
    sets = (plain, replace(plain, name=f"heads~{plain.name}"))
    OfflineSets(sets, OfflineReport.of_sample(sets, 2)).save(tmp_path / "sets.json")
    rows = tmp_path / "rows.jsonl"
    words = ["--server", str(drawn_faces), "--offline", str(tmp_path / "sets.json"), "--budget", "smoke"]
    numbers = ["--pairs", "2", "--per-set", "1", "--configurations", "1", "--out", str(rows)]
    assert main(["table", "build", "--space", "hpo", *words, *numbers]) == 0
    found = {row.data_set: row for row in LookupTable.load(rows)}
    assert set(found) == {part.name for part in sets}
    assert not any(row.failure for row in found.values())
    assert len({row.heldout_ap for row in found.values()}) == 2


def test_an_unknown_convention_is_told_before_any_training(drawn_faces: Path, tmp_path: Path) -> None:
    plain = sets_of([tuple(range(24))])[0]
    sets = (replace(plain, name=f"upside_down~{plain.name}"),)
    OfflineSets(sets, OfflineReport.of_sample(sets, 1)).save(tmp_path / "sets.json")
    job = TableJob("hpo", (), (drawn_faces,), tmp_path / "sets.json", pairs=1, per_set=1, configurations=1)
    with pytest.raises(DataError, match="upside_down"):
        job.runner()
