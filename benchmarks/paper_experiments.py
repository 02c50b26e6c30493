"""The HyperFD paper's experiments on the committed lookup tables: benchmarks/results/paper.md with figures and single results.

    python benchmarks/paper_experiments.py                    # runs what is missing, then writes the page
    python benchmarks/paper_experiments.py --only table1 figure3
    python benchmarks/paper_experiments.py --show             # writes the page from the stored runs alone

Every run (space, measure, method, budget, seed) is kept in benchmarks/results/paper/*.json and made again only when the
table or the method's settings change. Needs no images and one core.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence import figures, page
from nni_hyperfd.evidence.below import SHARES, below
from nni_hyperfd.evidence.bootstrap import RESAMPLES
from nni_hyperfd.evidence.comparison import (
    BUDGETS,
    Outcome,
    Scenario,
    expected_rank_at_random,
    normalized_ranks,
    over_customers,
)
from nni_hyperfd.evidence.curves import by_price, gains_by_price
from nni_hyperfd.evidence.halves import halves, only
from nni_hyperfd.evidence.inputs import Inputs
from nni_hyperfd.evidence.methods import VARIANT_SEEDS, Contender, methods
from nni_hyperfd.evidence.price import (
    BY_PRICE,
    BY_PRICE_TEST,
    BY_PRICE_VAL,
    ByPrice,
    Priced,
    stopping_methods,
)
from nni_hyperfd.evidence.pseudo import pseudo_scenarios
from nni_hyperfd.evidence.rivals.hyperfd import HyperFD
from nni_hyperfd.evidence.runs import ByTrials, Laboratory, Line
from nni_hyperfd.evidence.scenario import PAPER, POOLED, Measure
from nni_hyperfd.spaces.standard import standard_space

ROOT = Path(__file__).parents[1]
RIVALS = (
    "random",
    "best-on-server",
    "mean-rank",
    "portfolio",
    "rank-portfolio",
    "gp-prior",
    "tr-automl",
    "hyperstar",
    "scot",
    "tpe",
    "dycors",
    "optuna-tpe",
    "syne-tune-zero-shot",
    "syne-tune-box",
    "botorch-mtgp",
    "openbox-rgpe",
)
OURS = ("hyperfd", "hyperfd-gp")
UPPER = "ensemble, not shipped"
"""hyperfd-gp with the φ of several warm-ups, which no platform has."""
VARIANTS = ("hyperfd (resnet)", "hyperfd (mobilenet)", "hyperfd (statistics)", "hyperfd (mse)")
ABLATIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "table2": ("Table 2: continual learning", ("latest data only", "frozen extractor", "frozen ranker")),
    "table3": ("Table 3: transformation", ("no transformation", "the paper's iteration", "oracle")),
    "table4": ("Table 4: losses", ("no triplet loss", "no synaptic intelligence")),
    "table5": (
        "Table 5: meta-feature extractor",
        ("no labels", "no gwap", "no pyramid", "no statistics", "no attention"),
    ),
    "table6": (
        "Table 6: warm-up and augmentation (and exploration)",
        ("no warm-up", "no augmentation", "hyperfd, no exploration"),
    ),
}
CURVES = (
    "best-on-server",
    "mean-rank",
    "portfolio",
    "gp-prior",
    "tr-automl",
    "hyperstar",
    "scot",
    *OURS,
    UPPER,
)
CURVE_BUDGETS = (2, 4, 6, 8, 10)
CURVE_SEEDS = 2
FIRST_SEEDS = 2
ORDERS = 50
PSEUDO_SEEDS = 5
STEPS = (
    "mean-rank",
    "portfolio",
    "rank-portfolio",
    "gp-prior",
    "frozen ranker",
    "warm-ups together",
    "process",
    "process with φ",
    "without φ",
    "ensemble sure of φ",
    "ensemble, not shipped",
    "hyperfd-gp, frozen ranker",
    "hyperfd-gp",
    "hyperfd-gp, two at a time",
)
SAMPLES = 30
"""Meta-features of each data set in Figure 5."""

PRICES = tuple(range(1, 11))
CURVE_PRICES = (1, 2, 4, 6, 8, 10)
"""Of the methods that train a ranker in each run."""
PRICE_SEEDS = 5
FULL_PRICE = (
    "random",
    "best-on-server",
    "mean-rank",
    "portfolio",
    "rank-portfolio",
    "gp-prior",
    "tpe",
    "hyperfd-gp, frozen ranker",
    *OURS,
)
"""Methods that train everything to its end."""
PRICE_OURS = ("hyperfd-mf", "hyperfd-gp")
PRICE_WORDS = """A price of 1 is one full training. Successive halving, hyperband, asha, bohb, quick-tune, dyhpo, probes and `hyperfd-mf` begin trainings, go on
from a checkpoint, and leave, so that a rung costs what it adds; the two *task-aware* ones are `HyperFDAdvisor`, whose longer trainings begin anew and
are paid for in full. The others train everything to its end. What counts is the best by val of the trainings that
were brought to their end; with none in hand the rank is 100 %. Each price is a run of its own. Ranked by val itself, the luck of choosing by a small val
split has no part; ranked by the pooled AP or by test it has the largest. The *design* half of the customers and the *untouched* one were fixed
before these rows were looked at (`nni_hyperfd/evidence/halves.py`).

