r"""HyperFD's ranker over a memory of what is good everywhere: the named variant beside the faithful method.

On small noisy tables, what a configuration is worth *everywhere* says more than what can be told of one data set, and each result
says something about the rest. So the ranker only corrects a Gaussian process over configurations
(:class:`nni_hyperfd.rivals.completion.Completion`):

.. math::
    y_{tc} = o_t + a\,g(c) + w\,r(\phi_t, c) + d(c) + h_t(c) + ε

* g: what the offline data sets have in common, and how sure that is (``gp-prior`` has this alone).
* r, the *residual*: the ranker's score for this data set minus its mean score over the offline data sets, averaged over several
  warm-ups. Its weight w is a regression on the lists that each warm-up held out: a ranker that tells nothing new there has no say.
* d, the *shift*: what customers have in common that parts of the server's data do not show. How much of it there is, how much of
  g holds for customers at all (a), and how far they differ among themselves, is a mixture of hypotheses, weighted by how well
  each predicted the customers so far.

The trials of a task are chosen one after the other by expected improvement, so that the first results correct the ranking of the
rest. The ranker stays as it was warmed up; what customers teach, the process learns. So less crosses than in the faithful method:
φ, configurations and their AP, but no gradients.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.rivals.base import Experience, FloatArray, Profile, Rival, Task
from nni_hyperfd.rivals.completion import Completion, observe
from nni_hyperfd.rivals.gp_prior import gain_of_next
from nni_hyperfd.rivals.hyperfd import HyperFD
from nni_hyperfd.spaces.space import Space

TRUST = (1.0, 0.5)
"""Hypotheses: how much of g holds for customers."""
SHARED = (0.0, 0.5, 0.9)
"""Hypotheses: the part of a customer's deviation from g that all customers have in common."""
DEVIATION = (0.05, 0.2, 0.8)
"""Hypotheses: variance of a customer's deviation from g, in units of the variance within a data set."""
DOUBT = 4.0
"""Pulls the weight of the residual to zero, like so many measurements of noise one that say it is zero."""
SPREAD_TASKS = 1.0
"""The offline sets' spread of AP counts like this many tasks' trials when the customers' spread is estimated."""


RANKERS = 3
"""Warm-ups whose residual is averaged; the first ones of the faithful method, so that they cost nothing more."""


class Hypothesis(NamedTuple):
    """A belief and the log likelihood of all customers so far under it."""

    belief: Completion
    log_likelihood: float


class Residual:
    """What the warmed-up rankers say about a data set beyond what they say about all of them.

    Args:
        rankers: One each, with different warm-ups.
        experience: What they were warmed up on.
    """

    def __init__(self, rankers: list[HyperFD], experience: Experience) -> None:
        self._experience = experience
        self._rankers = rankers
        self._means: list[FloatArray] = []
        self._typical: list[float] = []
        deviations, errors = [], []
        for seed, ranker in enumerate(rankers):
            ranker.reset(experience, seed)
            scores = np.stack([ranker.scores(profile) for profile in experience.profiles])
            mean = scores.mean(axis=0)
            own = scores - mean
            self._means.append(mean)
            self._typical.append(max(float(own.std()), 1e-12))
            held_out = list(ranker.held_out)
            known = experience.aps.copy()
            known[held_out] = np.nan
            common = Completion.fit(replace(experience, aps=known))
            for row in held_out:
                seen = observe(experience.aps[row], common.spread)
                if len(seen.indices) > 1:
                    unexplained = seen.values - common.mean[seen.indices]
                    said = own[row, seen.indices] / self._typical[-1]
                    errors.append(unexplained - unexplained.mean())
                    deviations.append(said - said.mean())
        x, y = np.concatenate(deviations), np.concatenate(errors)
        self.weight = max(0.0, float(x @ y / (x @ x + DOUBT)))

    def of(self, profile: Profile) -> FloatArray:
        """``[U]`` correction of the expected performance, in units of the deviation within a data set."""
        found = np.zeros(len(self._experience.configurations))
        for ranker, mean, typical in zip(self._rankers, self._means, self._typical):
            own = ranker.scores(profile) - mean
            # A customer far from all offline sets has a φ that nothing was learned about: its say does not grow with that.
            found += own / max(typical, float(own.std()))
        return self.weight * found / len(self._rankers)


class HyperFDGP(Rival):
    """See the module.

    Args:
        space: The search space that the table's configurations are points of.
        settings: Of the warm-ups.
        rankers: Warm-ups whose residual is averaged; 0 leaves the residual out.
        shift: Whether what customers have in common is learned apart from what the offline sets have in common.
        name: In the results.
    """

    def __init__(
        self,
        space: Space,
        settings: RankerSettings | None = None,
        rankers: int = RANKERS,
        shift: bool = True,
        name: str = "hyperfd-gp",
    ) -> None:
        self.name = name  # type: ignore[misc]
        frozen = replace(settings or RankerSettings(), mode="freeze_all")
        self._rankers = [HyperFD(space, frozen) for _ in range(rankers)]
        self._shift = shift
        self._residual: Residual | None = None
        self._experience: Experience | None = None

    def reset(self, experience: Experience, seed: int) -> None:
        if self._experience is not experience:
            self._experience = experience
            self._residual = Residual(self._rankers, experience) if self._rankers else None
        known = Completion.of(experience)
        self._offline_spread = known.spread
        self._squares, self._freedom = 0.0, 0
        self._hypotheses = [Hypothesis(known, 0.0)]
        if self._shift:
            k, shape = known.candidates, known.own / known.own[0, 0]
            self._hypotheses = [
                Hypothesis(
                    replace(
                        known,
                        mean=trust * known.mean,
                        covariance=trust**2 * known.covariance + shared * deviation * shape[:k, :k],
                        own=(1 - shared) * deviation * shape,
                        gains={},
                    ),
                    0.0,
                )
                for trust, shared, deviation in itertools.product(TRUST, SHARED, DEVIATION)
            ]

    def search(self, task: Task) -> None:
        correction = 0.0 if self._residual is None else self._residual.of(task.profile)
        spread = self._spread(task.budget)
        beliefs = [
            Hypothesis(
                replace(each.belief, mean=each.belief.mean + correction, spread=spread), each.log_likelihood
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
                    replace(learned, mean=learned.mean - correction),
                    each.log_likelihood + each.belief.log_likelihood(task),
                )
            )
        self._remember(task)

    def _spread(self, budget: int) -> float:
        """Deviation of AP within a customer's trials: that of the offline sets until customers have shown theirs."""
        if not self._shift:
            return self._offline_spread
        prior = SPREAD_TASKS * max(budget - 1, 1)
        return float(np.sqrt((prior * self._offline_spread**2 + self._squares) / (prior + self._freedom)))

    def _remember(self, task: Task) -> None:
        aps = np.array([trial.ap for trial in task.trials if not np.isnan(trial.ap)])
        self._squares += float(((aps - aps.mean()) ** 2).sum())
        self._freedom += len(aps) - 1
