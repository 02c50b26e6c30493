"""HyperFD itself behind the rivals' interface: warm-up, recommendation and continual update as the platform does them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.rivals.base import FloatArray, Known, Profile, Rival, Study, Tried
from nni_hyperfd.evidence.table import parameters_of
from nni_hyperfd.metafeature.extractor import Variant, meta_feature, samples
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.metafeature.view import ExactView, View
from nni_hyperfd.ranker.drive import drive
from nni_hyperfd.ranker.encoders import EncoderShape
from nni_hyperfd.ranker.encodings import Encodings, encode
from nni_hyperfd.ranker.offline import Experience, OfflineData, RankedList
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.recommend import EXPLORATION
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.ranker.update import ContinualUpdate, CurrentTask, PastTask
from nni_hyperfd.ranker.warmup import warm_up
from nni_hyperfd.recommendation.ranking import with_spares
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.space import Space


@dataclass(frozen=True)
class WarmUp:
    """A ranker before the first task.

    Args:
        parameters: Of the ranker, by name.
        ndcg: Mean NDCG on the lists that the warm-up held out.
    """

    parameters: dict[str, Tensor]
    ndcg: float


@dataclass(eq=False)
class _Prepared:
    """What all seeds and all methods with one extractor and one warm-up share."""

    offline: OfflineData
    configurations: list[Configuration]
    encodings: Encodings
    warm: dict[tuple[Variant, RankerSettings, int], WarmUp]


_PREPARED: WeakKeyDictionary[Known, dict[str, _Prepared]] = WeakKeyDictionary()


_AFTER_WARM_UP = (
    "learning_rate",
    "batches",
    "lists",
    "ratio",
    "synaptic_weight",
    "synaptic_damping",
    "mode",
    "transform",
    "transform_iterations",
)
"""Settings that the warm-up does not look at."""


class HyperFD(Rival):
    """The faithful method; every ablation of the paper is a setting.

    Args:
        space: The search space that the table's configurations are points of.
        settings: Losses, continual learning, transformation (Tables 2–4), warm-up (Table 6).
        variant: Of the extractor (Tables 1 and 5).
        exploration: Share of the budget that is drawn behind the best.
        oracle: Keeps the images of past tasks at hand (Table 3).
        name: In the results.
        warm_ups: Distinct warm-ups; further seeds use them again, in other orders of tasks. One a seed by default.

    Attributes:
        ndcg: Of the warm-up that the run began with, see :class:`WarmUp`.
    """

    def __init__(
        self,
        space: Space,
        settings: RankerSettings | None = None,
        variant: Variant = "full",
        exploration: float = EXPLORATION,
        oracle: bool = False,
        name: str = "hyperfd",
        warm_ups: int | None = None,
    ) -> None:
        self.name = name  # type: ignore[misc]
        self._space, self._settings, self._variant = space, settings or RankerSettings(), variant
        self._exploration, self._oracle, self._warm_ups = exploration, oracle, warm_ups

    def reset(self, experience: Known, seed: int) -> None:
        by_space = _PREPARED.setdefault(experience, {})
        if self._space.key not in by_space:
            by_space[self._space.key] = self._prepare(experience)
        self._prepared = by_space[self._space.key]
        self._seed = seed
        warm = self._warm_up(seed if self._warm_ups is None else seed % self._warm_ups)
        self.ndcg = warm.ndcg
        self._ranker = self._fresh_ranker(0)
        self._ranker.load(warm.parameters)
        self._ranker.eval()
        self._importance: dict[str, Tensor] = {}
        self._past: list[PastTask] = []

    def scores(self, profile: Profile) -> FloatArray:
        """``[U]`` scores of all configurations of the experience for a data set, by the run's present ranker."""
        generator = torch.Generator().manual_seed(self._draw(3))
        phi = meta_feature(self._ranker.extractor, features_of(profile), generator, self._settings.images)
        return self._ranker.predict(self._space.key, phi, self._prepared.encodings).double().numpy()

    def meta_features(self, profile: Profile, count: int) -> Tensor:
        """φ ``[count, 64]`` of a data set by the run's present extractor, each from another sample of its images."""
        generator = torch.Generator().manual_seed(self._draw(3))
        drawn = samples(self._ranker.extractor, features_of(profile), generator, self._settings.images)
        with torch.no_grad():
            return torch.stack([next(drawn) for _ in range(count)])

    @property
    def ranker(self) -> Ranker:
        """The run's present one."""
        return self._ranker

    @property
    def offline(self) -> OfflineData:
        """What the ranker was warmed up on."""
        return self._prepared.offline

    @property
    def configurations(self) -> list[Configuration]:
        """U of them, in the experience's order."""
        return self._prepared.configurations

    @property
    def images(self) -> int:
        """Size of an image sample."""
        return self._settings.images

    @property
    def past(self) -> list[PastTask]:
        """The run's customers so far, as the updates left them."""
        return self._past

    def search(self, study: Study) -> None:
        features = features_of(study.profile)
        order = self.recommended(features, study.candidates, study.budget)
        # Those behind the first B are only reached by failed trainings, whose places go to the next best.
        study.evaluate_ranking(order)
        self.learn(study.trials, features, study.candidates)

    def recommended(self, features: ImageFeatures, candidates: int, budget: int) -> list[int]:
        """The next customer's configurations: ``budget`` to try, and spares, as positions among the first ``candidates``."""
        generator = torch.Generator().manual_seed(self._draw(0))
        phi = self.view(features, generator).meta_feature()
        scores = self._ranker.predict(self._space.key, phi, self._prepared.encodings[:candidates])
        return with_spares(scores, budget, self._exploration, generator)

    def phi(self, features: ImageFeatures) -> Tensor:
        """``[64]`` of the next customer, as the run's present extractor sees the images."""
        return self.view(features, torch.Generator().manual_seed(self._draw(0))).meta_feature()

    def view(self, features: ImageFeatures, generator: torch.Generator) -> View:
        """What the run's present extractor says of a data set's images; a variant may say less."""
        return ExactView(self._ranker.extractor, features, generator, self._settings.images)

    def learn(self, tried: Sequence[Tried], features: ImageFeatures, candidates: int) -> None:
        """The update at the end of a customer's search, from what was tried among the first ``candidates``."""
        prepared, settings = self._prepared, self._settings
        done = [trial for trial in tried if not np.isnan(trial.ap)]
        if not done:
            # As on the platform: an experiment without a result teaches nothing.
            return
        indices = torch.tensor([trial.index for trial in done])
        encodings = prepared.encodings[:candidates][indices]
        trials = RankedList(self._space.key, encodings, torch.tensor([trial.ap for trial in done]))
        key = f"task{len(self._past)}"
        update = ContinualUpdate(
            self._ranker,
            prepared.offline,
            self._past,
            self._importance,
            CurrentTask(key, trials),
            settings,
            self._draw(1),
        )
        state = drive(update, self.view(features, torch.Generator().manual_seed(self._draw(2))))
        self._importance = state.importance
        kept = features if self._oracle else None
        self._past.append(PastTask(key, trials, state.phi, state.offline_phi, features=kept))
        self._past = [replace(past, transform=state.transforms.get(past.key)) for past in self._past]

    def _prepare(self, experience: Known) -> _Prepared:
        configurations = [
            Configuration.from_parameters(parameters_of(text)) for text in experience.configurations
        ]
        encodings = encode(self._space, configurations)
        rows, columns = np.nonzero(~np.isnan(experience.aps))
        source = experience.profiles[0].source
        if source is None or any(profile.source is not source for profile in experience.profiles):
            raise DataError(
                "hyperfd needs the image features of the server; all offline sets must share them."
            )
        known = Experience(
            encodings,
            torch.from_numpy(rows),
            torch.from_numpy(columns),
            torch.from_numpy(experience.aps[rows, columns]).float(),
        )
        members = [torch.from_numpy(np.asarray(profile.members)) for profile in experience.profiles]
        return _Prepared(
            OfflineData(source, members, {self._space.key: known}), configurations, encodings, {}
        )

    def _fresh_ranker(self, seed: int) -> Ranker:
        return Ranker.build({self._space.key: EncoderShape.of(self._space)}, seed, self._variant)

    def _warm_up(self, seed: int) -> WarmUp:
        """Done once for an experience: methods that differ only in what follows begin with the same ranker."""
        same = replace(self._settings, **{name: getattr(RankerSettings(), name) for name in _AFTER_WARM_UP})
        key = self._variant, same, seed
        if key not in self._prepared.warm:
            ranker = self._fresh_ranker(seed)
            report = warm_up(ranker, self._prepared.offline, self._settings, seed)
            self._prepared.warm[key] = WarmUp(ranker.parameters_state(), report.ndcg[1])
        return self._prepared.warm[key]

    def _draw(self, purpose: int) -> int:
        """A seed for one purpose in one task of one run."""
        return int(np.random.default_rng([self._seed, len(self._past), purpose]).integers(2**31))


def features_of(profile: Profile) -> ImageFeatures:
    """The image features of one data set.

    Raises:
        DataError: The profile has none.
    """
    if profile.source is None:
        raise DataError("hyperfd needs the image features of every task.")
    return profile.source.subset(torch.from_numpy(np.asarray(profile.members)))
