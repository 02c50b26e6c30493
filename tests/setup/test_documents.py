"""What the documents name must exist: links, files of this repository, make targets."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FOLDERS = ("nni_hyperfd", "trial_code", "search_spaces", "examples", "benchmarks", "tests", "docs")
ROOMS = tuple(path.name for path in (ROOT / "nni_hyperfd").iterdir() if path.is_dir())

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@documents
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    broken = [target for target in targets if "://" not in target and not (document.parent / target).exists()]
    assert not broken


@documents
def test_named_files_exist(document: Path) -> None:
    """In backticks: ``examples/hyperfd.yml`` from the root, ``ranker/losses.py`` from the package."""
    named = re.findall(r"`([\w./-]+/[\w.-]*\.(?:py|yml|json|cjs|md))`", document.read_text(encoding="utf-8"))
    missing = [
        name
        for name in named
        if (name.startswith(tuple(f"{folder}/" for folder in FOLDERS)) and not (ROOT / name).exists())
        or (
            name.startswith(tuple(f"{room}/" for room in ROOMS))
            and not (ROOT / "nni_hyperfd" / name).exists()
        )
    ]
    assert not missing


@documents
def test_named_make_targets_exist(document: Path) -> None:
    targets = set(
        re.findall(r"^([a-z]+)\b[^=\n]*:(?!=)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert set(re.findall(r"\bmake ([a-z]+)\b", _code(document))) <= targets


def test_the_five_trips_stop_at_what_there_is() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    trips = text.partition("## Five trips")[2].partition("## ")[0]
    defined = {
        node.name
        for path in (ROOT / "nni_hyperfd").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
    }
    stops = re.findall(r"`([^`]+)`", trips)
    assert len(stops) > 40
    for stop in stops:
        if stop.endswith((".py", "/")):
            assert (ROOT / "nni_hyperfd" / stop).exists() or (ROOT / stop).exists(), stop
        else:
            assert stop.partition("(")[0] in defined, stop


def _code(document: Path) -> str:
    """Everything in backticks and fences."""
    return "\n".join(re.findall(r"```.*?```|`[^`\n]+`", document.read_text(encoding="utf-8"), re.DOTALL))
