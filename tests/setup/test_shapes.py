"""Whoever takes or gives an array says what shape it has, in double backticks: ``[n, 4]``, and ``[]`` for a scalar.

A docstring may leave it to what it names ("Inverse of :func:`encode_boxes`"), to its class's, or to that of the method it implements.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.setup.test_docstrings import FILES, ROOT, sections
from tests.setup.test_raises import Module, is_private, last

SHAPE = re.compile(r"``\[[^`\"'\[\]]*\]")
LIKE = re.compile(r"\b(?i:as|for|inverse of|see) (?::\w+:)?`~?(?:[a-z_]\w*\.)*([\w.]+)`")
IMPLEMENTS = re.compile(r"implements :class:`[\w.~]*?(\w+)`", re.IGNORECASE)
ARRAYS = {"Tensor", "NDArray", "ndarray"}
MAPPINGS = {"Mapping", "dict"}
"""Each of their arrays has a shape of its own."""


class Place(NamedTuple):
    """A function or a field, what is annotated there, and its own docstring."""

    owner: ast.ClassDef | None
    name: str
    line: int
    annotations: dict[str, ast.expr | None]
    text: str

    @property
    def title(self) -> str:
        return f"{self.owner.name}.{self.name}" if self.owner else self.name


def places(tree: ast.Module) -> Iterator[Place]:
    for owner, function in Module(tree).functions:
        given = {each.arg: each.annotation for each in ast.walk(function.args) if isinstance(each, ast.arg)}
        text = ast.get_docstring(function) or ""
        yield Place(owner, function.name, function.lineno, {**given, "return": function.returns}, text)
    for owner in tree.body:
        for line, below in pairwise([*owner.body, owner]) if isinstance(owner, ast.ClassDef) else ():
            if isinstance(line, ast.AnnAssign):
                name = last(line.target)
                text = literal(below) or entry(docstring(owner), name) or ""
                yield Place(owner, name, line.lineno, {name: line.annotation}, text)


def literal(node: ast.AST) -> str:
    """What stands below a field to say what it is."""
    match node:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return text
    return ""


def docstring(owner: ast.ClassDef | None) -> str:
    return ast.get_docstring(owner) or "" if owner else ""


def entry(text: str, name: str) -> str | None:
    """What a section says of a name, or of what is returned."""
    if name == "return":
        return next((each.text for each in sections(text) if each.title in {"Returns", "Yields"}), None)
    found = re.search(rf"^ {{4}}(?:\w+, )*\*?{name}(?:, \w+)*: (.*(?:\n {{8}}.*)*)", text, re.MULTILINE)
    return found and found[1]


TREES = [ast.parse(path.read_text()) for path in FILES]
TEXTS = {each.title: each.text for tree in TREES for each in places(tree)}
TEXTS |= {
    each.name: docstring(each) for tree in TREES for each in tree.body if isinstance(each, ast.ClassDef)
}
for _line in (line for tree in TREES for line in tree.body):
    match _line:
        case ast.Assign(targets=[name], value=ast.Subscript() as value) if last(value) in ARRAYS:
            ARRAYS.add(last(name))  # FloatArray = NDArray[np.float64]


def holds_array(annotation: ast.AST | None) -> bool:
    """Whether an annotation names an array, also within a tuple or a sequence."""
    if isinstance(annotation, ast.Name | ast.Attribute):
        return last(annotation) in ARRAYS
    if annotation is None or (isinstance(annotation, ast.Subscript) and last(annotation) in MAPPINGS):
        return False
    return any(holds_array(part) for part in ast.iter_child_nodes(annotation))


def has_shape(text: str, owner: ast.ClassDef | None) -> bool:
    """Whether a docstring states one, or what it refers to does."""
    named = [key for name in LIKE.findall(text) for key in (name, f"{owner and owner.name}.{name}")]
    return any(SHAPE.search(each) for each in [text, *(TEXTS.get(key, "") for key in named)])


def shapeless(tree: ast.Module) -> Iterator[str]:
    """Public functions and fields, and their arrays whose shape is not said."""
    for place in places(tree):
        owner = place.owner
        arrays = [name for name, annotation in place.annotations.items() if holds_array(annotation)]
        if not arrays or is_private(place.name) or (owner and is_private(owner.name)):
            continue
        texts = [place.text]
        if owner and not place.text:
            kinds = [*map(last, owner.bases), *IMPLEMENTS.findall(docstring(owner))]
            texts = [docstring(owner), *(TEXTS.get(f"{kind}.{place.name}", "") for kind in kinds)]
        if any(has_shape(text, owner) for text in texts):
            said = {name: entry(place.text, name) for name in arrays}
            arrays = [name for name, text in said.items() if text and not has_shape(text, owner)]
        if arrays:
            yield f"{place.line}: {place.title} names no shape of {', '.join(arrays)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_shapes_are_said(path: Path) -> None:
    found = [f"{path.name}:{fault}" for fault in shapeless(ast.parse(path.read_text()))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "wanting"),
    [
        ("def f(a: Tensor) -> int: ...", "a"),
        ('def f(a: Tensor):\n    """Of ``[n]``."""', ""),
        ('def f(a: Tensor):\n    """Of [n]."""', "a"),
        ("def f(a: Sequence[FloatArray]) -> tuple[int, Tensor | None]: ...", "a, return"),
        ("def f(a: Mapping[str, Tensor], b: Targets): ...", ""),
        (
            'def f(a: Tensor, b: Tensor):\n    """Do.\n\n    Args:\n        a: ``[n]``.\n        b: It.\n    """',
            "b",
        ),
        ('def f(a: Tensor) -> Tensor:\n    """Of ``[n]``.\n\n    Returns:\n        It.\n    """', "return"),
        ('def f(a: Tensor):\n    """Inverse of :func:`encode_boxes`."""', ""),
        ('def f(a: Tensor):\n    """Inverse of :func:`nothing`."""', "a"),
        ('class A:\n    """It.\n\n    Args:\n        a: ``[n]``.\n    """\n    a: Tensor\n    b: Tensor', ""),
        (
            'class A:\n    """It.\n\n    Args:\n        a: It.\n        b: ``[n]``.\n    """\n    a: Tensor',
            "a",
        ),
        ('class A:\n    """It."""\n    a: Tensor\n    """``[n]``."""', ""),
        ('class A:\n    """Of ``[n]``."""\n    def f(self) -> Tensor: ...', ""),
        ('class A:\n    """Of ``[n]``."""\n    def f(self) -> Tensor:\n        """It."""', "return"),
        ('class A:\n    """It; implements :class:`View`."""\n    def meta_feature(self) -> Tensor: ...', ""),
        ("class A(Domain):\n    def all(self) -> Column: ...", ""),
        ("class _A:\n    def f(self) -> Tensor: ...", ""),
    ],
)
def test_each_array_without_a_shape_is_found(source: str, wanting: str) -> None:
    assert ", ".join(fault.partition(" of ")[2] for fault in shapeless(ast.parse(source))) == wanting
