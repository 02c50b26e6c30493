"""What a field of a message can be, and how large: identifiers, short words, bounded numbers, search spaces, tensors."""

from __future__ import annotations

import json
import re
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    JsonValue,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

PHI_SIZE = 64
"""Length of a meta-feature φ (METHOD.md §4)."""
NUMBER_LIMIT = 1e6
"""Largest magnitude of an entry of φ or of ∂L/∂φ; trained extractors stay below about 10."""
TENSOR_BYTES_LIMIT = 16 * 2**20
"""Largest safetensors blob; the full extractor is well below a quarter of it."""
RANKER_BYTES_LIMIT = 8 * 2**20
"""Largest ranker; version 0 has 1.2 MB, and encoders of customers' own spaces are not in it."""
SPACE_BYTES_LIMIT = 64 * 2**10
"""Largest search space as JSON text; the largest standard one has 4 kB."""
VALUES_LIMIT = 2048
"""Most values that a search space lists, all its keys together: its encoder has 256 bytes for each."""
NUMBER_IN_SPACE_LIMIT = 1e12
"""Largest magnitude of a number in a search space, and so in a configuration."""
VALIDATIONS_LIMIT = 20
"""Most validations of a training whose beginning counts, and most points of a learning curve."""
KEYS_LIMIT = 256
"""Most keys of one configuration."""
# A dot followed by letters at the end of a word reads as a file ending; "v1.5" and "1e-3" do not.
_FILE_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}$")
_NNI_TYPES = frozenset(
    (
        "choice",
        "randint",
        "uniform",
        "quniform",
        "loguniform",
        "qloguniform",
        "normal",
        "qnormal",
        "lognormal",
        "qlognormal",
    )
)


def _refuse_file_names(word: str) -> str:
    if _FILE_ENDING.search(word) or ".." in word:
        raise ValueError("reads like a file name, and names of files do not leave the customer")
    return word


Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_:-]{0,63}$")]
"""An experiment, task, trial, session or base-weights id."""
Key = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"), AfterValidator(_refuse_file_names)
]
"""The name of a hyper-parameter."""
Word = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_.,:+=() -]{1,64}$"), AfterValidator(_refuse_file_names)
]
"""The value of a categorical hyper-parameter: a short word, without a path separator."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Finite = Annotated[float, Field(ge=-NUMBER_IN_SPACE_LIMIT, le=NUMBER_IN_SPACE_LIMIT, allow_inf_nan=False)]
Coordinate = Annotated[float, Field(ge=-NUMBER_LIMIT, le=NUMBER_LIMIT, allow_inf_nan=False)]
Vector = Annotated[tuple[Coordinate, ...], Field(min_length=PHI_SIZE, max_length=PHI_SIZE)]
"""Exactly 64 finite numbers: φ, φ̃, or a gradient with respect to one of them."""
AveragePrecision = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
CurvePoint = tuple[Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)], AveragePrecision]
"""Share of a full training, and AP@50 on val then."""
Seconds = Annotated[float, Field(ge=0.0, le=1e9, allow_inf_nan=False)]
WholeNumber = Annotated[int, Field(ge=-(2**53), le=2**53)]
Parameters = Annotated[
    dict[Key, bool | WholeNumber | Finite | Word], Field(min_length=1, max_length=KEYS_LIMIT)
]
"""One configuration, flat."""
NetworkCosts = Annotated[
    tuple[
        Annotated[
            tuple[Annotated[float, Field(ge=0.0, le=NUMBER_LIMIT, allow_inf_nan=False)], ...],
            Field(min_length=1, max_length=12),
        ],
        ...,
    ],
    Field(min_length=8, max_length=8),
]
"""What all networks have in common costs, then what the blocks of each stage cost, in units of the most that a network may."""
Method = Literal["hyperfd", "hyperfd-gp", "hyperfd-mf"]
"""How configurations are chosen: see :class:`RecommendRequest`."""
Tensors = Annotated[bytes, Field(min_length=1, max_length=TENSOR_BYTES_LIMIT)]
"""Safetensors bytes; names, shapes and numbers are checked by ``tensors.unpack`` against the expected ones."""
_KEY: TypeAdapter[str] = TypeAdapter(Key)
_WORD: TypeAdapter[str] = TypeAdapter(Word)


def _fits(kind: TypeAdapter[str], word: str) -> bool:
    try:
        kind.validate_python(word, strict=True)
    except ValidationError:
        return False
    return True


def _check_space_node(node: JsonValue, depth: int) -> None:
    """Refuse whatever is not an NNI search space, so that the field is no hiding place for other data."""
    if depth > 8:
        raise ValueError("the search space is nested deeper than 8 levels")
    if not isinstance(node, dict):
        raise ValueError("a search space is an object of {key: {_type, _value}}")
    for key, entry in node.items():
        if key == "_name" and depth > 1:
            _check_choice(entry, depth)
            continue
        if not _fits(_KEY, key):
            raise ValueError(f"the search space key {key[:80]!r} is not a short name")
        if not isinstance(entry, dict) or set(entry) != {"_type", "_value"}:
            raise ValueError(f"the search space entry {key!r} must have exactly _type and _value")
        if not (isinstance(entry["_type"], str) and entry["_type"] in _NNI_TYPES):
            raise ValueError(f"the search space entry {key!r} has an unknown _type")
        values = entry["_value"]
        if not isinstance(values, list) or not 1 <= len(values) <= 1024:
            raise ValueError(f"the _value of {key!r} must be a list of 1 to 1024 entries")
        for value in values:
            if isinstance(value, dict):
                _check_space_node(value, depth + 1)
            else:
                _check_choice(value, depth)


def _check_choice(value: JsonValue, depth: int) -> None:
    if isinstance(value, bool | int | float):
        if not abs(value) <= NUMBER_IN_SPACE_LIMIT:  # NaN is not
            raise ValueError(
                f"a number of the search space is not finite or larger than {NUMBER_IN_SPACE_LIMIT:g}"
            )
        return
    if not (isinstance(value, str) and _fits(_WORD, value)):
        raise ValueError(f"the search space value {str(value)[:80]!r} is neither a number nor a short word")


def _check_space(space: dict[str, JsonValue]) -> dict[str, JsonValue]:
    _check_space_node(space, 1)
    if (listed := _values(space)) > VALUES_LIMIT:
        raise ValueError(
            f"the search space lists {listed} values, and at most {VALUES_LIMIT} are taken; write long lists of numbers as quniform or "
            "randint"
        )
    if len(json.dumps(space)) > SPACE_BYTES_LIMIT:
        raise ValueError(f"the search space is larger than {SPACE_BYTES_LIMIT} bytes")
    return space


def _values(node: JsonValue) -> int:
    """How many values a checked search space lists."""
    if isinstance(node, dict):
        return sum(_values(part) for name, part in node.items() if name not in ("_type", "_name"))
    return sum(_values(value) for value in node) if isinstance(node, list) else 1


SearchSpace = Annotated[
    dict[str, JsonValue], Field(min_length=1, max_length=KEYS_LIMIT), AfterValidator(_check_space)
]
"""An NNI search space as its JSON object."""
