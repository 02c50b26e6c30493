"""One trial: fine-tunes the pretrained face detector with one configuration and reports AP@50.

NNI starts it (``trialCommand: python finetune.py --data FOLDER --budget short``) and hands it a configuration; by hand:

    python trial_code/finetune.py --data FOLDER --config '{"optimizer": "adam", "lr": 0.001}' --budget smoke

Into the output folder go best.safetensors (the weights that are best on val, drawn back a little towards the base; the base itself
where they do not beat it), the same network as best.onnx where the package onnx is installed, result.json, detections.png and TensorBoard scalars.
Beside the result stands what the base reaches without training and, with --compare, what another ONNX detector does.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from nni_hyperfd import strict_json
from nni_hyperfd.data.reading import Reading, add_reading_options
from nni_hyperfd.script import as_script
from nni_hyperfd.trial import Trial, run_trial


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of annotated face images")
    parser.add_argument("--budget", default="short", help="paper, short, smoke or table")
    parser.add_argument(
        "--config",
        type=configuration,
        help="configuration as JSON; without it, the one NNI hands over, or outside NNI the first choice",
    )
    add_reading_options(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--threads", type=int, default=1, help="CPU threads; several one-thread trials do more work"
    )
    parser.add_argument("--device", help="cpu or cuda; by default cuda where there is one")
    parser.add_argument("--base", type=Path, help="folder of base weights other than the shipped ones")
    parser.add_argument("--out", type=Path, help="output folder; by default NNI's, or ./out by hand")
    parser.add_argument("--cache", type=Path, help="folder for decoded images; by default ~/.cache/hyperfd")
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="FILE.onnx",
        help="a detector to measure beside: RetinaFace, CenterFace or ours",
    )
    options = parser.parse_args()
    reading = Reading.of(options)
    others = {key: value for key, value in vars(options).items() if key not in reading.arguments()}
    return as_script(lambda: run_trial(Trial(reading=reading, **others)))


def configuration(text: str) -> dict[str, Any]:
    """A JSON object of parameters."""
    try:
        value = strict_json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"no JSON that can be used ({error})") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('no JSON object: write it like {"lr": 0.001}')
    return value


if __name__ == "__main__":
    sys.exit(main())
