"""Where a training stopped, so that another trial goes on from there as if it had never stopped.

A checkpoint is one safetensors file: weights, the weights that are best on val so far, and the optimizer's numbers, as tensors; in its
header, as JSON, the state of the generator that plans the crops, the rate, and the learning curve. Nothing in it is code.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nni_hyperfd.errors import DataError
from nni_hyperfd.files import replacing
from nni_hyperfd.spaces.stages import Stage

logger = logging.getLogger(__name__)

FORMAT = "1"


@dataclass(frozen=True)
class Stopped:
    """A training after some of its epochs.

    Args:
        epoch: Epochs so far.
        rate: Learning rate that the next epoch begins with, before the plan of rates.
        stale: Validations without gain since the best one.
        best: AP@50 on val of ``kept``; -1 before the first validation.
        curve: (epoch, AP@50, whether it was the best so far, mean losses since the point before) of each validation.
        draws: State of the NumPy generator that plans the crops.
        faces_without: Of the engine.
        weights, kept: The network's, now and where they were best.
        optimizer: Its tensors by "position of the weight/name".
    """

    epoch: int
    rate: float
    stale: int
    best: float
    curve: tuple[tuple[int, float, bool, tuple[float, ...]], ...]
    draws: Mapping[str, Any]
    faces_without: int
    weights: Mapping[str, Tensor]
    kept: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]

    def save(self, path: Path, training: str) -> None:
        """Writes it whole or not at all; ``training`` names what was trained, see :func:`name_of`.

        Raises:
            DataError: The disk refuses.
        """
        groups = {"weights": self.weights, "kept": self.kept, "optimizer": self.optimizer}
        tensors = {
            f"{group}/{name}": value.detach().cpu().contiguous()
            for group, found in groups.items()
            for name, value in found.items()
        }
        notes = {key: value for key, value in vars(self).items() if key not in groups}
        header = {"format": FORMAT, "training": training, "notes": json.dumps(notes)}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as partial:
                # Equal tensors (the best weights may be the newest) are not one memory: each was cloned.
                save_file(tensors, partial, metadata=header)
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"cannot write the checkpoint {path} ({error}): free some disk space or name another folder of checkpoints"
            ) from error

    @classmethod
    def load(cls, path: Path, training: str) -> Stopped:
        """Reads what :meth:`save` wrote.

        Raises:
            DataError: It is missing, damaged, or of another training.
        """
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if header.get("format") != FORMAT or header.get("training") != training:
                raise DataError(f"the checkpoint {path} is of another training")
            notes = json.loads(header["notes"])
            curve = tuple(
                (int(e), float(ap), bool(best), tuple(losses)) for e, ap, best, losses in notes.pop("curve")
            )
            groups: dict[str, dict[str, Tensor]] = {"weights": {}, "kept": {}, "optimizer": {}}
            for name, value in tensors.items():
                group, _, rest = name.partition("/")
                groups[group][rest] = value
            return cls(
                **notes,
                curve=curve,
                weights=groups["weights"],
                kept=groups["kept"],
                optimizer=groups["optimizer"],
            )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"the checkpoint {path} cannot be read ({error})") from error


@dataclass(frozen=True)
class Checkpoints:
    """What the trials of one training leave for each other, a file for each epoch at which one of them stopped.

    Args:
        folder: None where none was named.
        training: Its name: of configuration, seed, budget, base and data.
    """

    folder: Path | None
    training: str

    def before(self, stage: Stage) -> Stopped | None:
        """Where the training stopped before ``stage``; None, with a sentence in the log, if that is not to be had."""
        if stage.begun == 0:
            return None
        try:
            if self.folder is None:
                raise DataError("no folder of checkpoints is named")
            found = Stopped.load(self._path(stage.begun), self.training)
        except DataError as error:
            logger.warning(
                "This trial trains anew from its first epoch, and its price is that of %d epochs: %s.",
                stage.stop,
                error,
            )
            return None
        for epoch in range(1, stage.begun):  # nobody goes back behind a checkpoint that was read
            with suppress(OSError):  # one that cannot be removed is in nobody's way
                self._path(epoch).unlink()
        return found

    def leave(self, stopped: Stopped) -> None:
        """Keep a training for the next trial; where that is not possible, that one trains anew."""
        if self.folder is None:
            return
        try:
            stopped.save(self._path(stopped.epoch), self.training)
        except DataError as error:
            logger.warning("The next trial of this configuration will train anew: %s.", error)

    def _path(self, epoch: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{self.training}-{epoch}.safetensors"


def name_of(**facts: Any) -> str:
    """A short name of a training: equal for equal facts (configuration, budget, seed, data), which all are plain values or dataclasses."""
    text = json.dumps(facts, sort_keys=True, default=lambda each: asdict(each))
    return sha256(text.encode()).hexdigest()[:24]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Copies of all numbers that an optimizer keeps for its weights."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    return {
        f"{position}/{name}": value.detach().clone()
        for position, weight in enumerate(weights)
        for name, value in optimizer.state.get(weight, {}).items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts :func:`optimizer_tensors` back, in place where there are some, as a captured graph knows them by their address.

    Raises:
        DataError: They are another optimizer's.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    try:
        for key, value in tensors.items():
            position, _, name = key.partition("/")
            weight = weights[int(position)]
            there = optimizer.state[weight].get(name)
            if there is None:
                # Fused optimizers walk through weights and their state side by side, so both lie alike in memory.
                there = (
                    torch.empty_like(weight)
                    if value.shape == weight.shape
                    else torch.empty_like(value, device=weight.device)
                )
                optimizer.state[weight][name] = there
            there.detach().copy_(value)
    except (ValueError, IndexError, RuntimeError) as error:
        raise DataError(f"a checkpoint's optimizer does not fit this training ({error})") from error


def draws_of(rng: np.random.Generator) -> dict[str, Any]:
    """State of a generator, as plain values."""
    return dict(rng.bit_generator.state)
