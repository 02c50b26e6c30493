"""The walls of the house (docs/architecture.md): which room may import what, followed through every module of ours.

Imports are read from the source, not executed, so that a lazy import inside a function counts as well.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.house import PACKAGE, PICTURE, ROOT, House, climbing, draw

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


STATE = f"{PACKAGE}.platform.state"


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        (f"{PACKAGE}.protocol", IMAGES),
        (f"{PACKAGE}.ranker", IMAGES),
        (f"{PACKAGE}.recommendation", IMAGES),
        (f"{PACKAGE}.platform", IMAGES),
        (f"{PACKAGE}.server", (*IMAGES, f"{PACKAGE}.customer", f"{PACKAGE}.metafeature.noise")),
        (f"{PACKAGE}.customer", (STATE, "sqlalchemy")),
        (f"{PACKAGE}.metafeature.extractor", IMAGES),
        (f"{PACKAGE}.spaces", TORCH),
        (f"{PACKAGE}.protocol.fields", TORCH),
        (f"{PACKAGE}.protocol.messages", TORCH),
        (f"{STATE}.store", TORCH),
        (
            "trial_code",
            (f"{PACKAGE}.platform", f"{PACKAGE}.customer", f"{PACKAGE}.ranker", "sqlalchemy"),
        ),
    ],
)
def test_a_room_keeps_its_walls(room: str, forbidden: tuple[str, ...]) -> None:
    assert HOUSE.room(room), f"there is no room {room}"
    breaches = list(HOUSE.breaches(room, forbidden))
    assert not breaches, "\n".join(breaches)


def test_no_import_climbs() -> None:
    assert not climbing(HOUSE)


def test_no_module_imports_itself_by_a_detour() -> None:
    assert not HOUSE.circles()


def test_the_product_runs_without_the_evidence() -> None:
    wing = f"{PACKAGE}.evidence"
    asked = {
        name
        for name, found in HOUSE.imports.items()
        if not name.startswith(wing)
        and any(target == wing or target.startswith(f"{wing}.") for target in found)
    }
    assert {name for name in asked if not name.startswith(f"{PACKAGE}.cli.")} <= {"trial_code.table_shard"}


def test_the_picture_is_drawn_from_the_imports() -> None:
    assert PICTURE.read_text(encoding="utf-8") == draw(HOUSE), "run python benchmarks/house.py"


def test_the_plugin_holds_no_mathematics() -> None:
    mathematics = {"torch", "numpy", "scipy", "sklearn", "pandas", "torch_geometric"}
    for name in HOUSE.room(f"{PACKAGE}.plugin"):
        found = {target.split(".")[0] for target in HOUSE.imports[name]} & mathematics
        assert not found, f"{name} imports {sorted(found)}"


def test_the_ranker_has_an_error_of_its_own() -> None:
    for name in HOUSE.room(f"{PACKAGE}.ranker"):
        assert f"{PACKAGE}.errors.PlatformError" not in HOUSE.imports[name], name


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
