"""One point of a search space, and its two written forms: NNI's flat parameters and one line of text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.spaces.architecture import BLOCKS, STAGE_1_BLOCK, STAGES, Architecture, Block, StageShape
from nni_hyperfd.spaces.hyperparameters import KEYS, HyperParameters

Scalar = str | int | float | bool

NETWORK_KEY = re.compile(r"s\d+_(depth|b\d+)")
"""Keys that speak of an architecture: ``s2_depth``, ``s2_b1``."""

BLOCK_BY_LABEL: dict[str, Block] = {block.label: block for block in BLOCKS}


class Values(Mapping[str, Scalar]):
    """A mapping that cannot change, so that a configuration can be a key of a dictionary.

    Raises:
        SpaceError: A value is no number, text, true or false.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Scalar] | None = None) -> None:
        self._items = dict(items or {})
        for key, value in self._items.items():
            if not isinstance(value, (str, int, float, bool)):
                raise SpaceError(f"{key} is {value!r}; give a number, a text or true/false.")

    def __getitem__(self, key: str) -> Scalar:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


@dataclass(frozen=True)
class Configuration:
    """What one trial runs with.

    Args:
        hyperparameters: How to train; ``None`` where the space does not tune it, the trial then takes the defaults.
        architecture: Which backbone; ``None`` where the space does not tune it, the trial then takes MobileNetV2.
        values: Keys of a user's own space that this package does not know; handed through to the trial.
    """

    hyperparameters: HyperParameters | None = None
    architecture: Architecture | None = None
    values: Mapping[str, Scalar] = field(default_factory=Values)

    def __post_init__(self) -> None:
        if not isinstance(self.values, Values):
            object.__setattr__(self, "values", Values(self.values))

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Configuration:
        """Reads parameters as NNI hands them over, without knowing the space.

        Args:
            parameters: Flat short keys, or NNI's nested choices for the stage depths. Missing training
                hyper-parameters take their defaults if at least one is given; an architecture must be complete.

        Raises:
            SpaceError: A value is out of range, or an architecture is incomplete or not one of the space.
        """
        flat = flatten(parameters)
        training = {key: value for key, value in flat.items() if key in KEYS}
        network = {key: value for key, value in flat.items() if NETWORK_KEY.fullmatch(key)}
        others = {key: value for key, value in flat.items() if key not in training and key not in network}
        return cls(
            HyperParameters.from_parameters(training) if training else None,
            _read_architecture(network) if network else None,
            Values(others),
        )

    def parameters(self) -> dict[str, Scalar]:
        """Flat short keys for NNI's page; :meth:`from_parameters` reads them back."""
        flat: dict[str, Scalar] = {}
        if self.hyperparameters is not None:
            flat |= self.hyperparameters.parameters()
        flat |= self.values
        if self.architecture is not None:
            flat |= _write_architecture(self.architecture)
        return flat

    def __str__(self) -> str:
        """One line for tables, such as ``optimizer=sgd lr=0.001 … net=36.56|74|…`` (kernel and expansion digits)."""
        parts = [] if self.hyperparameters is None else [str(self.hyperparameters)]
        parts += [f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in self.values.items()]
        parts += [] if self.architecture is None else [f"net={self.architecture}"]
        return " ".join(parts) or "defaults"


def flatten(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Lifts NNI's nested choices: ``{"s2_depth": {"_name": 2, "s2_b1": …}}`` becomes ``{"s2_depth": 2, "s2_b1": …}``.

    Raises:
        SpaceError: It is no mapping, or gives a key twice.
    """
    if not isinstance(parameters, Mapping):
        raise SpaceError(f"The parameters of a trial are {parameters!r}; give a mapping of keys to values.")
    flat: dict[str, Any] = {}
    for key, value in parameters.items():
        nested = {}
        if isinstance(value, Mapping) and "_name" in value:
            nested = {name: inner for name, inner in value.items() if name != "_name"}
            value = value["_name"]
        for name, inner in {key: value, **nested}.items():
            if name in flat:
                raise SpaceError(f"{name} is given twice in the parameters of a trial; give it once.")
            flat[name] = inner
    return flat


def depth_key(number: int) -> str | None:
    """NNI key of the depth of stage ``number`` (from 1), ``None`` where the depth is fixed."""
    return f"s{number}_depth" if len(STAGES[number - 1].depths) > 1 else None


def block_key(number: int, position: int) -> str:
    """NNI key of block ``position`` (from 1) of stage ``number`` (from 1)."""
    return f"s{number}_b{position}"


def searched_stages() -> list[tuple[int, StageShape]]:
    """Stages 2 to 7 with their numbers; stage 1 has nothing to choose."""
    return list(enumerate(STAGES, start=1))[1:]


def _read_architecture(flat: Mapping[str, Any]) -> Architecture:
    rest = dict(flat)
    stages: list[tuple[Block, ...]] = [(STAGE_1_BLOCK,)]
    for number, stage in searched_stages():
        key = depth_key(number)
        depth = stage.depths[0] if key is None else _take(rest, key, {str(d): d for d in stage.depths})
        blocks = (_take(rest, block_key(number, position + 1), BLOCK_BY_LABEL) for position in range(depth))
        stages.append(tuple(blocks))
    if rest:
        key = next(iter(rest))
        raise SpaceError(f"{key} does not belong to an architecture with these depths; leave it out.")
    return Architecture(tuple(stages))


def _take(rest: dict[str, Any], key: str, allowed: Mapping[str, Any]) -> Any:
    if key not in rest:
        raise SpaceError(f"{key} is missing in an architecture; give one of {', '.join(allowed)}.")
    value = rest.pop(key)
    if isinstance(value, bool) or str(value) not in allowed:
        raise SpaceError(f"{key} is {value!r}; use one of {', '.join(allowed)}.")
    return allowed[str(value)]


def _write_architecture(architecture: Architecture) -> dict[str, Scalar]:
    flat: dict[str, Scalar] = {}
    for (number, _), blocks in zip(searched_stages(), architecture.stages[1:]):
        key = depth_key(number)
        if key is not None:
            flat[key] = len(blocks)
        flat |= {block_key(number, position): block.label for position, block in enumerate(blocks, start=1)}
    return flat
