"""Runs of methods on scenarios, kept on disk one by one, so that hours of them can be interrupted and shown at any time."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.comparison import Outcome, Scenario, expected_at_random, run_rival
from nni_hyperfd.files import write_file


class Line(Protocol):
    """A method as a line of a table, see :class:`~nni_hyperfd.evidence.methods.Contender`."""

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> str: ...
    @property
    def seeds(self) -> int: ...
    @property
    def trains(self) -> bool: ...
    @property
    def make(self) -> Callable[[Any], Any]: ...


@dataclass(frozen=True)
class Run:
    """One method, one budget, one seed: all tasks once.

    Args:
        rank: Of each task, normalized rank in percent.
        ap: Of each task, judged AP of the best found.
        seconds: Processor time, with the warm-up if it was made in this run.
        ndcg: Of the warm-up on held-out offline lists, for methods that have one.
    """

    rank: list[float]
    ap: list[float]
    seconds: float
    ndcg: float | None = None


def fingerprint(scenario: Scenario) -> str:
    """Short hash of all that a scenario's results depend on."""
    experience = scenario.experience
    parts = [json.dumps([scenario.name, scenario.tasks, experience.configurations, experience.data_sets])]
    arrays = [scenario.choose, scenario.judge, experience.aps]
    arrays += [profile.statistics for profile in (*scenario.profiles, *experience.profiles)]
    digest = hashlib.sha256("".join(parts).encode())
    for array in arrays:
        # Rounded, since another NumPy sums in another order; 0.0 is added because −0.0 has other bytes.
        digest.update((np.round(np.asarray(array, dtype=np.float64), 6) + 0.0).tobytes())
    return digest.hexdigest()[:16]


class StoredRuns:
    """The runs of one method on one scenario in one JSON file; those of another scenario or setting are dropped.

    Args:
        path: The file.
        key: :func:`fingerprint` of the scenario and the method's settings.

    Raises:
        DataError: The file is not one of runs.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self._runs: dict[str, Run] = {}
        self._new = False
        self.absent: str | None = None
        """Why there are no runs, if the method could not be run when it was last tried."""
        if path.exists():
            try:
                body = json.loads(path.read_text(encoding="utf-8"))
                if body["key"] == key:
                    self._runs = {name: Run(**found) for name, found in body["runs"].items()}
                    self.absent = body["absent"]
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{path} is not a file of runs ({error}); delete it to make them again."
                ) from error

    def get(self, budget: int, seed: int) -> Run | None:
        """A stored run."""
        return self._runs.get(f"B{budget} seed{seed}")

    def put(self, budget: int, seed: int, made: Run) -> None:
        """Takes a run in; :meth:`save` keeps it."""
        self._runs[f"B{budget} seed{seed}"] = made
        self.absent = None
        self._new = True

    def save(self) -> None:
        """Writes the file if there is something new."""
        if self._new:
            self._write()
            self._new = False

    def put_absent(self, reason: str) -> None:
        """Keeps why the method cannot be run."""
        self.absent = reason
        self._write()

    def _write(self) -> None:
        lines = [f"{json.dumps(name)}: {json.dumps(asdict(found))}" for name, found in self._runs.items()]
        head = f'{{"key": {json.dumps(self.key)}, "absent": {json.dumps(self.absent)}, "runs": {{\n'
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_file(self.path, head + ",\n".join(lines) + "\n}}\n")

    @property
    def seconds(self) -> float:
        """Processor time of all runs."""
        return sum(found.seconds for found in self._runs.values())


class Player(Protocol):
    """Plays methods on one scenario, each at a budget and with a seed."""

    @property
    def scenario(self) -> Scenario: ...
    @property
    def fingerprint(self) -> str:
        """Short hash of all that a play's results depend on, beside the method."""

    def play(self, rival: Any, budgets: Sequence[int], seeds: Sequence[int]) -> Outcome:
        """One method at each budget, with each seed."""


