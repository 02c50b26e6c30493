"""One dialect in docstrings, as far as ruff's rules do not hold it: whom a section names exists, and how its entries are written."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [
    path
    for folder in ("nni_hyperfd", "trial_code")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if not path.is_symlink()
]
SECTIONS = {"Args", "Attributes", "Example", "Raises", "Returns", "Yields"}
OF_OTHERS = {"LinAlgError"}
"""Errors of NumPy."""
SMALL = re.compile("[a-z]")  # a name such as λ stays small
Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Section:
    """One section of a docstring, and the names and first words of its entries where it has any."""

    title: str
    entries: dict[str, str]
    text: str


def nodes(path: Path) -> Iterator[Node]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Node):
            yield node


CLASSES = {node.name: node for path in FILES for node in nodes(path) if isinstance(node, ast.ClassDef)}


def sections(text: str) -> Iterator[Section]:
    """Google's: a title at the margin, below it entries ``name: words`` that stand four further in."""
    for part in re.split(r"\n(?=\S)", text):
        title, _, body = part.partition("\n")
        if re.fullmatch(r"[A-Za-z]+:", title) and body.startswith("    "):
            found = re.findall(r"^ {4}(\*{0,2}\w+(?:, \w+)*): (.)", body, re.MULTILINE)
            entries = {name: first for names, first in found for name in names.split(", ")}
            yield Section(title[:-1], entries if title != "Example:" else {}, body.strip())


def parameters(node: Node) -> set[str]:
    """What ``Args`` may name: parameters of a function; fields and those of ``__init__`` of a class and its bases of ours."""
    if isinstance(node, ast.ClassDef):
        own = {
            line.target.id
            for line in node.body
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
        }
        for line in node.body:
            if isinstance(line, ast.FunctionDef) and line.name in {"__init__", "__new__"}:
                own |= parameters(line)
        bases = [CLASSES[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in CLASSES]
        return own.union(*map(parameters, bases))
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return {argument.arg for argument in [*named, arguments.vararg, arguments.kwarg] if argument is not None}


def faults(node: Node) -> Iterator[str]:
    """What is wrong with one docstring."""
    text = ast.get_docstring(node) or ""
    for section in sections(text):
        if section.title not in SECTIONS:
            yield f"a section {section.title}"
        if section.title == "Args":
            known = parameters(node)
            yield from (
                f"{name} is no parameter" for name in section.entries if name.lstrip("*") not in known
            )
        if section.title == "Raises":
            yield from (f"{name} is no error" for name in section.entries if not is_error(name))
        for name, first in section.entries.items():
            if SMALL.match(first):
                yield f"what is said of {name} begins with a small letter"
        if section.title in {"Returns", "Yields"} and SMALL.match(section.text):
            yield "what is returned begins with a small letter"
    for title in re.findall(rf"^({'|'.join(SECTIONS)}): ", text, re.MULTILINE):
        yield f"{title} is no section, with words behind it"
    prose = re.sub(
        r"``.*?``|\{.*?\}|^ *(>>>|\.\.).*|:math:.*", "", text.partition("Example:")[0], flags=re.MULTILINE
    )
    for shape in re.findall(r"(?<!in )(?<!\w)\[[A-Za-z]\w*(?:, \w+)*\](?!\()", prose):
        yield f"the shape {shape} stands without double backticks"


def is_error(name: str) -> bool:
    """Whether an error of this package or of Python is called so."""
    found = getattr(builtins, name, None)
    return name in {*CLASSES, *OF_OTHERS} or (isinstance(found, type) and issubclass(found, BaseException))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_speak_one_dialect(path: Path) -> None:
    found = [f"{path.name}:{node.lineno}: {fault}" for node in nodes(path) for fault in faults(node)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ('def f(a):\n    """Do.\n\n    Args:\n        b: Of it.\n    """', "b is no parameter"),
        ('def f(a):\n    """Do.\n\n    Args:\n        a: of it.\n    """', "begins with a small letter"),
        ('def f(a):\n    """Do.\n\n    Raises:\n        Trouble: Always.\n    """', "Trouble is no error"),
        ('def f(a):\n    """Do.\n\n    Params:\n        a: Of it.\n    """', "a section Params"),
        (
            'def f(a, b):\n    """Do.\n\n    Args:\n        a, b: of it.\n    """',
            "said of b begins with a small letter",
        ),
        ('def f(a):\n    """Do.\n\n    Returns: It.\n    """', "Returns is no section"),
        ('def f(a):\n    """Rows [K, 64] of ``a``."""', "stands without double backticks"),
        ('class A:\n    """It.\n\n    Args:\n        b: Of it.\n    """\n    a: int', "b is no parameter"),
    ],
)
def test_each_fault_is_found(source: str, fault: str) -> None:
    (node,) = ast.parse(source).body
    assert isinstance(node, Node)
    assert [each for each in faults(node) if fault in each]
