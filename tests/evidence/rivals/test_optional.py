"""The rivals that are other people's libraries: that these are really asked, and what is said where they are missing."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import rankdata

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.comparison import Scenario
from nni_hyperfd.evidence.rivals.base import Rival, Study
from nni_hyperfd.evidence.rivals.multi_task_gp import MultiTaskGP
from nni_hyperfd.evidence.rivals.optional import global_numpy_seed
from nni_hyperfd.evidence.rivals.rgpe import RGPE
from nni_hyperfd.evidence.rivals.syne_tune_transfer import SyneTuneBoundingBox, SyneTuneZeroShot

SMALL_GRID = {"lr": [1e-4, 3e-4, 1e-3], "optimizer": ["sgd", "adam"], "crop": [0.3, 0.55]}

LIBRARIES: list[tuple[Callable[[], Rival], str, str]] = [
    (SyneTuneZeroShot, "syne_tune", "rivals"),
    (SyneTuneBoundingBox, "syne_tune", "rivals"),
    (MultiTaskGP, "botorch", "rivals"),
    (RGPE, "openbox", "openbox"),
]
every_library = pytest.mark.parametrize(
    ("make", "module", "extra"), LIBRARIES, ids=[make.__name__ for make, _, _ in LIBRARIES]
)


@pytest.fixture(scope="module")
def alike(scenario_of: Callable[..., Scenario]) -> Scenario:
    """Past data sets and customers rank all configurations alike, and of each past one all is known."""
    return scenario_of(tasks=2, offline=5, per_set=12, own=0.0, noise=0.0, grid=SMALL_GRID)


@every_library
def test_a_missing_library_is_said_before_anything_is_run(
    make: Callable[[], Rival], module: str, extra: str, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    rival = make()
    with pytest.raises(DataError, match=rf"{rival.name} needs pip install -e \.\[{extra}\]"):
        rival.reset(scenario.experience, 0)


@every_library
def test_the_best_is_found_where_it_was_the_best_before(
    make: Callable[[], Rival], module: str, extra: str, alike: Scenario
) -> None:
    pytest.importorskip(module)
    rival = make()
    rival.reset(alike.experience, 0)
    for profile, column in zip(alike.profiles, alike.choose.T):
        study = Study(profile, 3, column)
        rival.search(study)
        assert study.trials[0].index == column.argmax()
        assert len({trial.index for trial in study.trials}) == 3


@pytest.mark.parametrize(("make", "module"), [(MultiTaskGP, "botorch"), (RGPE, "openbox")])
def test_the_slow_ones_search_equally_past_failures_to_the_end(
    make: Callable[[], Rival], module: str, scenario_of: Callable[..., Scenario]
) -> None:
    # The other rivals are held to this, and more, in test_interface.py.
    pytest.importorskip(module)
    small = scenario_of(tasks=1, offline=4, per_set=3, grid={"a": [1, 2, 3], "b": ["x", "y"]})
    column = small.choose[:, 0].copy()
    column[[0, int(column.argmax())]] = np.nan
    found = []
    for _ in range(2):
        rival = make()
        rival.reset(small.experience, 5)
        study = Study(small.profiles[0], 6, column)
        rival.search(study)
        found.append([trial.index for trial in study.trials])
    assert sorted(found[0]) == list(range(6))
    assert found[0] == found[1]


def test_zero_shot_is_the_greedy_portfolio_of_ranks(scenario_of: Callable[..., Scenario]) -> None:
    pytest.importorskip("syne_tune")
    full = scenario_of(tasks=1, offline=8, per_set=12, grid=SMALL_GRID)
    ranks = rankdata(-full.experience.aps, axis=1)
    reached, expected = np.full((len(ranks), 1), np.inf), []
    for _ in range(3):
        mean = np.minimum(ranks, reached).mean(axis=0)
        expected.append(int(mean.argmin()))
        reached = np.minimum(reached, ranks[:, expected[-1:]])
    rival = SyneTuneZeroShot()
    rival.reset(full.experience, 0)
    study = Study(full.profiles[0], 3, full.choose[:, 0])
    rival.search(study)
    assert [trial.index for trial in study.trials] == expected


def test_the_box_holds_the_values_of_the_best_alone(scenario_of: Callable[..., Scenario]) -> None:
    pytest.importorskip("syne_tune")
    full = scenario_of(tasks=1, offline=2, per_set=12, own=2.0, grid=SMALL_GRID)
    rival = SyneTuneBoundingBox()
    rival.reset(full.experience, 0)
    known = rival._choices.parameters
    best = [known[k] for k in full.experience.aps.argmax(axis=1)]
    box = {key: {each[key] for each in best} for key in SMALL_GRID}
    inside = {k for k, each in enumerate(known) if all(each[key] in box[key] for key in box)}
    assert 1 < len(inside) < len(known)
    tried = set()
    for _ in range(20):
        study = Study(full.profiles[0], 1, full.choose[:, 0])
        rival._spend(study, full.experience.aps)
        tried.add(study.trials[0].index)
    assert tried == inside


def test_the_global_generator_is_put_back() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    drawn = []
    for _ in range(2):
        with global_numpy_seed(3):
            drawn.append(np.random.random())  # noqa: NPY002
    assert drawn[0] == drawn[1]
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
