"""Do the tests notice? Small faults are put into a copy of the package, one at a time, and a room's own tests run over each.

::

    python benchmarks/mutations.py --count 12 --seed 0            # all rooms
    python benchmarks/mutations.py average_precision --count 40

A fault is an operator, a comparison, a number, an end of a slice, a negation or a call less. Some are no faults at all (a bound
that rounding never meets, a lower limit of memory): the list of those that lived on is to be read, not counted to zero.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "mutations.md"
ROOMS: dict[str, tuple[str, list[str]]] = {
    "spaces": ("spaces/*.py", ["tests/spaces"]),
    "ranker": ("ranker/*.py", ["tests/ranker"]),
    "gaussian": ("recommendation/gaussian/*.py", ["tests/recommendation"]),
    "trials": ("plugin/trials.py", ["tests/plugin/test_trials.py", "tests/plugin/test_two_threads.py"]),
    "store": ("platform/state/*.py", ["tests/platform/state"]),
    "average_precision": (
        "detection/evaluation/average_precision.py",
        ["tests/detection/evaluation/test_average_precision.py"],
    ),
}
"""Files below the package, and the tests that are asked."""
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """``after`` stands in ``file`` from character ``start`` to ``end`` in place of ``before``."""

    file: Path
    line: int
    start: int
    end: int
    before: str
    after: str

    def applied(self, text: str) -> str:
        """The file's text with the fault in it."""
        return text[: self.start] + self.after + text[self.end :]


def mutants(file: Path, text: str) -> Iterator[Mutant]:
    """All faults of a file. Annotations, decorators and what an error says are left alone."""
    starts = [0]
    for line in text.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    raw = text.encode()
    for node in _code(ast.parse(text)):
        if not isinstance(node, (ast.expr, ast.stmt)):
            continue
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin = len(raw[: starts[node.lineno - 1] + node.col_offset].decode())
        end = len(raw[: starts[node.end_lineno - 1] + node.end_col_offset].decode())
        for after in _faults(node):
            parenthesized = f"({after})" if isinstance(node, (ast.BinOp, ast.BoolOp, ast.Compare)) else after
            yield Mutant(file, node.lineno, begin, end, text[begin:end], parenthesized)


def _code(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list") or isinstance(
            node, (ast.Raise, ast.JoinedStr)
        ):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _code(child)


def _faults(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Compare(left, [operator], [right]) if type(operator) in COMPARISONS:
            yield ast.unparse(ast.Compare(left, [COMPARISONS[type(operator)]()], [right]))
        case ast.BinOp(left, binary, right) if type(binary) in OPERATORS:
            yield ast.unparse(ast.BinOp(left, OPERATORS[type(binary)](), right))
        case ast.BoolOp(joined, values):
            yield ast.unparse(ast.BoolOp(ast.Or() if isinstance(joined, ast.And) else ast.And(), values))
        case ast.UnaryOp(ast.Not(), operand):
            yield f"({ast.unparse(operand)})"
        case ast.Constant(bool() as value):
            yield str(not value)
        case ast.Constant(int() | float() as number):
            yield repr(number + 1)
        case ast.Subscript(value, ast.Slice(lower, upper, None)) if (lower is None) != (upper is None):
            yield ast.unparse(ast.Subscript(value, ast.Slice(upper, lower), ast.Load()))
        case ast.Call(ast.Name(name), arguments, keywords) if name in NAMES:
            yield ast.unparse(ast.Call(ast.Name(NAMES[name]), arguments, keywords))
        case ast.Expr(ast.Call()):
            yield "pass"


def run(folder: Path, tests: list[str], limit: float) -> str:
    """``killed`` by a failing test, out of ``time``, or ``lived``."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no", *tests]
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return "time"
    return "lived" if done.returncode == 0 else "killed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("rooms", nargs="*", choices=[[], *ROOMS], metavar=" | ".join(ROOMS))
    parser.add_argument("--count", type=int, default=12, help="faults a room (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no fault is tried later")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    rows, lived = [], []
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "copy"
        left_out = shutil.ignore_patterns(".*", "build", "runs", "out", "results", "__pycache__")
        shutil.copytree(ROOT, copy, ignore=left_out, symlinks=True)
        for room in options.rooms or ROOMS:
            pattern, tests = ROOMS[room]
            files = sorted((copy / "nni_hyperfd").glob(pattern))
            found = [mutant for file in files for mutant in mutants(file, file.read_text())]
            chosen = random.Random(f"{options.seed} {room}").sample(found, min(options.count, len(found)))
            began = time.monotonic()
            if run(copy, tests, 3600) != "lived":
                raise SystemExit(f"mutations.py: the tests of {room} fail without any fault: mend them first")
            limit = 60 + 5 * (time.monotonic() - began)
            ends: list[str] = []
            for mutant in chosen:
                if time.monotonic() > end:
                    break
                text = mutant.file.read_text()
                mutant.file.write_text(mutant.applied(text))
                ends.append(run(copy, tests, limit))
                mutant.file.write_text(text)
                where = f"{mutant.file.relative_to(copy)}:{mutant.line}"
                print(f"{room} {ends[-1]:6} {where}: {mutant.before!r} -> {mutant.after!r}", flush=True)
                if ends[-1] == "lived":
                    lived.append(f"* `{where}`: `{_line(mutant.before)}` → `{_line(mutant.after)}`")
            rows.append(f"| {room} | {len(found)} | {len(ends)} | {len(ends) - ends.count('lived')} |")
    RESULT.write_text(
        "# Faults that the tests were tried with\n\n"
        f"Written by `benchmarks/mutations.py --count {options.count} --seed {options.seed}`: a sample of each room's small faults, "
        "each met by the room's own tests.\n\n"
        "| room | possible | tried | noticed |\n| --- | --- | --- | --- |\n"
        + "\n".join(rows)
        + "\n\nThose that lived on:\n\n"
        + "\n".join(lived or ["* none"])
        + "\n"
    )
    return 0


def _line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    sys.exit(main())
