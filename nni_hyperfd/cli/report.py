"""``hyperfd report``: what an experiment brought, as a page, and its best detector to take away."""

from __future__ import annotations

import argparse
from pathlib import Path

from nni_hyperfd.cli.options import add_experiments
from nni_hyperfd.plugin.records import find_experiment


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "report",
        help="write a page on an experiment, and copy its best detector out",
        description="Writes one page on an experiment (what was recommended and what came of it, learning curves, AP with intervals, pictures, the price, what left this machine) and copies its best detector out: safetensors, ONNX and a model card. Nothing is sent, and the experiment is left as it is.",
    )
    parser.add_argument("experiment", metavar="EXPERIMENT_ID")
    add_experiments(parser, "--experiment_dir")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="output folder (default: report in the experiment's folder)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write everything and say where it is."""
    from nni_hyperfd.plugin.report import write_report

    facts, handed, page = write_report(find_experiment(options.experiment, options.experiments), options.out)
    print(f"Experiment {facts.experiment_id}: {facts.state}.")
    if facts.best:
        print(f"Best: trial {facts.best.number}, {facts.best.name}")
    for each in facts.measured:
        low, high = each.interval
        print(f"AP@50 on {each.name}: {each.ap:.3f} (95 % interval over images: {low:.3f} to {high:.3f})")
    for note in facts.notes():
        print(note)
    if handed:
        print(f"\nThe detector and its card are in {handed.folder}. {handed.onnx}\n\n  {handed.command}")
    print(f"\nThe page is {page}; it shows some of the pictures, so it belongs to you alone.")
