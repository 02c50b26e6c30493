"""RGPE (Feurer et al. 2018) by OpenBox (Jiang et al. 2024), begun with what was best before; optional, and on its own.

OpenBox 0.9 needs NumPy below 2, so it has an extra of its own: pip install -e .[openbox] into an environment made for it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from nni_hyperfd.evidence.rivals.base import Known, Memory, Rival, Study, standardized
from nni_hyperfd.evidence.rivals.choices import Choices
from nni_hyperfd.evidence.rivals.optional import global_numpy_seed, needed


class RGPE(Rival):
    """OpenBox's advisor with its ranking-weighted ensemble: a surrogate for each known data set and one for the customer.

    Half of the budget goes to the warm start ``topk``, which takes one configuration of each data set in turn. Its order is
    the order they are given in, so those with the nearest statistics come first. The rest maximizes expected improvement
    over the candidates that are left, in place of OpenBox's search of the whole space. Data sets enter with what was
    measured of them alone; OpenBox asks for no full table.
    """

    name: ClassVar[str] = "openbox-rgpe"

    def reset(self, experience: Known, seed: int) -> None:
        needed("openbox", self.name, "openbox")
        self._rng = np.random.default_rng(seed)
        self._memory = Memory(experience)
        self._choices = Choices(experience, known=True)

    def search(self, study: Study) -> None:
        # Ranking losses are drawn from NumPy's global generator, whatever seed the advisor is given.
        with global_numpy_seed(int(self._rng.integers(2**31))):
            self._search(study)
        self._memory.add(study)

    def _search(self, study: Study) -> None:
        from openbox import Advisor, Observation
        from openbox.utils.constants import FAILED, SUCCESS

        configurations = self._configurations()
        advisor = Advisor(
            configurations[0].configuration_space,
            initial_trials=-(-study.budget // 2),
            transfer_learning_history=self._histories(configurations, study) or None,
            warm_start_strategy="topk",
            surrogate_type="tlbo_rgpe_gp",
            rand_prob=0.0,
            output_dir=None,
            random_state=int(self._rng.integers(2**31)),
            logger_kwargs={"level": "ERROR"},
        )
        advisor.acq_optimizer = _among(configurations[: study.candidates], advisor)
        while study.left:
            suggested = self._choices.from_text(advisor.get_suggestion().get_dictionary())
            index = self._choices.nearest(suggested, study, self._rng)
            ap = study.evaluate(index)
            state = FAILED if np.isnan(ap) else SUCCESS
            # What was run may differ from what was suggested; only what was run is told.
            advisor.update_observation(Observation(configurations[index], [-ap], trial_state=state))

    def _configurations(self) -> list[Any]:
        """``U`` configurations of one new space; an advisor changes its space's state."""
        from openbox import space

        whole = space.Space()
        for key, values in self._choices.values.items():
            whole.add_variable(space.Categorical(key, [str(value) for value in values]))
        return [
            space.Configuration(whole, {key: str(value) for key, value in each.items()})
            for each in self._choices.parameters
        ]

    def _histories(self, configurations: list[Any], study: Study) -> list[Any]:
        """One for each data set of which anything is known, the nearest one first."""
        from openbox import History, Observation

        statistics = standardized([*self._memory.profiles, study.profile])
        distance = ((statistics[:-1] - statistics[-1]) ** 2).sum(axis=1)
        histories = []
        for s in np.argsort(distance, kind="stable"):
            measured = np.flatnonzero(~np.isnan(self._memory.aps[s]))
            if len(measured):
                history = History(str(s), config_space=configurations[0].configuration_space)
                for u in measured:
                    history.update_observation(Observation(configurations[u], [-self._memory.aps[s, u]]))
                histories.append(history)
        return histories


def _among(candidates: list[Any], advisor: Any) -> Any:
    """Maximizes the acquisition over a list; the advisor itself skips what was tried."""
    from openbox.acq_optimizer import AcquisitionFunctionMaximizer

    class Listed(AcquisitionFunctionMaximizer):
        def _maximize(self, acquisition_function: Any, history: Any, num_points: int, **kwargs: Any) -> Any:
            return self._sort_configs_by_acq_value(acquisition_function, candidates)

    return Listed(advisor.config_space, advisor.rng)
