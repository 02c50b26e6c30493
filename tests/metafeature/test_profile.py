"""Image-level features against a loop over anchors, and what the cache keeps and refuses."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from nni_hyperfd.data.dataset import FaceDataset, load_dataset, subset
from nni_hyperfd.data.pixels import Faces, open_pixels
from nni_hyperfd.detection.anchors import (
    IGNORED,
    NEGATIVE,
    POSITIVE,
    anchors_per_level,
    encode_boxes,
    match,
    priors,
)
from nni_hyperfd.detection.evaluation.detections import Batch, evaluation_batches
from nni_hyperfd.detection.network.weights import BASES, base_detector
from nni_hyperfd.errors import DataError
from nni_hyperfd.metafeature import profile as module
from nni_hyperfd.metafeature.features import CHANNELS
from nni_hyperfd.metafeature.profile import (
    PROFILE_SIZE,
    features_path,
    pool_anchors,
    profile_dataset,
    profile_images,
)

DiskFull = Callable[[int], AbstractContextManager[None]]


def slow_pool(maps: list[Tensor], size: tuple[int, int], faces: Faces, row: int) -> np.ndarray:
    """[2, 3, 86] of one image: the balanced mean of equation 2 and the plain mean, anchor by anchor."""
    height, width = (maps[0].shape[-2] * 8, maps[0].shape[-1] * 8)
    anchors = priors(height, width)
    one = faces[torch.tensor([row])]
    found = match(one.boxes, one.valid, one.ignored, anchors, 0.5, 0.3)
    out = np.zeros((2, 3, CHANNELS))
    start = 0
    for level, (stride, count) in enumerate(zip((8, 16, 32), anchors_per_level(height, width))):
        groups: dict[int, list[np.ndarray]] = {POSITIVE: [], NEGATIVE: [], IGNORED: []}
        for number in range(start, start + count):
            x, y = anchors[number, :2].tolist()
            if x >= size[1] or y >= size[0]:
                continue  # centered on padding
            label = int(found.label[0, number])
            features = maps[level][row, :, int(y // stride), int(x // stride)].double().numpy()
            offsets = np.zeros(4)
            if label == POSITIVE:
                face = one.boxes[0, found.face[0, number]]
                offsets = encode_boxes(face, anchors[number]).double().numpy()
            extra = [float(label == POSITIVE), float(found.iou[0, number]), *offsets]
            groups[label].append(np.concatenate([features, extra]))
        means = [np.mean(members, axis=0) if members else np.zeros(CHANNELS) for members in groups.values()]
        everything = [anchor for members in groups.values() for anchor in members]
        out[0, level] = sum(means) / 3
        out[1, level] = np.mean(everything, axis=0) if everything else 0
        start += count
    return out


def random_faces(generator: torch.Generator) -> Faces:
    corner = torch.rand(3, 4, 2, generator=generator) * 60
    boxes = torch.cat([corner, corner + 8 + torch.rand(3, 4, 2, generator=generator) * 40], dim=-1)
    valid = torch.tensor([[True, True, True, False], [False] * 4, [True] * 4])
    ignored = torch.tensor([[False, True, False, False], [False] * 4, [False, False, True, False]])
    return Faces(boxes, valid, ignored, torch.full((3, 4, 10), torch.nan))


@pytest.mark.parametrize("seed", range(3))
def test_pooling_equals_a_loop_over_anchors(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(3, 80, 64 // stride, 96 // stride, generator=generator) for stride in (8, 16, 32)]
    size = [(64, 96), (50, 70), (33, 96)]
    batch = Batch(torch.zeros(3, 3, 64, 96, dtype=torch.uint8), torch.arange(3), torch.tensor(size))
    faces = random_faces(generator)
    pooled = pool_anchors(maps, batch, faces)
    assert pooled.shape == (3, 2, 3, CHANNELS)
    for row in range(3):
        np.testing.assert_allclose(pooled[row].numpy(), slow_pool(maps, size[row], faces, row), atol=1e-5)


def test_features_over_padding_do_not_enter() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(3, 80, 64 // stride, 96 // stride, generator=generator) for stride in (8, 16, 32)]
    batch = Batch(torch.zeros(3, 3, 64, 96, dtype=torch.uint8), torch.arange(3), torch.tensor([[40, 56]] * 3))
    faces = random_faces(generator)
    before = pool_anchors(maps, batch, faces)
    for level, stride in zip(maps, (8, 16, 32)):
        centers_y = (torch.arange(level.shape[-2]) + 0.5) * stride
        centers_x = (torch.arange(level.shape[-1]) + 0.5) * stride
        level[:, :, centers_y >= 40] = 1e6
        level[:, :, :, centers_x >= 56] = 1e6
    torch.testing.assert_close(pool_anchors(maps, batch, faces), before)


def test_an_image_without_faces_has_only_negatives() -> None:
    maps = [torch.full((1, 80, 64 // stride, 64 // stride), 6.0) for stride in (8, 16, 32)]
    nobody = Faces(
        torch.zeros(1, 1, 4), *(torch.zeros(1, 1, dtype=torch.bool),) * 2, torch.full((1, 1, 10), torch.nan)
    )
    batch = Batch(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.tensor([0]), torch.tensor([[64, 64]]))
    pooled = pool_anchors(maps, batch, nobody)[0]
    assert (pooled[0, :, :80] == 2).all()  # (0 + 6 + 0) / 3: empty groups contribute zeros
    assert (pooled[1, :, :80] == 6).all()
    assert (pooled[:, :, 80:] == 0).all()


@pytest.fixture(scope="module")
def few(drawn_faces: Path) -> FaceDataset:
    """Three images to learn from, and one in each of the other splits."""
    dataset = load_dataset(drawn_faces)
    chosen = [*dataset.splits["train"][:3], dataset.splits["val"][0], dataset.splits["test"][0]]
    return subset(dataset, chosen)


def test_images_are_seen_as_trials_see_them(
    few: FaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way of one image, step by step: scaled to the profile's size, through the frozen base, pooled."""
    monkeypatch.setenv("HYPERFD_BFLOAT16", "off")
    store = open_pixels(few, 2 * PROFILE_SIZE, tmp_path)
    model = base_detector(BASES["standard"])
    features = profile_images(model, store, store.splits["train"])
    index = int(store.splits["train"][1])
    (batch,) = evaluation_batches(store, torch.tensor([index]), PROFILE_SIZE)
    with torch.no_grad():
        maps = model.eval().context(batch.images)
    image = few.images[index]
    scale = PROFILE_SIZE / min(image.width, image.height)
    faces = store.faces[torch.tensor([index])]
    height, width = batch.size[0].tolist()
    assert height == pytest.approx(image.height * scale, abs=0.5)
    faces = Faces(
        faces.boxes * torch.tensor([width / image.width, height / image.height] * 2),
        faces.valid,
        faces.ignored,
        faces.landmarks,
    )
    wanted = slow_pool(maps, (height, width), faces, 0)
    np.testing.assert_allclose(features.gwap[1].numpy(), wanted[0], atol=1e-3, rtol=1e-3)
    np.testing.assert_allclose(features.mean[1].numpy(), wanted[1], atol=1e-3, rtol=1e-3)
    counts = [int((~few.images[i].ignored).sum()) for i in store.splits["train"].tolist()]
    assert features.boxes.tolist() == counts


