"""``hyperfd table``: lookup tables of what configurations reach on data sets; built, merged, summed up, and used to judge."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nni_hyperfd.cli.table import table

if TYPE_CHECKING:
    from nni_hyperfd.evidence.comparison import Outcome, Scenario
    from nni_hyperfd.evidence.inputs import Inputs
    from nni_hyperfd.evidence.runs import Line
    from nni_hyperfd.evidence.table import LookupTable, Row


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parsers of ``build``, ``merge``, ``show`` and ``judge``."""
    parser = commands.add_parser(
        "table",
        help="build, merge and show lookup tables for comparing methods",
        description="Lookup tables hold the AP of configurations on data sets, each measured by one training, so that ways to choose configurations can be compared without training anything again.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _add_build(actions)
    merge = actions.add_parser("merge", help="put the files of several workers together")
    merge.add_argument("tables", nargs="+", type=Path, metavar="FILE", help="*.jsonl or *.csv.gz")
    merge.add_argument("--out", type=Path, required=True, metavar="FILE.csv.gz")
    merge.set_defaults(run=run_merge)
    show = actions.add_parser("show", help="sum a table up, a line for each data set")
    show.add_argument("tables", nargs="+", type=Path, metavar="FILE", help="*.jsonl or *.csv.gz")
    show.set_defaults(run=run_show)
    _add_judge(actions)


def _add_build(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from nni_hyperfd.evidence.job import add_arguments

    build = actions.add_parser(
        "build",
        help="fine-tune pairs and append their rows to a file",
        description="Fine-tunes the detector on (configuration, data set) pairs and appends a row for each to FILE.jsonl. Stop it at any moment; the same command goes on where it stopped.",
    )
    add_arguments(build)
    build.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl", help="this worker's own file")
    build.add_argument(
        "--shard",
        type=_shard,
        default=(0, 1),
        metavar="I/N",
        help="every N-th pair from the I-th on, I from 0; one worker each (default: 0/1)",
    )
    build.add_argument(
        "--done", type=Path, nargs="+", default=[], metavar="FILE", help="tables whose pairs are left out"
    )
    build.add_argument("--minutes", type=float, default=math.inf, help="start no pair after this long")
    build.add_argument("--dry-run", action="store_true", help="count the pairs and train nothing")
    build.set_defaults(run=run_build)


def _add_judge(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    judge = actions.add_parser(
        "judge",
        help="see how every method would have fared on data sets of your own",
        description="Plays methods on data sets that you measured with 'hyperfd table build': what each would have found in a few trials, and where that ranks among all measured configurations (lower is better). Rows with learning curves are also played by price: methods begin trainings, go on with them or leave them. Your data sets come among the known customers, in random orders; only yours are judged. Nothing is trained but what a method trains of itself, and nothing leaves this machine.",
    )
    judge.add_argument(
        "--rows",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="measured rows of the new data sets",
    )
    judge.add_argument(
        "--data", type=Path, nargs="+", required=True, metavar="FOLDER", help="the new data sets themselves"
    )
    judge.add_argument(
        "--known",
        type=Path,
        default=Path("benchmarks/tables"),
        metavar="FOLDER",
        help="tables and features of the known data sets (default: %(default)s of the repository)",
    )
    judge.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help="default: those that take seconds, and by price those that leave trainings; 'all' for every one",
    )
    judge.add_argument(
        "--trials",
        type=int,
        default=4,
        help="a data set may have; by price, the most full trainings that all epochs may sum up to (default: %(default)s)",
    )
    judge.add_argument("--orders", type=int, help="of the customers (default: 8)")
    judge.add_argument("--budget", default="table", help="training budget of the rows (default: %(default)s)")
    judge.set_defaults(run=run_judge)


def _shard(text: str) -> tuple[int, int]:
    try:
        index, count = (int(part) for part in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no shard; write it like 0/4") from None
    if not 0 <= index < count:
        raise argparse.ArgumentTypeError(f"shard {index} of {count}: the index counts from 0 to {count - 1}")
    return index, count


def run_build(options: argparse.Namespace) -> None:
    """Measure this worker's pairs.

    Raises:
        DataError: The options or the tables cannot be used.
    """
    from nni_hyperfd.errors import DataError
    from nni_hyperfd.evidence.job import job_of, load_tables
    from nni_hyperfd.evidence.measuring import shard

    if options.out.suffix != ".jsonl":
        raise DataError(f"--out is {options.out}: rows are appended to a file that ends with .jsonl")
    job, done = job_of(options), load_tables(options.done)
    if options.dry_run:
        mine = shard(job.plan(), *options.shard)
        known = load_tables([options.out] if options.out.exists() else [])
        left = sum(pair not in done and pair not in known for pair in mine)
        print(f"{len(mine)} pairs in this shard, {left} of them still to be measured.")
        return
    import torch

    # A small training gains nothing from a second thread; a second worker does.
    torch.set_num_threads(1)
    index, count = options.shard
    appended, left = job.run(options.out, index, count, done, options.minutes, progress=_say)
    print(f"{options.out}: {appended} rows appended, {left} pairs left.")


def _say(row: Row) -> None:
    result = row.failure or f"val {row.val_ap:.3f}  test {row.test_ap:.3f}"
    print(f"{row.space}  {row.data_set}  {result}  {row.seconds:.1f} s", flush=True)


def run_merge(options: argparse.Namespace) -> None:
    """Write one table.

    Raises:
        DataError: The options or the tables cannot be used.
    """
    from nni_hyperfd.errors import DataError
    from nni_hyperfd.evidence.job import load_tables

    if not options.out.name.endswith(".csv.gz"):
        raise DataError(f"--out is {options.out}: a merged table is a file that ends with .csv.gz")
    merged = load_tables(options.tables)
    merged.save(options.out)
    print(f"{options.out}: {len(merged)} rows.")


def run_show(options: argparse.Namespace) -> None:
    """Print what a table holds."""
    from nni_hyperfd.evidence.job import load_tables

    print(table_summary(load_tables(options.tables)))


def run_judge(options: argparse.Namespace) -> None:
    """Print a table for each search space and each way to choose and judge, by trials and, with curves, by price.

    Raises:
        DataError: The options, the tables or the data cannot be used.
    """
    from nni_hyperfd.data.dataset import load_dataset
    from nni_hyperfd.errors import DataError
    from nni_hyperfd.evidence.inputs import Inputs
    from nni_hyperfd.evidence.job import load_tables
    from nni_hyperfd.evidence.judge import QUICK, SEEDS, with_newcomers
    from nni_hyperfd.evidence.methods import methods
    from nni_hyperfd.evidence.price import stopping_methods
    from nni_hyperfd.metafeature.profile import profile_dataset

    full, stopping = methods(), stopping_methods()
    known = [*full, *stopping]
    wanted = known if options.methods == ["all"] else options.methods or [*QUICK, *stopping]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise DataError(f"--methods has no {unknown[0]!r}: there are {', '.join(known)}")
    if options.trials < 1 or (options.orders is not None and options.orders < 1):
        raise DataError("--trials and --orders are 1 at least")
    rows = load_tables(options.rows)
    inputs = Inputs.load(options.known, sorted(options.known.glob("*.csv.gz")), options.budget)
    features = {folder.resolve().name: profile_dataset(load_dataset(folder)) for folder in options.data}
    inputs = with_newcomers(inputs, rows, features, options.budget)
    mine = {row.space for row in inputs.customers.select(data_sets=features)}
    for space in [name for name in inputs.spaces() if name in mine]:
        seeds = range(options.orders or SEEDS)
        _judge_by_trials(inputs, space, [name for name in wanted if name in full], options.trials, seeds)
        _judge_by_price(inputs, space, wanted, options.trials, seeds)


def _judge_by_trials(inputs: Inputs, space: str, names: list[str], trials: int, seeds: range) -> None:
    from nni_hyperfd.evidence.comparison import run_rival
    from nni_hyperfd.evidence.judge import said_of, verdict
    from nni_hyperfd.evidence.methods import methods
    from nni_hyperfd.evidence.scenario import PAPER, POOLED
    from nni_hyperfd.spaces.standard import standard_space

    kind, known = standard_space(space), methods()  # type: ignore[arg-type]
    for measure in (POOLED, PAPER):
        scenario = inputs.scenario(space, measure)
        there = [name for name in inputs.newcomers if name in scenario.tasks]
        print(f"\n{scenario.name}, {trials} trials: {said_of(scenario, there)}\n")

        def find(name: str, scenario: Scenario = scenario) -> Callable[[], Outcome]:
            return lambda: run_rival(known[name].make(kind), scenario, (trials,), seeds)

        found = _said(find, names, there)
        if found:
            print(verdict(found, trials), flush=True)


def _judge_by_price(inputs: Inputs, space: str, names: list[str], most: int, seeds: range) -> None:
    from nni_hyperfd.errors import DataError
    from nni_hyperfd.evidence.curves import by_price
    from nni_hyperfd.evidence.judge import said_of
    from nni_hyperfd.evidence.methods import methods
    from nni_hyperfd.evidence.price import BY_PRICE, ByPrice, Priced, stopping_methods
    from nni_hyperfd.spaces.standard import standard_space

    kind = standard_space(space)  # type: ignore[arg-type]
    known: dict[str, Line] = {**methods(), **stopping_methods()}
    try:
        priced = Priced.of(inputs, space, BY_PRICE)
    except DataError as error:
        print(f"\nNot judged by price: {error}")
        return
    there = [name for name in inputs.newcomers if name in priced.scenario.tasks]
    if not there:
        print(f"\nNot judged by price: the rows of {', '.join(inputs.newcomers)} have no learning curves.")
        return
    print(f"\n{priced.scenario.name}, by price (full trainings): {said_of(priced.scenario, there)}\n")
    player, prices = ByPrice(priced, kind), range(1, most + 1)
    found = _said(lambda name: lambda: player.play(known[name].make(kind), prices, seeds), names, there)
    if found:
        print(by_price(found, prices, most), flush=True)


def _said(
    find: Callable[[str], Callable[[], Outcome]], names: list[str], newcomers: Sequence[str]
) -> list[Outcome]:
    """The outcomes; why others are missing is printed."""
    from nni_hyperfd.evidence.judge import judged

    found = []
    for each in judged(find, names, newcomers):
        if isinstance(each, str):
            print(f"{each}\n")
        else:
            found.append(each)
    return found


def table_summary(rows: LookupTable) -> str:
    """One line for each data set, budget and seed: how many rows, how many failed, how far their APs spread, seconds."""
    groups: dict[tuple[str, str, str, int], list[Row]] = {}
    for row in rows:
        # Offline sets are many; their names begin with the features that they were clustered by.
        name = "(offline sets)" if "." in row.data_set else row.data_set
        groups.setdefault((row.space, name, row.budget, row.seed), []).append(row)
    lines = []
    for key, members in sorted(groups.items()):
        aps = sorted(row.heldout_ap for row in members if not row.failure)
        spread = (aps[0], aps[len(aps) // 2], aps[-1]) if aps else (math.nan,) * 3
        seconds = sum(row.seconds for row in members)
        failed = sum(bool(row.failure) for row in members)
        lines.append((*key, len(members), failed, *(round(ap, 3) for ap in spread), round(seconds / 60, 1)))
    head = ("space", "data set", "budget", "seed", "rows", "failed", "worst AP", "median", "best", "minutes")
    return table(head, lines)