"""

POOLED_WORDS = "tried, chosen and ranked by the AP over val and test pooled"
PAPER_WORDS = "chosen by val, ranked by test"


@dataclass
class Bench:
    """Everything at hand: inputs, methods, and one laboratory for each space and measure."""

    inputs: Inputs
    methods: Mapping[str, Contender]
    folder: Path
    quick: bool
    measure: bool
    deadline: float
    most: int = 10**6
    """Seeds of a method that trains, in this round."""
    cap: int = 10**6
    """Seeds of any method."""
    asked_prices: tuple[int, ...] = PRICES
    highest: int = PRICES[-1]
    """Price of a method that trains."""
    priced: dict[tuple[str, str], Laboratory | str] = field(default_factory=dict)

    @cached_property
    def spaces(self) -> list[str]:
        return self.inputs.spaces()

    @cached_property
    def laboratories(self) -> dict[tuple[str, str], Laboratory]:
        return {
            (space, measure.name): self._laboratory(space, measure)
            for space in self.spaces
            for measure in (POOLED, PAPER)
        }

    def _laboratory(self, space: str, measure: Measure) -> Laboratory:
        label = f"{space}-{'pooled' if measure is POOLED else 'paper'}"
        return self._in(self.inputs.scenario(space, measure), space, label)

    def _in(self, scenario: Scenario, space: str, label: str) -> Laboratory:
        folder = self.folder / ("quick" if self.quick else "paper")
        kind = standard_space(space)  # type: ignore[arg-type]
        return Laboratory(ByTrials(scenario), kind, folder, label, self.measure, self.deadline)

    def pseudo(self, space: str) -> list[Laboratory]:
        """Scenarios of pseudo-customers; empty if there are too few offline sets."""
        try:
            scenarios = pseudo_scenarios(self.at(space).scenario.experience)
        except DataError as error:
            logging.warning("%s: %s", space, error)
            return []
        return [self._in(scenario, space, f"{space}-pseudo{i}") for i, scenario in enumerate(scenarios)]

    def at(self, space: str, measure: Measure = POOLED) -> Laboratory:
        return self.laboratories[space, measure.name]

    def outcome(
        self, space: str, name: str, measure: Measure = POOLED, budgets: Sequence[int] = (4,), seeds: int = 0
    ) -> Outcome | None:
        """One method's outcome; ``seeds`` fewer than usual for a method that trains, or more for any."""
        method = self.methods[name]
        wanted = min(seeds or method.seeds, self.most) if method.trains else max(seeds, method.seeds)
        found = self.at(space, measure).outcome(method, budgets, 1 if self.quick else min(wanted, self.cap))
        logging.info("%s, %s: %s", space, measure.name, name)
        return found

    def outcomes(
        self, space: str, names: Sequence[str], measure: Measure = POOLED, seeds: int = 0
    ) -> dict[str, Outcome | None]:
        """Outcomes at B = 4 by name."""
        return {name: self.outcome(space, name, measure, seeds=seeds) for name in names}

    def compared(
        self,
        space: str,
        found: Mapping[str, Outcome | None],
        measure: Measure = POOLED,
        ndcg: Mapping[str, float | None] | None = None,
    ) -> str:
        """One line a method; for missing ones it says why."""
        laboratory = self.at(space, measure)
        return page.comparison(space, found, lambda name: laboratory.absent(self.methods[name]), ndcg)

    def by_price(self, space: str, measure: Measure) -> Laboratory | str:
        """Both kinds of methods on the rows with curves, or why nothing can be played by price."""
        if (space, measure.name) not in self.priced:
            folder = self.folder / ("quick" if self.quick else "paper")
            kind = standard_space(space)  # type: ignore[arg-type]
            label = f"{space}-price-{measure.judge.removesuffix('_ap')}"
            try:
                player = ByPrice(Priced.of(self.inputs, space, measure), kind)
            except DataError as error:
                self.priced[space, measure.name] = str(error)
            else:
                self.priced[space, measure.name] = Laboratory(
                    player, kind, folder, label, self.measure, self.deadline
                )
        return self.priced[space, measure.name]

    @property
    def prices(self) -> tuple[int, ...]:
        return CURVE_PRICES[:3] if self.quick else self.asked_prices

    def priced_outcome(self, space: str, measure: Measure, method: Line) -> Outcome | None:
        """One method at all prices, or at some if it trains."""
        laboratory = self.by_price(space, measure)
        if isinstance(laboratory, str):
            return None
        some = [each for each in CURVE_PRICES if each <= self.highest]
        mine = [each for each in self.prices if not method.trains or each in some]
        seeds = self.seeds_of(method, PRICE_SEEDS)
        if not self.measure:
            # What was run: a price that is missing is a dash, and not the whole line.
            stored = laboratory.stored(method)
            mine = [each for each in mine if all(stored.get(each, seed) for seed in range(seeds))] or mine
        found = laboratory.outcome(method, mine, seeds)
        logging.info("%s, %s: %s", space, measure.name, method.name)
        return found

    def at_a_price(self) -> list[Line]:
        """Those that train everything to its end, and those that leave trainings."""
        found: list[Line] = [
            *(self.methods[name] for name in FULL_PRICE),
            *stopping_methods(self.quick).values(),
        ]
        return sorted(found, key=lambda each: each.trains + (each.trains and each.name != PRICE_OURS[0]))

    def seeds_of(self, method: Line, most: int) -> int:
        """Fewer for those that train, one if it only matters that everything runs."""
        return 1 if self.quick else min(most, method.seeds, self.cap, self.most if method.trains else most)

    def image(self, name: str) -> Path:
        return self.folder / ("quick" if self.quick else "paper") / f"{name}.png"


