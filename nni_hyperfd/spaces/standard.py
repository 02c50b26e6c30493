"""The search spaces of the package, and those in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from nni_hyperfd import strict_json
from nni_hyperfd.errors import SpaceError
from nni_hyperfd.spaces.architecture import FLOPS_LIMIT
from nni_hyperfd.spaces.hyperparameters import (
    COUNT_KEYS,
    GRID,
    MOST_POSITIVES,
)
from nni_hyperfd.spaces.networks import standard_network_space
from nni_hyperfd.spaces.space import Space

Named = Literal["hpo", "nas", "joint", "assignment"]
"""The spaces that come with this package: the three of HyperFD, and the counts of HPS-Det, which are of the kind ``flat``."""


def standard_search_space(name: Named) -> dict[str, Any]:
    """The NNI search space that ``search_spaces/<name>.json`` holds."""
    if name == "assignment":
        # NNI's randint leaves its upper end out.
        return {key: {"_type": "randint", "_value": [1, MOST_POSITIVES + 1]} for key in COUNT_KEYS}
    keys = {key: {"_type": "choice", "_value": list(values)} for key, values in GRID.items()}
    if name == "hpo":
        return keys
    return standard_network_space() if name == "nas" else {**keys, **standard_network_space()}


def standard_space(name: Named, flops_limit: float = FLOPS_LIMIT) -> Space:
    """One of the spaces that come with this package."""
    return Space.from_search_space(standard_search_space(name), flops_limit)


def load_space(path: str | Path, flops_limit: float = FLOPS_LIMIT) -> Space:
    """Reads an NNI search-space file (JSON).

    Raises:
        SpaceError: The file is missing, is not JSON, or its content does not fit; the message names the file.
    """
    try:
        content = strict_json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SpaceError(
            f"The search space {path} cannot be read ({error.strerror}); check the path."
        ) from None
    except ValueError as error:
        raise SpaceError(f"The search space {path} is not JSON ({error}); mend the file.") from None
    try:
        return Space.from_search_space(content, flops_limit)
    except SpaceError as error:
        raise SpaceError(f"{path}: {error}") from None