class ByTrials:
    """Plays methods whose trainings all go to their end; a budget is a number of trials.

    Args:
        scenario: Where.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.scenario)

    def play(self, rival: Any, budgets: Sequence[int], seeds: Sequence[int]) -> Outcome:
        return run_rival(rival, self.scenario, budgets, seeds)


class Laboratory:
    """Methods on one scenario, each run once and remembered.

    Args:
        player: Of what is played, and where.
        space: The search space of its configurations.
        folder: Of the stored runs.
        label: Of the scenario in file names.
        measure: Whether missing runs are made; otherwise only stored ones are shown.
        deadline: ``time.monotonic()`` after which no further run is begun.
    """

    def __init__(
        self,
        player: Player,
        space: object,
        folder: Path,
        label: str,
        measure: bool = True,
        deadline: float = float("inf"),
    ) -> None:
        self.player, self.scenario = player, player.scenario
        self.space, self.folder, self.label = space, folder, label
        self.measure, self.deadline = measure, deadline
        self.fingerprint = player.fingerprint
        self._rivals: dict[str, Any] = {}
        self._stored: dict[str, StoredRuns] = {}
        self._failed: set[str] = set()

    def absent(self, method: Line) -> str:
        """Why the method has no runs."""
        return self.stored(method).absent or "not run yet"

    def stored(self, method: Line) -> StoredRuns:
        """The method's runs so far."""
        if method.name not in self._stored:
            name = "".join(c if c.isalnum() else "-" for c in method.name).strip("-")
            path = self.folder / f"{self.label}-{name}.json"
            settings = hashlib.sha256(method.settings.encode()).hexdigest()[:8]
            self._stored[method.name] = StoredRuns(path, f"{self.fingerprint}-{settings}")
        return self._stored[method.name]

    def outcome(
        self, method: Line, budgets: Sequence[int] = (4,), seeds: int | None = None
    ) -> Outcome | None:
        """Runs what is missing and puts the method's runs together.

        Args:
            method: Which.
            budgets: Trials a task.
            seeds: How many; the method's own number by default.

        Returns:
            The seeds that have a run at every budget; None if there is none.
        """
        stored, wanted = self.stored(method), range(method.seeds if seeds is None else seeds)
        for seed in wanted:
            for budget in budgets:
                if stored.get(budget, seed) is None and not self._make(method, budget, seed):
                    break
        stored.save()
        kept = [seed for seed in wanted if all(stored.get(budget, seed) for budget in budgets)]
        if not kept:
            return None
        runs = [[stored.get(budget, seed) for seed in kept] for budget in budgets]
        arrays = {
            name: np.array([[getattr(each, name) for each in row] for row in runs]) for name in ("rank", "ap")
        }
        tasks = range(len(self.scenario.tasks))
        choose, judge = self.scenario.choose, self.scenario.judge
        chance = [
            [expected_at_random(choose[:, d], judge[:, d], budget) for d in tasks] for budget in budgets
        ]
        return Outcome(
            method.name,
            self.scenario.name,
            self.scenario.tasks,
            tuple(budgets),
            **arrays,
            random_ap=np.array(chance),
        )

    def ndcg(self, method: Line) -> float | None:
        """Mean NDCG of the method's warm-ups."""
        found = [self.stored(method).get(4, seed) for seed in range(method.seeds)]
        values = [each.ndcg for each in found if each is not None and each.ndcg is not None]
        return float(np.mean(values)) if values else None

    def _make(self, method: Line, budget: int, seed: int) -> bool:
        if method.name in self._failed or not self.measure or time.monotonic() > self.deadline:
            return False
        started = time.process_time()
        try:
            if method.name not in self._rivals:
                self._rivals[method.name] = method.make(self.space)
            rival = self._rivals[method.name]
            found = self.player.play(rival, (budget,), (seed,))
        except DataError as error:
            self._failed.add(method.name)
            self.stored(method).put_absent(str(error))
            return False
        ndcg = getattr(rival, "ndcg", None)
        made = Run(
            [round(value, 4) for value in found.rank[0, 0].tolist()],
            [round(value, 6) for value in found.ap[0, 0].tolist()],
            round(time.process_time() - started, 2),
            None if ndcg is None else round(ndcg, 5),
        )
        self.stored(method).put(budget, seed, made)
        if method.trains:
            # Runs of milliseconds are kept together, those of minutes one by one.
            self.stored(method).save()
        return True
