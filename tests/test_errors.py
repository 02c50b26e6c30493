"""Every error that the package raises on purpose has one root."""

from __future__ import annotations

import ast
import builtins
from pathlib import Path

import nni_hyperfd

PACKAGE = Path(nni_hyperfd.__file__).parent


def test_the_root_alone_derives_from_an_exception_of_python() -> None:
    classes = [
        node
        for file in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    assert [node.name for node in classes if any(map(_python_exception, node.bases))] == ["HyperFDError"]


def _python_exception(base: ast.expr) -> bool:
    kind = getattr(builtins, base.id, None) if isinstance(base, ast.Name) else None
    return isinstance(kind, type) and issubclass(kind, BaseException)
