"""Detectors of others, as ONNX files, measured as ours are: the same images, the same suppression, the same AP@50.

What a file computes is told from the shapes of its outputs. Three kinds are known: this package's own ``best.onnx``;
RetinaFace with two anchors a pixel, as its public exports have it (Deng et al., 2020); and the four maps of CenterFace
(Xu et al., 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from nni_hyperfd.data.pixels import PixelStore
from nni_hyperfd.detection.anchors import anchors_per_level, decode_boxes, priors
from nni_hyperfd.detection.evaluation.detections import (
    Batch,
    Detections,
    ap50,
    evaluation_batches,
    gathered,
    ground_truth,
    strongest,
    suppress,
)
from nni_hyperfd.errors import DataError

RETINAFACE_MEAN = (104.0, 117.0, 123.0)
"""Of blue, green and red: what the public RetinaFace subtracts from pixels in 0..255."""
CENTERFACE_STRIDE = 4
PROBE = (64, 96)
"""Height and width of the empty image whose outputs tell what kind of detector a file is."""
SCALES = (1.0, 1.5, 2.0)
"""Input sizes that are tried, as multiples of the trial's evaluation size: a detector trained on large images needs them."""


@dataclass(frozen=True)
class DetectorKind:
    """How to feed one kind of detector and how to read its outputs."""

    prepare: Callable[[Tensor], Tensor]
    """RGB ``[B, 3, H, W]`` uint8 -> the float32 input of the network."""
    candidates: Callable[[list[Tensor], int, int], tuple[Tensor, Tensor]]
    """Sorted outputs, H, W -> scores ``[B, A]`` in 0..1 and corner boxes ``[B, A, 4]`` in pixels."""


def _from_retinaface(outputs: list[Tensor], height: int, width: int) -> tuple[Tensor, Tensor]:
    confidence, offsets, _ = outputs
    return confidence[..., 1], decode_boxes(offsets, priors(height, width))


def _from_centerface(outputs: list[Tensor], height: int, width: int) -> tuple[Tensor, Tensor]:
    """Box centers ``stride · (cell + offset + ½)``, sides ``stride · exp(scale)``; each map as (vertical, horizontal)."""
    heat, scale, offset = outputs[:3]
    rows, columns = heat.shape[-2:]
    cell = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"))
    center = (cell + offset + 0.5) * CENTERFACE_STRIDE
    half = scale.exp() * CENTERFACE_STRIDE / 2
    boxes = torch.cat([(center - half).flip(1), (center + half).flip(1)], dim=1)
    return heat.flatten(1), boxes.flatten(2).transpose(1, 2)


OWN = DetectorKind(lambda pixels: pixels.float(), lambda outputs, height, width: (outputs[0], outputs[1]))
RETINAFACE = DetectorKind(
    lambda pixels: pixels.flip(1).float() - torch.tensor(RETINAFACE_MEAN).view(3, 1, 1), _from_retinaface
)
CENTERFACE = DetectorKind(lambda pixels: pixels.float(), _from_centerface)


