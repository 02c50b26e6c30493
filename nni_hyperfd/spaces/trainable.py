"""What a search space may offer for the hyper-parameters that a training knows."""

from __future__ import annotations

from collections.abc import Sequence

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.spaces.configuration import Scalar
from nni_hyperfd.spaces.domains import Choice, Domain, Number
from nni_hyperfd.spaces.hyperparameters import (
    ASSIGN,
    COUNT_KEYS,
    GRID,
    KEYS,
    HyperParameters,
)

STANDARD_DOMAINS: tuple[Domain, ...] = tuple(Choice(key, tuple(values)) for key, values in GRID.items())


def is_standard(domain: Domain) -> bool:
    """Whether a domain offers some of the values of the package's own grid."""
    return isinstance(domain, Choice) and all(
        not isinstance(value, bool) and value in GRID.get(domain.key, ()) for value in domain.values
    )


def check_trainable(domain: Domain) -> None:
    """A key named as one of our hyper-parameters must only offer values that can be trained with.

    Raises:
        SpaceError: It has no ends, or offers a value out of the range of its hyper-parameter.
    """
    if domain.key not in KEYS:
        return
    if isinstance(domain, Choice):
        extremes: Sequence[Scalar] = domain.values
    elif isinstance(domain, Number) and domain.bounded:
        extremes = [domain.first, domain.second - 1 if domain.kind == "randint" else domain.second]
    else:
        raise SpaceError(
            f"{domain.key} has no ends; use choice, uniform or loguniform for a training hyper-parameter."
        )
    for value in extremes:
        HyperParameters.from_parameters({domain.key: value})


def check_assignment(domains: Sequence[Domain]) -> None:
    """Counts mean something only under dynamic assignment: the two ways are not mixed in one flat space.

    Raises:
        SpaceError: They are mixed.
    """
    counts = [domain.key for domain in domains if domain.key in COUNT_KEYS]
    for domain in domains:
        if counts and domain.key == ASSIGN and isinstance(domain, Choice) and "iou" in domain.values:
            raise SpaceError(
                f"{ASSIGN} offers 'iou', which has no use for {counts[0]}; search the counts alone, or {ASSIGN} without them."
            )
