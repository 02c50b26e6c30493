"""Rivals in real NNI experiments on our trial script, beside HyperFDTuner at the same price.

    python benchmarks/nni_rivals.py [--only "Hyperband, mended" hyperfd-gp] [--out benchmarks/results/nni_rivals]

NNI's own Hyperband and BOHB advisors, successive halving (one bracket of HyperFDAdvisor over a population of which nothing is recommended), and
Syne Tune's ASHA, by which NNI stops running trials (nni_asha.py; NNI's Random tuner draws; it needs ``pip install -e .[rivals]``), and Quick-Tune
and DyHPO by Quick-Tune-Tool, as they are played on the tables, a trial for each epoch (nni_quick_tune.py; in an environment with
``pip install -e .[quicktune]``).
HPO space, generated images, budget smoke (four epochs). NNI's advisors train each rung anew, so their first bracket with R = 4 and eta = 2 (four
configurations for one epoch, two for two, one for four) costs twelve epochs: three full trainings. HyperFDTuner gets three full trainings. As NNI 3.0
has them, its advisors end with an error at the first result (they compare a parameter's id, a word, with a number); mended ones (nni_hyperband.py,
nni_bohb.py) are asked as well. BOHB needs ConfigSpace and statsmodels. An experiment with ASHA ends when three full trainings are paid for: a trial
that is stopped costs the epochs that it was validated after. Whether one of them is better cannot be seen from one experiment each.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rows import Rows

from nni_hyperfd.customer.result import read_metric
from nni_hyperfd.detection.training.budgets import BUDGETS
from nni_hyperfd.evidence.page import markdown_table
from nni_hyperfd.files import write_file
from nni_hyperfd.spaces.stages import Stage
from nni_hyperfd.spaces.standard import standard_search_space
from nni_hyperfd.spaces.unread import TRIAL_BUDGET, configuration_of
from nni_hyperfd.synthetic import generate

ROOT = Path(__file__).resolve().parents[1]
NNICTL = ROOT / "tests" / "end_to_end" / "patient_nnictl.py"
FULL = BUDGETS["smoke"].epochs
PRICE = 3
"""Full trainings: what the first bracket of NNI's advisors costs."""
JOBS = 7
"""Of that bracket."""
ETA = 2
HALVING, ASHA, OURS = "successive halving", "ASHA of Syne Tune", "hyperfd-gp"
QUICK = ("quick-tune, for few curves", "dyhpo")
"""Of Quick-Tune-Tool."""
RIVALS = ("Hyperband", "Hyperband, mended", "BOHB", "BOHB, mended", HALVING, ASHA, *QUICK, OURS)
LIMIT = 3600.0
FOR_NODE = ("examples/loopback_only.cjs", "tests/end_to_end/patience.cjs")
"""Keeps the page on this machine, and gives a dispatcher more than ten seconds to start."""


def configuration(rival: str, data: Path, home: Path) -> dict[str, Any]:
    """Of an experiment."""
    name, _, mended = rival.partition(", ")
    length = {"R": FULL} if name == "Hyperband" else {"min_budget": 1, "max_budget": FULL}
    arguments = {"optimize_mode": "maximize", "eta": ETA, **length}
    mender = own_class(f"benchmarks.nni_{name.lower()}.{name}", arguments)
    who: dict[str, Any] = {
        "advisor": mender if mended else {"name": name, "classArgs": arguments},
        "maxTrialNumber": JOBS,
    }
    ours: dict[str, Any] = {"data": str(data), "budget": PRICE, "platform": str(home / "platform")}
    if rival == OURS:
        who = {"tuner": own_class("nni_hyperfd.HyperFDTuner", {**ours, "method": rival})}
    elif rival == HALVING:
        who = {"advisor": own_class("nni_hyperfd.HyperFDAdvisor", {**ours, "eta": ETA, "share": 0})}
    elif rival == ASHA:
        who = {
            "tuner": {"name": "Random", "classArgs": {"seed": 1}},
            "assessor": own_class("benchmarks.nni_asha.ASHA", {"epochs": FULL}),
        }
    elif rival in QUICK:
        asked = {"method": rival, "epochs": FULL, "price": PRICE, "checkpoints": str(home / "checkpoints")}
        who = {"tuner": own_class("benchmarks.nni_quick_tune.QuickTune", asked)}
    return {
        "experimentName": rival,
        "searchSpace": standard_search_space("hpo"),
        "trialCommand": f"{sys.executable} finetune.py --data {data} --budget smoke",
        "trialCodeDirectory": str(ROOT / "trial_code"),
        "trialConcurrency": 1,
        "experimentWorkingDirectory": str(home / "experiments"),
        "trainingService": {"platform": "local"},
        **who,
    }


