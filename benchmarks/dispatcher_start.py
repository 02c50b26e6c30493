"""What the process in which NNI runs our tuner takes until NNI can connect, until it has ranked, and until it has planned.

    python benchmarks/dispatcher_start.py [NAME=CHECKOUT ...] [--times 5] [--out benchmarks/results/dispatcher.md]

NNI ends an experiment whose tuner has not connected in ten seconds, and it connects when the tuner is made. Each checkout (this one by
default) is asked in turn, so that a busy machine treats all alike: the least processor seconds of some processes, and their resident memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

STAGES = {
    "nni": ("NNI's own dispatcher is imported", "import nni.__main__"),
    "made": (
        "the tuner is made: NNI connects now",
        "import nni_hyperfd; tuner = nni_hyperfd.HyperFDTuner(data='faces', budget=4)",
    ),
    "imported": (
        "what the first callback imports is there",
        "import nni_hyperfd.customer.customer, nni_hyperfd.plugin.opening",
    ),
    "ranked": (
        "the shipped platform is opened and has ranked the space of hyper-parameters",
        """
import tempfile
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.protocol.messages import RecommendRequest, Subject
from nni_hyperfd.spaces.standard import standard_search_space
platform = Platform.open(tempfile.mkdtemp())
base = platform.status().base_id
subject = Subject(space=standard_search_space("hpo"), phi=(0.1,) * 64, extractor_version=0, base_id=base)
ask = getattr(platform, "ask", None) or platform.recommend  # as older checkouts call it
ask(RecommendRequest(subject=subject, budget=4))
""",
    ),
    "planned": (
        "it has planned with hyperfd-gp",
        "ask(RecommendRequest(subject=subject, budget=4, method='hyperfd-gp'))",
    ),
}
"""What a process comes to, one after the other, and by which statements."""

MEASURE = """
import json, sys, time
found = {}
for name, work in json.loads(sys.argv[1]).items():
    exec(work)
    status = open("/proc/self/status").read()
    memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    found[name] = (time.process_time(), memory / 1024)
print(json.dumps(found | {"modules": sorted({m.split(".")[0] for m in sys.modules})}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkouts", nargs="*", default=[f"now={ROOT}"], metavar="NAME=CHECKOUT")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    checkouts = dict(each.split("=", 1) for each in options.checkouts)
    runs: dict[str, list[dict[str, tuple[float, float]]]] = {name: [] for name in checkouts}
    for _ in range(options.times):
        for name, folder in checkouts.items():
            runs[name].append(once(Path(folder)))
            print(name, runs[name][-1], flush=True)
    text = page(runs)
    print(text)
    if options.out:
        options.out.write_text(text)


def once(checkout: Path) -> dict[str, tuple[float, float]]:
    """Processor seconds and resident megabytes after each stage, in a process of its own."""
    work = json.dumps({name: statements for name, (_, statements) in STAGES.items()})
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEASURE, work]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    heavy = {"torch", "torch_geometric", "torchvision", "sklearn", "joblib"} & set(found.pop("modules"))
    print(checkout.name, "ends with", *sorted(heavy))
    return {name: (seconds, megabytes) for name, (seconds, megabytes) in found.items()}


def page(runs: dict[str, list[dict[str, tuple[float, float]]]]) -> str:
    """The least of each as markdown."""
    times = len(next(iter(runs.values())))
    lines = [
        "# What the dispatcher takes",
        "",
        f"`python benchmarks/dispatcher_start.py`, the least of {times} processes that took turns, one thread: processor seconds since the "
        "process began, and resident memory. NNI gives ten seconds until it connects.",
        "",
        f"| when | {' | '.join(f'{name}, s | {name}, MB' for name in runs)} |",
        "|---|" + "---|---|" * len(runs),
    ]
    for stage, (words, _) in STAGES.items():
        cells = []
        for found in runs.values():
            seconds, megabytes = (min(each[stage][i] for each in found) for i in (0, 1))
            cells.append(f"{seconds:.2f} | {megabytes:.0f}")
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
