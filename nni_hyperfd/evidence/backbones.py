"""Image features of classification networks for the clustering (supplement, table 4), where their weights are at hand.

Nothing is downloaded: a network is used if its torchvision checkpoint lies in the local torch hub cache under its own file
name. Other feature extractors (ONNX files, say) can be run by the caller; the clustering takes any matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torchvision.models import get_model, get_model_weights

from nni_hyperfd.errors import DataError

HEADS: Mapping[str, str] = {
    "resnet18": "fc",
    "resnet50": "fc",
    "mobilenet_v3_large": "classifier",
    "efficientnet_b0": "classifier",
}
"""Networks that are looked for, and the name of the head that is taken off."""

_SIDE = 224


def checkpoints(folder: Path | None = None) -> dict[str, Path]:
    """Network name -> checkpoint on this machine.

    Args:
        folder: Where to look; torch hub's own folder by default.
    """
    folder = folder or Path(torch.hub.get_dir()) / "checkpoints"
    found = {}
    for name in HEADS:
        for weights in get_model_weights(name):
            path = folder / Path(urlparse(weights.url).path).name
            if path.is_file():
                found[name] = path
    return found


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