def table1(bench: Bench) -> str:
    """All methods, both measures, who is ahead of whom."""
    text = ""
    for space in bench.spaces:
        found = bench.outcomes(space, (*RIVALS, *VARIANTS, *OURS, UPPER))
        chance = expected_rank_at_random(bench.at(space).scenario, 4)
        text += f"### {space.upper()}, {POOLED_WORDS}\n\n{bench.compared(space, found)}\n"
        text += f"Random search is expected at {chance:.2f} %.\n\n"
        for name in OURS:
            if (ours := found[name]) is not None:
                others = [each for key, each in found.items() if each is not None and key != name]
                text += f"`{name}` against each of them, paired by seed and order:\n\n{page.duels(ours, others)}\n"
        other = bench.outcomes(space, (*RIVALS, *OURS, UPPER), PAPER, VARIANT_SEEDS)
        text += f"### {space.upper()}, {PAPER_WORDS}\n\n{bench.compared(space, other, PAPER)}\n"
        if (ours := other[OURS[-1]]) is not None:
            others = [each for key, each in other.items() if each is not None and key != OURS[-1]]
            text += f"`{OURS[-1]}` against each of them:\n\n{page.duels(ours, others)}\n"
    return text


def ablation(name: str) -> Callable[[Bench], str]:
    """One of the paper's Tables 2 to 6."""
    names = (*ABLATIONS[name][1], "hyperfd")

    def table(bench: Bench) -> str:
        text = ""
        for space in bench.spaces:
            found = bench.outcomes(space, names)
            laboratory = bench.at(space)
            ndcg = (
                {each: laboratory.ndcg(bench.methods[each]) for each in names} if name == "table5" else None
            )
            text += f"### {space.upper()}\n\n{bench.compared(space, found, ndcg=ndcg)}\n"
            if (full := found["hyperfd"]) is not None:
                others = [each for key, each in found.items() if each is not None and key != "hyperfd"]
                text += f"The full method against each, on the same seeds:\n\n{page.duels(full, others)}\n"
        return text

    return table


