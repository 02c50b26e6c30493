"""Two trials of one thread each at once, against one trial of two threads: trainings an hour on two cores.

    python benchmarks/concurrency.py --data MASKS_STREET [--budget smoke] [--trials 4]

Run it on a machine that does nothing else. Each way runs the same trainings; set-up is not counted.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

CHILD = """
import sys, time, torch
from pathlib import Path
from nni_hyperfd.evidence.runner import PairRunner
from nni_hyperfd.evidence.table import canonical
from nni_hyperfd.spaces.hyperparameters import DEFAULT_HYPERPARAMETERS
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.standard import standard_space
folder, budget, threads, first, step, trials = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
torch.set_num_threads(threads)
text = canonical(standard_space("hpo").parameters(Configuration(DEFAULT_HYPERPARAMETERS)))
run = PairRunner({folder.name: folder})
run(folder.name, text, "table", 99, "cpu")
print("ready", flush=True)
sys.stdin.readline()
for seed in range(first, trials, step):
    run(folder.name, text, budget, seed, "cpu")
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--budget", default="smoke")
    parser.add_argument("--trials", type=int, default=4)
    options = parser.parse_args()
    seconds = {}
    for processes, threads in ((2, 1), (1, 2), (1, 2), (2, 1)):
        children = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    CHILD,
                    *map(str, (options.data, options.budget, threads, number, processes, options.trials)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(processes)
        ]
        for child in children:
            child.stdout.readline()
        started = time.monotonic()
        for child in children:
            child.stdin.write("go\n")
            child.stdin.close()
        for child in children:
            child.wait()
        took = time.monotonic() - started
        seconds.setdefault(processes, []).append(took)
        print(f"{processes} x {threads} thread(s): {took / options.trials:.1f} s a trial", flush=True)
    print(f"two one-thread trials do {sum(seconds[1]) / sum(seconds[2]):.2f} times the work")


if __name__ == "__main__":
    main()
