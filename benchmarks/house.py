"""The house as the code has it: rooms, floors and imports, read from the source, and the picture in docs/architecture.md.

    python benchmarks/house.py               # draws docs/pictures/house.svg anew
    python benchmarks/house.py --check       # exit code 1 where the picture is not what the imports say

Imports are read from the source, not executed, so that a lazy import inside a function counts as well. The walls of
``tests/test_walls.py`` are held against the same reading, so the picture cannot show another house than the tests guard.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "nni_hyperfd"
PICTURE = ROOT / "docs" / "pictures" / "house.svg"

FLOORS: tuple[tuple[str, ...], ...] = (
    ("cli",),
    ("trial_code", "server", "plugin"),
    ("evidence", "platform", "customer"),
    ("recommendation",),
    ("ranker",),
    ("trial", "metafeature", "pages"),
    ("detection", "synthetic", "protocol", "script"),
    ("data", "spaces"),
    ("location", "files", "strict_json"),
    ("errors", "scalars"),
)
"""Top to bottom: a room may import rooms of lower floors, and none of its own floor or above."""


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
            found.add(
                argument.value
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
                else "anything"
            )
    return found


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


class House:
    """All modules of a source tree and what they import.

    Args:
        root: Folder from which dotted names count.
        folders: Below it, those to read.
    """

    def __init__(self, root: Path, *folders: str) -> None:
        found = [path for folder in folders for path in sorted((root / folder).rglob("*.py"))]
        files = [path for path in found if not path.is_symlink()]  # read where they lie
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

    def arrows(self) -> dict[tuple[str, str], list[str]]:
        """(room, room it imports) -> the imports, module by module."""
        found: dict[tuple[str, str], list[str]] = {}
        for name, targets in sorted(self.imports.items()):
            here = room_of(name)
            for target in sorted(targets & set(self.files)):
                there = room_of(target)
                if here and there and here != there:
                    found.setdefault((here, there), []).append(f"{name} -> {target}")
        return found

    def circles(self) -> list[str]:
        """Modules from which an import leads back to themselves.

        Importing a module runs the packages around it, but a package's face that imports its own rooms is no circle of them.
        """
        own = {
            name: (targets & set(self.files)) - set(parents(name)) for name, targets in self.imports.items()
        }
        found = []
        for start in own:
            seen: set[str] = set()
            todo = list(own[start])
            while todo:
                here = todo.pop()
                if here not in seen:
                    seen.add(here)
                    todo.extend(own[here])
            if start in seen:
                found.append(start)
        return found


def room_of(name: str) -> str | None:
    """The room a module belongs to; None for the package's face."""
    first, *rest = name.split(".")
    return first if first != PACKAGE else (rest[0] if rest else None)


def floor_of(room: str, floors: Sequence[Sequence[str]] = FLOORS) -> int | None:
    """Number of a room's floor, from the top; None for a room that is on no floor."""
    return next((number for number, floor in enumerate(floors) if room in floor), None)


def climbing(house: House, floors: Sequence[Sequence[str]] = FLOORS) -> list[str]:
    """Imports that do not lead down: within a floor, up, or to a room that stands on none."""
    found = []
    for (here, there), ways in house.arrows().items():
        upper, lower = floor_of(here, floors), floor_of(there, floors)
        if upper is None or lower is None or upper >= lower:
            found += ways
    return found


def direct(arrows: Mapping[tuple[str, str], object]) -> list[tuple[str, str]]:
    """Arrows that no longer way of arrows replaces; without them a picture of all imports is a net."""
    below: dict[str, set[str]] = {}
    for here, there in arrows:
        below.setdefault(here, set()).add(there)

    def reaches(start: str, goal: str) -> bool:
        seen, todo = {start}, list(below.get(start, ()))
        while todo:
            here = todo.pop()
            if here == goal:
                return True
            if here not in seen:
                seen.add(here)
                todo.extend(below.get(here, ()))
        return False

    return [
        (here, there)
        for here, there in arrows
        if not any(reaches(middle, there) for middle in below[here] if middle != there)
    ]


WIDTH, STEP, WIDE, TALL = 760, 78, 140, 40
"""Pixels: width of the picture, from floor to floor, width and height of a room."""


def draw(house: House) -> str:
    """The picture, as SVG: floors, rooms, and the arrows that no longer way replaces."""
    places: dict[str, tuple[float, float]] = {}
    for number, floor in enumerate(FLOORS):
        gap = (WIDTH - WIDE * len(floor)) / (len(floor) + 1)
        for place, room in enumerate(floor):
            places[room] = gap + place * (WIDE + gap), 20 + number * STEP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {20 + len(FLOORS) * STEP}" '
        'font-family="sans-serif" font-size="13" text-anchor="middle">',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#789"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for here, there in sorted(direct(house.arrows())):
        (x1, y1), (x2, y2) = places[here], places[there]
        start, end = (x1 + WIDE / 2, y1 + TALL), (x2 + WIDE / 2, y2)
        bend = (end[1] - start[1]) / 2
        parts.append(
            f'<path d="M{start[0]:.0f} {start[1]:.0f}C{start[0]:.0f} {start[1] + bend:.0f} {end[0]:.0f} {end[1] - bend:.0f} '
            f'{end[0]:.0f} {end[1]:.0f}" fill="none" stroke="#9ab" marker-end="url(#head)"/>'
        )
    for room, (x, y) in places.items():
        parts.append(
            f'<rect x="{x:.0f}" y="{y}" width="{WIDE}" height="{TALL}" rx="5" fill="#eef3f8" stroke="#568"/>'
            f'<text x="{x + WIDE / 2:.0f}" y="{y + 27}">{room}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only compare")
    options = parser.parse_args()
    house = House(ROOT, PACKAGE, "trial_code")
    for way in climbing(house):
        print(f"climbs: {way}")
    for name in house.circles():
        print(f"in a circle: {name}")
    drawn = draw(house)
    if options.check:
        return int(not PICTURE.exists() or PICTURE.read_text(encoding="utf-8") != drawn)
    PICTURE.write_text(drawn, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