def variant(bench: Bench) -> str:
    """The steps to hyperfd-gp, on pseudo-customers out of offline sets and on the customers."""
    text = (
        "`hyperfd-gp` (`nni_hyperfd/recommendation/`) is not in the paper: a process over data sets and configurations, with φ in its "
        "kernel, and with hypotheses about how far customers differ from each other. Which steps belong to it is to be judged on "
        "pseudo-customers alone: clusters of offline sets at one end of an axis of appearance, with the sets at the other end as "
        "experience (`nni_hyperfd/evidence/pseudo.py`). The last columns show afterwards what each step brings on the customers.\n\n"
        "Steps are told apart without a platform's one ranker: φ is that of several warm-ups, *ensemble, not shipped* has all of them, and "
        "`hyperfd-gp` is what the platform runs, with one ranker that learns from every customer.\n\n"
    )
    for space in bench.spaces:
        laboratories = bench.pseudo(space)
        rows = []
        for name in STEPS:
            method = bench.methods[name]
            found = [each.outcome(method, (4,), 1 if bench.quick else PSEUDO_SEEDS) for each in laboratories]
            ranks = [each.rank[0].mean() for each in found if each is not None]
            customers = bench.outcome(space, name)
            cells = [name, *("–" if each is None else f"{each.rank[0].mean():.1f}" for each in found)]
            mean = f"{sum(ranks) / len(ranks):.2f}" if ranks and None not in found else "–"
            if customers is None:
                cells += [mean, "–", "–", "–"]
            else:
                ours, seeds, _ = page.mean_and_errors(customers.rank[0])
                gain = page.mean_and_errors(customers.delta_ap()[0][:, None])[0]
                over = str(over_customers(customers, 4)[0])
                cells += [f"**{mean}**", f"{ours:.2f} ± {page.two_digits(seeds)}", over, f"{gain:+.2f}"]
            rows.append(cells)
            logging.info("%s, pseudo-customers: %s", space, name)
        names = [each.scenario.name for each in laboratories]
        head = ["step", *names, "mean rank %, offline", "rank %, customers", page.OVER, "ΔAP, customers"]
        text += f"### {space.upper()}\n\n{page.markdown_table(head, rows)}\n"
    return text


