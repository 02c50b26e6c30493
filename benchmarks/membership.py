"""Is this image in the customer's set? A membership attack on φ, with and without privacy noise.

    python benchmarks/membership.py --data CATS SELFIES [--targets 12] [--shadows 100]

The attacker is the platform itself: it has G, the features of the image in question and those of every other image that may
be in the set, and draws as many sets with and without the image as it likes. From pairs of such sets that differ in the
image alone it learns in which direction the image moves φ, from all of them how φ scatters, and scores what it sees by Fisher's
linear discriminant, which is the likelihood ratio where φ is normal. AUC is over fresh sets, half of them with the image. A
second attacker knows every other image of the set as well, as differential privacy supposes.

Populations are the train splits of the folders and, for the large sets, the server's own images, whose features the package
has. Writes ``benchmarks/results/membership.{md,json}``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from scipy.stats import norm
from torch import Tensor

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.metafeature.extractor import IMAGES, MetaFeatureExtractor, image_inputs, sample_indices
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.metafeature.noise import CLIP, clip_rows, epsilon
from nni_hyperfd.metafeature.profile import profile_dataset
from nni_hyperfd.platform.first import read_assets
from nni_hyperfd.ranker.offline import OfflineData
from nni_hyperfd.ranker.ranker import Ranker

SIZES = (30, 120, 400)
MULTIPLIERS = (1.0, 5.0, 20.0)
STEPS = 25
"""Update steps of one experiment that ask for φ and φ̃, of 50."""
SAMPLES = 8
"""Samples of which one φ is the mean."""
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Found:
    """One line of the table.

    Args:
        data: the population.
        images: in the set.
        multiplier: z; 0 without noise, None image by image as with noise, but without any.
        epsilon: of one φ, and of a whole experiment (φ, pairs and gradients); infinite without noise.
        once: mean AUC over targets of the attack on one φ, and its standard error.
        experiment: the same on all φ of an experiment.
        insider: mean AUC on one φ of who knows all other images of the set.
    """

    data: str
    images: int
    multiplier: float | None
    epsilon: tuple[float, float]
    once: tuple[float, float]
    experiment: tuple[float, float]
    insider: float


class Population:
    """All images of a folder, and what G says of sets of them."""

    def __init__(self, name: str, features: ImageFeatures, extractor: MetaFeatureExtractor) -> None:
        self.name, self.extractor = name, extractor
        self.inputs, self.boxes = image_inputs(features, extractor.variant), features.boxes.float()

    def __len__(self) -> int:
        return len(self.boxes)

    @torch.no_grad()
    def exact(self, sets: Tensor, samples: int, generator: torch.Generator) -> Tensor:
        """G of samples of sets [S, m], as the client draws them without noise: [S, samples, 64].

        Neighboring sets 2i and 2i + 1 share the places of their samples.
        """
        draws = [
            torch.stack([sample_indices(sets.shape[1], IMAGES, generator) for _ in range(samples)])
            for _ in range(len(sets) // 2)
        ]
        places = torch.stack(draws).repeat_interleave(2, 0)
        images = sets[:, None].expand(-1, samples, -1).gather(2, places)
        size = torch.full((len(sets),), math.log(sets.shape[1]))
        statistics = torch.stack([size, self.boxes[sets].sum(1).log1p()], 1).repeat_interleave(samples, 0)
        parts = zip(images.flatten(0, 1).split(512), statistics.split(512))
        found = [self.extractor.forward_indexed(self.inputs, part, said) for part, said in parts]
        return torch.cat(found).unflatten(0, (-1, samples))

    @torch.no_grad()
    def alone(self, size: int) -> Tensor:
        """Each image's share of φ in a set of ``size``, as with noise: [N, 64]."""
        boxes = (self.boxes * size).log1p()
        statistics = torch.stack([torch.full_like(boxes, math.log(size)), boxes], 1)
        return clip_rows(self.extractor(self.inputs[:, None], statistics), CLIP)


def draw_sets(population: int, target: int, size: int, pairs: int, generator: torch.Generator) -> Tensor:
    """[2 pairs, size]: sets with the target, and the same ones with another image in its place."""
    others = torch.tensor([image for image in range(population) if image != target])
    chosen = torch.stack(
        [others[torch.randperm(len(others), generator=generator)[:size]] for _ in range(pairs)]
    )
    inside = chosen.clone()
    inside[:, 0] = target
    return torch.stack([inside, chosen], 1).flatten(0, 1)


def auc(inside: Tensor, outside: Tensor) -> float:
    """Probability that a score [n] with the image is above one [n] without it, over sets that share nothing."""
    above = (inside[:, None] > outside).double() + 0.5 * (inside[:, None] == outside)
    return float(above[~torch.eye(len(inside), dtype=torch.bool)].mean())


