"""One word, one thing: no two modules give the same name to classes or types of their own."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
SAME_THING = {"FloatArray", "Parameters"}
"""Short for the same wherever it is written: an array of NumPy, parameters of a configuration (as a message they are checked)."""


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
