"""How fast the platform thinks: recommending, the continual update as tasks pile up, and the exact Z against the paper's.

    python benchmarks/ranker_speed.py [--tasks 11 100 1000] [--offline 1400] [--threads 2]

Everything is synthetic (random features and results), since only sizes matter here. Besides wall-clock seconds the
processor seconds of this process are printed, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from nni_hyperfd.metafeature.extractor import image_inputs
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.metafeature.view import ExactView
from nni_hyperfd.protocol.messages import RecommendRequest
from nni_hyperfd.ranker.drive import drive
from nni_hyperfd.ranker.encoders import EncoderShape
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.offline import Experience, OfflineData, RankedList
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.recommend import EXPLORATION, recommend
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.ranker.transform import ExactTransform, IterativeTransform, transformation_loss
from nni_hyperfd.ranker.update import ContinualUpdate, CurrentTask, PastTask
from nni_hyperfd.recommendation.expectation import Expectation
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_space

T = TypeVar("T")
IMAGES = 1700
BUDGET = 4
HPO, NAS = standard_space("hpo"), standard_space("nas")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, nargs="+", default=[11, 100, 1000])
    parser.add_argument("--offline", type=int, default=1400, help="offline data sets")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    offline = synthetic_offline(arguments.offline)
    ranker = Ranker.build({space.key: EncoderShape.of(space) for space in (HPO, NAS)}, 0)
    ranker.extractor.set_normalization(image_inputs(offline.features), offline.statistics)
    recommending(ranker)
    planning(ranker)
    updating(ranker, offline, arguments.tasks)
    transforming(ranker, offline)


def recommending(ranker: Ranker) -> None:
    phi = torch.randn(64, generator=torch.Generator().manual_seed(1))
    for space, configurations in (
        (HPO, HPO.enumerate()),
        (NAS, NAS.sample(20_000, np.random.default_rng(0))),
    ):

        def run(space: Space = space, configurations: list = configurations) -> Tensor:
            scores = ranker.predict(space.key, phi, encode(space, configurations))
            return recommend(scores, BUDGET, EXPLORATION, torch.Generator().manual_seed(0))

        run()
        report(f"recommend {BUDGET} of {len(configurations)} ({space.kind})", run)


def planning(ranker: Ranker) -> None:
    """The method hyperfd-gp on a table of the shipped one's size, 137 data sets with six results."""
    offline = synthetic_offline(137, 822)
    view, _ = report("hyperfd-gp, fitting (once a version)", lambda: Expectation(ranker, 100, offline, HPO))
    configurations = HPO.enumerate()
    results = dict(zip(configurations[:3], (0.5, 0.6, 0.4)))
    request = RecommendRequest(task_id="task", budget=BUDGET)
    report(
        f"hyperfd-gp, plan {BUDGET} of {len(configurations)}",
        lambda: view.recommend(0, HPO, [0.0] * 64, request, results, [], NoTasks()),
    )


class NoTasks:
    """Of a platform that has no finished task."""

    def of_space(self, space_key: str) -> list[str]:
        return []


def updating(ranker: Ranker, offline: OfflineData, counts: list[int]) -> None:
    customer = offline.features.subset(torch.arange(100))
    for count in counts:
        past = past_tasks(ranker, offline, count - 1)
        before = Ranker.from_bytes(ranker.to_bytes())
        report(f"update at task {count}", lambda p=past, r=before: update(r, offline, p, customer))


def update(ranker: Ranker, offline: OfflineData, past: list[PastTask], customer: ImageFeatures) -> None:
    """Both halves, as in one process."""
    run = ContinualUpdate(ranker, offline, past, {}, CurrentTask("now", trials(0)), RankerSettings(), 0)
    drive(run, ExactView(ranker.extractor, customer, torch.Generator().manual_seed(0)))


def transforming(ranker: Ranker, offline: OfflineData) -> None:
    """The Z work of one update at the 11th task: ten old versions, 50 refreshes."""
    settings = RankerSettings()
    old = torch.stack([task.offline_phi for task in past_tasks(ranker, offline, 10)])
    changed = Ranker.from_bytes(ranker.to_bytes())
    update(changed, offline, [], offline.features.subset(torch.arange(100)))
    new = offline.meta_features(changed.extractor, RankerSettings().images)

    def exact() -> Tensor:
        transform = ExactTransform.factor(old)
        for _ in range(settings.batches):
            z = transform.refresh(new)
        return z

    def iterative() -> Tensor:
        transform = IterativeTransform(old, torch.eye(64).expand(10, 64, 64), settings.learning_rate)
        for _ in range(settings.batches):
            z = transform.refresh(new, settings.transform_iterations)
        return z

    exact()
    (z, seconds), (z_paper, seconds_paper) = (
        report("Z exact", exact),
        report("Z by the paper's iteration", iterative),
    )
    losses = [float(transformation_loss(found, old, new).sum()) for found in (z, z_paper)]
    print(
        f"exact Z: {seconds_paper / seconds:.0f} times faster, L_trans {losses[0] / losses[1]:.3f} of the iteration's"
    )


def report(what: str, run: Callable[[], T]) -> tuple[T, float]:
    wall, processor = time.perf_counter(), time.process_time()
    result = run()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(f"{what:<40} {wall:9.3f} s wall {processor:9.3f} s processor", flush=True)
    return result, processor


def synthetic_offline(datasets: int, rows: int = 3000) -> OfflineData:
    generator = torch.Generator().manual_seed(0)
    pooled = torch.randn(IMAGES, 3, 86, generator=generator)
    features = ImageFeatures(pooled, pooled, torch.randint(0, 9, (IMAGES,), generator=generator))
    members = [torch.randperm(IMAGES, generator=generator)[:100] for _ in range(datasets)]
    experience = {}
    for space, configurations in ((HPO, HPO.enumerate()), (NAS, NAS.sample(200, np.random.default_rng(1)))):
        experience[space.key] = Experience(
            encode(space, configurations),
            torch.randint(0, datasets, (rows,), generator=generator),
            torch.randint(0, len(configurations), (rows,), generator=generator),
            torch.rand(rows, generator=generator),
        )
    return OfflineData(features, members, experience)


def trials(seed: int) -> RankedList:
    generator = torch.Generator().manual_seed(seed)
    encodings = encode(HPO, HPO.enumerate())[torch.randperm(216, generator=generator)[:BUDGET]]
    return RankedList(HPO.key, encodings, torch.rand(BUDGET, generator=generator))


def past_tasks(ranker: Ranker, offline: OfflineData, count: int) -> list[PastTask]:
    """Finished tasks whose versions are small turns of the newest one."""
    newest, tasks = offline.meta_features(ranker.extractor, RankerSettings().images), []
    first = PastTask("", trials(0), torch.zeros(64), newest)
    for t in range(count):
        generator = torch.Generator().manual_seed(t)
        turn = torch.eye(64) + 0.01 * torch.randn(64, 64, generator=generator)
        phi = torch.randn(64, generator=generator)
        tasks.append(replace(first, key=str(t), phi=phi, offline_phi=newest @ turn.T))
    return tasks


if __name__ == "__main__":
    main()