def attack(seen: Tensor, deviation: float, generator: torch.Generator) -> list[float]:
    """AUC of each target.

    Args:
        seen: [targets, sets, 64] clean φ, even rows with the target and odd ones without; the first half of the sets is the
            attacker's own, the second half is attacked.
        deviation: of the noise on each coordinate.
    """
    half = seen.shape[1] // 4 * 2
    own, attacked = seen[:, :half].double(), seen[:, half:].double()
    # What an image changes, free of the scatter between sets, and that scatter with the noise, both without drawing any.
    change = (own[:, 0::2] - own[:, 1::2]).mean(1)
    outside = own[:, 1::2]
    scatter = (outside - outside.mean(1, keepdim=True)).flatten(0, 1)
    covariance = scatter.T @ scatter / (len(scatter) - len(own))
    covariance += (deviation**2 + 1e-9 * covariance.trace()) * torch.eye(covariance.shape[0])
    directions = torch.linalg.solve(covariance, change.T).T
    attacked = attacked + deviation * torch.randn(attacked.shape, generator=generator, dtype=torch.float64)
    scores = (attacked * directions[:, None]).sum(2)
    return [auc(row[0::2], row[1::2]) for row in scores]


def insider_auc(shares: Tensor, targets: Tensor, size: int, deviation: float) -> float:
    """Mean AUC of who knows the set but for one image, which is the target or any other one: both are Gaussians then."""
    distances = torch.cdist(shares[targets], shares) / (size * deviation)
    others = torch.arange(len(shares)) != targets[:, None]
    return float(norm.cdf(distances[others].numpy() / math.sqrt(2)).mean())


def measure(population: Population, size: int, targets: int, shadows: int) -> list[Found]:
    """All lines of one population and set size."""
    generator = torch.Generator().manual_seed(size)
    chosen = torch.randperm(len(population), generator=generator)[:targets]
    sets = [draw_sets(len(population), int(x), size, 2 * shadows, generator) for x in chosen]

    def line(
        multiplier: float | None, views: tuple[Tensor, Tensor], deviations: tuple[float, float], inside: float
    ) -> Found:
        rates = [torch.tensor(attack(v, d, generator)) for v, d in zip(views, deviations)]
        once, experiment = ((float(r.mean()), float(r.std() / math.sqrt(len(r)))) for r in rates)
        spent = [epsilon({multiplier: k}) if multiplier else math.inf for k in (1, 2 + 2 * STEPS)]
        return Found(population.name, size, multiplier, (spent[0], spent[1]), once, experiment, inside)

    def seen(see: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.stack([see(each) for each in sets])

    exact = seen(lambda each: population.exact(each, SAMPLES + 2 * STEPS, generator))
    one, whole = exact[:, :, :SAMPLES].mean(2), exact.mean(2)
    # Who knows the other images, and the seed of the samples, which the platform is told, computes φ again and compares.
    differ = (one[:, 0::2] != one[:, 1::2]).any(2).double().mean()
    found = [line(0.0, (one, whole), (0.0, 0.0), float(0.5 + 0.5 * differ))]
    shares = population.alone(size)
    means = seen(lambda each: shares[each].mean(1))
    found.append(line(None, (means, means), (0.0, 0.0), 1.0))
    for multiplier in MULTIPLIERS:
        deviation = multiplier * 2 * CLIP / size
        # First and final φ, and the means of the pairs, whose halves have twice the noise each.
        together = deviation / math.sqrt(2 + STEPS / 2)
        inside = insider_auc(shares, chosen, size, deviation)
        found.append(line(multiplier, (means, means), (deviation, together), inside))
    return found


def markdown(found: list[Found], about: str) -> str:
    """The table."""
    lines = [
        "# Is this image in the customer's set? AUC of a membership attack on φ",
        "",
        about,
        "",
        "| population | images | noise z | ε (one φ) | AUC, one φ | AUC, all φ of an experiment | ε (whole experiment) "
        "| AUC, one φ, all other images known |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        named = {0.0: "off", None: "0, image by image"}
        name = named.get(each.multiplier) or f"{each.multiplier:g}"
        one, whole = (f"{value:.3g}" if math.isfinite(value) else "∞" for value in each.epsilon)
        lines.append(
            f"| {each.data} | {each.images} | {name} | {one} | {each.once[0]:.3f} ± {each.once[1]:.3f} | "
            f"{each.experiment[0]:.3f} ± {each.experiment[1]:.3f} | {whole} | {each.insider:.3f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--targets", type=int, default=12)
    parser.add_argument("--shadows", type=int, default=100, help="pairs of sets that the attacker draws")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    state = read_assets()
    extractor = Ranker.from_bytes(state.ranker).eval().extractor
    features = {folder.name: profile_dataset(load_dataset(folder)) for folder in options.data}
    features["server"] = OfflineData.from_bytes(state.offline).features
    about = (
        f"{options.targets} images each, mean ± standard error over them; {options.shadows} pairs of sets for the attacker and as many "
        f"to be attacked. Extractor: version 0 as shipped. Experiment: {STEPS} steps ask for φ and φ̃. δ = 1e-5. AUC 0.5 is guessing."
    )
    options.out.mkdir(parents=True, exist_ok=True)
    found: list[Found] = []
    for name, images in features.items():
        population = Population(name, images, extractor)
        for size in SIZES:
            if len(population) < 2 * size:
                continue
            start = time.process_time()
            found += measure(population, size, options.targets, options.shadows)
            print(f"{name} {size}: {time.process_time() - start:.0f} s", flush=True)
            (options.out / "membership.md").write_text(markdown(found, about))
            content = json.dumps([asdict(each) for each in found], indent=1)
            (options.out / "membership.json").write_text(content + "\n")


if __name__ == "__main__":
    main()
