"""What privacy noise costs: normalized rank on the lookup table with noise on φ and on the gradients.

    python benchmarks/noise_cost.py --tables benchmarks/tables/*.csv.gz [--multipliers 1 5 20] [--space hpo]

HyperFD with the same seeds and orders of tasks, once without noise, once image by image as with noise but with next to
none, and once for each noise multiplier; beside it HyperFD that is told nothing of the images, which is where
endless noise leads. First with a ranker that stays as its warm-up left it, so that only φ is noisy, then with
updates, whose pairs and gradients are noisy as well. The noise is that of each customer's own number of images. Writes
``benchmarks/results/noise_cost_<space>.{md,json}``; needs tables (``hyperfd table build``) and image-level features
(``benchmarks/table_inputs.py``).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from nni_hyperfd.evidence.comparison import (
    Outcome,
    Scenario,
    expected_rank_at_random,
    mean_and_errors,
    paired_difference,
    run_rival,
)
from nni_hyperfd.evidence.inputs import Inputs
from nni_hyperfd.evidence.rivals.base import Known, Study
from nni_hyperfd.evidence.rivals.hyperfd import HyperFD, features_of
from nni_hyperfd.evidence.scenario import POOLED
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.metafeature.noise import Noise, NoiseSettings, epsilon
from nni_hyperfd.metafeature.view import View
from nni_hyperfd.ranker.settings import Mode, RankerSettings
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_space

BUDGET = 4
HARDLY_ANY = 1e-9
PARTS: tuple[tuple[str, Mode], ...] = (("φ alone, no updates", "freeze_all"), ("whole method", "full"))
RESULTS = Path(__file__).parent / "results"


class NoisyHyperFD(HyperFD):
    """HyperFD whose customers put noise on what their images say.

    Args:
        multiplier: z.
        options: of :class:`~nni_hyperfd.evidence.rivals.hyperfd.HyperFD`.
    """

    def __init__(self, space: Space, multiplier: float, **options: object) -> None:
        super().__init__(space, **options)  # type: ignore[arg-type]
        self.multiplier = multiplier
        self.answers: list[int] = []
        """Of every search so far, what the customer was asked about its images."""

    def search(self, study: Study) -> None:
        self.answers.append(0)
        # The secret differs between runs and tasks, as it does between customers.
        secret = f"{self._seed} {len(self._past)}".encode()
        self._noise = Noise(NoiseSettings(self.multiplier), secret, self._count)
        super().search(study)

    def view(self, features: ImageFeatures, generator: torch.Generator) -> View:
        return self._noise.view(self._ranker.extractor, features)

    def _count(self, data: str, question: str) -> None:
        self.answers[-1] += 1


class BlindHyperFD(HyperFD):
    """HyperFD that is told nothing of the images: every customer's say what the server's own do."""

    def reset(self, experience: Known, seed: int) -> None:
        super().reset(experience, seed)
        self._server = features_of(experience.profiles[experience.server or 0])

    def view(self, features: ImageFeatures, generator: torch.Generator) -> View:
        return super().view(self._server, generator)


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Args:
        method: its name.
        rank: mean normalized rank in percent, and its standard errors over seeds and over tasks.
        worse: mean difference to HyperFD without noise on equal seeds and orders of tasks, and its standard errors.
        seeds: of the runs.
        answers: mean number of what a customer was asked about its images; None without noise.
        epsilon: of a customer with that many, at δ = 1e-5; None without noise.
    """

    method: str
    rank: tuple[float, float, float]
    worse: tuple[float, float, float]
    seeds: int
    answers: float | None
    epsilon: float | None


def measure(
    scenario: Scenario,
    space: Space,
    settings: RankerSettings,
    multipliers: Sequence[float],
    seeds: int,
    warm_ups: int,
) -> Iterator[Line]:
    """Lines as they are found; the first one is HyperFD without noise."""
    common = {"settings": settings, "warm_ups": warm_ups}
    rivals: list[HyperFD] = [
        HyperFD(space, name="no noise", **common),
        NoisyHyperFD(space, HARDLY_ANY, name="image by image, no noise", **common),
        *(NoisyHyperFD(space, z, name=f"noise z = {z:g}", **common) for z in multipliers),
        BlindHyperFD(space, name="told nothing of the images", **common),
    ]
    exact: Outcome | None = None
    for rival in rivals:
        outcome = run_rival(rival, scenario, (BUDGET,), range(seeds))
        exact = exact or outcome
        answers = float(np.mean(rival.answers)) if isinstance(rival, NoisyHyperFD) else None
        noisy = isinstance(rival, NoisyHyperFD) and rival.multiplier > HARDLY_ANY
        yield Line(
            rival.name,
            mean_and_errors(outcome.rank[0]),
            paired_difference(outcome, exact, BUDGET),
            seeds,
            answers,
            epsilon({rival.multiplier: round(answers)}) if noisy else None,
        )


def markdown(lines: Sequence[Line]) -> str:
    """A table."""
    text = [
        "| | rank % ↓ | ± seeds | ± tasks | worse by | ± tasks | answers | ε |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        answers = "–" if line.answers is None else f"{line.answers:.0f}"
        spent = "–" if line.epsilon is None else f"{line.epsilon:.3g}"
        text.append(
            f"| {line.method} | {line.rank[0]:.2f} | {line.rank[1]:.2f} | {line.rank[2]:.2f} | {line.worse[0]:+.2f} | "
            f"{line.worse[2]:.2f} | {answers} | {spent} |"
        )
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=Path, nargs="+", required=True, help="*.csv.gz or *.jsonl")
    parser.add_argument("--inputs", type=Path, default=Path(__file__).parent / "tables")
    parser.add_argument("--budget", default="table", help="rows of this training budget")
    parser.add_argument("--space", default="hpo", choices=("hpo", "nas"))
    parser.add_argument("--multipliers", type=float, nargs="+", default=[1.0, 5.0, 20.0])
    parser.add_argument("--seeds", type=int, default=20, help="runs without updates")
    parser.add_argument("--update-seeds", type=int, default=3, help="runs with updates, minutes each")
    parser.add_argument("--warm-ups", type=int, default=3, help="distinct ones; further seeds use them again")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    inputs = Inputs.load(options.inputs, options.tables, options.budget)
    scenario, space = inputs.scenario(options.space, POOLED), standard_space(options.space)
    sizes = sorted(len(profile.members) for profile in scenario.profiles)
    head = (
        f"# What privacy noise costs ({scenario.name}, B = {BUDGET})\n\n"
        f"{len(scenario.tasks)} customers with {sizes[0]} to {sizes[-1]} images in the train split, median "
        f"{sizes[len(sizes) // 2]}; {scenario.experience.candidates} configurations, {options.warm_ups} warm-ups. "
        f"Random search: {expected_rank_at_random(scenario, BUDGET):.2f} %.\n"
    )
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"noise_cost_{options.space}.md"
    found: dict[str, list[Line]] = {}
    for (title, mode), seeds in zip(PARTS, (options.seeds, options.update_seeds)):
        if not seeds:
            continue
        lines = found[title] = []
        for line in measure(
            scenario, space, RankerSettings(mode=mode), options.multipliers, seeds, options.warm_ups
        ):
            lines.append(line)
            print(title, line, flush=True)
            # Written as far as it is known: the second part takes hours.
            parts = [f"## {name}, {part[0].seeds} seeds\n\n{markdown(part)}" for name, part in found.items()]
            path.write_text("\n".join([head, *parts]))
            content = {name: [asdict(each) for each in part] for name, part in found.items()}
            path.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
