"""NNI 3.0's Hyperband advisor, mended so that it survives the first result (benchmarks/nni_rivals.py)."""

from __future__ import annotations

from typing import Any

from nni.algorithms.hpo.hyperband_advisor import Hyperband as Shipped


class Hyperband(Shipped):
    """Its parameter ids are words, which NNI 3.0 compares with a number whenever a result comes."""

    def is_created_in_previous_exp(self, param_id: Any) -> bool:
        return isinstance(param_id, int) and super().is_created_in_previous_exp(param_id)