def figure3(bench: Bench) -> str:
    """Rank against budget."""
    panels: dict[str, list[Outcome]] = {}
    chance: dict[str, list[float]] = {}
    for space in bench.spaces:
        laboratory = bench.at(space)
        chance[space] = [expected_rank_at_random(laboratory.scenario, budget) for budget in BUDGETS]
        panels[space] = []
        for name in CURVES:
            budgets = CURVE_BUDGETS if bench.methods[name].trains else BUDGETS
            found = bench.outcome(
                space, name, budgets=budgets[:2] if bench.quick else budgets, seeds=CURVE_SEEDS
            )
            if found is not None:
                panels[space].append(found)
    figures.budgets(panels, chance, bench.image("figure3"))
    rows = [
        [
            space,
            each.method,
            *(
                f"{each.rank[each.budgets.index(b)].mean():.1f}" if b in each.budgets else "–"
                for b in BUDGETS
            ),
        ]
        for space, outcomes in panels.items()
        for each in outcomes
    ]
    rows += [[space, "random (exact)", *(f"{value:.1f}" for value in chance[space])] for space in panels]
    table = page.markdown_table(["space", "method", *(f"B = {b}" for b in BUDGETS)], rows)
    return f"![rank against budget]({link(bench, 'figure3')})\n\n{table}\nMethods that train have {CURVE_SEEDS} seeds here, the others up to {bench.methods['random'].seeds}.\n"


def figure4(bench: Bench) -> str:
    """Orders of tasks."""
    panels: dict[str, list[Outcome]] = {}
    for space in bench.spaces:
        found = [bench.outcome(space, name, seeds=ORDERS) for name in (*OURS, UPPER)]
        panels[space] = [each for each in found if each is not None]
    scenarios = {space: bench.at(space).scenario for space in bench.spaces}
    figures.orders(panels, scenarios, bench.image("figure4"))
    rows = []
    for space, outcomes in panels.items():
        for each in outcomes:
            means = each.rank[0].mean(axis=1)
            share = (means < expected_rank_at_random(scenarios[space], 4)).mean()
            spread = f"{means.mean():.2f} ± {means.std():.2f}"
            rows.append(
                [
                    space,
                    each.method,
                    str(len(means)),
                    spread,
                    f"{means.min():.2f}",
                    f"{means.max():.2f}",
                    f"{100 * share:.0f} %",
                ]
            )
    head = [
        "space",
        "method",
        "orders",
        "mean ± deviation",
        "best",
        "worst",
        "better than random's expectation",
    ]
    return f"![distribution over orders]({link(bench, 'figure4')})\n\n{page.markdown_table(head, rows)}"


def figure5(bench: Bench) -> str:
    """Meta-features of the customers after the warm-up alone."""
    panels = {}
    for space in bench.spaces:
        scenario, method = bench.at(space).scenario, bench.methods["hyperfd"]
        rival = method.make(standard_space(space))  # type: ignore[arg-type]
        assert isinstance(rival, HyperFD)
        rival.reset(scenario.experience, 0)
        panels[space] = {
            name: rival.meta_features(profile, SAMPLES).numpy()
            for name, profile in zip(scenario.tasks, scenario.profiles)
        }
    figures.meta_features(panels, bench.image("figure5"))
    return f"![t-SNE of meta-features]({link(bench, 'figure5')})\n\n{SAMPLES} samples of images from each customer, before any customer was seen.\n"


def by_data_set(bench: Bench) -> str:
    """Table 13 of the appendix."""
    text = ""
    for space in bench.spaces:
        found = bench.outcomes(space, (*RIVALS, *OURS))
        shown = [each for each in found.values() if each is not None]
        text += f"### {space.upper()}\n\n{page.by_data_set(bench.at(space).scenario, shown)}\n"
    return text


