r"""HyperFD's rankers as the prior of a Gaussian process over configurations: the named variant beside the faithful method.

The faithful method tries the B best of one ranking. Those resemble each other, so where the ranking is wrong about one of
them it is wrong about all, and no result changes what is tried next. Here the ranking is only where the search begins:

.. math::
    y_{tc} = o_t + a\,r(\phi_t, c) + d(c) + h_t(c) + ε

* r: the ranker's scores for this data set, the mean over several warm-ups (:class:`Ensemble`), which agree where there is something
  to know. a says how much of it holds for customers.
* d, the *shift*: what customers have in common that the server's data do not show.
* h: what is a customer's own. d and h share the kernel over configurations that the offline sets were found to have
  (:class:`~nni_hyperfd.rivals.completion.Completion`), so a result speaks for similar configurations too.

a and the variances of d and h are a mixture of hypotheses, weighted by how well each predicted the customers so far. The trials of a task
are chosen one after the other by expected improvement, so that the first results correct the ranking of the rest. The rankers
stay as they were warmed up; what customers teach, the process learns. So less crosses than in the faithful method:
φ, configurations and their AP, but no gradients.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.rivals.base import Experience, FloatArray, Profile, Rival, Task
from nni_hyperfd.rivals.completion import Completion
from nni_hyperfd.rivals.gp_prior import gain_of_next
from nni_hyperfd.rivals.hyperfd import HyperFD
from nni_hyperfd.spaces.space import Space

TRUST = (0.0, 0.3, 0.6, 1.0)
"""Hypotheses: what one deviation of the rankers' scores is worth, in units of the deviation of AP within a data set."""
SHARED = (0.0, 0.5, 0.9)
"""Hypotheses: the part of a customer's deviation from the ranking that all customers have in common."""
DEVIATION = (0.05, 0.2, 0.8)
"""Hypotheses: variance of a customer's deviation from the ranking, in units of the variance within a data set."""
SPREAD_TASKS = 1.0
"""The offline sets' spread of AP counts like this many tasks' trials when the customers' spread is estimated."""
RANKERS = 5
"""Warm-ups whose scores are averaged."""


class Hypothesis(NamedTuple):
    """A belief about what the rankers do not say, how much of what they say holds, and the log likelihood of all customers so far."""

    trust: float
    belief: Completion
    log_likelihood: float


class Ensemble:
    """Several warm-ups as one ranker.

    Args:
        rankers: One each; begun with different seeds by :meth:`reset`.
    """

    def __init__(self, rankers: Sequence[HyperFD]) -> None:
        self._rankers = rankers

    @classmethod
    def of(cls, space: Space, settings: RankerSettings | None, count: int) -> Ensemble:
        """``count`` frozen rankers of a search space."""
        frozen = replace(settings or RankerSettings(), mode="freeze_all")
        return cls([HyperFD(space, frozen) for _ in range(count)])

    def reset(self, experience: Experience) -> None:
        """Warms all of them up."""
        for seed, ranker in enumerate(self._rankers):
            ranker.reset(experience, seed)

    def scores(self, profile: Profile, candidates: int) -> FloatArray:
        """``[K]`` mean of the rankers' scores, each with mean 0 and deviation 1 over the candidates, and so the mean itself."""
        return _standard(
            np.mean([_standard(ranker.scores(profile)[:candidates]) for ranker in self._rankers], axis=0)
        )


class HyperFDEnsemble(Rival):
    """The B best by an :class:`Ensemble`; nothing is learned from customers.

    Args:
        ensemble: The rankers.
        name: In the results.
    """

    def __init__(self, ensemble: Ensemble, name: str) -> None:
        self.name = name  # type: ignore[misc]
        self._ensemble = ensemble
        self._experience: Experience | None = None

    def reset(self, experience: Experience, seed: int) -> None:
        if self._experience is not experience:
            self._ensemble.reset(experience)
            self._experience = experience

    def search(self, task: Task) -> None:
        scores = self._ensemble.scores(task.profile, task.candidates)
        task.evaluate_ranking(np.argsort(-scores, kind="stable").tolist())


class HyperFDGP(Rival):
    """See the module.

    Args:
        ensemble: The rankers.
        shift: Whether it is learned what customers have in common.
        name: In the results.
    """

    def __init__(self, ensemble: Ensemble, shift: bool = True, name: str = "hyperfd-gp") -> None:
        self.name = name  # type: ignore[misc]
        self._ensemble, self._shift = ensemble, shift
        self._experience: Experience | None = None

    def reset(self, experience: Experience, seed: int) -> None:
        if self._experience is not experience:
            self._ensemble.reset(experience)
            self._experience = experience
        known = Completion.of(experience)
        self._offline_spread = known.spread
        self._squares, self._freedom = 0.0, 0
        k, shape = known.candidates, known.own / known.own[0, 0]
        nothing = np.zeros(len(shape))
        self._hypotheses = [
            Hypothesis(
                trust,
                replace(
                    known,
                    mean=nothing,
                    covariance=shared * deviation * shape[:k, :k],
                    own=(1 - shared) * deviation * shape,
                    gains={},
                ),
                0.0,
            )
            for trust, shared, deviation in itertools.product(
                TRUST, SHARED if self._shift else (0.0,), DEVIATION
            )
        ]

    def search(self, task: Task) -> None:
        ranking = np.zeros(len(self._hypotheses[0].belief.mean))
        ranking[: task.candidates] = self._ensemble.scores(task.profile, task.candidates)
        spread = self._spread(task.budget)
        beliefs = [
            each._replace(
                belief=replace(each.belief, mean=each.belief.mean + each.trust * ranking, spread=spread)
            )
            for each in self._hypotheses
        ]
        while task.left:
            so_far = [each.log_likelihood + each.belief.log_likelihood(task) for each in beliefs]
            gains = [gain_of_next(*each.belief.posterior(task), task.untried()) for each in beliefs]
            gain = softmax(so_far) @ np.stack(gains)
            task.evaluate(int(np.argmax(np.where(task.untried(), gain, -np.inf))))
        self._hypotheses = []
        for each in beliefs:
            learned = each.belief.learn(task)
            self._hypotheses.append(
                Hypothesis(
                    each.trust,
                    replace(learned, mean=learned.mean - each.trust * ranking),
                    each.log_likelihood + each.belief.log_likelihood(task),
                )
            )
        self._remember(task)

    def _spread(self, budget: int) -> float:
        """Deviation of AP within a customer's trials: that of the offline sets until customers have shown theirs."""
        prior = SPREAD_TASKS * max(budget - 1, 1)
        return float(np.sqrt((prior * self._offline_spread**2 + self._squares) / (prior + self._freedom)))

    def _remember(self, task: Task) -> None:
        aps = np.array([trial.ap for trial in task.trials if not np.isnan(trial.ap)])
        self._squares += float(((aps - aps.mean()) ** 2).sum())
        self._freedom += len(aps) - 1


def _standard(values: FloatArray) -> FloatArray:
    return (values - values.mean()) / max(float(values.std()), 1e-12)
