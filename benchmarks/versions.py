"""The tests with the oldest and with the newest allowed versions of what the package stands on.

Builds an environment a case with uv (``pip install uv``), runs tests in it, and writes what was seen::

    python benchmarks/versions.py                             # both cases, all tests but real experiments
    python benchmarks/versions.py oldest --tests tests/ranker
    python benchmarks/versions.py newest --bfloat16 off       # as on a processor without bfloat16

About 6 GB for each environment, below ``--folder``, where they are found again. Oldest are the lower bounds of setup.py.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "versions.md"
LIBRARIES = (
    "torch",
    "torchvision",
    "torch-geometric",
    "numpy",
    "pillow",
    "pydantic",
    "fastapi",
    "sqlalchemy",
)
PYTHONS = {"oldest": "3.10", "newest": "3.13"}
REAL_EXPERIMENTS = "tests/end_to_end"
HEADER = (
    "# Versions seen at work\n\n"
    "Written by `benchmarks/versions.py`, a row a run: the newest run of a case and its tests counts.\n\n"
    f"| case | day | commit | Python | {' | '.join(LIBRARIES)} | bfloat16 | tests | result |\n"
    f"|{' --- |' * (8 + len(LIBRARIES))}\n"
)


@dataclass(frozen=True)
class Case:
    """``name`` is a key of PYTHONS; its environment lies in ``folder``."""

    name: str
    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"


def lower_bounds(setup: Path) -> dict[str, str]:
    """Oldest allowed version of each of LIBRARIES, as setup.py says it.

    Raises:
        SystemExit: setup.py gives one of them no lower bound, so that nobody knows what is promised.
    """
    found = {}
    for name in LIBRARIES:
        bound = re.search(rf'"{re.escape(name)}>=([\d.]+)', setup.read_text(), re.IGNORECASE)
        if bound is None:
            raise SystemExit(f'versions.py: {setup} has no lower bound for {name}: write "{name}>=<version>"')
        found[name] = bound[1]
    return found


def install(case: Case, python: str) -> None:
    """Makes the environment, unless it is there."""
    done = case.folder / "done"
    if done.exists():
        return
    subprocess.run(["uv", "venv", "--quiet", "--clear", "--python", python, str(case.folder)], check=True)
    wanted = ["setup.py"]
    if case.name == "oldest":
        pins = case.folder / "pins.txt"
        lines = [f"{name}=={version}" for name, version in lower_bounds(ROOT / "setup.py").items()]
        pins.write_text("\n".join(lines))
        wanted.append(str(pins))
    lock = case.folder / "lock.txt"
    subprocess.run(
        [
            *("uv", "pip", "compile", "--quiet", "--python", str(case.python), "--extra", "test"),
            *("--output-file", str(lock), *wanted),
        ],
        check=True,
        cwd=ROOT,
    )
    subprocess.run(
        ["uv", "pip", "install", "--quiet", "--python", str(case.python), "-r", str(lock)], check=True
    )
    done.touch()


def installed(case: Case) -> dict[str, str]:
    """Versions of LIBRARIES and of Python."""
    code = (
        "import json, platform, sys; from importlib.metadata import version; "
        "print(json.dumps({'Python': platform.python_version()} | {n: version(n) for n in sys.argv[1:]}))"
    )
    answer = subprocess.run([case.python, "-c", code, *LIBRARIES], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(answer.stdout)
    return found


def test(case: Case, tests: list[str], bfloat16: str) -> tuple[int, str, list[str]]:
    """pytest's exit status, its last line, and the names of tests that failed; what it says is in ``pytest.log`` as it comes."""
    environment = {
        **os.environ,
        "PATH": f"{case.folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "HYPERFD_BFLOAT16": bfloat16,
        "NODE_OPTIONS": f'--require "{ROOT / "examples" / "loopback_only.cjs"}"',
    }
    command = [str(case.python), "-m", "pytest", "-p", "no:cacheprovider", "-rfE", *tests]
    log = case.folder / "pytest.log"
    with log.open("w") as out:
        run = subprocess.run(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)
    lines = log.read_text().strip().splitlines() or ["pytest said nothing"]
    failed = [line.split(" - ")[0] for line in lines if re.match(r"(FAILED|ERROR) ", line)]
    return run.returncode, lines[-1], failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[[], *PYTHONS], metavar="oldest|newest")
    parser.add_argument("--python", help="other version than that of the case (oldest: 3.10, newest: 3.13)")
    parser.add_argument("--tests", nargs="+", default=["tests", f"--ignore={REAL_EXPERIMENTS}"])
    parser.add_argument("--bfloat16", choices=["on", "off"], default="on")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "versions")
    options = parser.parse_args()
    red = 0
    for name in options.cases or PYTHONS:
        python = options.python or PYTHONS[name]
        case = Case(name, options.folder.resolve() / f"{name}-{python}")
        install(case, python)
        seen = installed(case)
        status, said, failed = test(case, options.tests, options.bfloat16)
        red = red or status
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.strip()
        day = datetime.now(timezone.utc).date().isoformat()
        result = "; ".join([said.strip("= "), *failed])
        cells = [name, day, commit, seen["Python"], *(seen[key] for key in LIBRARIES), options.bfloat16]
        if not RESULT.exists():
            RESULT.write_text(HEADER)
        with RESULT.open("a") as page:
            print(f"| {' | '.join([*cells, ' '.join(options.tests), result])} |", file=page)
        print(f"{name}, Python {seen['Python']}: {result}", flush=True)
    return red


if __name__ == "__main__":
    sys.exit(main())
