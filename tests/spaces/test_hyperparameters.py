from __future__ import annotations

import itertools
import math

import pytest

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.spaces.hyperparameters import (
    COUNT_KEYS,
    DEFAULT_HYPERPARAMETERS,
    FIELDS,
    FIRST_CHOICE,
    GRID,
    HyperParameters,
)


def test_negative_threshold_is_half_the_positive_one_plus_five_hundredths() -> None:
    thresholds = [HyperParameters(iou_threshold=iou).negative_threshold for iou in GRID["iou"]]
    assert thresholds == pytest.approx([0.25, 0.30, 0.35])


def test_every_point_of_the_grid_is_written_and_read_back() -> None:
    points = [dict(zip(GRID, values)) for values in itertools.product(*GRID.values())]
    read = [HyperParameters.from_parameters(point) for point in points]
    assert len(set(read)) == 216
    assert [point.parameters() for point in read] == points
    assert DEFAULT_HYPERPARAMETERS in read
    assert FIRST_CHOICE in read


def test_whole_numbers_are_written_without_a_fraction() -> None:
    assert str(DEFAULT_HYPERPARAMETERS) == "optimizer=sgd lr=0.001 crop=0.3 iou=0.5 locw=2 negp=7"
    assert HyperParameters(location_weight=2) == HyperParameters(location_weight=2.0)


def test_missing_keys_take_their_default_and_other_keys_are_left_alone() -> None:
    read = HyperParameters.from_parameters({"lr": 0.02, "batch": 16})
    assert read == HyperParameters(learning_rate=0.02)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer", "rmsprop"),
        ("lr", 0),
        ("lr", -1e-3),
        ("lr", "0.001"),
        ("lr", math.nan),
        ("lr", True),
        ("crop", 1.5),
        ("iou", 0.1),
        ("locw", math.inf),
        ("negp", None),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_short_key(key: str, value: object) -> None:
    with pytest.raises(SpaceError, match=rf"^{key}\b.*; use .*\.$"):
        HyperParameters(**{FIELDS[key]: value})  # type: ignore[arg-type]


def test_the_lowest_iou_threshold_keeps_the_negative_one_below_it() -> None:
    lowest = HyperParameters(iou_threshold=0.1001)
    assert lowest.negative_threshold < lowest.iou_threshold


def test_counts_are_read_written_and_imply_dynamic_assignment() -> None:
    counts = dict(zip(COUNT_KEYS, range(1, 10)))
    read = HyperParameters.from_parameters({"lr": 0.003, **counts})
    assert read == HyperParameters(learning_rate=0.003, counts=tuple(range(1, 10)))
    assert read.parameters() == {
        **HyperParameters(learning_rate=0.003).parameters(),
        "assign": "dynamic",
        **counts,
    }
    assert HyperParameters.from_parameters(read.parameters()) == read
    assert HyperParameters.from_parameters({"s_l2_a2": 3.0}).counts == (10, 10, 10, 10, 3, 10, 10, 10, 10)
    assert HyperParameters.from_parameters({"assign": "dynamic"}).counts == (10,) * 9
    assert HyperParameters.from_parameters({"assign": "iou"}) == DEFAULT_HYPERPARAMETERS


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"s_l1_a1": 0}, "^s_l1_a1 is 0; use a whole number from 1 to 20"),
        ({"s_l3_a3": 21}, "^s_l3_a3 is 21; use"),
        ({"s_l1_a2": 2.5}, "^s_l1_a2 is 2.5; use"),
        ({"s_l1_a2": True}, "^s_l1_a2 is True; use"),
        ({"s_l1_a2": "3"}, "^s_l1_a2 is '3'; use"),
        ({"s_l1_a2": math.nan}, "^s_l1_a2 is nan; use"),
        ({"assign": "atss"}, "^assign is 'atss'; use one of iou, dynamic"),
        ({"assign": "iou", "s_l1_a2": 3}, "^s_l1_a2 is given, and assign is 'iou', which has no use for it"),
    ],
)
def test_counts_that_mean_nothing_are_refused(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        HyperParameters.from_parameters(parameters)
