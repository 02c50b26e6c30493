"""A search space whose networks keep to what the settings say that one may cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nni_hyperfd.customer.settings import Settings
from nni_hyperfd.errors import PluginError
from nni_hyperfd.spaces.architecture import FLOPS_LIMIT
from nni_hyperfd.spaces.space import Space


def limited_space(search_space: Mapping[str, Any], settings: Settings) -> Space:
    """The search space under ``max_madds`` and ``max_ms``; for the latter this device is measured, unless it was before.

    Raises:
        HyperFDError: The search space is malformed, has no networks to limit, or has none that costs so little.
    """
    madds, ms = settings.max_madds, settings.max_ms
    space = Space.from_search_space(search_space)
    if madds is None and ms is None:
        return space
    if space.networks is None:
        raise PluginError(
            f"classArgs: {'max_madds' if ms is None else 'max_ms'} limits networks, and the search space has none to choose; leave it out, "
            "or search nas or joint."
        )
    if madds is not None and space.networks.cheapest_flops() >= madds * 1e6:
        raise PluginError(
            f"classArgs: max_madds is {madds:g}, but the cheapest network of the search space has "
            f"{space.networks.cheapest_flops() / 1e6:.1f} million multiply-adds; write more than that, or allow smaller blocks."
        )
    limit = FLOPS_LIMIT if madds is None else madds * 1e6
    if ms is None:
        return Space.from_search_space(search_space, limit)
    # Imported late: measuring takes torch.
    from nni_hyperfd.detection.network.latency import Latency

    latency = Latency.of_this_device(settings.cache_dir)
    cheapest = space.networks.cheapest(latency.milliseconds)
    if cheapest >= ms:
        raise PluginError(
            f"classArgs: max_ms is {ms:g}, but the cheapest network of the search space takes {cheapest:.2f} ms on this device "
            f"({latency.device}); write more than that, or allow smaller blocks."
        )
    space = Space.from_search_space(search_space, limit, latency.milliseconds.divided(ms))
    if not space.sample_up_to(1, np.random.default_rng(0)):
        raise PluginError(
            f"classArgs: no network of the search space was found that keeps to max_madds {madds:g} and max_ms {ms:g} at once; the cheapest "
            f"have {space.networks.cheapest_flops() / 1e6:.1f} million multiply-adds, or take {cheapest:.2f} ms; raise one of the limits."  # type: ignore[union-attr]
        )
    return space
