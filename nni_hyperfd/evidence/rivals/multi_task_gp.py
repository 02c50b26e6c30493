"""Multi-task Bayesian optimization (Swersky, Snoek, Adams 2013) with BoTorch, optional: pip install -e .[rivals]."""

from __future__ import annotations

import warnings
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from nni_hyperfd.evidence.rivals.base import FloatArray, Known, Memory, Rival, Study, standardized
from nni_hyperfd.evidence.rivals.optional import needed
from nni_hyperfd.ranker.seeding import seeded
from nni_hyperfd.recommendation.gaussian.observed import Observed, observe, typical_spread

_CUSTOMER = 0
_STEPS = 50


class MultiTaskGP(Rival):
    """BoTorch's ``MultiTaskGP`` over the customer and the known data sets nearest to it, log expected improvement.

    A Gaussian process in all data sets' trials grows with their number cubed, so only a few of them take part: the server's
    full row, of which most is known, and those with the nearest statistics. The first trial, before anything is known
    about the customer, is the configuration with the highest posterior mean over these.

    Args:
        neighbors: Data sets beside the server's.
    """

    name: ClassVar[str] = "botorch-mtgp"

    def __init__(self, neighbors: int = 6) -> None:
        self._neighbors = neighbors

    def reset(self, experience: Known, seed: int) -> None:
        needed("botorch", self.name)
        self._rng = np.random.default_rng(seed)
        self._memory = Memory(experience)
        self._spread = typical_spread(experience.aps)

    def search(self, study: Study) -> None:
        known = [observe(row, self._spread) for row in self._memory.aps[self._nearest(study)]]
        if not known:
            study.evaluate_ranking(self._rng.permutation(study.candidates))
        fitted: dict[str, torch.Tensor] = {}
        while study.left:
            row = np.full(self._memory.aps.shape[1], np.nan)
            for trial in study.trials:
                row[trial.index] = trial.ap
            own = observe(row, self._spread)
            # Deterministic from here: BoTorch draws the start of its covariance between tasks from Torch's generator.
            with seeded(int(self._rng.integers(2**31))), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                gain, fitted = self._gain([own, *known], study, fitted if len(own.indices) > 1 else {})
            study.evaluate(int(np.argmax(np.where(study.untried(), gain, -np.inf))))
        self._memory.add(study)

    def _nearest(self, study: Study) -> NDArray[np.intp]:
        """Rows of the data sets that take part."""
        statistics = standardized([*self._memory.profiles, study.profile])
        distance = ((statistics[:-1] - statistics[-1]) ** 2).sum(axis=1)
        # A single value says nothing about which configuration is better.
        distance[(~np.isnan(self._memory.aps)).sum(axis=1) < 2] = np.inf
        server = self._memory.experience.server
        first = [] if server is None else [server]
        if server is not None:
            distance[server] = np.inf
        rest = np.argsort(distance, kind="stable")[: self._neighbors]
        return np.array([*first, *rest[np.isfinite(distance[rest])]], dtype=np.intp)

    def _gain(
        self, sets: list[Observed], study: Study, start: dict[str, torch.Tensor]
    ) -> tuple[FloatArray, dict[str, torch.Tensor]]:
        """``[K]``, what trying each candidate promises, and the fitted weights.

        Args:
            sets: The customer, then the data sets that take part.
            study: For its number of candidates.
            start: Weights that a fit to one trial less has found, empty for BoTorch's own start.
        """
        from botorch.acquisition.analytic import LogExpectedImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import MultiTaskGP as Model
        from gpytorch.mlls import ExactMarginalLogLikelihood

        x = torch.from_numpy(self._memory.experience.encodings)
        at = [torch.from_numpy(each.indices) for each in sets]
        number = torch.cat([torch.full((len(each), 1), float(s)) for s, each in enumerate(at)])
        inputs = torch.cat([torch.cat([x[each] for each in at]), number.to(x)], dim=1)
        values = torch.from_numpy(np.concatenate([each.values for each in sets])[:, None])
        tried = at[_CUSTOMER]
        model = Model(
            inputs,
            values,
            task_feature=-1,
            output_tasks=[_CUSTOMER] if len(tried) else None,
            # A set's APs are centered and scaled already; what its trials lack of its mean is its own constant.
            outcome_transform=None,
        )
        if start:
            model.load_state_dict(start)
        fit_gpytorch_mll(
            ExactMarginalLogLikelihood(model.likelihood, model),
            optimizer_kwargs={"options": {"maxiter": _STEPS}},
        )
        candidates = x[: study.candidates]
        with torch.no_grad():
            if not len(tried):
                gain = model.posterior(candidates).mean.mean(dim=1)
                return gain.numpy(), model.state_dict()
            # The best tried one as believed: measured APs are too noisy to be the mark.
            best = model.posterior(x[tried]).mean.max()
            gain = LogExpectedImprovement(model, best)(candidates[:, None])
        return gain.numpy(), model.state_dict()
