"""HyperFD's meta-feature in the kernel of a Gaussian process: the named variant beside the faithful method.

The faithful method tries the B best of one ranking. Those resemble each other, so where the ranking is wrong about one of
them it is wrong about all, and no result changes what is tried next. Here

* φ, the 64 numbers that the extractor learned for ranking, says which data sets are alike (:class:`Ensemble`), and a Gaussian
  process over data sets and configurations what follows from that (:class:`~nni_hyperfd.rivals.task_process.TaskProcess`);
* trials are chosen one after the other by expected improvement, so that the first results correct what is tried next;
* customers, who come with domains of their own, may differ more from each other than the offline sets do: by how much is a mixture
  of hypotheses (:data:`OWN`), each weighted by how well it foretold the customers so far;
* finished customers take part as further data sets.

The extractor stays as it was warmed up. So less crosses than in the faithful method: φ, configurations and their AP, but no gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy.special import softmax
from sklearn.decomposition import PCA

from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.rivals.base import Experience, FloatArray, Profile, Rival, Task
from nni_hyperfd.rivals.completion import Observed, observe
from nni_hyperfd.rivals.gp_prior import gain_of_next
from nni_hyperfd.rivals.hyperfd import HyperFD
from nni_hyperfd.rivals.task_process import Customer, TaskProcess, describe, posterior
from nni_hyperfd.spaces.space import Space

OWN = (1.0, 3.0, 10.0)
"""Hypotheses: variance of what is a customer's own, in units of what is an offline set's own. Believed in inverse proportion."""
AXES = 8
"""Principal axes of φ over the offline sets that data sets are compared on."""
RANKERS = 3
"""Warm-ups whose meta-features and scores are taken together."""


class Ensemble:
    """Several warm-ups as one.

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

    def meta_feature(self, profile: Profile) -> FloatArray:
        """``[64 · rankers]`` all φ side by side."""
        return np.concatenate(
            [ranker.meta_features(profile, 1)[0].double().numpy() for ranker in self._rankers]
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


class Places:
    """Descriptions of data sets on the principal axes of the offline sets, in units of their deviation on each.

    Args:
        describe: What a data set looks like, such as φ. None: nothing is known, and a place is ``[0]`` numbers long.
        profiles: The offline sets.
    """

    def __init__(self, describe: Callable[[Profile], FloatArray] | None, profiles: Sequence[Profile]) -> None:
        self._describe = describe
        self.known = np.zeros((len(profiles), 0))
        if describe is not None:
            seen = np.stack([describe(profile) for profile in profiles])
            self._center, self._scale = seen.mean(axis=0), np.maximum(seen.std(axis=0), 1e-6)
            axes = min(AXES, len(profiles) - 1, seen.shape[1])
            self._axes = PCA(axes, whiten=True, random_state=0)
            self.known = self._axes.fit_transform((seen - self._center) / self._scale)

    def of(self, profile: Profile) -> FloatArray:
        """``[D]`` of a further data set."""
        if self._describe is None:
            return np.zeros(0)
        seen = (self._describe(profile) - self._center) / self._scale
        return self._axes.transform(seen[None])[0]


class HyperFDGP(Rival):
    """See the module.

    Args:
        ensemble: Whose φ says what data sets look like; None for a process that does not know.
        own: Hypotheses, see :data:`OWN`.
        name: In the results.
    """

    def __init__(
        self, ensemble: Ensemble | None, own: Sequence[float] = OWN, name: str = "hyperfd-gp"
    ) -> None:
        self.name = name  # type: ignore[misc]
        self._ensemble, self._own = ensemble, own
        self._experience: Experience | None = None

    def reset(self, experience: Experience, seed: int) -> None:
        if self._experience is not experience:
            phi = None
            if self._ensemble is not None:
                self._ensemble.reset(experience)
                phi = self._ensemble.meta_feature
            self._places = Places(phi, experience.profiles)
            self._process = TaskProcess.fit(
                experience.aps,
                experience.candidates,
                describe(experience.configurations),
                self._places.known,
            )
            self._experience = experience
        self._past: list[tuple[Customer, Observed]] = []

    def search(self, task: Task) -> None:
        process = self._process
        customer = process.customer(self._places.of(task.profile))
        beliefs = [self._after_others(customer, own) for own in self._own]
        while task.left:
            seen = self._observe(task)
            now = [
                posterior(mean, spread, seen.indices, seen.values, process.noise)
                for mean, spread, _ in beliefs
            ]
            known = [before[2] + after[2] for before, after in zip(beliefs, now)]
            weights = softmax(np.array(known) - np.log(self._own))
            gains = [gain_of_next(mean, spread, task.untried()) for mean, spread, _ in now]
            gain = weights @ np.stack(gains)
            task.evaluate(int(np.argmax(np.where(task.untried(), gain, -np.inf))))
        seen = self._observe(task)
        if len(seen.indices):
            self._past.append((customer, seen))

    def _after_others(self, customer: Customer, own: float) -> tuple[FloatArray, FloatArray, float]:
        """Belief about a customer's candidates after all customers before, and the log density of what they reported."""
        process = self._process
        everything = np.arange(len(customer.mean))
        parts = [*((other, seen.indices) for other, seen in self._past), (customer, everything)]
        joint = np.block([[process.covariance(a, i, b, j, own) for b, j in parts] for a, i in parts])
        mean = np.concatenate([each.mean[at] for each, at in parts])
        values = np.concatenate([np.zeros(0), *(seen.values for _, seen in self._past)])
        mean, joint, density = posterior(mean, joint, np.arange(len(values)), values, process.noise)
        return mean[len(values) :], joint[len(values) :, len(values) :], density

    def _observe(self, task: Task) -> Observed:
        row = np.full(task.candidates, np.nan)
        for trial in task.trials:
            row[trial.index] = trial.ap
        return observe(row, self._process.spread)


def _standard(values: FloatArray) -> FloatArray:
    return (values - values.mean()) / max(float(values.std()), 1e-9)
