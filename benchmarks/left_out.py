"""What the shipped version 0 is worth to a domain that it does not know: it is made anew without each real domain, and asked for that one.

    python benchmarks/left_out.py [--seeds 0 1] [--out benchmarks/results/left_out.md]
    python benchmarks/left_out.py --domains thermal cats oldphoto cartoon_d cartoon_f cartoon_l --passes 40 --out FILE.md

Both methods choose among the configurations that were measured on every domain: `hyperfd` takes the best of one ranking, `hyperfd-gp`
plans anew after each result. Beside them stand what never looks at an image: the order of the mean AP over the other domains, and the greedy
portfolio on them. Chosen and ranked by the AP over val and test pooled; errors are the bootstrap's over domains, paired. A seed is that of a version's
warm-up; the one that is shipped has 0. What moves between seeds is told below each table. A quarter of an hour on one core. The second command is how the number of
passes of the warm-up was chosen, on half of the domains.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from make_platform import offline_data
from numpy.typing import NDArray

from nni_hyperfd.evidence.bootstrap import bootstrap
from nni_hyperfd.evidence.comparison import expected_at_random, normalized_ranks
from nni_hyperfd.evidence.table import SERVER, DenseTable, LookupTable, parameters_of
from nni_hyperfd.metafeature.extractor import dataset_statistics, image_inputs, sample_indices
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.ranker.encoders import EncoderShape
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.ranker.warmup import warm_up
from nni_hyperfd.recommendation.expectation import Expectation
from nni_hyperfd.recommendation.portfolio import greedy_portfolio
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_space

ROOT = Path(__file__).resolve().parents[1]
TRIALS = 4
IMAGES = 120
OURS = ("hyperfd, its ranking", "hyperfd-gp")
FloatArray = NDArray[np.float64]
Next = Callable[[Sequence[int]], int]
"""From positions of the configurations tried so far to the next one."""


class NoCustomers:
    """A platform that nobody has used yet."""

    def of_space(self, space_key: str) -> list[str]:
        return []


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=Path, default=ROOT / "benchmarks" / "tables")
    parser.add_argument("--budget", default="table", help="of the rows that count (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of the versions' warm-ups")
    parser.add_argument("--domains", nargs="+", help="that are left out; all by default")
    parser.add_argument(
        "--passes",
        type=int,
        default=RankerSettings().warmup_epochs,
        help="of the warm-up (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "left_out.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts = [__doc__ or ""]
    for kind in ("hpo", "nas"):
        dense = measured(options.tables, kind, options.budget)
        parts.append(
            f"## {kind.upper()}: {len(dense.configurations)} configurations\n\n{judge(kind, dense, options)}"
        )
    options.out.write_text("# Version 0 without the domain that asks\n\n" + "\n\n".join(parts) + "\n")
    print(options.out.read_text())


def measured(folder: Path, kind: str, budget: str) -> DenseTable:
    """Pooled AP of the configurations that every real domain has."""
    rows = LookupTable.load(folder / f"{kind}.csv.gz").select(budget=budget).over_seeds()
    domains = sorted({row.data_set for row in rows} - {SERVER})
    dense = rows.dense("heldout_ap", domains)
    whole = ~np.isnan(dense.values).any(axis=1)
    texts = tuple(text for text, there in zip(dense.configurations, whole) if there)
    return DenseTable(texts, tuple(domains), dense.values[whole])


def judge(kind: str, dense: DenseTable, options: argparse.Namespace) -> str:
    """The table of one space."""
    space = standard_space(kind)  # type: ignore[arg-type]
    points = [Configuration.from_parameters(parameters_of(text)) for text in dense.configurations]
    ranks = normalized_ranks(dense.values)
    found: dict[str, list[FloatArray]] = {"random, expected": []}
    gains: dict[str, list[FloatArray]] = {"random, expected": []}
    last: dict[str, list[FloatArray]] = {}
    for column, domain in enumerate(dense.data_sets):
        if domain not in (options.domains or dense.data_sets):
            continue
        aps, others = dense.values[:, column], np.delete(dense.values, column, axis=1)
        blind = {
            "mean order": in_order(np.argsort(-others.mean(axis=1))),
            "portfolio": in_order(np.array(greedy_portfolio(-others.T, TRIALS))),
        }
        methods: dict[str, list[Next]] = {name: [each] for name, each in blind.items()}
        for seed in options.seeds:
            for name, each in shipped(space, points, domain, aps, options, seed).items():
                methods.setdefault(name, []).append(each)
        budgets = range(1, TRIALS + 1)
        chance = np.array([expected_at_random(aps, aps, budget) for budget in budgets])
        found["random, expected"].append(
            np.array([expected_at_random(aps, ranks[:, column], budget) for budget in budgets])
        )
        gains["random, expected"].append(0 * chance)
        for name, versions in methods.items():
            best = np.array([bests(following, aps) for following in versions])
            found.setdefault(name, []).append(ranks[best, column].mean(axis=0))
            gains.setdefault(name, []).append((100 * (aps[best] - chance)).mean(axis=0))
            last.setdefault(name, []).append(ranks[best[:, -1], column])
        print(
            kind, domain, {name: float(values[-1][-1].round(1)) for name, values in found.items()}, flush=True
        )
    head = "| method | rank % with 1 trial | 2 | 3 | 4 | 95 % over domains, at 4 | AP points above random, mean, at 4 |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for name, values in found.items():
        table, gain = np.array(values), np.array(gains[name])
        means = " | ".join(f"{mean:.1f}" for mean in table.mean(axis=0))
        lines.append(f"| {name} | {means} | {bootstrap(table[:, -1])} | {gain[:, -1].mean():+.2f} |")
    lines += ["", *differences(found)]
    told = [
        f"`{name}` at 4, by version: " + ", ".join(f"{rank:.1f}" for rank in np.mean(versions, axis=0))
        for name, versions in last.items()
        if len(versions[0]) > 1
    ]
    return "\n".join([*lines, "", "; ".join(told) + "."] if told else lines)


def differences(found: Mapping[str, Sequence[FloatArray]]) -> list[str]:
    """The lines of the paired differences in rank between what is shipped and each other method."""
    lines = ["| of | to | difference in rank with 1 trial | 2 | 3 | 4 |", "|---|---|---|---|---|---|"]
    for number, ours in enumerate(OURS):
        for name in found:
            if name not in OURS[: number + 1]:
                gaps = (np.array(found[ours]) - np.array(found[name])).T
                cells = " | ".join(f"{gap.mean():+.1f} {bootstrap(gap)}" for gap in gaps)
                lines.append(f"| {ours} | {name} | {cells} |")
    return lines


def bests(following: Next, aps: FloatArray) -> list[int]:
    """The best of the first trial, of the first two, and so on, of a method that chooses one after the other."""
    tried: list[int] = []
    for _ in range(TRIALS):
        tried.append(following(tried))
    return [max(tried[:budget], key=lambda k: aps[k]) for budget in range(1, TRIALS + 1)]


def in_order(order: NDArray[np.integer]) -> Next:
    return lambda tried: int(order[len(tried)])


def shipped(
    space: Space,
    points: Sequence[Configuration],
    domain: str,
    aps: FloatArray,
    options: argparse.Namespace,
    seed: int,
) -> dict[str, Next]:
    """Both methods of a version 0 that was made without ``domain``, with this seed of its warm-up."""
    offline, about = offline_data(options.tables, options.budget, IMAGES, without=(domain,))
    spaces = [standard_space(kind) for kind in (*about["pairs"], "joint")]
    ranker = Ranker.build({each.key: EncoderShape.of(each) for each in spaces}, seed)
    warm_up(ranker, offline, RankerSettings(warmup_epochs=options.passes), seed)
    features = ImageFeatures.load(options.tables / "features" / f"{domain}.safetensors")
    sample = sample_indices(len(features), RankerSettings().images, torch.Generator().manual_seed(0))
    with torch.no_grad():
        phi = ranker.extractor.eval().forward_indexed(
            image_inputs(features, ranker.extractor.variant),
            sample[None],
            dataset_statistics(features.boxes)[None],
        )[0]
        scores = ranker.predict(space.key, phi, encode(space, points)).numpy()
    expectation = Expectation(ranker, RankerSettings().images, offline, space)

    def planned(tried: Sequence[int]) -> int:
        results = {points[k]: float(aps[k]) for k in tried}
        return expectation.plan(space, points, phi.tolist(), 1, results, (), NoCustomers()).order[0]

    return dict(zip(OURS, (in_order(np.argsort(-scores)), planned)))


if __name__ == "__main__":
    main()
