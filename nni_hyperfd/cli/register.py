"""``hyperfd register``: teach NNI the names ``HyperFD`` and ``HyperFDAdvisor``."""

from __future__ import annotations

import argparse

NAMES = {"HyperFD": "nni_hyperfd.HyperFDTuner", "HyperFDAdvisor": "nni_hyperfd.HyperFDAdvisor"}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both parsers."""
    for name, run, text in (
        ("register", register, "let experiments say `tuner: {name: HyperFD}`"),
        ("unregister", unregister, "undo register"),
    ):
        commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.").set_defaults(
            run=run
        )


def register(options: argparse.Namespace) -> None:
    """Enter the names into NNI's list of algorithms, which belongs to this Python environment."""
    from nni.tools.package_utils import AlgoMeta, register_algo_meta

    for name, class_name in NAMES.items():
        kind = "advisor" if name.endswith("Advisor") else "tuner"
        register_algo_meta(
            AlgoMeta.load({"builtinName": name, "className": class_name, "source": "user"}, kind)
        )
        print(f"NNI now knows {name} ({class_name}).")


def unregister(options: argparse.Namespace) -> None:
    """Take the names out again."""
    from nni.tools.package_utils import unregister_algo_meta

    for name in NAMES:
        unregister_algo_meta(name)
        print(f"NNI has forgotten {name}.")
