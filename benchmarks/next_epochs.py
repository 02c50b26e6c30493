"""How long hyperfd-mf thinks: fitting, the first plan, the plan after each trial, and the same with many tasks before.

python benchmarks/next_epochs.py

The shipped offline data of a space gets made-up curves, so that the sizes are the real ones; figures are processor seconds of one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from nni_hyperfd.platform.first import read_assets
from nni_hyperfd.protocol.messages import BegunTraining, Progress, RecommendRequest
from nni_hyperfd.ranker.offline import OfflineData
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.update import PastTask
from nni_hyperfd.recommendation.foresight import CurvePoints, Foresight
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_space

VALIDATIONS, PRICE = 6, 4


class Tasks:
    """Finished tasks with curves: the trainings of a price of four, drawn at random."""

    def __init__(self, space: Space, count: int, offline_phi: torch.Tensor) -> None:
        self._space, self._count, self._phi = space, count, offline_phi

    def of_space(self, space_key: str) -> list[str]:
        return [str(number) for number in range(self._count)]

    def read(self, task_id: str, most: int | None = None) -> PastTask:
        task: Any = type(
            "Task", (), {"offline_phi": self._phi, "phi": self._phi[int(task_id) % len(self._phi)]}
        )
        return task

    def curves(self, task_id: str, most: int) -> Mapping[Configuration, CurvePoints]:
        rng = np.random.default_rng(int(task_id))
        stops = [6, 6, 3, 2, 2, 1, 1, 1, 1, 1][:most]
        points = [
            [((i + 1) / VALIDATIONS, float(ap)) for i, ap in enumerate(np.sort(rng.random(stop)))]
            for stop in stops
        ]
        return dict(zip(self._space.sample(len(stops), rng), points))


def timed(what: str, action: Callable[[], Any]) -> Any:
    begun, wall = time.process_time(), time.perf_counter()
    found = action()
    print(
        f"  {what:<44} {time.process_time() - begun:6.2f} s  ({time.perf_counter() - wall:.2f} s by the clock)"
    )
    return found


def with_curves(offline: OfflineData, key: str) -> OfflineData:
    """The same with a curve for each result of one space."""
    experience = offline.experience[key]
    rng = np.random.default_rng(0)
    below = 0.3 * np.sort(rng.random((len(experience.aps), VALIDATIONS)), axis=1)[:, ::-1]
    below[:, -1] = 0
    curves = np.clip(experience.aps.numpy()[:, None] - below, 0, 1)
    whole = replace(experience, curves=torch.from_numpy(curves.astype(np.float32)))
    return replace(offline, experience={**offline.experience, key: whole})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, nargs="+", default=[0, 32], help="finished tasks with curves")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shipped = read_assets()
    ranker, data = Ranker.from_bytes(shipped.ranker), OfflineData.from_bytes(shipped.offline)
    for kind in ("hpo", "nas"):
        space = standard_space(kind)
        offline = with_curves(data, space.key)
        print(f"{kind}: {len(offline.experience[space.key].aps)} curves")
        for tasks in options.tasks:
            view = timed(
                "fitting (once a version)", partial(Foresight, ranker, 100, offline, space, VALIDATIONS)
            )
            past = Tasks(space, tasks, view._offline_phi)
            phi = [0.0] * 64
            begun: list[BegunTraining] = []
            for number in range(3):
                left = PRICE * VALIDATIONS - sum(len(each.aps) for each in begun)
                progress = Progress(validations=VALIDATIONS, left=left, trainings=tuple(begun))
                request = _request(phi, space, progress)
                what = f"first plan after {tasks} tasks" if number == 0 else f"plan after {number} trials"
                found = timed(what, partial(view.recommend, 0, space, phi, request, past))
                named: Sequence[Any] = found.configurations
                aps = tuple(np.linspace(0.3, 0.6, VALIDATIONS if number == 0 else 1).tolist())
                begun.append(BegunTraining(parameters=named[0].parameters, aps=aps))


def _request(phi: Sequence[float], space: Space, progress: Progress) -> RecommendRequest:
    return RecommendRequest(task_id="a", budget=PRICE, method="hyperfd-mf", progress=progress)


if __name__ == "__main__":
    main()
