"""Two customers, one after the other, through real NNI experiments: what `make demo` runs.

    python examples/demo.py [--data FOLDER] [--out out/demo] [--port 8087]

Without --data both customers' images are synthetic: drawn by nni_hyperfd.synthetic, the same in every run. The first
customer tunes hyper-parameters, the second an architecture; the platform learns between them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import yaml

from nni_hyperfd.data.reading import Reading, add_reading_options
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.synthetic import generate

ROOT = Path(__file__).resolve().parents[1]
PATIENT_NNICTL = """
import functools
from nni.experiment import launcher
from nni.tools.nnictl.nnictl import parse_args
launcher._check_rest_server = functools.partial(launcher._check_rest_server, retry=60)
parse_args()
"""
"""nnictl gives its manager four seconds to start, which a busy machine may not keep."""

NNICTL = (sys.executable, "-W", "ignore", "-c", PATIENT_NNICTL)
FINAL_STATES = ("DONE", "ERROR")
"""TUNER_NO_MORE_TRIAL comes while the last trials still run; DONE comes after the platform's update."""

READ_BY_ITSELF = Reading()
"""The data folder tells how it is to be read."""

LIMIT = 3600.0
"""Seconds after which an experiment is taken to be stuck."""


@dataclass(frozen=True)
class Customer:
    """A data set and the search space it is tuned in."""

    name: str
    data: Path
    space: str
    reading: Reading = READ_BY_ITSELF


