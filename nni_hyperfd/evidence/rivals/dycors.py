"""DYCORS, the search of HPS-Det, over the values of a table's keys in their order."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from nni_hyperfd.evidence.rivals.base import Known, Rival, Study
from nni_hyperfd.evidence.rivals.choices import Choices
from nni_hyperfd.recommendation.numeric_search import NumericSearch


class DYCORSSearch(Rival):
    """DYCORS from scratch on each task, told the configurations that were really run.

    Its first 2 (d + 1) trials are a design that covers the space, so that with few trials it is no better than chance.
    """

    name: ClassVar[str] = "dycors"

    def reset(self, experience: Known, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._choices = Choices(experience)

    def search(self, study: Study) -> None:
        values = {key: known for key, known in self._choices.values.items() if len(known) > 1}
        places = {key: {"_type": "randint", "_value": [0, len(known)]} for key, known in values.items()}
        search = NumericSearch(places, study.budget, int(self._rng.integers(2**31)))
        number = 0
        while study.left:
            proposed = search.ask(number)
            suggested = {key: values[key][int(place)] for key, place in proposed.items()}
            alone = {key: known[0] for key, known in self._choices.values.items() if len(known) == 1}
            index = self._choices.nearest({**alone, **suggested}, study, self._rng)
            ap = study.evaluate(index)
            tried = {key: known.index(self._choices.parameters[index][key]) for key, known in values.items()}
            own = tried == proposed
            search.tell(number, -ap if own and not math.isnan(ap) else None)
            if not own and not math.isnan(ap):
                search.learn(tried, -ap)
            number += 1
