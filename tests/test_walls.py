"""The walls of the house (ARCHITECTURE): which room may import what, followed through every module of ours.

Imports are read from the source, not executed, so that a lazy import inside a function counts as well.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "nni_hyperfd"


def module_name(path: Path, root: Path) -> str:
    """``root/a/b.py`` -> ``a.b``; a folder's ``__init__.py`` -> the folder."""
    parts = list(path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def parents(name: str) -> list[str]:
    """``a.b.c`` -> ``a``, ``a.b``, ``a.b.c``: importing a module runs the packages around it."""
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def imports(name: str, path: Path) -> set[str]:
    """Dotted names that one file imports, anywhere in it. ``from a import b`` gives ``a`` and ``a.b``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name if path.name == "__init__.py" else name.rpartition(".")[0]
                for _ in range(node.level - 1):
                    package = package.rpartition(".")[0]
                base = f"{package}.{base}".rstrip(".")
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"}:
            argument = node.args[0] if node.args else None
            # A name that is only known at run time may be anything.
            found.add(argument.value if isinstance(argument, ast.Constant) else "anything")
    return found


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


class House:
    """All modules of a source tree and what they import."""

    def __init__(self, root: Path, *folders: str) -> None:
        files = [path for folder in folders for path in sorted((root / folder).rglob("*.py"))]
        self.files = {module_name(path, root): path for path in files}
        self.imports = {name: imports(name, path) for name, path in self.files.items()}

    def room(self, room: str) -> list[str]:
        """Modules of one room."""
        return [name for name in self.files if name == room or name.startswith(f"{room}.")]

    def reached(self, start: str) -> dict[str, str]:
        """Everything that importing ``start`` may import -> the way there."""
        ways = {name: name for name in parents(start)}
        todo = list(ways)
        while todo:
            here = todo.pop()
            for target in self.imports.get(here, ()):
                for name in parents(target):
                    if name not in ways:
                        ways[name] = f"{ways[here]} -> {name}"
                        todo.append(name)
        return ways

    def breaches(self, room: str, forbidden: tuple[str, ...]) -> Iterator[str]:
        """Ways from a module of ``room`` to a forbidden package."""
        for start in self.room(room):
            for name, way in self.reached(start).items():
                if name in (*forbidden, "anything"):
                    yield way


HOUSE = House(ROOT, PACKAGE, "trial_code")
IMAGES = (
    f"{PACKAGE}.data",
    f"{PACKAGE}.detection",
    f"{PACKAGE}.metafeature.profile",
    "PIL",
    "torchvision",
    "cv2",
)
TORCH = ("torch", "torchvision", "torch_geometric")


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        (f"{PACKAGE}.platform", IMAGES),
        (f"{PACKAGE}.ranker", IMAGES),
        (
            f"{PACKAGE}.recommendation.gaussian",
            (*IMAGES, f"{PACKAGE}.platform", f"{PACKAGE}.customer", f"{PACKAGE}.evidence"),
        ),
        (f"{PACKAGE}.metafeature.extractor", IMAGES),
        (f"{PACKAGE}.spaces", TORCH),
        (f"{PACKAGE}.protocol.messages", TORCH),
        (f"{PACKAGE}.platform.state.store", TORCH),
        (f"{PACKAGE}.detection", (f"{PACKAGE}.platform",)),
        ("trial_code", (f"{PACKAGE}.platform", f"{PACKAGE}.ranker", "sqlalchemy")),
    ],
)
def test_a_room_keeps_its_walls(room: str, forbidden: tuple[str, ...]) -> None:
    assert HOUSE.room(room), f"there is no room {room}"
    breaches = list(HOUSE.breaches(room, forbidden))
    assert not breaches, "\n".join(breaches)


def test_the_plugin_holds_no_mathematics() -> None:
    mathematics = {"torch", "numpy", "scipy", "sklearn", "pandas", "torch_geometric"}
    for name in HOUSE.room(f"{PACKAGE}.plugin"):
        found = {target.split(".")[0] for target in HOUSE.imports[name]} & mathematics
        assert not found, f"{name} imports {sorted(found)}"


def test_the_package_of_metafeature_imports_nothing_eagerly() -> None:
    assert HOUSE.imports[f"{PACKAGE}.metafeature"] <= {"__future__", "__future__.annotations"}


def test_nothing_is_pickled() -> None:
    pickles = {"pickle", "cloudpickle", "dill", "shelve", "marshal"}
    for name, found in HOUSE.imports.items():
        assert not {target.split(".")[0] for target in found} & pickles, name


def test_torch_load_reads_weights_only() -> None:
    for path in HOUSE.files.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                safe = [k.value for k in node.keywords if k.arg == "weights_only"]
                assert [ast.unparse(value) for value in safe] == ["True"], f"{path}:{node.lineno}"


def test_the_platform_runs_without_the_detector_being_loaded() -> None:
    rooms = ("platform", "ranker")
    modules = [name for room in rooms for name in HOUSE.room(f"{PACKAGE}.{room}")]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(sorted(n for n in sys.modules if n.startswith('{PACKAGE}.detection')))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "line",
    [
        "import PIL.Image",
        "def f():\n    from PIL import Image",
        "from nni_hyperfd.metafeature import profile",
        "from ..metafeature import profile",
        "from .inner import x",
        "import importlib\nimportlib.import_module('PIL')",
        "__import__('P' + 'IL')",
    ],
)
def test_the_checker_sees_a_breach(tmp_path: Path, line: str) -> None:
    for name, text in {
        "platform/__init__.py": "",
        "platform/door.py": line,
        "platform/inner.py": "from nni_hyperfd.helper import x",
        "helper.py": "from PIL import Image",
        "metafeature/__init__.py": "",
        "metafeature/profile.py": "import nni_hyperfd.detection.boxes",
    }.items():
        path = tmp_path / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    house = House(tmp_path, PACKAGE)
    assert list(house.breaches(f"{PACKAGE}.platform.door", IMAGES))
    (tmp_path / PACKAGE / "platform/door.py").write_text("import json")
    assert not list(House(tmp_path, PACKAGE).breaches(f"{PACKAGE}.platform.door", IMAGES))
