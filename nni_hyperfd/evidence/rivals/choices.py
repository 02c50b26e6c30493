"""A table's candidates as a space of plain choices, for tuners that suggest one value a key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from nni_hyperfd.evidence.rivals.base import Known, Study

_ABSENT = "-"


class Choices:
    """Keys, their values and the candidates in these terms.

    Args:
        experience: Whose candidates.
        known: Whether the other configurations, which no customer can try, follow in ``parameters``.

    Attributes:
        values: Key -> the values that occur, in a fixed order; ``"-"`` where a configuration lacks the key.
        parameters: ``K`` candidates (``U`` configurations), each with all keys.
    """

    def __init__(self, experience: Known, known: bool = False) -> None:
        wanted = experience.configurations if known else experience.configurations[: experience.candidates]
        parsed = [json.loads(text) for text in wanted]
        keys = sorted({key for each in parsed for key in each})
        self.parameters = [{key: each.get(key, _ABSENT) for key in keys} for each in parsed]
        # Values may be of several types, so they are sorted by their text.
        self.values = {key: sorted({each[key] for each in self.parameters}, key=str) for key in keys}
        self._codes = np.array([self._code(each) for each in self.parameters])

    def nearest(self, suggested: Mapping[str, Any], study: Study, rng: np.random.Generator) -> int:
        """The untried candidate that differs from ``suggested`` in the fewest keys; ties at random.

        A table of architectures holds a sample of the space, so that a suggestion is rarely in it.
        """
        codes = self._codes[: study.candidates]
        differing = (codes != self._code(suggested)).sum(axis=1).astype(float)
        differing[~study.untried()] = np.inf
        return int(rng.choice(np.flatnonzero(differing == differing.min())))

    def from_text(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """The values with these texts, for libraries that take texts alone as choices."""
        return {
            key: next(value for value in self.values[key] if str(value) == text)
            for key, text in texts.items()
        }

    def _code(self, parameters: Mapping[str, Any]) -> list[int]:
        return [values.index(parameters[key]) for key, values in self.values.items()]