def own_class(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A class of this repository, as NNI's config names one."""
    return {"className": name, "codeDirectory": str(ROOT), "classArgs": dict(arguments)}


def environment_in(home: Path) -> dict[str, str]:
    """For nnictl and what it starts: a home of their own, this interpreter, and Node's page on this machine alone."""
    return {
        **os.environ,
        "HOME": str(home),
        "NNI_CONFIG_DIR": str(home / "nni-config"),
        "NODE_OPTIONS": " ".join(f'--require "{ROOT / each}"' for each in FOR_NODE),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]]),
    }


def nnictl(home: Path, *arguments: str) -> str:
    """What nnictl says in a home of its own, without colors."""
    command = [sys.executable, "-W", "ignore", str(NNICTL), *arguments]
    told = subprocess.run(command, env=environment_in(home), capture_output=True, text=True)
    return re.sub(r"\x1b\[\d+m", "", told.stdout + told.stderr)


def create(config: Path, home: Path, port: int) -> tuple[str | None, str]:
    """Begins an experiment; its id, or None, and what nnictl said."""
    (home / "experiments").mkdir(parents=True, exist_ok=True)
    told = nnictl(home, "create", "--config", str(config), "--port", str(port))
    found = re.search(r"Experiment ID: (\w+)", told)
    return (found.group(1) if found else None), told


def run(rival: str, data: Path, home: Path, port: int) -> list[str]:
    """Cells of the page: trials, price in full trainings, the best AP of a full training, with what, or why there is none."""
    config = home / "experiment.yml"
    config.write_text(yaml.safe_dump(configuration(rival, data, home)))
    experiment, told = create(config, home, port)
    if experiment is None:
        return ["–", "–", "–", _last_line(told)]
    folder = home / "experiments" / experiment
    end = time.monotonic() + LIMIT
    try:
        while time.monotonic() < end and not _over(folder, rival):
            time.sleep(2.0)
    finally:
        nnictl(home, "stop", experiment)
    return cells(folder)


@dataclass
class Job:
    """A trial job as NNI has it; its parameter's id may be a word, which :class:`~nni_hyperfd.plugin.records.Records` takes for another's."""

    parameters: dict[str, Any]
    ended: bool = False
    ap: float | None = None
    test_ap: float | None = None
    validations: int = 0
    """Reported on the way, one an epoch."""

    @property
    def epochs(self) -> int:
        """Paid for: what an advisor asked for, or those of a training that its result or an assessor ended."""
        if (stage := Stage.of(self.parameters)) is not None:
            return stage.stop - stage.begun
        if TRIAL_BUDGET in self.parameters or self.ap is not None:
            return int(self.parameters.get(TRIAL_BUDGET, FULL))
        return self.validations

    @property
    def whole(self) -> bool:
        """It brought a training to its end."""
        stage = Stage.of(self.parameters)
        return self.ap is not None and (self.epochs if stage is None else stage.stop) == FULL


