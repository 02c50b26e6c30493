"""Runs one pair of the lookup table: a configuration fine-tuned on a named data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

from nni_hyperfd.data.dataset import FaceDataset, load_dataset
from nni_hyperfd.data.pixels import PixelStore, open_pixels
from nni_hyperfd.detection.network.weights import base_detector
from nni_hyperfd.detection.training.budgets import get_budget
from nni_hyperfd.detection.training.fine_tuning import CPUEngine, fine_tune
from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.conventions import conventional, relabelled
from nni_hyperfd.evidence.offline_sets import OfflineSets
from nni_hyperfd.evidence.table import SERVER, parameters_of
from nni_hyperfd.spaces.architecture import mobilenet_v2
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.hyperparameters import DEFAULT_HYPERPARAMETERS


@dataclass(frozen=True)
class MeasuredPair:
    """APs in [0, 1], seconds, and the learning curve as in :class:`~nni_hyperfd.evidence.table.Row`."""

    val_ap: float
    test_ap: float
    heldout_ap: float
    seconds: float
    curve: tuple[tuple[float, float], ...]


class PairRunner:
    """Knows where the data sets of a table are: folders by name, and offline sets as parts of the server's images.

    Args:
        folders: Name -> folder of a customer's (or the server's) data set.
        server: The server's images, of which ``offline`` names parts; as a whole they are the data set ``server``.
        offline: The sub-data-sets.
        cache: Folder for decoded images.

    Raises:
        DataError: An offline set is labelled by a convention that nobody knows.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        server: FaceDataset | None = None,
        offline: OfflineSets | None = None,
        cache: Path | None = None,
    ) -> None:
        self.folders, self.server, self.cache = folders, server, cache
        self.members = {part.name: part.members for part in offline.sets} if offline else {}
        self.conventions = {name: conventional(name) for name in self.members}
        self.pixels = lru_cache(maxsize=4)(self._open)

    def __call__(
        self, data_set: str, configuration: str, budget: str, seed: int, device: str
    ) -> MeasuredPair:
        """Fine-tunes on the CPU; the signature is the one :func:`~nni_hyperfd.evidence.table.measure_pairs` calls."""
        if device != "cpu":
            raise DataError(f"the table runner works on the CPU, not on {device!r}")
        settings = get_budget(budget)
        point = Configuration.from_parameters(parameters_of(configuration))
        hyperparameters = point.hyperparameters or DEFAULT_HYPERPARAMETERS
        store = self._store(data_set, 2 * max(settings.image_size, settings.evaluation_size))
        model = base_detector(point.architecture or mobilenet_v2())
        engine = CPUEngine(model, store, hyperparameters, settings)
        found = fine_tune(engine, store, hyperparameters, settings, seed)
        curve = tuple((point.epoch / settings.epochs, point.ap) for point in found.curve)
        return MeasuredPair(found.val_ap, found.test_ap, found.heldout_ap, found.seconds, curve)

    def _store(self, data_set: str, max_side: int) -> PixelStore:
        if data_set not in self.members:
            return self.pixels(data_set, max_side)
        store = self.pixels(SERVER, max_side)
        chosen = torch.tensor(self.members[data_set])
        part = replace(
            store, splits={name: rows[torch.isin(rows, chosen)] for name, rows in store.splits.items()}
        )
        convention = self.conventions[data_set]
        return relabelled(part, convention) if convention else part

    def _open(self, data_set: str, max_side: int) -> PixelStore:
        if data_set in self.folders:
            dataset = load_dataset(self.folders[data_set])
        elif data_set != SERVER:
            raise DataError(f"no folder is known for the data set {data_set!r}: name it with --data")
        elif self.server is None:
            raise DataError("the server's images are not at hand: name their folders with --server")
        else:
            dataset = self.server
        return open_pixels(dataset, max_side, self.cache)
