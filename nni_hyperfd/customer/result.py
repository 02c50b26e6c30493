"""What a trial reports to NNI, as this project understands it, and how it was trained."""

from __future__ import annotations

import argparse
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nni_hyperfd.errors import PluginError


@dataclass(frozen=True)
class Result:
    """The outcome of one trial.

    Args:
        ap: AP@50 on val, the number NNI shows; from 0 to 1.
        test_ap, heldout_ap: AP@50 on test, and on val and test pooled; None where not reported.
        seconds: Duration of the fine-tuning.
        curve: (share of a full training, AP@50 on val) after each validation, where it is known.
    """

    ap: float
    test_ap: float | None = None
    heldout_ap: float | None = None
    seconds: float | None = None
    curve: tuple[tuple[float, float], ...] = ()

    @property
    def begun(self) -> bool:
        """It was left before the end of a full training."""
        return bool(self.curve) and self.curve[-1][0] < 1.0


@dataclass(frozen=True)
class Regime:
    """How the trials of an experiment train; kept beside their results.

    Args:
        budget: Name of the training budget, such as ``short``.
        seed: Of the training.
    """

    budget: str
    seed: int = 0

    @classmethod
    def from_command(cls, command: str) -> Regime:
        """Read a trial command such as ``python finetune.py --data faces --budget short``.

        A command that names no budget means that of ``finetune.py``, or one that has no name.
        """
        parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
        parser.add_argument("--budget", default="short" if "finetune.py" in command else "unnamed")
        parser.add_argument("--seed", type=int, default=0)
        try:
            options, _ = parser.parse_known_args(shlex.split(command))
        except (ValueError, argparse.ArgumentError):
            return cls("unnamed")
        named = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_:-]{0,47}", options.budget) is not None
        return cls(options.budget if named else "unnamed", max(0, options.seed))

    def shortened(self, epochs: int | None) -> Regime:
        """The same, cut to a number of epochs."""
        return self if epochs is None else Regime(f"{self.budget}:{epochs}", self.seed)


def read_metric(value: Any) -> Result:
    """Read a final metric: a number, or a dict whose "default" is the AP on val.

    Raises:
        PluginError: No AP in it; the message says what was found instead.
    """
    fields = value if isinstance(value, Mapping) else {"default": value}
    ap = _number(fields.get("default"))
    if ap is None or not 0.0 <= ap <= 1.0:
        raise PluginError(
            f"the trial reported {value!r} as its final result; expected AP@50 as a number from 0 to 1, or a dict with it as 'default'"
        )
    return Result(
        ap=ap,
        test_ap=_precision(fields.get("test_ap")),
        heldout_ap=_precision(fields.get("heldout_ap")),
        seconds=_seconds(fields.get("seconds")),
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _precision(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and 0.0 <= number <= 1.0 else None


def _seconds(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and number >= 0.0 else None