def test_the_second_profile_opens_no_image(
    few: FaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = profile_dataset(few, tmp_path)
    assert len(first) == 3
    monkeypatch.setattr(module, "open_pixels", lambda *_: pytest.fail("opened the images again"))
    again = profile_dataset(few, tmp_path)
    for name, tensor in first.tensors().items():
        assert torch.equal(tensor, again.tensors()[name])
    assert [path.suffix for path in (tmp_path / "features").iterdir() if path.suffix != ".lock"] == [
        ".safetensors"
    ]
    monkeypatch.setattr(module, "base_id", lambda: "another base")
    with pytest.raises(pytest.fail.Exception, match="opened the images again"):
        profile_dataset(few, tmp_path)


def test_other_boxes_are_another_data_set(few: FaceDataset, tmp_path: Path) -> None:
    first = profile_dataset(few, tmp_path)
    image = few.images[few.splits["train"][0]]
    before = image.boxes.copy()
    try:
        image.boxes[:, 2:] -= 4
        second = profile_dataset(few, tmp_path)
    finally:
        image.boxes[:] = before
    assert not torch.equal(first.gwap, second.gwap)


def test_a_full_disk_is_one_sentence(few: FaceDataset, tmp_path: Path, disk_full_after: DiskFull) -> None:
    open_pixels(few, 2 * PROFILE_SIZE, tmp_path)
    with disk_full_after(1_000), pytest.raises(DataError, match="cannot write image features") as caught:
        profile_dataset(few, tmp_path)
    assert "\n" not in str(caught.value)
    assert len(profile_dataset(few, tmp_path)) == 3


def test_a_wrong_resnet_file_is_one_sentence(few: FaceDataset, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "r.pt")
    with pytest.raises(DataError, match="not a ResNet-50 state dict"):
        profile_dataset(few, tmp_path, tmp_path / "r.pt")


def test_features_are_named_after_all_that_they_depend_on(
    few: FaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.pt").write_bytes(b"one")
    (tmp_path / "b.pt").write_bytes(b"two")
    paths = {
        features_path(few, tmp_path, weights) for weights in (None, tmp_path / "a.pt", tmp_path / "b.pt")
    }
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    paths.add(features_path(few, tmp_path))
    monkeypatch.setattr(module, "base_id", lambda: "another")
    paths.add(features_path(few, tmp_path))
    assert len(paths) == 5
    with pytest.raises(DataError, match=r"cannot read .*gone.pt \(No such file or directory\)"):
        features_path(few, tmp_path, tmp_path / "gone.pt")
