"""A part of a full training as a parameter of a trial: ``TRIAL_EPOCHS: 3-4/6`` trains the third and the fourth of six epochs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nni_hyperfd.errors import SpaceError

TRIAL_EPOCHS = "TRIAL_EPOCHS"
"""Key of the part; NNI's page shows it beside the configuration."""
TRIAL_CHECKPOINTS = "TRIAL_CHECKPOINTS"
"""Key of the folder where one trial finds what another left."""

_FORM = re.compile(r"([1-9]\d{0,5})-([1-9]\d{0,5})/([1-9]\d{0,5})")


@dataclass(frozen=True)
class Stage:
    """Epochs ``begun`` + 1 to ``stop`` of a training of ``full`` epochs.

    Raises:
        SpaceError: They are none.
    """

    begun: int
    stop: int
    full: int

    def __post_init__(self) -> None:
        if not 0 <= self.begun < self.stop <= self.full:
            raise SpaceError(f"{TRIAL_EPOCHS} is {str(self)!r}: give a part of a training, such as 3-4/6")

    def __str__(self) -> str:
        return f"{self.begun + 1}-{self.stop}/{self.full}"

    @classmethod
    def parse(cls, text: Any) -> Stage:
        """Inverse of ``str``.

        Raises:
            SpaceError: ``text`` is something else.
        """
        found = _FORM.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise SpaceError(f"{TRIAL_EPOCHS} is {text!r}: give a part of a training, such as 3-4/6")
        first, stop, full = map(int, found.groups())
        return cls(first - 1, stop, full)

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Stage | None:
        """That of a trial's parameters; None where they speak of none.

        Raises:
            SpaceError: What they say is no stage.
        """
        return cls.parse(parameters[TRIAL_EPOCHS]) if TRIAL_EPOCHS in parameters else None
