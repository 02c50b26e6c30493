"""Memory of the dispatcher, the process in which NNI runs our tuner, while an experiment runs (Linux).

    python benchmarks/dispatcher_memory.py --port 8080

Prints resident memory now and at its highest so far. The issue's goal: less than 1.5 GB.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import psutil


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True, help="of the experiment's web page")
    port = parser.parse_args().port
    for process in psutil.process_iter():
        try:
            channel = process.environ().get("NNI_TUNER_COMMAND_CHANNEL", "")
            if (
                f":{port}/" not in channel
                or "--exp_params" not in process.cmdline()
                or process.name() == "sh"
            ):
                continue
        except psutil.Error:
            continue
        status = Path(f"/proc/{process.pid}/status").read_text()
        for label, field in (("resident now", "VmRSS"), ("highest so far", "VmHWM")):
            kilobytes = int(re.search(rf"{field}:\s+(\d+)", status).group(1))  # type: ignore[union-attr]
            print(f"{label:15} {kilobytes / 1e6:.2f} GB")
        return 0
    print(f"no dispatcher of an experiment on port {port} is running", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
