"""What may cross: only what METHOD §9 names, checked on arrival, the same after a trip through JSON."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from typing import Any, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, JsonValue, ValidationError

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.protocol import fields, messages
from nni_hyperfd.protocol.calls import CALLS
from nni_hyperfd.protocol.messages import (
    GradientStep,
    Message,
    OpenTask,
    Progress,
    RankedConfiguration,
    Recommendation,
    RecommendRequest,
    Subject,
    TrialRecord,
    build,
    parse,
)
from nni_hyperfd.spaces.standard import standard_search_space

PHI = tuple(i / 8 for i in range(64))
SPACE = {"lr": {"_type": "choice", "_value": [0.1, 0.2]}}
SUBJECT = {"space": SPACE, "phi": PHI, "extractor_version": 0, "base_id": "abc"}
TRIAL = {"task_id": "t", "trial_key": "k", "parameters": {"lr": 0.1}, "status": "ok", "ap": 0.5}


def every_message() -> list[type[Message]]:
    classes = [kind for kind in vars(messages).values() if isinstance(kind, type)]
    # To Python 3.10 tuple[float, ...] is a type as well.
    return [kind for kind in classes if typing.get_origin(kind) is None and issubclass(kind, Message)]


# ------------------------------------------------------------------------------------- what the types can hold

ALLOWED = {
    # Short words and numbers.
    fields.Identifier,
    fields.Key,
    fields.Word,
    fields.Seed,
    fields.Count,
    fields.Finite,
    fields.WholeNumber,
    fields.AveragePrecision,
    fields.Seconds,
    bool,
    type(None),
    # 64 numbers; a search space; tensors that are compared with the extractor's own names and shapes on arrival.
    fields.Vector,
    fields.SearchSpace,
    fields.Tensors,
}


def leaves(annotation: Any) -> Iterator[Any]:
    """The types that a field is made of; a known alias is one leaf, whatever is behind it."""
    if annotation in ALLOWED:
        yield annotation
        return
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from leaves(typing.get_args(annotation)[0])
    elif origin in (Union, types.UnionType, tuple, dict):
        for argument in typing.get_args(annotation):
            if argument is not Ellipsis:
                yield from leaves(argument)
    elif origin is typing.Literal or (isinstance(annotation, type) and issubclass(annotation, Message)):
        return
    else:
        yield annotation


def fields(kind: type[BaseModel]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {name: hints[name] for name in kind.model_fields}


def test_a_customers_messages_are_made_of_a_closed_set_of_types() -> None:
    """A field of any other type (a plain string, a list, bytes without a bound) fails here, not in a review."""
    bounded_numbers = {int, float}  # written out with their own bounds, which the schema below shows
    for kind in CALLS:
        for name, annotation in fields(kind).items():
            for leaf in leaves(annotation):
                assert leaf in ALLOWED | bounded_numbers, f"{kind.__name__}.{name} may hold a {leaf}"


def test_every_number_text_and_list_has_a_bound() -> None:
    for kind in every_message():
        for where, node in schema_nodes(kind.model_json_schema(), kind.__name__):
            if node.get("type") in {"integer", "number"}:
                assert {"maximum", "exclusiveMaximum"} & node.keys(), where
                assert {"minimum", "exclusiveMinimum"} & node.keys(), where
            if node.get("type") == "string" and not {"const", "enum"} & node.keys():
                assert "pattern" in node or "maxLength" in node, where
            if node.get("type") == "array":
                assert "maxItems" in node, where
            if node.get("type") == "object" and "properties" not in node:
                assert "maxProperties" in node, where


def schema_nodes(node: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        yield where, node
        for key, value in node.items():
            yield from schema_nodes(value, f"{where}.{key}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from schema_nodes(value, f"{where}[{i}]")


def test_no_field_is_named_after_what_must_stay() -> None:
    private = (
        "image",
        "file",
        "path",
        "folder",
        "box",
        "landmark",
        "map",
        "pixel",
        "feature",
        "name",
        "host",
    )
    for kind in CALLS:
        for name in kind.model_fields:
            assert not any(word in name for word in private), f"{kind.__name__}.{name}"


FILE_NAMES = [
    "faces/0001.jpg",
    "0001.jpg",
    "C:\\faces\\a",
    "/home/a",
    "..",
    "a..b",
    "IMG_1.PNG",
    "scan.tiff",
    "a.b.jpeg",
]


@pytest.mark.parametrize("text", [*FILE_NAMES, "x" * 65, "", "two\nlines", "é", "a\x00", "{}"])
def test_names_of_files_and_free_text_have_no_place(text: str) -> None:
    for change in (
        {"parameters": {"lr": text}},
        {"parameters": {text: 1}},
        {"trial_key": text},
        {"budget": text},
    ):
        with pytest.raises(PlatformError):
            build(TrialRecord, **(TRIAL | change))
    for space in ({"lr": {"_type": "choice", "_value": [text]}}, {text: {"_type": "choice", "_value": [1]}}):
        with pytest.raises(PlatformError):
            build(Subject, **(SUBJECT | {"space": space}))


@pytest.mark.parametrize("word", ["k5e6", "sgd", "1e-3", "v1.5", "cosine annealing", "0.9,0.999", "+x"])
def test_ordinary_values_have(word: str) -> None:
    assert build(TrialRecord, **(TRIAL | {"parameters": {"lr": word}})).parameters == {"lr": word}


@pytest.mark.parametrize(
    "value",
    [[1, 2, 3, 4], {"x": 1}, None, b"bytes", float("nan"), float("inf"), 1e13, 2**60, (0.1, 0.2)],
)
def test_boxes_and_maps_are_no_configuration(value: Any) -> None:
    with pytest.raises(PlatformError, match="lr"):
        build(TrialRecord, **(TRIAL | {"parameters": {"lr": value}}))


@pytest.mark.parametrize(
    "phi",
    [
        PHI[:63],
        (*PHI, 0.0),
        (*PHI[:63], float("nan")),
        (*PHI[:63], float("inf")),
        (*PHI[:63], 1e7),
        (PHI,) * 64,
        "x" * 64,
    ],
)
def test_a_meta_feature_is_64_finite_numbers(phi: Any) -> None:
    with pytest.raises(PlatformError, match="phi"):
        build(Subject, **(SUBJECT | {"phi": phi}))


@pytest.mark.parametrize(
    "change",
    [
        {"ap": 1.01},
        {"ap": -0.01},
        {"ap": None},
        {"ap": "0.5"},
        {"status": "failed"},
        {"status": "great"},
        {"seed": -1},
        {"seed": 2**63},
        {"seconds": -1.0},
        {"parameters": {}},
        {"parameters": {f"k{i}": i for i in range(257)}},
        {"image": "x"},
    ],
)
def test_a_trial_record_checks_itself(change: dict[str, Any]) -> None:
    with pytest.raises(PlatformError, match="TrialRecord was refused"):
        build(TrialRecord, **(TRIAL | change))


@pytest.mark.parametrize(
    "space",
    [
        {},
        {"lr": [1, 2]},
        {"lr": {"_type": "choice"}},
        {"lr": {"_type": "file", "_value": [1]}},
        {"lr": {"_type": "choice", "_value": []}},
        {"lr": {"_type": "choice", "_value": [1], "image": "x"}},
        {"lr": {"_type": "choice", "_value": [[1, 2, 3]]}},
        {"lr": {"_type": "choice", "_value": [float("nan")]}},
        {"lr": {"_type": "choice", "_value": list(range(1025))}},
        {"lr": {"_type": "choice", "_value": [{"_name": "a", "x": "pixels"}]}},
        {"_name": "a"},
        {f"k{i}": {"_type": "choice", "_value": ["x" * 60] * 100} for i in range(60)},
    ],
)
def test_a_search_space_is_nothing_but_a_search_space(space: dict[str, Any]) -> None:
    with pytest.raises(PlatformError, match="space"):
        build(Subject, **(SUBJECT | {"space": space}))


def test_a_search_space_cannot_be_a_deep_hole() -> None:
    space: dict[str, Any] = SPACE
    for _ in range(20):
        space = {"lr": {"_type": "choice", "_value": [{"_name": "a", **space}]}}
    with pytest.raises(PlatformError, match="nested"):
        build(Subject, **(SUBJECT | {"space": space}))


@pytest.mark.parametrize("kind", ["hpo", "nas", "joint"])
def test_the_spaces_of_the_paper_fit(kind: str) -> None:
    space = standard_search_space(kind)
    assert build(Subject, **(SUBJECT | {"space": space})).space == space


def test_a_recommendation_is_for_a_task_or_a_subject() -> None:
    subject = build(Subject, **SUBJECT)
    assert build(RecommendRequest, task_id="t", budget=4).subject is None
    assert build(RecommendRequest, subject=subject, budget=4).task_id is None
    for given_ in ({}, {"task_id": "t", "subject": subject}):
        with pytest.raises(PlatformError, match="either"):
            build(RecommendRequest, budget=4, **given_)


def test_a_progress_goes_with_a_method_that_looks_at_beginnings() -> None:
    progress = build(Progress, validations=4, left=2)
    asked = {"task_id": "t", "budget": 4, "progress": progress}
    assert build(RecommendRequest, method="hyperfd-mf", **asked).progress == progress
    assert build(RecommendRequest, method="hyperfd-gp", **asked).progress == progress
    assert build(RecommendRequest, task_id="t", budget=4, method="hyperfd-gp").progress is None
    with pytest.raises(PlatformError, match="hyperfd knows no progress"):
        build(RecommendRequest, method="hyperfd", **asked)
    with pytest.raises(PlatformError, match="hyperfd-mf goes with a progress"):
        build(RecommendRequest, task_id="t", budget=4, method="hyperfd-mf")


def test_messages_do_not_change() -> None:
    message = build(TrialRecord, **TRIAL)
    with pytest.raises(ValidationError):
        message.ap = 1.0  # type: ignore[misc]


# ---------------------------------------------------------------------------------------------------- the wire


def test_messages_survive_json() -> None:
    subject = build(Subject, **SUBJECT)
    ranked = build(RankedConfiguration, parameters={"a": True, "b": 1, "c": 0.1, "d": "k5e6"}, score=-0.25)
    for message in (
        build(OpenTask, experiment_id="exp", subject=subject),
        build(RecommendRequest, subject=subject, budget=4, seed=2**63 - 1),
        build(TrialRecord, **TRIAL),
        build(GradientStep, session_id="s", step=3, tensors=bytes(range(256))),
        build(Recommendation, version=1, configurations=(ranked,) * 2, spares=()),
    ):
        read = parse(type(message), message.model_dump_json())
        assert read == message
        if isinstance(message, Recommendation):
            kinds = [type(value) for value in read.configurations[0].parameters.values()]
            assert kinds == [bool, int, float, str]


@given(
    st.dictionaries(
        st.from_regex(r"\A[a-z_][a-z0-9_]{0,10}\Z"),
        st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(-1e12, 1e12)
        | st.sampled_from(["sgd", "k3e4"]),
        min_size=1,
        max_size=8,
    ),
    st.floats(0, 1),
)
@settings(max_examples=50, deadline=None)
def test_configurations_and_precisions_survive_json_exactly(parameters: dict[str, Any], ap: float) -> None:
    message = build(TrialRecord, **(TRIAL | {"parameters": parameters, "ap": ap}))
    read = parse(TrialRecord, message.model_dump_json())
    assert (read.parameters, read.ap) == (parameters, ap)
    assert [type(v) for v in read.parameters.values()] == [type(v) for v in parameters.values()]


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(list(CALLS)), ANY_JSON, st.data())
@settings(max_examples=100, deadline=None)
def test_whatever_comes_is_read_or_refused_in_one_sentence(
    kind: type[Message], anything: JsonValue, data: st.DataObject
) -> None:
    names = data.draw(st.lists(st.sampled_from([*kind.model_fields, "more"]), unique=True))
    body = dict.fromkeys(names, anything) if data.draw(st.booleans()) else anything
    said = "read"
    try:
        parse(kind, json.dumps(body))
    except PlatformError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 500


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 10_000, b'{"ap": 1e999}'])
def test_broken_json_is_refused(text: bytes) -> None:
    with pytest.raises(PlatformError):
        parse(TrialRecord, text)
