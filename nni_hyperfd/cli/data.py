"""``hyperfd data``: what is read from a folder, to be seen before hours are spent on it."""

from __future__ import annotations

import argparse
from pathlib import Path

from nni_hyperfd.cli.options import named_path
from nni_hyperfd.data.reading import Reading, add_reading_options
from nni_hyperfd.errors import DataError


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "data",
        help="show what is read from a folder of annotated images",
        description="Reads a folder as a training would and shows what was found: images, faces, classes, splits, sizes, what was left out and why, and copies. Nothing is trained, changed or sent.",
    )
    parser.add_argument("folder", type=named_path, metavar="FOLDER")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with pictures, too")
    parser.add_argument(
        "--budget", default="short", help="training budget whose picture size is shown (default: %(default)s)"
    )
    add_reading_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the tables, and write the page.

    Raises:
        DataError: The data cannot be used, or the page cannot be written.
    """
    from nni_hyperfd.cli.table import table
    from nni_hyperfd.data.dataset import load_dataset
    from nni_hyperfd.detection.training.budgets import get_budget
    from nni_hyperfd.files import write_file
    from nni_hyperfd.pages import data_page
    from nni_hyperfd.pages.data_facts import data_facts

    budget = get_budget(options.budget)
    facts = data_facts(load_dataset(options.folder, **Reading.of(options).arguments()), budget)
    print(f"{facts.dataset.report}\n")
    print(table(data_page.SPLIT_HEAD, data_page.split_rows(facts)))
    if any(group for group in facts.likeness.alike):
        print(f"\n{table(data_page.COPY_HEAD, data_page.copy_rows(facts))}")
    for warning in facts.warnings():
        print(f"\nWarning: {warning}")
    if options.html:
        try:
            options.html.parent.mkdir(parents=True, exist_ok=True)
            write_file(options.html, data_page.data_page(facts))
        except OSError as error:
            raise DataError(
                f"cannot write {options.html} ({error.strerror or error}): name another file with --html"
            ) from error
        print(
            f"\nThe page is {options.html.resolve()}; it shows some of the pictures, so it belongs to you alone."
        )
