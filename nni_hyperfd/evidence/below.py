"""Networks as users want them: the comparison among those below a limit on multiply-adds.

Without a limit the best networks are large ones everywhere, and any portfolio knows them. Below a limit it matters which part of a
network a data set pays for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.comparison import Scenario
from nni_hyperfd.evidence.table import parameters_of
from nni_hyperfd.spaces.architecture import codes_of, flops_of_codes
from nni_hyperfd.spaces.configuration import Configuration

SHARES = (0.25, 0.5, 0.75)
"""Of the range of multiply-adds, from the cheapest network of the table to the dearest."""
LEAST = 3
"""Networks without which there is nothing to choose."""


def multiply_adds(configurations: Sequence[str]) -> NDArray[np.int64]:
    """``[K]`` of backbones at 640×360, as ``max_madds`` counts them.

    Raises:
        DataError: A configuration has no network.
    """
    networks = [Configuration.from_parameters(parameters_of(text)).architecture for text in configurations]
    found = [each for each in networks if each is not None]
    if len(found) < len(networks):
        raise DataError(
            "configurations without a network cost all the same; there is no limit to judge them below."
        )
    return flops_of_codes(codes_of(found))


def below(scenario: Scenario, share: float) -> Scenario:
    """The same customers and experience, but only networks below a limit can be tried, and ranks are among those.

    Args:
        scenario: Of networks.
        share: Of the range of multiply-adds over the candidates, in (0, 1].

    Raises:
        DataError: Fewer than :data:`LEAST` networks are below it.
    """
    known = scenario.experience
    costs = multiply_adds(known.configurations[: known.candidates])
    limit = costs.min() + share * (costs.max() - costs.min())
    kept = np.flatnonzero(costs <= limit)
    if len(kept) < LEAST:
        raise DataError(
            f"{scenario.name}: {len(kept)} of {known.candidates} networks cost less than {limit / 1e6:.0f} million multiply-adds, too few to "
            "choose among."
        )
    order = np.concatenate([kept, np.setdiff1d(np.arange(len(known.configurations)), kept)])
    experience = replace(
        known,
        configurations=tuple(known.configurations[i] for i in order),
        candidates=len(kept),
        aps=known.aps[:, order],
    )
    name = f"{scenario.name}, below {limit / 1e6:.0f} million multiply-adds"
    return Scenario(
        name, experience, scenario.tasks, scenario.profiles, scenario.choose[kept], scenario.judge[kept]
    )
