"""``hyperfd recommend``: the ranked configurations for a data set, without running anything."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nni_hyperfd.cli.ledger import said
from nni_hyperfd.cli.options import add_customer
from nni_hyperfd.cli.table import table
from nni_hyperfd.customer.http import is_url
from nni_hyperfd.customer.settings import METHODS, Settings
from nni_hyperfd.data.reading import add_reading_options

if TYPE_CHECKING:
    from nni_hyperfd.customer.customer import Customer
    from nni_hyperfd.protocol.messages import RankedConfiguration

STANDARD = ("hpo", "nas", "joint", "assignment")
FEW = 300
"""Results on the platform's own data sets below which a ranking is not to be relied on."""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "recommend",
        help="print the ranked configurations for a data set",
        description="Prints the configurations that an experiment on these images would try, best first. Nothing is trained, and the platform keeps no trace of it.",
    )
    parser.add_argument("--data", required=True, metavar="FOLDER", help="annotated face images")
    parser.add_argument(
        "--space",
        default="hpo",
        metavar="FILE",
        help="NNI search space as JSON, or hpo, nas, joint or assignment (default: hpo)",
    )
    parser.add_argument("--budget", type=int, default=4, help="configurations to recommend (default: 4)")
    parser.add_argument(
        "--method", choices=METHODS, default=METHODS[0], help="how they are chosen (default: %(default)s)"
    )
    parser.add_argument(
        "--exploration", type=float, default=0.5, help="share of them that explores (default: 0.5)"
    )
    parser.add_argument(
        "--candidates",
        type=int,
        default=200,
        help="sample that is ranked where a space is large (default: 200)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--max-madds",
        type=float,
        metavar="M",
        help="only networks with fewer million multiply-adds (backbone, 640x360), as max_madds in classArgs",
    )
    parser.add_argument(
        "--max-ms",
        type=float,
        metavar="MS",
        help="only networks quicker than this on this machine, as max_ms in classArgs",
    )
    add_reading_options(parser)
    add_customer(parser)
    parser.add_argument(
        "--privacy-noise",
        type=float,
        default=0.0,
        metavar="Z",
        help="noise multiplier, as privacy_noise in classArgs (default: 0, no noise)",
    )
    parser.add_argument(
        "--spares", action="store_true", help="show those too that would replace failed trials"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print what would leave this machine, for this command and for an experiment, and send none of it",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the recommendation."""
    from nni_hyperfd.customer.customer import Customer
    from nni_hyperfd.customer.steady import Provisional
    from nni_hyperfd.platform.platform import Platform
    from nni_hyperfd.plugin.opening import platform_of

    settings = _settings(options)
    platform = platform_of(settings)
    customer = Customer(settings, _search_space(options.space), platform)
    if options.dry_run:
        _rehearse(customer)
        return
    recommendation = customer.preview()
    provisional = recommendation.reason if isinstance(recommendation, Provisional) else None
    # A server does not say how much it knows of a space.
    known = platform.experience(customer.space) if isinstance(platform, Platform) else None
    if options.json:
        content = {
            "version": recommendation.version,
            "provisional": provisional,
            "experience": known and {"results": known[0], "experiments": known[1]},
            "configurations": _scored(recommendation.configurations),
            "spares": _scored(recommendation.spares),
        }
        print(json.dumps(content, indent=1))
        return
    shown = [("", each) for each in recommendation.configurations]
    shown += [("spare", each) for each in recommendation.spares if options.spares]
    by = "here, with the ranker of" if provisional else "by"
    print(f"Recommended for {settings.data.name} {by} platform version {recommendation.version}:\n")
    rows = [
        (number, round(each.score, 4), str(customer.space.parse(each.parameters)), role)
        for number, (role, each) in enumerate(shown, start=1)
    ]
    print(table(("", "score", "configuration", ""), rows))
    if known:
        print("\n" + rests_on(*known))


def _settings(options: argparse.Namespace) -> Settings:
    same = (
        "data",
        "platform",
        "budget",
        "method",
        "exploration",
        "candidates",
        "seed",
        "format",
        "faces",
        "ignore",
        "exif",
        "privacy_noise",
        "max_madds",
        "max_ms",
    )
    arguments = {name: getattr(options, name) for name in same} | {"cache_dir": options.cache}
    return Settings.from_class_args(arguments).resolved(Path.cwd())


def _scored(candidates: Iterable[RankedConfiguration]) -> list[dict[str, Any]]:
    return [{"parameters": each.parameters, "score": each.score} for each in candidates]


def rests_on(results: int, experiments: int) -> str:
    """How much a ranking is worth, in words."""
    said = (
        f"This rests on {results} results on the platform's own data sets and on {experiments} of its customers' experiments in "
        "this space."
    )
    if results >= FEW:
        return said
    worth = "is no better than chance" if results == experiments == 0 else "may be little better than chance"
    return (
        f"{said} With fewer than {FEW} results the order {worth}. Where dozens of trials are affordable and all keys are numbers, "
        "search with nni_hyperfd.DYCORSTuner instead, which needs no experience (examples/hps_det.yml)."
    )


def _rehearse(customer: Customer) -> None:
    request, planned = customer.rehearse()
    body = request.model_dump_json()
    where = customer.settings.platform
    if not is_url(where):
        print(f"The platform {where} works in this process: in truth nothing leaves it for a server.\n")
    print(f"This command would send one message ({len(body)} bytes), `recommend`:\n\n{body}\n")
    print(f"An experiment with a budget of {customer.settings.budget} would send:\n")
    rows = [(one.entry.call, one.times, one.entry.bytes, said(one.entry.fields)) for one in planned]
    print(table(("call", "how often", "bytes", "what it says"), rows))
    print("\nNone of this was sent; only the platform's ranker was asked for.")


def _search_space(name: str) -> dict[str, Any]:
    from nni_hyperfd.spaces.standard import Named, load_space, standard_search_space

    if name in STANDARD:
        return standard_search_space(cast(Named, name))
    return dict(load_space(name).search_space)