def the_table(bench: Bench) -> str:
    """What was measured, how noisy it is, and how alike the data sets are."""
    text = ""
    scenarios: dict[str, Scenario] = {}
    for space in bench.spaces:
        scenario = scenarios[space] = bench.at(space).scenario
        experience = scenario.experience
        known = (~torch.tensor(experience.aps).isnan()).sum(1).tolist()
        offline = len(experience.data_sets) - (experience.server is not None)
        minutes = (
            sum(
                row.seconds
                for table in (bench.inputs.customers, bench.inputs.offline)
                for row in table.select(space=space)
            )
            / 60
        )
        text += (
            f"**{space.upper()}**: {len(scenario.tasks)} customers × {experience.candidates} configurations; "
            f"{sum(known[:offline])} pairs on {offline} offline sets"
            f"{'' if experience.server is None else f'; {known[-1]} configurations on the server as a whole'}; "
            f"{minutes:.0f} processor minutes of training.\n\n"
        )
        text += page.table_facts(scenario, bench.at(space, PAPER).scenario) + "\n"
    for space in bench.spaces:
        pooled = bench.inputs.noise(space)
        across = bench.inputs.noise(space, "val_ap", "test_ap")
        text += page.noise_sentence(space, pooled, across, scenarios[space])
        twice = bench.inputs.measured_twice(space)
        if twice:
            text += f"APs are means over both seeds on {len(twice)} of the customers, so their noise is a factor √2 smaller there.\n"
        text += "\n"
    found = figures.correlations(scenarios, bench.image("correlations"))
    for space, matrix in found.items():
        tasks = len(scenarios[space].tasks)
        among = matrix[:tasks, :tasks][~torch.eye(tasks, dtype=torch.bool).numpy()]
        # Where all configurations of a customer tie, there is no ranking.
        text += f"Rankings of two customers correlate with {np.nanmean(among):.2f} on average in {space.upper()} (lowest {np.nanmin(among):.2f})"
        text += (
            f", with the server's {np.nanmean(matrix[tasks, :tasks]):.2f}.\n"
            if len(matrix) > tasks
            else ".\n"
        )
    return text + f"\n![correlation of rankings]({link(bench, 'correlations')})\n"


def price(bench: Bench) -> str:
    """Rank against price with all rivals, and the two halves of the customers."""
    measures = {BY_PRICE: "the pooled AP"}
    if not bench.quick:
        measures |= {BY_PRICE_VAL: "val itself", BY_PRICE_TEST: "test"}
    places = [(space, measure) for measure in measures for space in bench.spaces]
    # What trains a ranker in each run comes last, so that a page that is cut short has all else in every space.
    for method in bench.at_a_price():
        for space, measure in places:
            bench.priced_outcome(space, measure, method)
    text = ""
    panels: dict[str, list[Outcome]] = {}
    for space, measure in places:
        laboratory = bench.by_price(space, measure)
        if isinstance(laboratory, str):
            text += f"*{laboratory}*\n\n"
            continue
        tried = {method.name: bench.priced_outcome(space, measure, method) for method in bench.at_a_price()}
        found = [each for each in tried.values() if each is not None]
        text += f"### {space.upper()}, chosen by val, ranked by {measures[measure]}\n\n{price_facts(laboratory.scenario)}"
        if not found:
            continue
        text += f"{by_price(found, bench.prices)}\n"
        text += f"ΔAP at each price:\n\n{gains_by_price(found, bench.prices)}\n"
        text += f"At a price of 4. {page.by_data_set(laboratory.scenario, found)}\n"
        for method in bench.at_a_price():
            if tried[method.name] is None:
                text += f"*`{method.name}` is missing: {laboratory.absent(method)}*\n\n"
        text += halves_and_duels(found)
        if measure is BY_PRICE:
            panels[space] = found
    if panels:
        figures.prices(panels, bench.image("price"))
        text = f"![rank against price]({link(bench, 'price')})\n\n{text}"
    return PRICE_WORDS + text


