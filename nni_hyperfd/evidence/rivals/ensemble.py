"""Several warm-ups as one, which no platform ships: an upper line beside :mod:`~nni_hyperfd.evidence.rivals.hyperfd_gp`, and steps to it.

A platform has one ranker, which learns from customers. Here are several, which learned from the server alone: their φ side by side in
the kernel of the same Gaussian process, or the mean of their scores as a ranking. What they bring beyond one is what a platform
could gain by keeping more of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nni_hyperfd.evidence.rivals.base import FloatArray, Known, Profile, Rival, Study
from nni_hyperfd.evidence.rivals.hyperfd import HyperFD
from nni_hyperfd.evidence.table import parameters_of
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.recommendation.gaussian.description import describe
from nni_hyperfd.recommendation.gaussian.search import OWN, Eye, GaussianSearch, Remembered
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.space import Space

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

    def reset(self, experience: Known) -> None:
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


class EnsembleRanking(Rival):
    """The B best by an :class:`Ensemble`; nothing is learned from customers.

    Args:
        ensemble: The rankers.
        name: In the results.
    """

    def __init__(self, ensemble: Ensemble, name: str) -> None:
        self.name = name  # type: ignore[misc]
        self._ensemble = ensemble
        self._experience: Known | None = None

    def reset(self, experience: Known, seed: int) -> None:
        if self._experience is not experience:
            self._ensemble.reset(experience)
            self._experience = experience

    def search(self, study: Study) -> None:
        scores = self._ensemble.scores(study.profile, study.candidates)
        study.evaluate_ranking(np.argsort(-scores, kind="stable").tolist())


class EnsembleGP(Rival):
    """hyperfd-gp with the φ of an ensemble; every part of the method is a setting.

    Args:
        space: Of all configurations.
        looks: Whose φ says what data sets look like, for each process; None for a process that does not know.
        own: Hypotheses, see :data:`~nni_hyperfd.recommendation.gaussian.search.OWN`.
        name: In the results.
    """

    def __init__(
        self,
        space: Space,
        looks: Sequence[Ensemble | None],
        own: Sequence[float] = OWN,
        name: str = "ensemble, not shipped",
    ) -> None:
        self.name = name  # type: ignore[misc]
        self._space, self._looks, self._own = space, looks, own
        self._experience: Known | None = None

    def reset(self, experience: Known, seed: int) -> None:
        if self._experience is not experience:
            described = describe_texts(self._space, experience.configurations)
            self._candidates = described[: experience.candidates]
            self._eyes = []
            for ensemble in self._looks:
                if ensemble is not None:
                    ensemble.reset(experience)
                looks = np.stack([_look(ensemble, profile) for profile in experience.profiles])
                self._eyes.append(Eye(experience.aps, described, looks))
            self._experience = experience
        self._past: list[list[Remembered]] = [[] for _ in self._eyes]

    def search(self, study: Study) -> None:
        looks = [_look(ensemble, study.profile) for ensemble in self._looks]
        views = [
            eye.view(look, self._candidates, past) for eye, look, past in zip(self._eyes, looks, self._past)
        ]
        search = GaussianSearch(views, self._own)
        while study.left:
            aps = _aps(study)
            failed = ~study.untried() & np.isnan(aps)
            plan = search.plan(aps, np.zeros_like(failed), failed)
            study.evaluate_ranking(plan.order, 1)
        aps = _aps(study)
        seen = ~np.isnan(aps)
        if seen.any():
            for eye, look, past in zip(self._eyes, looks, self._past):
                past.append(eye.finished(look, self._candidates[seen], aps[seen]))


def _look(ensemble: Ensemble | None, profile: Profile) -> FloatArray:
    return np.zeros(0) if ensemble is None else ensemble.meta_feature(profile)


def describe_texts(space: Space, configurations: Sequence[str]) -> FloatArray:
    """``[U, P]``: :func:`~nni_hyperfd.recommendation.gaussian.description.describe` of canonical strings."""
    parsed = [Configuration.from_parameters(parameters_of(text)) for text in configurations]
    return describe(space, encode(space, parsed))


def _aps(study: Study) -> FloatArray:
    row = np.full(study.candidates, np.nan)
    for trial in study.trials:
        row[trial.index] = trial.ap
    return row


def _standard(values: FloatArray) -> FloatArray:
    return (values - values.mean()) / max(float(values.std()), 1e-9)
