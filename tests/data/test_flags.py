"""Which flags are set, and which of them take a box out of what counts."""

from __future__ import annotations

import pytest

from nni_hyperfd.data.flags import is_ignored, is_set


@pytest.mark.parametrize("value", [True, 1, 2.0, "1", "1.0", " TRUE ", "yes", "Ja", "x"])
def test_values_that_are_set(value: object) -> None:
    assert is_set(value)


@pytest.mark.parametrize(
    "value",
    [False, 0, -1, None, "", "0", "-1", "-1.0", "false", "No", "null", "nan", "unspecified", [], {}, float("nan")],
)  # fmt: skip
def test_values_that_are_not_set_or_unknown(value: object) -> None:
    assert not is_set(value)


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({"Difficult": "1"}, True),
        ({"Is_Crowd": True}, True),
        ({"IsGroupOf": 1, "IsOccluded": 0}, True),
        ({"IsGroupOf": -1, "invalid": "0"}, False),
        ({"attributes": {"ignore": "true"}}, True),
        ({"attributes": {"ignore": "false"}, "flags": {"invalid": True}}, True),
        ({"occluded": True, "truncated": 1, "attributes": None}, False),
    ],
)
def test_flags_of_boxes_that_count_for_nothing(fields: dict[str, object], ignored: bool) -> None:
    assert is_ignored(fields) == ignored
