"""The examples in docstrings run as they stand."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "nni_hyperfd"
WITH_EXAMPLES = sorted(path for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text())
SHOWN = {
    "data.dataset.FaceDataset",
    "platform.platform.Platform",
    "plugin.tuner.HyperFDTuner",
    "ranker.ranker.Ranker",
    "recommendation.expectation.Expectation",
    "spaces.space.Space",
}
"""What a reader would want to see at work."""


def examples(path: Path) -> list[doctest.DocTest]:
    module = importlib.import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
    found = doctest.DocTestFinder(exclude_empty=True).find(module)
    return [each for each in found if each.examples]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(path: Path) -> None:
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)
    said: list[str] = []
    for example in examples(path):
        runner.run(example, out=said.append)
    assert not runner.failures, "".join(said)
    assert runner.tries


def test_the_main_classes_have_one() -> None:
    named = {each.name.removeprefix("nni_hyperfd.") for path in WITH_EXAMPLES for each in examples(path)}
    assert named >= SHOWN
