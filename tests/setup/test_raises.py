"""What a public function raises is said in its docstring: every error whose ``raise`` stands in it or in a private helper."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from tests.setup.test_docstrings import CLASSES, FILES, ROOT, sections

Function = ast.FunctionDef | ast.AsyncFunctionDef
OF_PYDANTIC = {"field_validator", "model_validator"}
"""Pydantic calls these and makes a ValidationError of their ValueError."""
UNDERSTOOD = {"AssertionError", "AttributeError"}
"""What cannot happen, and Python's word for a name that is not there."""
SEE = re.compile(r"See (?::meth:)?`~?(?:[\w.]+\.)?(\w+)\.(\w+)`")
"""A docstring may leave it to the interface."""


def last(node: ast.expr | None) -> str:
    """The last word of a dotted name, of what is called or of what is subscripted."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Constant(value=str(name)):
            return name.rpartition(".")[2]
        case ast.Call(func=inner) | ast.Subscript(value=inner):
            return last(inner)
    return ""


def lineage(error: str) -> set[str]:
    """An error's name with those of its bases, ours or Python's."""
    if error in CLASSES:
        return {error}.union(*(lineage(last(base)) for base in CLASSES[error].bases))
    found = getattr(builtins, error, None)
    return {each.__name__ for each in found.__mro__} if isinstance(found, type) else {error}


def is_error(name: str) -> bool:
    return "BaseException" in lineage(name)


@dataclass(frozen=True)
class Module:
    """The functions of a file, with the class each stands in, and what leaves them."""

    tree: ast.Module

    @cached_property
    def functions(self) -> list[tuple[ast.ClassDef | None, Function]]:
        found: list[tuple[ast.ClassDef | None, Function]] = []
        for node in self.tree.body:
            owner = node if isinstance(node, ast.ClassDef) else None
            for each in node.body if isinstance(node, ast.ClassDef) else [node]:
                if isinstance(each, Function):
                    found.append((owner, each))
        return found

    @cached_property
    def helpers(self) -> dict[str, Function]:
        return {each.name: each for _, each in self.functions if is_private(each.name)}

    def leaving(self, function: Function, seen: frozenset[str] = frozenset()) -> set[str]:
        """Names of the errors raised in a function or in the private ones of this file that it calls."""
        made = {
            last(target): last(line.value)
            for line in ast.walk(function)
            if isinstance(line, ast.Assign)
            for target in line.targets
        }
        return {
            error
            for line in function.body
            for error in self._of(line, made, seen | {function.name})
            if error not in UNDERSTOOD
        }

    def _of(self, node: ast.AST, made: dict[str, str], seen: frozenset[str]) -> Iterator[str]:
        if isinstance(node, Function | ast.ClassDef | ast.Lambda):
            return  # whoever calls it
        if isinstance(node, ast.Try):
            caught = {last(each) for handler in node.handlers for each in caught_by(handler)}
            for line in node.body:
                yield from (error for error in self._of(line, made, seen) if not caught & lineage(error))
            for part in (*node.handlers, *node.orelse, *node.finalbody):
                yield from self._of(part, made, seen)
            return
        if isinstance(node, ast.Raise):
            yield from self._raised(last(node.exc), made)
        if isinstance(node, ast.Call) and last(node) in self.helpers and last(node) not in seen:
            yield from self.leaving(self.helpers[last(node)], seen)
        for part in ast.iter_child_nodes(node):
            yield from self._of(part, made, seen)

    def _raised(self, name: str, made: dict[str, str]) -> Iterator[str]:
        """The class of what is raised: named here, by the function that makes it, or where a variable was set; else passed on."""
        if name in made:
            name = made[name]
        if name in self.helpers:
            name = last(self.helpers[name].returns)
        if is_error(name):
            yield name


def caught_by(handler: ast.ExceptHandler) -> list[ast.expr]:
    if handler.type is None:
        return [ast.Name(id="BaseException")]
    return handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def said(owner: ast.ClassDef | None, function: Function) -> set[str]:
    """Errors named for a function: by its docstring, its class's where that makes one, or the method that it stands for."""
    nodes: list[ast.ClassDef | Function] = [function]
    if owner is not None and re.fullmatch("__.*__", function.name):
        nodes.append(owner)
    texts = [ast.get_docstring(node) or "" for node in nodes]
    found = {
        name
        for text in texts
        for section in sections(text)
        if section.title == "Raises"
        for name in section.entries
    }
    standing_for = [(last(base), function.name) for base in (owner.bases if owner is not None else [])]
    for kind, name in [*standing_for, *(pair for text in texts for pair in SEE.findall(text))]:
        parent = CLASSES.get(kind)
        for line in parent.body if parent is not None else []:
            if isinstance(line, Function) and line.name == name:
                found |= said(parent, line)
    return found


def unsaid(module: Module) -> Iterator[str]:
    """Public functions and the errors that leave them without being named."""
    for owner, function in module.functions:
        decorators = {last(each) for each in function.decorator_list}
        if is_private(function.name) or (owner and is_private(owner.name)) or decorators & OF_PYDANTIC:
            continue
        named = said(owner, function)
        for error in sorted(module.leaving(function)):
            if not named & lineage(error):
                where = f"{owner.name}.{function.name}" if owner else function.name
                yield f"{function.lineno}: {where} does not say that it raises {error}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_raised_is_said(path: Path) -> None:
    found = [f"{path.name}:{fault}" for fault in unsaid(Module(ast.parse(path.read_text())))]
    assert not found, "\n".join(found)


SAID = '"""Do.\n\n    Raises:\n        HyperFDError: Always.\n    """'


@pytest.mark.parametrize(
    ("source", "faults"),
    [
        ("def f():\n    raise DataError('it')", ["DataError"]),
        (f"def f():\n    {SAID}\n    raise DataError('it')", []),  # a base class will do
        (f"def f():\n    {SAID}\n    raise ValueError('it')", ["ValueError"]),
        ("def f():\n    _g()\ndef _g():\n    raise DataError('it')", ["DataError"]),
        ("def f():\n    raise _g()\ndef _g() -> DataError: ...", ["DataError"]),
        ("def f():\n    it = DataError('it')\n    raise it", ["DataError"]),
        ("def f():\n    try:\n        raise DataError('it')\n    except HyperFDError:\n        pass", []),
        ("def f():\n    try:\n        g()\n    except DataError:\n        raise", []),
        ("class A:\n    def __init__(self):\n        raise DataError('it')", ["DataError"]),
        (f"class A:\n    {SAID}\n    def __init__(self):\n        raise DataError('it')", []),
        ('def read():\n    """See `Reader.read`."""\n    raise DataError(\'it\')', []),
    ],
)
def test_each_silence_is_found(source: str, faults: list[str]) -> None:
    assert [fault.rpartition(" ")[2] for fault in unsaid(Module(ast.parse(source)))] == faults
