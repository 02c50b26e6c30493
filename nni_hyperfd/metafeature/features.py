"""Image-level features: what a data set looks like to the frozen detector, one row an image (HyperFD §3.2.1).

They are computed once per data set and stay on the disk of whoever owns the images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nni_hyperfd.errors import DataError
from nni_hyperfd.files import replacing

LEVELS = 3
"""Feature maps of the detector: strides 8, 16, 32."""

CONTEXT_CHANNELS = 80
"""Channels of a context module (SSH)."""

LABEL_CHANNELS = 6
"""What matching adds to an anchor: matched flag, IoU, four encoded box offsets (zeros when unmatched)."""

CHANNELS = CONTEXT_CHANNELS + LABEL_CHANNELS

FROZEN_CHANNELS = {"resnet": 2048, "mobilenet": 256}
"""Widths of features of frozen networks, by field; MobileNetV2's 1280 are kept as principal components."""


@dataclass(frozen=True)
class ImageFeatures:
    """Features of n images.

    Args:
        gwap: ``[n, 3, 86]`` float; per level the mean of the positive, the negative and the ignored anchors' means (eq. 2);
            80 context channels first, then the 6 label channels.
        mean: ``[n, 3, 86]`` float; the plain mean over all anchors instead, for the ablation without GWAP.
        boxes: ``[n]`` integer; faces in each image.
        resnet: ``[n, 2048]`` float or None; ResNet-50 features, for the comparison of extractors.
        mobilenet: ``[n, 256]`` float or None; the same of ImageNet's MobileNetV2, for which weights are easier to come by.

    Raises:
        DataError: Shapes that do not fit each other, no image at all, or values that are not finite.
    """

    gwap: Tensor
    mean: Tensor
    boxes: Tensor
    resnet: Tensor | None = None
    mobilenet: Tensor | None = None

    def __post_init__(self) -> None:
        n = self.boxes.shape[0] if self.boxes.ndim == 1 else -1
        expected = {"gwap": (n, LEVELS, CHANNELS), "mean": (n, LEVELS, CHANNELS), "boxes": (n,)}
        expected |= {name: (n, width) for name, width in FROZEN_CHANNELS.items()}
        for name, tensor in self.tensors().items():
            if tuple(tensor.shape) != expected[name]:
                raise DataError(
                    f"Image features: {name} has shape {list(tensor.shape)}, expected {list(expected[name])}; "
                    "compute the features again."
                )
            if not torch.isfinite(tensor).all():
                raise DataError(f"Image features: {name} holds values that are not finite.")
        if n == 0:
            raise DataError("Image features: there is no image, so there is nothing to describe.")
        if (self.boxes < 0).any():
            raise DataError("Image features: the number of boxes of an image is negative.")

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are present, by name."""
        named = {"gwap": self.gwap, "mean": self.mean, "boxes": self.boxes}
        named |= {name: getattr(self, name) for name in FROZEN_CHANNELS}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> ImageFeatures:
        """Inverse of :meth:`tensors`.

        Raises:
            DataError: A field is missing or unknown.
        """
        missing = {"gwap", "mean", "boxes"} - set(tensors)
        unknown = set(tensors) - {"gwap", "mean", "boxes", *FROZEN_CHANNELS}
        if missing or unknown:
            raise DataError(
                f"Image features: missing {sorted(missing) or 'nothing'}, unknown {sorted(unknown) or 'nothing'}."
            )
        return cls(**tensors)

    def subset(self, indices: Tensor) -> ImageFeatures:
        """The images at ``indices`` ``[m]`` (integers), in that order."""
        return ImageFeatures(**{name: tensor[indices] for name, tensor in self.tensors().items()})

    def save(self, path: Path) -> None:
        """Writes a safetensors file; a reader never sees half of it."""
        with replacing(path) as partial:
            save_file({name: tensor.contiguous() for name, tensor in self.tensors().items()}, partial)

    @classmethod
    def load(cls, path: Path) -> ImageFeatures:
        """Reads what :meth:`save` wrote.

        Raises:
            DataError: No such file, or not a file of image features.
        """
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"Image features cannot be read from {path} ({error}); delete it to compute them again."
            ) from None
        return cls.from_tensors(tensors)
