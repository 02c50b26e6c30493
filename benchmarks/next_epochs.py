"""How long hyperfd-mf and hyperfd-gp think: fitting, the first plan of a task, those after its trials, and the same with many tasks before.

    python benchmarks/next_epochs.py [--out benchmarks/results/next_epochs.md]

On the shipped offline data, with made-up curves where it has none, so that the sizes are the real ones; finished tasks are made up. Figures are
processor seconds of one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nni_hyperfd.evidence.page import markdown_table
from nni_hyperfd.platform.first import read_assets
from nni_hyperfd.protocol.messages import BegunTraining, Progress, RecommendRequest
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.offline import OfflineData, RankedList
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.update import PastTask
from nni_hyperfd.recommendation.expectation import Expectation
from nni_hyperfd.recommendation.foresight import CurvePoints, Foresight
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_space

VALIDATIONS, PRICE = 6, 4
PHI = [0.0] * 64


class Tasks:
    """Finished tasks with curves: the trainings of a price of four, drawn at random."""

    def __init__(self, space: Space, count: int, offline_phi: torch.Tensor) -> None:
        self._space, self._count, self._phi = space, count, offline_phi

    def of_space(self, space_key: str) -> list[str]:
        return [str(number) for number in range(self._count)]

    def read(self, task_id: str, most: int | None = None) -> PastTask:
        curves = self.curves(task_id, 24)
        trials = RankedList(
            self._space.key,
            encode(self._space, list(curves)),
            torch.tensor([course[-1][1] for course in curves.values()]),
        )
        return PastTask(task_id, trials, self._phi[int(task_id) % len(self._phi)], self._phi)

    def curves(self, task_id: str, most: int) -> Mapping[Configuration, CurvePoints]:
        rng = np.random.default_rng(int(task_id))
        stops = [6, 6, 3, 2, 2, 1, 1, 1, 1, 1][:most]
        points = [
            [((i + 1) / VALIDATIONS, float(ap)) for i, ap in enumerate(np.sort(rng.random(stop)))]
            for stop in stops
        ]
        return dict(zip(self._space.sample(len(stops), rng), points))


def timed(action: Callable[[], Any]) -> tuple[Any, str]:
    """What it gives, and processor seconds."""
    began = time.process_time()
    found = action()
    return found, f"{time.process_time() - began:.2f}"


def with_curves(offline: OfflineData, key: str) -> OfflineData:
    """The same with a curve for each result of one space; made up where there is none."""
    experience = offline.experience[key]
    if (~experience.curves.isnan()).any():
        return offline
    rng = np.random.default_rng(0)
    below = 0.3 * np.sort(rng.random((len(experience.aps), VALIDATIONS)), axis=1)[:, ::-1]
    below[:, -1] = 0
    curves = np.clip(experience.aps.numpy()[:, None] - below, 0, 1)
    whole = replace(experience, curves=torch.from_numpy(curves.astype(np.float32)))
    return replace(offline, experience={**offline.experience, key: whole})


def by_beginnings(ranker: Ranker, offline: OfflineData, space: Space, tasks: int) -> list[str]:
    """Seconds of ``hyperfd-mf``: fitting, the first plan of a version, the first of another task, the longest of three later ones."""
    view, fitting = timed(partial(Foresight, ranker, 100, offline, space, VALIDATIONS))
    past = Tasks(space, tasks, view._offline_phi)

    def plan(phi: Sequence[float], begun: Sequence[BegunTraining]) -> Any:
        left = PRICE * VALIDATIONS - sum(len(each.aps) for each in begun)
        progress = Progress(validations=VALIDATIONS, left=left, trainings=tuple(begun))
        request = RecommendRequest(task_id="a", budget=PRICE, method="hyperfd-mf", progress=progress)
        return view.recommend(0, space, phi, request, past)

    _, first = timed(partial(plan, PHI, ()))
    found, next_task = timed(partial(plan, [0.1] * 64, ()))
    begun: list[BegunTraining] = []
    later = []
    for number in range(3):
        aps = tuple(np.linspace(0.3, 0.6, VALIDATIONS if number == 0 else 1).tolist())
        begun.append(BegunTraining(parameters=found.configurations[0].parameters, aps=aps))
        running = BegunTraining(parameters=found.configurations[1].parameters, state="running")
        found, seconds = timed(partial(plan, [0.1] * 64, [*begun, running]))
        later.append(seconds)
    return [fitting, first, next_task, max(later)]


def by_ends(ranker: Ranker, offline: OfflineData, space: Space, tasks: int) -> list[str]:
    """The same of ``hyperfd-gp``."""
    view, fitting = timed(partial(Expectation, ranker, 100, offline, space))
    past = Tasks(space, tasks, view._offline_phi)

    def plan(phi: Sequence[float], results: Mapping[Configuration, float]) -> Any:
        request = RecommendRequest(task_id="a", budget=PRICE, method="hyperfd-gp")
        return view.recommend(0, space, phi, request, results, list(results), past)

    _, first = timed(partial(plan, PHI, {}))
    found, next_task = timed(partial(plan, [0.1] * 64, {}))
    results: dict[Configuration, float] = {}
    later = []
    for number in range(3):
        results[space.parse(found.configurations[0].parameters)] = 0.5 + 0.1 * number
        found, seconds = timed(partial(plan, [0.1] * 64, results))
        later.append(seconds)
    return [fitting, first, next_task, max(later)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, nargs="+", default=[0, 32], help="finished tasks with curves")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    shipped = read_assets()
    ranker, data = Ranker.from_bytes(shipped.ranker), OfflineData.from_bytes(shipped.offline)
    rows = []
    for kind in ("hpo", "nas"):
        space = standard_space(kind)
        offline = with_curves(data, space.key)
        for tasks in options.tasks:
            for name, measure in (("hyperfd-gp", by_ends), ("hyperfd-mf", by_beginnings)):
                rows.append([kind, name, str(tasks), *measure(ranker, offline, space, tasks)])
                print(*rows[-1], flush=True)
    head = ["space", "method", "finished tasks", "fitting, once a version", "first plan of a version"]
    head += ["first plan of another task", "the longest of three later ones"]
    if options.out:
        options.out.write_text(
            "Made by `python benchmarks/next_epochs.py`; processor seconds of one thread.\n\n"
            + markdown_table(head, rows)
        )


if __name__ == "__main__":
    main()
