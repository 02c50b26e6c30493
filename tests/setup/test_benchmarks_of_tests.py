"""The two scripts that examine the tests themselves: versions of libraries, and small faults."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.fixtures.scripts import script

ROOT = Path(__file__).parents[2]


def test_every_library_of_the_matrix_has_a_lower_bound() -> None:
    versions = script("benchmarks/versions.py")
    assert set(versions.lower_bounds(ROOT / "setup.py")) == set(versions.LIBRARIES)


def test_a_library_without_a_lower_bound_is_named(tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text((ROOT / "setup.py").read_text().replace('"numpy>=', '"numpy!='))
    with pytest.raises(SystemExit, match="no lower bound for numpy"):
        script("benchmarks/versions.py").lower_bounds(tmp_path / "setup.py")


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("a < b", {"(a <= b)"}),
        ("a - b", {"(a + b)"}),
        ("x[:n]", {"x[n:]"}),
        ("x[-n:]", {"x[:-n]"}),
        ("a and not b", {"(a or not b)", "a and (b)"}),
        ("f(7)", {"pass", "f(8)"}),
        ("max(a, b)", {"pass", "min(a, b)"}),
        ("x: int = y", set()),
        ('raise E(f"{a - b} < {1}")', set()),
        ('é = "ä" == b', {'é = ("ä" != b)'}),
    ],
)
def test_faults_stand_where_they_belong(text: str, faults: set[str]) -> None:
    found = {mutant.applied(text) for mutant in script("benchmarks/mutations.py").mutants(Path("x.py"), text)}
    assert {ast.dump(ast.parse(one)) for one in found} == {ast.dump(ast.parse(one)) for one in faults}


def test_every_room_has_its_files_and_tests() -> None:
    for pattern, tests in script("benchmarks/mutations.py").ROOMS.values():
        assert list((ROOT / "nni_hyperfd").glob(pattern))
        assert all((ROOT / path).exists() for path in tests)
