"""Detector weights as safetensors: the shipped base, and what a trial saves."""

from __future__ import annotations

import json
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nni_hyperfd.detection.network.remap import remap
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.errors import DataError, SpaceError
from nni_hyperfd.files import replacing
from nni_hyperfd.spaces.architecture import Architecture, Block, largest, mobilenet_v2

BEST = "best.safetensors"
"""File of the weights that a trial hands out, those before the first epoch included; beside it, at the end, as ONNX."""

BASES = {"standard": mobilenet_v2(), "largest": largest()}
"""The two pretrained detectors: MobileNetV2 ×0.5 and the largest network of the NAS space."""


def base_path(name: str) -> Path:
    """File of the shipped base ``standard`` or ``largest``."""
    return Path(str(files("nni_hyperfd") / "assets" / "base" / f"{name}.safetensors"))


@lru_cache
def base_id() -> str:
    """Short hash of the standard base, whose features the ranker knows; features of another base do not mix with it.

    Raises:
        DataError: The package was installed without it.
    """
    path = base_path("standard")
    try:
        return sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise DataError(
            f"cannot read the pretrained detector {path} ({error.strerror or error}): install the package again"
        ) from error


def save_detector(
    path: Path, model: RetinaFace, state: dict[str, Tensor], half: bool = False, **notes: str
) -> None:
    """Writes ``state`` with its architecture and notes in the header; convolutions as float16 if ``half``.

    A reader never sees half a file. Raises DataError where the disk refuses.

    Raises:
        DataError: The disk refuses.
    """
    tensors = {
        name: (value.half() if half and value.ndim == 4 else value).contiguous().cpu()
        for name, value in state.items()
    }
    stages = [[[block.kernel, block.expand] for block in stage] for stage in model.architecture.stages]
    try:
        with replacing(path) as partial:
            save_file(tensors, partial, metadata={"architecture": json.dumps(stages), **notes})
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"cannot write the weights {path} ({error}): free some disk space or name another folder"
        ) from error


def load_detector(path: Path) -> RetinaFace:
    """Reads what :func:`save_detector` wrote.

    Raises:
        DataError: If the file is missing, is not such a file, or does not fit its architecture.
    """
    try:
        with safe_open(path, framework="pt") as file:
            stages = json.loads(file.metadata()["architecture"])
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        model = RetinaFace(Architecture(tuple(tuple(Block(*block) for block in stage) for stage in stages)))
        counters = {
            name: value.long() for name, value in state.items() if name.endswith("num_batches_tracked")
        }
        model.load_state_dict(state | counters)
    except (OSError, SafetensorError, SpaceError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{path} is not a detector of this package ({error}): name a .safetensors file it saved"
        ) from error
    return model


def read_notes(path: Path) -> dict[str, str]:
    """The notes that :func:`save_detector` was given.

    Raises:
        DataError: If the file is missing or is no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot read the weights {path} ({error}): name a .safetensors file") from error


def base_detector(architecture: Architecture, folder: Path | None = None) -> RetinaFace:
    """A detector of ``architecture`` that starts from the pretrained base (``folder`` or the shipped one)."""
    name = "standard" if architecture == BASES["standard"] else "largest"
    source = load_detector(folder / f"{name}.safetensors" if folder else base_path(name))
    if source.architecture == architecture:
        return source
    target = RetinaFace(architecture)
    with torch.no_grad():
        target.load_state_dict(remap(source.state_dict(), source.architecture, target))
    return target
