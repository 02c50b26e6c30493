"""NNI's page after a real experiment by each of our ways to spend a price: hyperfd-gp, hyperfd-mf, and HyperFDAdvisor with all its brackets.

    python benchmarks/nni_pages.py --out docs/pictures [--images 60] [--port 8960]

The examples as they are, but for `--budget smoke` and one trial at a time, on generated cartoon faces. Each experiment runs by nnictl until it says DONE
and is stopped after its pictures are taken (benchmarks/screenshot.py, headless Chromium). Of each there is one page: `nni_gp.png`, `nni_mf.png`,
`nni_hyperband.png`, the curves of all trials with the last one opened. Minutes each on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from nni_rivals import LIMIT, ROOT, create, nnictl
from PIL import Image
from screenshot import take_pictures

from nni_hyperfd.synthetic import generate

EXAMPLES = {"gp": "hyperfd", "mf": "hyperfd_mf", "hyperband": "hyperfd_advisor"}
"""Name of the picture -> of the example."""
LAST = ("DONE", "ERROR", "STOPPED")


def experiment(example: str, data: Path, home: Path, budget: str = "smoke", at_a_time: int = 1) -> Path:
    """The example's configuration, on this data and for the platform in ``home``."""
    config = yaml.safe_load((ROOT / "examples" / f"{example}.yml").read_text())
    command = f"{sys.executable} finetune.py --data {data} --budget {budget}"
    config |= {"trialCommand": command, "trialConcurrency": at_a_time}
    config |= {"searchSpaceFile": str(ROOT / "examples" / config["searchSpaceFile"])}
    config |= {"trialCodeDirectory": str(ROOT / "trial_code")}
    config |= {"experimentWorkingDirectory": str(home / "experiments")}
    config["tuner"]["codeDirectory"] = str(ROOT)
    config["tuner"]["classArgs"] |= {"data": str(data), "platform": str(home / "platform")}
    path = home / f"{example}.yml"
    path.write_text(yaml.safe_dump(config))
    return path


class Over(NamedTuple):
    """An experiment that is over and not yet stopped: its page, its folder, and its last state."""

    url: str
    folder: Path
    state: str


@contextmanager
def to_its_end(config: Path, home: Path, port: int) -> Iterator[Over]:
    """Runs an experiment by nnictl until it is over, and stops it at last."""
    url = f"http://127.0.0.1:{port}"
    begun, told = create(config, home, port)
    if begun is None:
        raise SystemExit(f"{config.name}: nnictl began no experiment: {told}")
    try:
        end, state = time.monotonic() + LIMIT, ""
        while time.monotonic() < end and state not in LAST:
            time.sleep(5.0)
            state = asked(f"{url}/api/v1/nni/check-status")["status"]
        yield Over(url, home / "experiments" / begun, state)
    finally:
        nnictl(home, "stop", begun)


def pictured(name: str, data: Path, home: Path, port: int, out: Path) -> str:
    """Runs one example to its end and keeps its page; its last state."""
    home.mkdir(parents=True, exist_ok=True)
    with to_its_end(experiment(EXAMPLES[name], data, home), home, port) as over:
        last = max(job["sequenceId"] for job in asked(f"{over.url}/api/v1/nni/trial-jobs"))
        with tempfile.TemporaryDirectory() as pictures:
            take_pictures(over.url, Path(pictures), last, 1400, 900)
            few_colors(Path(pictures) / "trial.png", out / f"nni_{name}.png")
        return f"{over.state} after {last + 1} trials"


def few_colors(picture: Path, out: Path) -> None:
    """A quarter of the size, and to the eye the same page."""
    with Image.open(picture) as page:
        page.convert("RGB").quantize(64).save(out, optimize=True)


def asked(url: str) -> Any:
    """NNI's answer."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=EXAMPLES, default=list(EXAMPLES))
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--port", type=int, default=8960)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "faces"
        generate(data, "cartoon", images=options.images, seed=1)
        for number, name in enumerate(options.only):
            print(
                name,
                pictured(name, data, Path(folder) / name, options.port + number, options.out),
                flush=True,
            )


if __name__ == "__main__":
    main()