@dataclass(frozen=True)
class Outcome:
    """What one experiment left behind."""

    customer: Customer
    experiment: str
    folder: Path
    versions: tuple[int, int]
    trials: list[dict]
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of annotated face images to use for both customers")
    add_reading_options(parser)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "demo")
    parser.add_argument("--budget", default="smoke", help="paper, short or smoke")
    parser.add_argument("--port", type=int, default=8087)
    options = parser.parse_args()
    out = options.out.resolve()
    platform = out / "platform"
    shutil.rmtree(platform, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    customers = prepare(options.data, out, Reading.of(options))
    outcomes = []
    for customer in customers:
        print(f"\n{customer.name}: {customer.data}, {customer.space} space", flush=True)
        outcomes.append(run(customer, platform, out, options.budget, free_port(options.port)))
        if not outcomes[-1].trials:
            print(f"no trial gave a result: {reason(outcomes[-1].folder)}", file=sys.stderr)
            return 1
    show(outcomes, out, platform)
    return 0


def prepare(data: Path | None, out: Path, reading: Reading) -> list[Customer]:
    """The two customers; their synthetic images are drawn unless a folder is named."""
    if data is not None:
        folder = data.expanduser().resolve()
        return [
            Customer("customer 1", folder, "hpo", reading),
            Customer("customer 2", folder, "nas", reading),
        ]
    customers = []
    for name, style, space in (
        ("customer 1 (synthetic)", "cartoon", "hpo"),
        ("customer 2 (synthetic)", "thermal", "nas"),
    ):
        folder = out / "data" / style
        shutil.rmtree(folder, ignore_errors=True)
        generate(folder, style, images=120, seed=1)
        customers.append(Customer(name, folder, space))
    return customers


def run(customer: Customer, platform: Path, out: Path, budget: str, port: int) -> Outcome:
    """One experiment from `nnictl create` to `nnictl stop`."""
    config = out / f"{customer.space}.yml"
    config.write_text(yaml.safe_dump(configuration(customer, platform, out, budget), sort_keys=False))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    before = newest_version(platform)
    started = time.monotonic()
    created = subprocess.run(
        [*NNICTL, "create", "--config", str(config), "--port", str(port)],
        env=environment,
        capture_output=True,
        text=True,
    )
    found = re.search(r"Experiment ID: (\w+)", re.sub(r"\x1b\[\d+m", "", created.stdout))
    if not found or created.returncode:
        raise SystemExit(f"nnictl create failed:\n{created.stdout}{created.stderr}")
    experiment = found.group(1)
    folder = out / "nni-experiments" / experiment
    print(f"  experiment {experiment}, watch it at http://127.0.0.1:{port}", flush=True)
    try:
        trials = wait(port, started)
    finally:
        subprocess.run([*NNICTL, "stop", experiment], env=environment, capture_output=True)
    versions = (before, newest_version(platform))
    return Outcome(customer, experiment, folder, versions, trials, time.monotonic() - started)


def configuration(customer: Customer, platform: Path, out: Path, budget: str) -> dict:
    """NNI's experiment configuration, as examples/*.yml write it by hand."""
    words = [
        sys.executable,
        "finetune.py",
        "--data",
        customer.data,
        "--budget",
        budget,
        "--cache",
        out / "cache",
        *customer.reading.command_line(),
    ]
    chosen = {key: value for key, value in customer.reading.arguments().items() if value is not None}
    return {
        "experimentName": f"hyperfd-demo-{customer.space}",
        "experimentWorkingDirectory": str(out / "nni-experiments"),
        "searchSpaceFile": str(ROOT / "search_spaces" / f"{customer.space}.json"),
        "trialCommand": shlex.join(map(str, words)),
        "trialCodeDirectory": str(ROOT / "trial_code"),
        "trialConcurrency": max(1, min(4, os.cpu_count() or 1)),
        "maxTrialNumber": 8,
        "tuner": {
            "className": "nni_hyperfd.HyperFDTuner",
            "codeDirectory": str(ROOT),
            "classArgs": {
                "data": str(customer.data),
                **{key: list(value) if isinstance(value, tuple) else value for key, value in chosen.items()},
                "platform": str(platform),
                "budget": 4,
                "cache_dir": str(out / "cache"),
            },
        },
        "trainingService": {"platform": "local"},
    }


def wait(port: int, started: float) -> list[dict]:
    """Waits for the experiment's end, showing results as they come; returns the finished trials."""
    shown: set[str] = set()
    trials: list[dict] = []
    while True:
        time.sleep(2)
        try:
            status = get(port, "check-status")["status"]
            trials = finished_trials(port)
        except urllib.error.URLError:
            return trials  # NNI's manager has ended; its logs say why
        for trial in trials:
            if trial["id"] not in shown:
                shown.add(trial["id"])
                print(f"  {trial['id']}  AP@50 {trial['val_ap']:.3f}  {trial['text']}", flush=True)
        if status in FINAL_STATES or time.monotonic() - started > LIMIT:
            return trials


def reason(folder: Path) -> str:
    """The last complaint of an experiment's tuner, or else of its trials, of whatever they ran in, of NNI itself."""
    tuner, *nni = (folder / "log" / f"{name}.log" for name in ("dispatcher", "nnictl_stderr", "nnimanager"))
    trials = sorted(folder.glob("environments/*/trials/*/trial.stderr"))
    for log, complaint in (
        *((log, r"(?:HyperFD|finetune\.py): (.*)") for log in (tuner, *trials)),
        *((log, r"^(\w*(?:Error|Exception)\b.*)") for log in (*trials, tuner)),
        *((log, r"((?:ERROR|[Ee]rror:|not found).*)") for log in nni),
    ):
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        told = [(line, match.group(1)) for line in lines if (match := re.search(complaint, line))]
        if told:
            line, words = told[0] if log in nni else told[-1]
            return f"{line if log in nni else words} ({log})"
    return f"see {folder / 'log'}"


def finished_trials(port: int) -> list[dict]:
    """Trials with a final result: id, parameters in one line, AP on val and test."""
    # NNI may hand a job the parameters that it lists for another one; a trial reports which ones it ran.
    forms = [json.loads(job["hyperParameters"][0]) for job in get(port, "trial-jobs")]
    parameters = {str(form["parameter_id"]): form["parameters"] for form in forms}
    rows = []
    for metric in get(port, "metric-data"):
        if metric["type"] == "FINAL":
            final = json.loads(json.loads(metric["data"]))
            rows.append(
                {
                    "id": metric["trialJobId"],
                    "text": str(Configuration.from_parameters(parameters[metric["parameterId"]])),
                    "val_ap": final["default"],
                    "test_ap": final["test_ap"],
                }
            )
    return rows


def get(port: int, path: str):  # type: ignore[no-untyped-def]
    """One answer of NNI's REST interface."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/nni/{path}", timeout=30) as answer:
        return json.loads(answer.read())


def newest_version(platform: Path) -> int:
    """Newest ranker version; 0 where the platform does not exist yet."""
    if not platform.exists():
        return 0
    opened = Platform.open(platform)
    try:
        return opened.status().version
    finally:
        opened.close()


def free_port(wanted: int) -> int:
    """``wanted``, or the next free port after it."""
    for port in range(wanted, wanted + 200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise SystemExit(f"no free port from {wanted} on: name another one with --port")


def show(outcomes: list[Outcome], out: Path, platform: Path) -> None:
    """The table at the end, and where to look next."""
    print("\ncustomer                 space  AP@50 val   test   configuration")
    for outcome in outcomes:
        best = max(outcome.trials, key=lambda trial: trial["val_ap"])
        for trial in outcome.trials:
            mark = "*" if trial is best else " "
            print(
                f"{outcome.customer.name:24} {outcome.customer.space:5} {mark} {trial['val_ap']:8.3f}"
                f"  {trial['test_ap']:5.3f}   {trial['text']}"
            )
    print("(* best of its customer)\n")
    for outcome in outcomes:
        before, after = outcome.versions
        kept_back = (
            "" if after > before else " (a new one is kept back by its guard, see `hyperfd status` below)"
        )
        print(
            f"{outcome.customer.name}: platform version {before} -> {after}{kept_back}, {outcome.seconds:.0f} s"
        )
    print("\nWhere to look next")
    for outcome in outcomes:
        best = max(outcome.trials, key=lambda trial: trial["val_ap"])
        folder = outcome.folder / "environments" / "local-env" / "trials" / best["id"]
        print(f"  {outcome.customer.name}: weights, result and pictures of the best trial in {folder}")
        report = outcome.folder / "report" / "report.html"
        if report.exists():
            print(f"  {outcome.customer.name}: what came out, as a page: {report}")
    print(f"  what the platform knows now: hyperfd status --platform {shlex.quote(str(platform))}")
    print(
        f"  the pages again: nnictl view {outcomes[0].experiment} --experiment_dir {shlex.quote(str(out / 'nni-experiments'))}"
    )


if __name__ == "__main__":
    sys.exit(main())
