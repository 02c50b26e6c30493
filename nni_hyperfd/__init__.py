"""HyperFD for NNI: recommends how to train a face detector on data that never leave their owner."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

__all__ = ["DYCORSTuner", "HyperFDAdvisor", "HyperFDTuner"]

_HOMES = {
    "DYCORSTuner": "nni_hyperfd.plugin.dycors",
    "HyperFDAdvisor": "nni_hyperfd.plugin.advisor",
    "HyperFDTuner": "nni_hyperfd.plugin.tuner",
}


def __getattr__(name: str) -> Any:
    """Load what NNI asks for only then: rooms that know nothing of NNI or torch import this package too."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve_name(f"{_HOMES[name]}:{name}")
