"""Sub-data-sets respect sizes, splits and diversity, and are the same in every run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.offline_sets import (
    SPLITS,
    OfflineSets,
    OfflineSettings,
    label_statistics,
    load_sets,
    make_offline_sets,
)

SETTINGS = OfflineSettings(min_images=30, max_images=150, min_faces=(10, 2, 5), max_split_shift=0.15)


@pytest.fixture(scope="module")
def server() -> tuple[dict[str, np.ndarray], list[str], np.ndarray]:
    rng = np.random.default_rng(0)
    domain = rng.integers(4, size=240)
    centers = rng.normal(0, 3, (4, 12))
    features = {
        "levels": (centers[domain] + rng.normal(size=(240, 12))).reshape(240, 2, 6),
        "labels": rng.lognormal(size=(240, 5)) * (1 + domain[:, None]),
    }
    splits = [SPLITS[i] for i in rng.permutation([0] * 144 + [1] * 24 + [2] * 72)]
    return features, splits, rng.integers(1, 6, 240)


@pytest.fixture(scope="module")
def made(server: tuple[dict[str, np.ndarray], list[str], np.ndarray]) -> OfflineSets:
    return make_offline_sets(*server, SETTINGS, seed=3)


def test_survivors_keep_every_rule(
    made: OfflineSets, server: tuple[dict[str, np.ndarray], list[str], np.ndarray]
) -> None:
    _, splits, faces = server
    codes = np.array([SPLITS.index(s) for s in splits])
    assert len(made.sets) > 20
    assert len({each.name for each in made.sets}) == len(made.sets)
    for each in made.sets:
        members = np.array(each.members)
        assert (np.diff(members) > 0).all()
        assert 30 <= len(members) <= 150
        shares = np.bincount(codes[members], minlength=3) / len(members)
        assert np.abs(shares - [0.6, 0.1, 0.3]).max() <= 0.15
        assert all(faces[members][codes[members] == s].sum() >= low for s, low in enumerate((10, 2, 5)))
    as_sets = [set(each.members) for each in made.sets]
    overlaps = [len(a & b) / len(a | b) for i, a in enumerate(as_sets) for b in as_sets[:i]]
    assert max(overlaps) <= 0.95
    assert made.report.jaccard[-1] == pytest.approx(max(overlaps), abs=1e-4)


def test_the_report_adds_up(made: OfflineSets) -> None:
    report = made.report
    assert report.kept == len(made.sets) == sum(report.kept_by_features.values())
    assert report.kept == sum(report.kept_by_clustering.values())
    assert report.candidates == report.kept + sum(report.dropped.values())
    assert set(report.kept_by_features) == {"levels0", "levels1", "labels"}
    # Clusters of a matrix differ in its own features far more than random subsets would.
    assert min(report.spread.values()) > 1.5


def test_equal_seeds_and_any_number_of_workers_give_equal_sets(
    made: OfflineSets, server: tuple[dict[str, np.ndarray], list[str], np.ndarray], tmp_path: Path
) -> None:
    again = make_offline_sets(*server, SETTINGS, seed=3, workers=2)
    assert again == made
    made.save(tmp_path / "sets.json")
    assert OfflineSets.load(tmp_path / "sets.json") == made
    text = (tmp_path / "sets.json").read_text()
    (tmp_path / "sets.json").write_text(text.replace(f"[{made.sets[0].members[0]},", "[9999,", 1))
    with pytest.raises(DataError, match="do not match"):
        OfflineSets.load(tmp_path / "sets.json")


def test_label_statistics_are_those_of_scipy() -> None:
    boxes = [
        np.array([[0, 0, 10, 10], [0, 0, 20, 10], [5, 5, 45, 25.0]]),
        np.zeros((0, 4)),
        np.array([[0, 0, 5, 5.0]]),
    ]
    found = label_statistics(boxes, np.array([[100, 50]] * 3))
    expected = stats.describe(np.array([100, 200, 800]) / 5000)
    np.testing.assert_allclose(
        found[0],
        [3, *expected.minmax, expected.mean, expected.variance, expected.skewness, expected.kurtosis],
    )
    np.testing.assert_array_equal(found[1], 0)
    np.testing.assert_allclose(found[2], [1, 0.005, 0.005, 0.005, 0, 0, 0])


def test_inputs_that_do_not_fit_are_refused(
    server: tuple[dict[str, np.ndarray], list[str], np.ndarray],
) -> None:
    features, splits, faces = server
    with pytest.raises(DataError, match="labels"):
        make_offline_sets({"labels": features["labels"][:-1]}, splits, faces)
    with pytest.raises(DataError, match="unknown splits"):
        make_offline_sets(features, ["dev", *splits[1:]], faces)


def test_sets_of_several_files_stand_together(made: OfflineSets, tmp_path: Path) -> None:
    moved = made.shifted(1000)
    made.save(tmp_path / "offline_sets.json")
    moved.save(tmp_path / "offline_sets_degraded.json")
    sets = load_sets(tmp_path)
    assert sets == (*made.sets, *moved.sets)
    assert len({each.name for each in sets}) == len(sets)
    for one, other in zip(made.sets, moved.sets):
        assert other.members == tuple(member + 1000 for member in one.members)
        assert other.name.rpartition("-")[0] == one.name.rpartition("-")[0]
    with pytest.raises(DataError, match="table_inputs"):
        load_sets(tmp_path / "nowhere")


def test_sets_that_are_there_already_are_not_made_again(
    made: OfflineSets, server: tuple[dict[str, np.ndarray], list[str], np.ndarray]
) -> None:
    features, splits, faces = server
    again = make_offline_sets(features, splits, faces, made.settings, made.seed, known=made.sets)
    assert again.sets == ()
    assert again.report.dropped["near-duplicate"] == made.report.kept + made.report.dropped["near-duplicate"]
