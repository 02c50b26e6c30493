"""Parameters that no trial reads: a misspelt one would be trained as the default, and told as experience."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.spaces.configuration import NETWORK_KEY
from nni_hyperfd.spaces.hyperparameters import COUNT_KEYS, FIELDS, KEYS
from nni_hyperfd.spaces.stages import TRIAL_CHECKPOINTS, TRIAL_EPOCHS

__all__ = [
    "SCRIPT",
    "TRIAL_BUDGET",
    "configuration_of",
    "refuse_unread",
    "refuse_unread_space",
    "runs_the_shipped_trial",
]

SCRIPT = "finetune.py"
"""The shipped trial."""

TRIAL_BUDGET = "TRIAL_BUDGET"
"""Key by which NNI's multi-fidelity advisors (Hyperband, BOHB) say how long a trial may train: here, in epochs."""


# As a file of that name, also within quotes, behind `;` or before `&&`; or as a module.
_RUNS_IT = re.compile(r"(?<![\w.-])finetune\.py(?![\w.-])|-m\s+(?:\w+\.)*finetune(?![\w.-])")
_LENGTHS = (TRIAL_BUDGET, TRIAL_EPOCHS, TRIAL_CHECKPOINTS)


def configuration_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's parameters without what says for how long it trains."""
    return {key: value for key, value in parameters.items() if key not in _LENGTHS}


def runs_the_shipped_trial(command: str) -> bool:
    """Whether a trial command starts the shipped trial, wherever it lies."""
    return _RUNS_IT.search(command) is not None


def refuse_unread(keys: Iterable[str], where: str) -> None:
    """Refuse parameters that the shipped trial would not look at.

    Args:
        keys: Names of the parameters.
        where: Beginning of the sentence, such as ``"--config"``.

    Raises:
        SpaceError: Names the first such key and the nearest one that is read.
    """
    for key in keys:
        if key not in KEYS and key not in _LENGTHS and not NETWORK_KEY.fullmatch(key):
            # People write the long names as well, or something near to them.
            names = {**{name: name for name in KEYS}, **{long: short for short, long in FIELDS.items()}}
            near = difflib.get_close_matches(key.lower(), names, n=1, cutoff=0.7)
            hint = f"did you mean {names[near[0]]!r}? " if near else ""
            raise SpaceError(
                f"{where}: {SCRIPT} reads no {key!r}; {hint}It reads {', '.join(FIELDS)}, assign, "
                f"{COUNT_KEYS[0]} to {COUNT_KEYS[-1]} and the architecture's keys, such as s2_depth and s2_b1."
            )


def refuse_unread_space(keys: Iterable[str], command: str, reads: Collection[str] | None) -> None:
    """Refuse a search space with keys that the experiment's trial does not read.

    Args:
        keys: Of the space.
        command: NNI's ``trialCommand``.
        reads: What the trial reads, as the experiment's config says it; None where it says nothing. What a trial of the
            user's own reads is then taken to be right.

    Raises:
        SpaceError: Names the first such key and the nearest one that is read.
    """
    if reads is None:
        if runs_the_shipped_trial(command):
            refuse_unread(keys, "The search space")
        return
    for key in keys:
        if key not in reads:
            near = difflib.get_close_matches(key, reads, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise SpaceError(
                f"The search space: the trial reads no {key!r}; {hint}The config says that it reads {', '.join(reads)}."
            )
