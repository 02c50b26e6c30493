"""What do a data set's images say about the configurations that it likes, among known domains and in a new one?

    python benchmarks/what_images_say.py --space hpo

A process over data sets and configurations (`nni_hyperfd/recommendation/gaussian/task_process.py`) is fitted to the offline table without and with
several descriptions of data sets. *Surprise* is how badly it explains the offline table (natural logarithms, lower is better);
*correlation* is that of what it expects of a customer before the first trial with what was measured, Spearman's, mean over customers.
Writes `results/what_images_say_SPACE.md`. No image is read.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from nni_hyperfd.evidence.inputs import Inputs
from nni_hyperfd.evidence.rivals.base import FloatArray, Profile
from nni_hyperfd.evidence.rivals.ensemble import RANKERS, describe_texts
from nni_hyperfd.evidence.rivals.hyperfd import HyperFD
from nni_hyperfd.evidence.scenario import POOLED
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.recommendation.gaussian.places import Places
from nni_hyperfd.recommendation.gaussian.task_process import TaskProcess
from nni_hyperfd.spaces.standard import standard_space

ROOT = Path(__file__).parents[1]
Describe = Callable[[Profile], FloatArray]


def descriptions(rankers: list[HyperFD]) -> Mapping[str, Describe]:
    """What a data set may be described by."""

    def phi(ranker: HyperFD) -> Describe:
        return lambda profile: ranker.meta_features(profile, 1)[0].double().numpy()

    each = [phi(ranker) for ranker in rankers]
    return {
        "nothing": lambda profile: np.zeros(0),
        "statistics of the labels": lambda profile: profile.statistics,
        "mean features of the detector": lambda profile: profile.images.mean(axis=0).astype(float),
        **{f"φ of warm-up {index}": one for index, one in enumerate(each)},
        "φ of all warm-ups": lambda profile: np.concatenate([one(profile) for one in each]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", choices=("hpo", "nas"), default="hpo")
    parser.add_argument("--inputs", type=Path, default=ROOT / "benchmarks" / "tables")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    inputs = Inputs.load(options.inputs, sorted(options.inputs.glob("*.csv.gz")), "table")
    scenario = inputs.scenario(options.space, POOLED)
    known = scenario.experience
    space = standard_space(options.space)
    rankers = [HyperFD(space, RankerSettings()) for _ in range(RANKERS)]
    for seed, ranker in enumerate(rankers):
        ranker.reset(known, seed)
    lines = [
        "Made by `benchmarks/what_images_say.py`, which says what the columns are.",
        "",
        "| a data set is described by | surprise of the offline table | correlation on customers | "
        + " | ".join(scenario.tasks)
        + " |",
        "|---" * (3 + len(scenario.tasks)) + "|",
    ]
    described = describe_texts(space, known.configurations)
    for name, kind in descriptions(rankers).items():
        places = Places(np.stack([kind(profile) for profile in known.profiles]))
        process = TaskProcess.fit(known.aps, described, places.known)
        expected = [
            process.customer(places.of(kind(profile)), described[: known.candidates]).mean
            for profile in scenario.profiles
        ]
        found = [
            spearmanr(each, scenario.judge[:, d], nan_policy="omit").statistic
            for d, each in enumerate(expected)
        ]
        # Where all configurations of a customer tie, there is no order to say anything of.
        told = ["–" if np.isnan(value) else f"{value:.2f}" for value in found]
        cells = [f"{process.surprise:.1f}", f"{np.nanmean(found):.2f}", *told]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    path = options.out / f"what_images_say_{options.space}.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
