"""The best configurations of the server's own data, for everybody (HyperFD §4.2, "Best on WIDER")."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.rivals.base import Known, Rival, Study


class BestOnServer(Rival):
    """Candidates by their AP on the server's full data set, ties in random order."""

    name: ClassVar[str] = "best-on-server"

    def reset(self, experience: Known, seed: int) -> None:
        if experience.server is None:
            raise DataError(
                "best-on-server needs the server's own row in the table; measure the pairs of 'server'."
            )
        aps = np.nan_to_num(experience.aps[experience.server, : experience.candidates], nan=-1.0)
        tie = np.random.default_rng(seed).random(len(aps))
        self._order = np.lexsort((tie, -aps))

    def search(self, study: Study) -> None:
        study.evaluate_ranking(self._order)
