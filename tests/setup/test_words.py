"""One word, one thing: no two modules give the same name to classes, types or functions, but where they play one role."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
SAME_THING = {"FloatArray", "Parameters"}
"""Short for the same wherever it is written: an array of NumPy, parameters of a configuration (as a message they are checked)."""
ROLES = {
    "add_to": "cli/[a-z]*.py",  # adds the parser of a command
    "run": "cli/[a-z]*.py",  # does what a command says
    "main": "**/*.py",  # what a process begins with
    "find": "data/formats/*.py",  # the two halves of a Reader
    "read": "data/formats/*.py",
}
"""Functions that several modules have, and these modules: one role, so that who knows one of them knows all."""


def named(path: Path) -> set[str]:
    """Classes and aliases of types that a module makes, by their CamelCase; type variables have one letter."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in found if re.fullmatch(r"[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*", name)}


def test_no_name_of_a_type_is_given_twice() -> None:
    where = defaultdict(list)
    for folder in ("nni_hyperfd", "trial_code"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not path.is_symlink():
                for name in named(path) - SAME_THING:
                    where[name].append(str(path.relative_to(ROOT)))
    assert not {name: paths for name, paths in where.items() if len(paths) > 1}


def test_functions_of_one_name_play_one_role() -> None:
    package = ROOT / "nni_hyperfd"
    where = defaultdict(set)
    for path in package.rglob("*.py"):
        if not path.is_symlink():
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                    where[node.name].add(path)
    several = {name: paths for name, paths in where.items() if len(paths) > 1}
    assert several.keys() == ROLES.keys()
    for name, pattern in ROLES.items():
        assert several[name] <= {*package.glob(pattern)}, name
