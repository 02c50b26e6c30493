"""How long the parts of a detector take on this device: measured once, kept in the cache, and added up for any network.

What is measured is a detector's forward pass for one image, as ``hyperfd detect`` runs it: evaluation mode, float32, channels last; no
decoding of boxes, no suppression. On a CPU one core is used.
"""

from __future__ import annotations

import json
import logging
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from nni_hyperfd.data.pixels import default_cache_dir
from nni_hyperfd.detection.network.backbone import FEATURE_STAGES, InvertedResidual
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.errors import SpaceError
from nni_hyperfd.files import write_file
from nni_hyperfd.spaces.architecture import STAGES, STEM_WIDTH, mobilenet_v2
from nni_hyperfd.spaces.cost import PARTS, PartCosts

logger = logging.getLogger(__name__)

HEIGHT, WIDTH = 384, 640
"""640×360 as a detector pads it to multiples of 32."""
WARM_UP, REPEATS = 3, 11
FORMAT = 1

Timer = Callable[[Callable[[], object]], float]


@dataclass(frozen=True)
class Latency:
    """Milliseconds of all parts of a network.

    Args:
        device: In words, with what else the numbers depend on.
        milliseconds: A network takes the sum.
    """

    device: str
    milliseconds: PartCosts

    @classmethod
    def of_this_device(cls, cache_dir: Path | None) -> Latency:
        """Of the CUDA device if there is one, else of a core of the CPU: from the cache, or measured and put there."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        name = f"{_name(device)}, torch {torch.__version__}"
        path = (
            (cache_dir or default_cache_dir()) / "latency" / f"{sha256(name.encode()).hexdigest()[:16]}.json"
        )
        known = _read(path, name)
        if known is not None:
            return known
        logger.info("Measuring how long the parts of a network take on this device (%s)", name)
        found = cls(name, measure(device, lambda run: _median_ms(run, device)))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps(found._content(), indent=1))
        return found

    def _content(self) -> dict[str, object]:
        parts = {part.label: ms for part, ms in zip(PARTS, self.milliseconds.parts)}
        return {"format": FORMAT, "device": self.device, "rest_ms": self.milliseconds.rest, "parts_ms": parts}


def measure(device: torch.device, timed: Timer) -> PartCosts:
    """Milliseconds of every part on a device.

    Args:
        device: On which the networks will run.
        timed: How long a call takes, in milliseconds.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return PartCosts(
                _rest(device, timed), tuple(_block(index, device, timed) for index in range(len(PARTS)))
            )
    finally:
        torch.set_num_threads(threads)


def _rest(device: torch.device, timed: Timer) -> float:
    """Stem, pyramid, context modules and heads."""
    detector = RetinaFace(mobilenet_v2()).eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    sides = {stage: 2 ** (3 + i) for i, stage in enumerate(FEATURE_STAGES)}
    maps = [_input(STAGES[stage - 1].width, sides[stage], device) for stage in FEATURE_STAGES]
    image = _input(3, 1, device)

    def neck() -> object:
        return detector.predict([module(x) for module, x in zip(detector.contexts, detector.pyramid(maps))])

    return timed(lambda: detector.backbone.stem(image)) + timed(neck)


def _block(index: int, device: torch.device, timed: Timer) -> float:
    part = PARTS[index]
    stage = STAGES[part.stage - 1]
    stride = 2
    for before in STAGES[: part.stage - 1]:
        stride *= before.stride
    width = STEM_WIDTH if part.stage == 1 else STAGES[part.stage - 2].width
    if not part.first:
        stride, width = stride * stage.stride, stage.width
    block = InvertedResidual(
        width, stage.width, part.block.kernel, part.block.expand, stage.stride if part.first else 1
    )
    block = block.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = _input(width, stride, device)
    return timed(lambda: block(x))


def _input(channels: int, stride: int, device: torch.device) -> Tensor:
    """Any numbers but zeros and denormal ones, which some processors multiply at another speed."""
    shape = (1, channels, HEIGHT // stride, WIDTH // stride)
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return drawn.to(device).contiguous(memory_format=torch.channels_last)


def _median_ms(run: Callable[[], object], device: torch.device) -> float:
    taken = []
    for _ in range(WARM_UP + REPEATS):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken[WARM_UP:])


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"one core of {models[0] if models else platform.processor() or platform.machine()}"


def _read(path: Path, name: str) -> Latency | None:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read (%s); the device is measured anew", path, error)
        return None
    try:
        if content["format"] != FORMAT or content["device"] != name:
            raise KeyError("format")
        parts = tuple(float(content["parts_ms"][part.label]) for part in PARTS)
        return Latency(name, PartCosts(float(content["rest_ms"]), parts))
    except (KeyError, TypeError, ValueError, SpaceError):
        logger.warning("%s is not what this version of nni_hyperfd writes; the device is measured anew", path)
        return None
