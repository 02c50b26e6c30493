"""Names that customers have written down are still there: commands, options, ``classArgs``, scripts of trials, exported classes.

``names_in_use.txt`` is the list; ``python -m tests.setup.test_names_in_use`` adds to it what is new, and takes nothing out of it.
"""

from __future__ import annotations

import argparse
import importlib.util
import inspect
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import nni_hyperfd
from nni_hyperfd.cli import make_parser
from nni_hyperfd.customer.settings import Settings

ROOT = Path(__file__).parents[2]
KEPT = Path(__file__).with_name("names_in_use.txt")
SCRIPTS = ("autohas", "finetune", "table_shard")


class Parsed(Exception):
    """The parser of a script, at the moment when it would read the command line."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def of_parser(parser: argparse.ArgumentParser, called: str) -> Iterator[str]:
    """A command's name, with each of its options, and those of the commands below it."""
    yield called
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from of_parser(below, f"{called} {name}")
        yield from (
            f"{called} {option}" for option in action.option_strings if option not in {"-h", "--help"}
        )


def of_scripts(patch: pytest.MonkeyPatch) -> Iterator[str]:
    def stop(parser: argparse.ArgumentParser) -> None:
        raise Parsed(parser)

    for name in SCRIPTS:
        spec = importlib.util.spec_from_file_location(name, ROOT / "trial_code" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with patch.context() as inner:
            inner.setattr(argparse.ArgumentParser, "parse_args", stop)
            with pytest.raises(Parsed) as stopped:
                module.main()
        yield from of_parser(stopped.value.parser, f"{name}.py")


def of_class_args() -> Iterator[str]:
    for name in nni_hyperfd.__all__:
        yield f"nni_hyperfd.{name}"
        for parameter in inspect.signature(getattr(nni_hyperfd, name)).parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                yield from (f"{name} {field.name}" for field in fields(Settings))
            else:
                yield f"{name} {parameter.name}"


def names(patch: pytest.MonkeyPatch) -> set[str]:
    return {*of_parser(make_parser(), "hyperfd"), *of_scripts(patch), *of_class_args()}


def test_no_name_that_is_in_use_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = {*KEPT.read_text().splitlines()} - names(monkeypatch)
    assert not gone, f"somebody's config or script says these: {sorted(gone)}"


def test_new_names_are_put_down(monkeypatch: pytest.MonkeyPatch) -> None:
    new = names(monkeypatch) - {*KEPT.read_text().splitlines()}
    assert not new, f"run python -m tests.setup.test_names_in_use, which adds {sorted(new)}"


if __name__ == "__main__":
    known = KEPT.read_text().splitlines() if KEPT.exists() else []
    KEPT.write_text("".join(f"{name}\n" for name in sorted({*known, *names(pytest.MonkeyPatch())})))
