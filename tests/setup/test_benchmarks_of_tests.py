"""The scripts that examine the tests themselves: versions of libraries, small faults, and old ones."""

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


def test_every_old_fault_can_be_put_back() -> None:
    """Its mend is where the script says, once, and so are the tests that are to find it."""
    faults = script("benchmarks/old_faults.py").FAULTS
    assert len({fault.name for fault in faults}) == len(faults)
    for fault in faults:
        for file, text in fault.applied(ROOT).items():
            assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(file.read_text())), fault.name
        for test in fault.tests:
            path, _, name = test.partition("::")
            found = ROOT / path
            assert found.is_dir() or f"def {name or 'test_'}" in found.read_text(), test


def test_a_mend_that_has_moved_is_missed() -> None:
    old_faults = script("benchmarks/old_faults.py")
    fault = old_faults.Fault("Nobody is there", (("errors.py", "no such text", ""),), ())
    with pytest.raises(SystemExit, match=r"'Nobody is there' asks for one 'no such text' in errors\.py"):
        fault.applied(ROOT)
