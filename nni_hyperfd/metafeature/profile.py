"""From images to image-level features with the frozen base detector (HyperFD §3.2.1, equation 2), cached on disk.

This is the last place that sees images: what it returns stays with their owner, and only G's 64 numbers leave.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError
from torch import Tensor

from nni_hyperfd.data import cache
from nni_hyperfd.data.dataset import FaceDataset
from nni_hyperfd.data.pixels import Faces, PixelStore, default_cache_dir, open_pixels
from nni_hyperfd.detection.anchors import (
    IGNORED,
    NEGATIVE,
    POSITIVE,
    anchors_per_level,
    encode_boxes,
    match,
    priors,
)
from nni_hyperfd.detection.evaluation.detections import Batch, evaluation_batches, scaled_sizes
from nni_hyperfd.detection.network.precision import cpu_autocast
from nni_hyperfd.detection.network.retinaface import ANCHORS_PER_PIXEL, RetinaFace
from nni_hyperfd.detection.network.weights import BASES, base_detector, base_id
from nni_hyperfd.errors import DataError
from nni_hyperfd.metafeature.features import CHANNELS, ImageFeatures
from nni_hyperfd.spaces.hyperparameters import DEFAULT_HYPERPARAMETERS

PROFILE_SIZE = 256
"""Short side, pixels, at which every data set is looked at, whatever its trials train on."""

VERSION = 1
"""Of what is computed from images here; to be raised with whatever changes a number, so that no older features are found."""

GROUPS = (POSITIVE, NEGATIVE, IGNORED)


def profile_dataset(
    dataset: FaceDataset, cache_dir: Path | None = None, resnet_weights: Path | None = None
) -> ImageFeatures:
    """Image-level features of the train split, what trials learn from; computed once per content and base weights.

    Args:
        dataset: Whose train split has faces.
        cache_dir: Folder on the owner's disk; ``HYPERFD_CACHE`` or ``~/.cache/hyperfd`` by default.
        resnet_weights: A local torchvision ResNet-50 state dict, only for the ``resnet`` variant of G.

    Raises:
        DataError: Images cannot be decoded, the disk is full, or no base is installed.
    """
    path = features_path(dataset, cache_dir, resnet_weights)
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if path.exists():
                cache.opened(path.with_suffix(""))
                return ImageFeatures.load(path)
            store = open_pixels(dataset, 2 * PROFILE_SIZE, cache_dir)
            train = store.splits["train"]
            features = profile_images(base_detector(BASES["standard"]), store, train)
            if resnet_weights:
                resnet = resnet_features(store, train, resnet_weights)
                features = ImageFeatures(features.gwap, features.mean, features.boxes, resnet)
            features.save(path)
            cache.evict(folder.parent)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"cannot write image features to {folder} ({reason}): free some disk space or name another cache folder"
        ) from error
    return features


def features_path(
    dataset: FaceDataset, cache_dir: Path | None = None, resnet_weights: Path | None = None
) -> Path:
    """Where :func:`profile_dataset` keeps the features of a data set: named after all that they depend on.

    Raises:
        DataError: The ResNet's weights cannot be read.
    """
    name = f"{dataset.fingerprint()[:24]}-{base_id()}-v{VERSION}"
    if resnet_weights is not None:
        try:
            name += f"-resnet-{sha256(resnet_weights.read_bytes()).hexdigest()[:16]}"
        except OSError as error:
            raise DataError(f"cannot read {resnet_weights} ({error.strerror or error})") from error
    return (cache_dir or default_cache_dir()) / "features" / f"{name}.safetensors"


@torch.no_grad()
def profile_images(model: RetinaFace, store: PixelStore, indices: Tensor) -> ImageFeatures:
    """Features of the images ``indices`` ``[n]``, in that order."""
    model.eval()
    pooled = torch.zeros(len(indices), 2, 3, CHANNELS)
    factor = (scaled_sizes(store, indices, PROFILE_SIZE) / store.sizes[indices]).flip(1).float()
    faces = store.faces[indices]
    faces = Faces(faces.boxes * factor.repeat(1, 2).unsqueeze(1), faces.valid, faces.ignored, faces.landmarks)
    for batch in evaluation_batches(store, indices, PROFILE_SIZE):
        with cpu_autocast():
            maps = model.context(batch.images)
        pooled[batch.rows] = pool_anchors(maps, batch, faces[batch.rows])
    counted = (faces.valid & ~faces.ignored).sum(1)
    return ImageFeatures(pooled[:, 0], pooled[:, 1], counted)


def pool_anchors(maps: list[Tensor], batch: Batch, faces: Faces) -> Tensor:
    """Per image and level the balanced mean of equation 2 and the plain mean: ``[B, 2, 3, 86]``.

    An anchor carries the context features of its pixel, a matched flag, its IoU, and its encoded box offsets (zeros
    when unmatched). Anchors centered on padding are left out. The balanced mean averages the means of positive,
    negative and ignored anchors; an empty group contributes zeros.

    Args:
        maps: ``[B, 80, H / s, W / s]``, one a level: what :meth:`~nni_hyperfd.detection.network.retinaface.RetinaFace.context` gives.
        batch: The images.
        faces: Theirs, in pixels of the batch.
    """
    height, width = batch.images.shape[-2:]
    anchors = priors(height, width)
    found = match(
        faces.boxes,
        faces.valid,
        faces.ignored,
        anchors,
        DEFAULT_HYPERPARAMETERS.iou_threshold,
        DEFAULT_HYPERPARAMETERS.negative_threshold,
    )
    positive = found.label == POSITIVE
    boxes = faces.boxes.gather(1, found.face.unsqueeze(-1).expand(-1, -1, 4))
    offsets = torch.where(positive.unsqueeze(-1), encode_boxes(boxes, anchors), 0.0)
    labels = torch.cat([positive.unsqueeze(-1), found.iou.unsqueeze(-1), offsets], dim=-1)
    inside = (anchors[:, :2] < batch.size.flip(1).unsqueeze(1)).all(-1)
    member = torch.stack([inside & (found.label == group) for group in GROUPS] + [inside], dim=-1).float()
    out = []
    sections = anchors_per_level(height, width)
    for level, parts, weights in zip(maps, labels.split(sections, dim=1), member.split(sections, dim=1)):
        per_pixel = weights.unflatten(1, (-1, ANCHORS_PER_PIXEL)).sum(2)
        context = torch.einsum("bcp,bpg->bgc", level.flatten(2).float(), per_pixel)
        label = torch.einsum("bac,bag->bgc", parts, weights)
        means = torch.cat([context, label], dim=-1) / weights.sum(1).clamp(min=1).unsqueeze(-1)
        out.append(torch.stack([means[:, :3].mean(1), means[:, 3]], dim=1))
    return torch.stack(out, dim=2)


@torch.no_grad()
def resnet_features(store: PixelStore, indices: Tensor, weights: Path) -> Tensor:
    """Average-pooled ResNet-50 features ``[n, 2048]`` of images ``[n]``, from a state dict on this machine; nothing is downloaded.

    Raises:
        DataError: The file is not such a state dict.
    """
    from torchvision.models import resnet50

    model = resnet50(weights=None)
    try:
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except Exception as error:
        raise DataError(f"{weights} is not a ResNet-50 state dict of torchvision ({error})") from error
    model.fc = torch.nn.Identity()
    model.eval()
    mean, deviation = (
        torch.tensor(x).view(3, 1, 1) * 255 for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    out = torch.zeros(len(indices), 2048)
    for batch in evaluation_batches(store, indices, PROFILE_SIZE):
        out[batch.rows] = model((batch.images.float() - mean) / deviation)
    return out