class ForeignDetector:
    """The detector in the content of an ONNX file, on one thread.

    Raises:
        DataError: The packages ``onnx`` and ``onnxruntime`` are absent, it is no ONNX model, or none of the kinds.
    """

    def __init__(self, name: str, content: bytes) -> None:
        self.name = name
        self._session = session_of(name, content)
        self._input = self._session.get_inputs()[0]
        self.kind, self._order = self._recognize()

    @classmethod
    def read(cls, path: Path) -> ForeignDetector:
        """The detector in the file ``path``.

        Raises:
            DataError: The file cannot be read, or holds no detector of a kind that is known.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(
                f"cannot read the detector {path} ({error.strerror or error}): name an .onnx file"
            ) from error
        return cls(str(path), content)

    def _recognize(self) -> tuple[DetectorKind, list[int]]:
        """The kind whose outputs have these shapes, and the positions of its outputs in our order."""
        height, width = PROBE
        try:
            shapes = [tuple(output.shape) for output in self._run(torch.zeros(1, 3, height, width))]
        except Exception as error:
            # ONNX Runtime has exceptions of its own for each of its failures.
            raise DataError(
                f"{self.name} does not take one image of any size as [1, 3, height, width] ({_first_line(error)}): export it "
                "with free height and width"
            ) from error
        anchors = sum(anchors_per_level(height, width))
        cells = (height // CENTERFACE_STRIDE, width // CENTERFACE_STRIDE)
        known: tuple[tuple[DetectorKind, list[tuple[int, ...]]], ...] = (
            (OWN, [(1, anchors), (1, anchors, 4), (1, anchors, 10)]),
            (RETINAFACE, [(1, anchors, 2), (1, anchors, 4), (1, anchors, 10)]),
            (CENTERFACE, [(1, 1, *cells), (1, 2, *cells), (1, 2, *cells), (1, 10, *cells)]),
        )
        for kind, wanted in known:
            if sorted(shapes) == sorted(wanted):
                # Equal shapes (scale, offset) keep the order of the file.
                order = sorted(range(len(shapes)), key=lambda place: wanted.index(shapes[place]))
                return kind, order
        raise DataError(
            f"{self.name} is no detector this package can read: for an image of {width} x {height} its outputs are "
            f"{', '.join(map(str, shapes))}, and neither those of RetinaFace with {anchors} anchors nor CenterFace's four maps"
        )

    def _run(self, pixels: Tensor) -> list[Tensor]:
        return [torch.from_numpy(x) for x in self._session.run(None, {self._input.name: pixels.numpy()})]

    def candidates(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``[B, A]`` and corner boxes ``[B, A, 4]`` in pixels for RGB images ``[B, 3, H, W]`` uint8."""
        height, width = images.shape[-2:]
        prepared = self.kind.prepare(images)
        # Image by image: many files are exported for one, whatever their header says.
        parts = []
        for row in prepared.split(1):
            outputs = self._run(row)
            parts.append(self.kind.candidates([outputs[place] for place in self._order], height, width))
        scores, boxes = (torch.cat(column) for column in zip(*parts))
        return scores, boxes

    def detect(self, batches: Iterator[Batch]) -> Detections:
        """Detections on all batches of a split, after the suppression that ours go through."""
        parts = []
        for batch in batches:
            scores, boxes = self.candidates(batch.images)
            scores, index = strongest(scores)
            boxes = boxes.gather(1, index.unsqueeze(-1).expand(-1, -1, 4))
            parts.append(suppress(scores, boxes, batch))
        return gathered(parts)


@dataclass(frozen=True)
class Reached:
    """AP@50 (0..1) of a detector on val and test, with its images' short side at ``size`` pixels."""

    size: int
    val_ap: float
    test_ap: float


class Detector(Protocol):
    """Anything that finds faces in the batches of a split."""

    def detect(self, batches: Iterator[Batch]) -> Detections: ...


def reached(detector: Detector, store: PixelStore, evaluation_size: int) -> Reached:
    """What ``detector`` reaches without training, at that of the sizes that is best on val: a rival gets its best.

    The faces that count are the same at every size: which ones are too small is decided relative to the image.
    """

    def ap(split: str, size: int) -> float:
        rows = store.splits[split]
        return ap50(detector.detect(evaluation_batches(store, rows, size)), ground_truth(store, rows, size))

    sizes = [round(evaluation_size * scale) for scale in SCALES]
    val_ap, size = max((ap("val", size), -size) for size in sizes)
    return Reached(-size, val_ap, ap("test", -size))


def session_of(name: str, content: bytes) -> Any:
    """A session whose batch, height and width are free, also where the header names the sizes of an export.

    Raises:
        DataError: A package is not installed, or this is no ONNX model.
    """
    try:
        import onnx
        import onnxruntime as runtime
    except ImportError as error:
        raise DataError(
            f"comparing with an ONNX detector needs the package {error.name}: pip install 'nni-hyperfd[compare]'"
        ) from error
    try:
        model = onnx.load_from_string(content)
        for value in (*model.graph.input, *model.graph.output):
            for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
                if axis != 1:
                    dimension.dim_param = f"{value.name}_{axis}"
        del model.graph.value_info[:]
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        # Protobuf and ONNX Runtime each have exceptions of their own.
        raise DataError(
            f"{name} is no ONNX model ({_first_line(error)}): name an .onnx file of a detector"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
