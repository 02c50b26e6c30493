"""Run by ``test_sudden_death``: kills updates of experiment "exp" at their database statements, and races two of them.

Arguments: folder of the platform, file of the customer's features, how many statements lie between two deaths.
Prints what was found as JSON.  The processes that die are forks of this one, which has loaded everything already, so
that many deaths take little time.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from sqlalchemy import Engine, event

from benchmarks.forks import fork
from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.protocol.messages import FindTask
from nni_hyperfd.ranker.settings import RankerSettings

FOLDER, FEATURES, STRIDE = Path(sys.argv[1]), ImageFeatures.load(Path(sys.argv[2])), int(sys.argv[3])
SETTINGS = RankerSettings(batches=3, images=6)


def scratch(name: str) -> Path:
    """A copy of the platform."""
    return Path(shutil.copytree(FOLDER, FOLDER.parent / name))


def update(place: Path, death: int | None = None) -> tuple[int | None, int]:
    """Finish "exp" -> (version after, database statements); the process dies before statement number ``death``."""
    statements = 0

    def count(*_: object) -> None:
        nonlocal statements
        statements += 1
        if statements == death:
            os.kill(os.getpid(), signal.SIGKILL)

    platform = Platform(Store(place), SETTINGS)
    task = platform.ask(FindTask(experiment_id="exp"))
    assert task is not None
    event.listen(Engine, "before_cursor_execute", count)
    receipt = TaskClient(platform, FEATURES, "base0").update(task)
    event.remove(Engine, "before_cursor_execute", count)
    platform.close()
    return receipt.version_after, statements


def facts(place: Path) -> list[object]:
    """Newest version, status and version of the task, its trials, number of versions; all blobs are intact."""
    store = Store(place)
    task = store.find_task("exp")
    assert task is not None
    newest = store.newest().number
    assert store.ranker(newest)
    assert store.omega(newest)
    found = [newest, task.status, task.version_after, len(store.trials(task.id)), len(store.versions())]
    store.close()
    return found


def die(place: Path, death: int) -> dict[str, object]:
    """One death, and what a restart makes of it."""
    _, status = os.waitpid(fork(lambda: update(place, death)), 0)
    found = facts(place)
    again = [update(place)[0] for _ in range(2)]
    return {"killed": os.WIFSIGNALED(status), "found": found, "again": again, "end": facts(place)}


def race(place: Path) -> dict[str, object]:
    """Two processes finish the experiment at once."""
    gate = os.pipe()

    def run() -> None:
        os.close(gate[1])
        os.read(gate[0], 1)  # returns when the parent closes its end
        assert update(place)[0] == 2

    children = [fork(run) for _ in range(2)]
    os.close(gate[1])
    return {"codes": [os.waitpid(child, 0)[1] for child in children], "end": facts(place)}


if __name__ == "__main__":
    _, total = update(scratch("whole"))
    deaths = [die(scratch(f"death{n}"), n) for n in range(1, total + 2, STRIDE)]
    print(json.dumps({"total": total, "deaths": deaths, "race": race(scratch("race"))}))
