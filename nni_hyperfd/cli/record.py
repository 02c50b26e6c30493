"""``hyperfd record``: the result of a training that no tuner of ours watched, handed to a platform."""

from __future__ import annotations

import argparse
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nni_hyperfd import strict_json
from nni_hyperfd.cli.options import add_customer
from nni_hyperfd.cli.recommend import STANDARD, _search_space
from nni_hyperfd.customer.settings import Settings
from nni_hyperfd.data.reading import add_reading_options
from nni_hyperfd.errors import DataError

if TYPE_CHECKING:
    from nni_hyperfd.customer.result import Regime, Result


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "record",
        help="hand the result of one training to a platform",
        description="Hands the configuration and the AP of a result.json, which a trial wrote, to a platform as experience with these images. What is sent is what an experiment sends: φ, configuration, AP, gradients. A file counts once, however often this is called.",
    )
    parser.add_argument("result", type=Path, metavar="RESULT.json", help="what the trial wrote")
    parser.add_argument("--data", required=True, metavar="FOLDER", help="the images it was trained on")
    parser.add_argument(
        "--space", default="joint", metavar="FILE", help=f"{', '.join(STANDARD)} or a file (default: joint)"
    )
    add_reading_options(parser)
    add_customer(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Open a task of its own for the file, record, update."""
    from nni_hyperfd.customer.customer import Customer
    from nni_hyperfd.plugin.experiment_end import end_experiment, in_words
    from nni_hyperfd.plugin.opening import platform_of

    name, outcome = read_result(options.result)
    arguments = {
        key: getattr(options, key) for key in ("data", "platform", "format", "faces", "ignore", "exif")
    }
    settings = Settings.from_class_args({**arguments, "cache_dir": options.cache}).resolved(Path.cwd())
    customer = Customer(settings, _search_space(options.space), platform_of(settings))
    customer.space.parse(outcome[0])
    receipt = end_experiment(customer, customer.open(name), [outcome])
    print(f"Recorded: {in_words(receipt)}.")


def read_result(path: Path) -> tuple[str, tuple[dict[str, Any], Result, Regime]]:
    """A name for the task, which says nothing about the customer, and the outcome.

    Raises:
        DataError: The file is missing or is no result of a trial.
    """
    from nni_hyperfd.customer.result import Regime, read_metric

    try:
        text = path.read_bytes()
        content = strict_json.loads(text)
        parameters = cast(dict[str, Any], content["parameters"])
        training = Regime(str(content["budget"]["name"]), int(content["seed"]))
        result = read_metric({**content, "default": content["val_ap"]})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not the result of a trial ({error!r}): name a result.json that finetune.py or autohas.py wrote"
        ) from error
    return f"record-{sha256(text).hexdigest()[:16]}", (parameters, result, training)