def costs(bench: Bench) -> str:
    """Networks below a limit on multiply-adds."""
    text = ""
    for space in bench.spaces:
        if space == "hpo":
            continue
        whole = bench.at(space).scenario
        for share in (*SHARES, 1.0):
            try:
                scenario = below(whole, share)
            except DataError as error:
                text += f"*{error}*\n\n"
                continue
            laboratory = bench._in(scenario, space, f"{space}-below{100 * share:.0f}")
            budgets = [each for each in CURVE_PRICES[:3] if each < scenario.experience.candidates]
            outcomes = []
            for name in FULL_PRICE:
                method = bench.methods[name]
                outcome = laboratory.outcome(method, budgets, bench.seeds_of(method, PRICE_SEEDS))
                if outcome is not None:
                    outcomes.append(outcome)
                logging.info("%s: %s", scenario.name, name)
            text += f"### {scenario.name}: {scenario.experience.candidates} of {whole.experience.candidates} networks\n\n"
            if outcomes:
                text += f"{by_price(outcomes, budgets, 2)}\n"
                ours = next((each for each in outcomes if each.method == "hyperfd-gp"), None)
                if ours is not None:
                    others = [each for each in outcomes if each is not ours]
                    text += f"`hyperfd-gp` against each with two trials:\n\n{page.duels(ours, others, 2)}\n"
    return text or "No space of networks was measured.\n"


def price_facts(scenario: Scenario) -> str:
    """How much there is, and what could be reached."""
    known = scenario.experience
    ranks = normalized_ranks(scenario.judge)
    best = [
        ranks[scenario.choose[:, d] == np.nanmax(scenario.choose[:, d]), d].mean()
        for d in range(len(scenario.tasks))
    ]
    untouched = [d for d, name in enumerate(scenario.tasks) if name in halves(scenario.tasks)["untouched"]]
    least = np.nanmin(ranks, axis=0)
    pairs = int((~np.isnan(known.aps)).sum())
    chance = ", ".join(f"{expected_rank_at_random(scenario, each):.1f}" for each in CURVE_PRICES[:3])
    return (
        f"{len(scenario.tasks)} customers × {known.candidates} configurations with curves, {pairs} pairs on {len(known.data_sets)} "
        f"offline sets. The lowest rank that there is, ties counted, is {least.mean():.1f} %, on the untouched half {least[untouched].mean():.1f} %. "
        f"Whoever trains all and takes the best by val ranks at {np.mean(best):.1f} %; random search is expected at "
        f"{chance} % at prices of {', '.join(map(str, CURVE_PRICES[:3]))}.\n\n"
    )


def halves_and_duels(found: Sequence[Outcome]) -> str:
    """Rank on both halves at three prices, then the paired differences to ours on the untouched half and on all."""
    parts = {half: names for half, names in halves(found[0].tasks).items() if names}
    rows = []
    for each in found:
        cut = {half: only(each, names) for half, names in parts.items()}
        cells = [
            f"{one.rank[one.budgets.index(p)].mean():.1f} {over_customers(one, p)[0]}"
            for one in cut.values()
            for p in CURVE_PRICES[:3]
        ]
        rows.append([each.method, *cells])
    head = [f"{half} ({len(names)}), price {p}" for half, names in parts.items() for p in CURVE_PRICES[:3]]
    text = f"By half of the customers, with 95 % over customers:\n\n{page.markdown_table(['rank % of', *head], rows)}\n"
    for name in PRICE_OURS:
        ours = next((each for each in found if each.method == name), None)
        if ours is None:
            continue
        others = [each for each in found if each.method != name]
        for half, names in {"all customers": list(ours.tasks), **parts}.items():
            if half == "design":
                continue
            duel = page.duels(only(ours, names), [only(each, names) for each in others])
            text += f"`{name}` against each at a price of 4, {half}:\n\n{duel}\n"
    return text


def link(bench: Bench, name: str) -> str:
    return str(bench.image(name).relative_to(bench.folder))


