"""HyperSTAR's recommender (Mittal et al. 2020): task and configuration embeddings into a regressor of normalized AP.

Image features are frozen, as in HyperFD's own comparison; on them a learned map and a transformer layer, averaged over a batch of
images, give the task representation. Trained are

* the squared error of AP standardized within a data set (eq. 1),
* a similarity regularizer: the cosine of two tasks' representations follows the agreement (AP@10) of their best lists (eq. 2),
* an adversarial regularizer: a discriminator must not tell the representation of one image batch from their running mean (eq. 3).

AP@10 needs whole rankings, so sparse rows are completed for it. The paper gives no weights for the regularizers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nni_hyperfd.evidence.rivals.base import FloatArray, Known, Memory, Profile, Rival, Study
from nni_hyperfd.evidence.rivals.completion import Completion
from nni_hyperfd.ranker.seeding import seeded

_TOP = 10


@dataclass(frozen=True)
class HyperSTARSettings:
    """How long and how wide.

    Args:
        width: Of task and configuration embeddings.
        images: In one batch of images (the paper's 64; half of it is as good on frozen features and twice as fast).
        data_sets: In one step.
        configurations: Of each data set in one step (the paper's 10).
        warmup_steps: Before the first task.
        task_steps: After each finished task, on all experience.
        learning_rate: Of Adam.
        similarity: Weight of the similarity regularizer.
        adversarial: Weight of the adversarial regularizer.
        window: Batches in the running mean of a task's representation.
        batches: Image batches over which a prediction is averaged (the paper's 10).
    """

    width: int = 64
    images: int = 32
    data_sets: int = 8
    configurations: int = 10
    warmup_steps: int = 400
    task_steps: int = 10
    learning_rate: float = 1e-3
    similarity: float = 0.5
    adversarial: float = 0.05
    window: int = 8
    batches: int = 10


class HyperSTAR(Rival):
    """Tries the configurations with the highest predicted AP. The warm-up of a seed is done once and used for all budgets."""

    name: ClassVar[str] = "hyperstar"

    def __init__(self, settings: HyperSTARSettings | None = None) -> None:
        self._settings = settings or HyperSTARSettings()
        self._warm: tuple[Known, dict[int, dict[str, Tensor]]] | None = None

    def reset(self, experience: Known, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 0])
        self._memory = Memory(experience)
        self._completion = Completion.of(experience)
        pooled = np.concatenate([profile.images[:50] for profile in experience.profiles])
        self._shift = pooled.mean(axis=0)
        self._scale = np.maximum(pooled.std(axis=0), 1e-6)
        self._encodings = torch.tensor(experience.encodings, dtype=torch.float32)
        with seeded(seed):
            self._model = _Model(pooled.shape[1], self._encodings.shape[1], self._settings.width)
        self._prepare()
        if self._warm is None or self._warm[0] is not experience:
            self._warm = experience, {}
        known = self._warm[1]
        if seed in known:
            self._model.load_state_dict(known[seed])
        else:
            self._train(self._settings.warmup_steps)
            known[seed] = {name: value.clone() for name, value in self._model.state_dict().items()}
        # What follows must not depend on whether the warm-up was run or remembered.
        self._rng = np.random.default_rng([seed, 1])

    def search(self, study: Study) -> None:
        self._model.eval()
        with torch.no_grad():
            batches = torch.stack([self._images(study.profile) for _ in range(self._settings.batches)])
            tasks = self._model.task(batches)
            scores = self._model.predict(tasks, self._encodings[: study.candidates]).mean(dim=0)
        study.evaluate_ranking(np.argsort(-scores.numpy(), kind="stable"))
        self._completion = self._completion.learn(study)
        self._memory.add(study)
        self._prepare()
        self._train(self._settings.task_steps)

    def _images(self, profile: Profile) -> Tensor:
        chosen = profile.sample(self._settings.images, self._rng)
        return torch.from_numpy(((chosen - self._shift) / self._scale).astype(np.float32))

    def _prepare(self) -> None:
        """Targets and top lists of all rows that rank something."""
        aps = self._memory.aps
        spread = np.nanstd(aps, axis=1)
        self._usable = np.flatnonzero(spread > 0)
        self._targets = (aps - np.nanmean(aps, axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)[
            :, None
        ]
        self._rankings = np.argsort(-self._completion.complete(aps), axis=1, kind="stable")[:, :_TOP]

    def _train(self, steps: int) -> None:
        model, settings = self._model, self._settings
        model.train()
        optimizer = torch.optim.Adam(model.predictor_parameters(), settings.learning_rate)
        discriminator = torch.optim.Adam(model.discriminator.parameters(), settings.learning_rate)
        windows: dict[int, deque[Tensor]] = {}
        for _ in range(steps):
            rows = self._rng.permutation(self._usable)[: settings.data_sets]
            tasks = model.task(torch.stack([self._images(self._memory.profiles[row]) for row in rows]))
            for row, representation in zip(rows, tasks.detach()):
                windows.setdefault(int(row), deque(maxlen=settings.window)).append(representation)
            means = torch.stack([torch.stack(list(windows[int(row)])).mean(dim=0) for row in rows])

            loss = self._prediction_loss(tasks, rows)
            alike = torch.tensor(agreement(self._rankings[rows]), dtype=torch.float32)
            loss = loss + settings.similarity * similarity_loss(tasks, alike)
            # The generator's side of eq. 3 in its usual non-saturating form.
            fooled = functional.binary_cross_entropy_with_logits(
                model.discriminator(tasks), torch.ones(len(rows), 1)
            )
            optimizer.zero_grad()
            (loss + settings.adversarial * fooled).backward()
            optimizer.step()

            logits = model.discriminator(torch.cat([means, tasks.detach()]))
            truth = torch.cat([torch.ones(len(rows), 1), torch.zeros(len(rows), 1)])
            discriminator.zero_grad()
            functional.binary_cross_entropy_with_logits(logits, truth).backward()
            discriminator.step()

    def _prediction_loss(self, tasks: Tensor, rows: Iterable[int]) -> Tensor:
        drawn = np.stack([self._draw(row) for row in rows])
        targets = torch.tensor(
            np.take_along_axis(self._targets[list(rows)], drawn, axis=1), dtype=torch.float32
        )
        return functional.mse_loss(
            self._model.predict(tasks, self._encodings[torch.from_numpy(drawn)]), targets
        )

    def _draw(self, row: int) -> NDArray[np.intp]:
        """A batch of configurations that are known on a data set, with repetitions where there are few."""
        known = np.flatnonzero(~np.isnan(self._targets[row]))
        return self._rng.choice(
            known, self._settings.configurations, replace=len(known) < self._settings.configurations
        )


def agreement(rankings: NDArray[np.integer]) -> FloatArray:
    """Mutual AP@k of lists of k items: 1 for equal sets, 0 for disjoint ones.

    Args:
        rankings: ``[T, k]`` the best k of each task, best first.

    Returns:
        ``[T, T]``: row a holds the relevant items, column b the ranking that is judged.
    """
    found = (rankings[None, :, :, None] == rankings[:, None, None, :]).any(axis=-1)
    k = rankings.shape[1]
    precision = np.cumsum(found, axis=-1) / np.arange(1, k + 1)
    return (precision * found).sum(axis=-1) / k


def similarity_loss(tasks: Tensor, agreement: Tensor) -> Tensor:
    """Mean squared difference ``[]`` of cosine similarity and agreement over the pairs of different tasks (HyperSTAR eq. 2).

    Args:
        tasks: ``[T, width]`` representations.
        agreement: ``[T, T]`` in [0, 1].
    """
    unit = functional.normalize(tasks, dim=1)
    different = ~torch.eye(len(tasks), dtype=torch.bool)
    if not different.any():
        return tasks.sum() * 0.0
    return ((unit @ unit.T - agreement) ** 2)[different].mean()


class _Model(nn.Module):
    """g (task), h (configuration), f (predictor) and the discriminator."""

    def __init__(self, image_features: int, configuration_features: int, width: int) -> None:
        super().__init__()
        self.image = nn.Linear(image_features, width)
        self.attention = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.configuration = nn.Sequential(
            nn.Linear(configuration_features, width), nn.ReLU(), nn.Linear(width, width)
        )
        self.head = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 1))
        self.discriminator = nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, 1))

    def predictor_parameters(self) -> list[nn.Parameter]:
        """Everything but the discriminator."""
        return [p for name, p in self.named_parameters() if not name.startswith("discriminator")]

    def task(self, images: Tensor) -> Tensor:
        """``[T, n, F]`` -> ``[T, width]``."""
        return self.attention(self.image(images)).mean(dim=1)

    def predict(self, tasks: Tensor, encodings: Tensor) -> Tensor:
        """``[T, width]`` and ``[K, E]``, the same for all tasks, or ``[T, K, E]`` -> ``[T, K]``."""
        c = self.configuration(encodings).expand(len(tasks), -1, -1)
        t = tasks[:, None].expand(-1, c.shape[1], -1)
        return self.head(torch.cat([t, c], dim=-1)).squeeze(-1)