def jobs_of(folder: Path) -> list[Job]:
    """From NNI's database, in the order of their beginnings."""
    found: dict[str, Job] = {}
    with closing(sqlite3.connect(folder / "db" / "nni.sqlite", timeout=10)) as records:
        events = "select trialJobId, event, data from TrialJobEvent where trialJobId != '' order by rowid"
        for job, event, form in records.execute(events):
            if job not in found:
                found[job] = Job(json.loads(form)["parameters"])
            found[job].ended |= event in (
                "SUCCEEDED",
                "FAILED",
                "USER_CANCELED",
                "SYS_CANCELED",
                "EARLY_STOPPED",
            )
        for job, value in records.execute("select trialJobId, data from MetricData where type = 'FINAL'"):
            result = read_metric(json.loads(json.loads(value)))
            found[job].ap, found[job].test_ap = result.ap, result.test_ap
        reported = "select trialJobId, count(*) from MetricData where type = 'PERIODICAL' group by trialJobId"
        for job, count in records.execute(reported):
            found[job].validations = count
    return list(found.values())


def _over(folder: Path, rival: str) -> bool:
    jobs = jobs_of(folder)
    if rival in QUICK:
        over = "to: TUNER_NO_MORE_TRIAL" in _logs(folder)
    elif rival == ASHA:
        over = sum(job.epochs for job in jobs if job.ended) >= PRICE * FULL
    else:
        over = len(jobs) >= (PRICE if rival == OURS else JOBS) and all(job.ended for job in jobs)
    return over or _trouble(folder) is not None


def _trouble(folder: Path) -> str | None:
    """The last error in NNI's logs after which no trial comes."""
    told = _logs(folder)
    return _last_line(told) if "Traceback" in told or "to: ERROR" in told else None


def _logs(folder: Path) -> str:
    """What NNI and the tuner or advisor wrote."""
    logs = [folder / "log" / name for name in ("dispatcher.log", "nnimanager.log")]
    return "".join(log.read_text() for log in logs if log.exists())


def cells(folder: Path) -> list[str]:
    """Trials with a result, price, the best AP of a full training and its configuration, of an experiment that is over."""
    jobs = jobs_of(folder)
    done = [job for job in jobs if job.ap is not None]
    found = [f"{len(done)} of {len(jobs)}", f"{sum(job.epochs for job in jobs) / FULL:g}"]
    whole = [job for job in done if job.whole]
    if (trouble := _trouble(folder)) is not None or not whole:
        return [*found, "–", trouble or "no full training"]
    best = max(whole, key=lambda job: job.ap or 0.0)
    return [*found, f"{best.ap:.3f}", json.dumps(configuration_of(best.parameters))]


def _last_line(text: str) -> str:
    told = [line.strip() for line in text.splitlines() if "Error" in line]
    return f"does not run: {(told or ['no reason given'])[-1][:200]}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=RIVALS, default=RIVALS)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--port", type=int, default=8950)
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "benchmarks" / "results" / "nni_rivals",
        help="results, without their suffix; those of rivals that are not asked now stay",
    )
    options = parser.parse_args()
    rows = Rows(options.out.with_suffix(".json"))
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        data = home / "faces"
        generate(data, "cartoon", images=options.images, seed=1)
        for number, rival in enumerate(options.only):
            began = time.monotonic()
            found = run(rival, data, home, options.port + number)
            rows[rival] = [*found, f"{time.monotonic() - began:.0f}"]
            rows.save()
            print(rival, *rows[rival], sep=" | ", flush=True)
    head = ["who", "trials with a result", "price, full trainings", "best AP@50 on val of a full training"]
    head += ["with", "seconds by the clock, busy machine"]
    write_file(
        options.out.with_suffix(".md"),
        f"Made by `python benchmarks/nni_rivals.py`: {options.images} generated cartoon images, HPO space, `--budget smoke`, one trial at a time.\n\n"
        + markdown_table(head, [[rival, *rows[rival]] for rival in RIVALS if rival in rows]),
    )


if __name__ == "__main__":
    main()