EXPERIMENTS: Mapping[str, tuple[str, Callable[[Bench], str]]] = {
    "table": ("The lookup table", the_table),
    "table1": ("Table 1: all methods", table1),
    "sets": ("Results on each data set (Table 13)", by_data_set),
    **{name: (title, ablation(name)) for name, (title, _) in ABLATIONS.items()},
    "variant": ("A variant, step by step", variant),
    "price": ("Rank against price", price),
    "costs": ("Networks below a limit on their cost", costs),
    "figure3": ("Figure 3: budgets", figure3),
    "figure5": ("Figure 5: meta-features", figure5),
    "figure4": ("Figure 4: orders of tasks", figure4),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS))
    parser.add_argument("--quick", action="store_true", help="one seed, hardly any training: does it run?")
    parser.add_argument("--show", action="store_true", help="make no run, write the page from stored ones")
    parser.add_argument("--inputs", type=Path, default=ROOT / "benchmarks" / "tables")
    parser.add_argument("--tables", type=Path, nargs="+", help="by default *.csv.gz in --inputs")
    parser.add_argument("--budget", default="table", help="training budget of the rows to use")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after this long")
    parser.add_argument("--seeds", type=int, default=10**6, help="at most, of any method")
    parser.add_argument(
        "--prices", type=int, nargs="+", default=list(PRICES), help="that are played (1, 2 and 4 always are)"
    )
    parser.add_argument(
        "--highest",
        type=int,
        default=PRICES[-1],
        help="price of what trains a ranker in each run; at least 4",
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FutureWarning)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    tables = options.tables or sorted(options.inputs.glob("*.csv.gz"))
    bench = Bench(
        Inputs.load(options.inputs, tables, options.budget),
        methods(options.quick),
        options.out,
        options.quick,
        not options.show,
        time.monotonic() + 60 * options.minutes,
        cap=options.seeds,
        asked_prices=tuple(sorted({*CURVE_PRICES[:3], *options.prices})),
        highest=options.highest,
    )
    bench.image("x").parent.mkdir(parents=True, exist_ok=True)
    whole = options.only == list(EXPERIMENTS)
    path = options.out / ("quick.md" if options.quick else "paper.md" if whole else "part.md")
    # A page with few seeds is there early; a second round completes it.
    for most in (FIRST_SEEDS, bench.most):
        bench.most = most
        sections = [f"## {EXPERIMENTS[name][0]}\n\n{EXPERIMENTS[name][1](bench)}" for name in options.only]
        path.write_text(f"{head(bench, options.budget)}\n" + "\n".join(sections), encoding="utf-8")
        logging.info("%s", path)


def head(bench: Bench, budget: str) -> str:
    """What the page is about."""
    stored = [
        laboratory.stored(method).seconds
        for laboratory in bench.laboratories.values()
        for method in bench.methods.values()
    ]
    return f"""# The paper's experiments on our lookup table

Made by `python benchmarks/paper_experiments.py` from `benchmarks/tables/`; all single runs are in `paper/`. They took
{sum(stored) / 60:.0f} processor minutes, the trainings of the table (budget `{budget}`) not counted.

* *rank %*: position of the best configuration found among all of the table, mean over data sets and seeds; lower is better.
  "±" is the standard error over seeds (a seed is another warm-up and another order of the data sets).
* *95 % over customers*: the interval of the bootstrap that draws the data sets anew ({RESAMPLES} times), that is, how far the figure would
  move with other data sets of the kind. Between two methods it is paired: a draw takes both methods' results of the same data sets.
* *ΔAP*: AP points gained over random search at the same budget, summed over the data sets.
* Four trials a data set unless a budget is named. All methods see the same experience, the same orders, and only the AP they paid for.
* Methods that train a network have fewer seeds than those that do not; the column says how many.
* Rows of *paper* were measured by the paper's authors on eleven other data sets, with longer trainings: compare orders, not digits.
"""


if __name__ == "__main__":
    main()
