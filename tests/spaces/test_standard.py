"""The spaces of the package are those of its files, and files that cannot be read are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.spaces.standard import load_space, standard_search_space, standard_space

FOLDER = Path(__file__).parents[2] / "search_spaces"


@pytest.mark.parametrize("kind", ["hpo", "nas", "joint"])
def test_the_shipped_files_are_the_standard_spaces(kind: str) -> None:
    shipped = load_space(FOLDER / f"{kind}.json")
    assert json.loads((FOLDER / f"{kind}.json").read_text()) == standard_search_space(kind)
    assert shipped.kind == kind
    assert shipped.key == standard_space(kind).key
    assert shipped.key.startswith(f"{kind}-")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"none\.json cannot be read .*; check the path"):
        load_space(tmp_path / "none.json")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(SpaceError, match=r"broken\.json is not JSON .*; mend the file"):
        load_space(broken)
    broken.write_text("{}")
    with pytest.raises(SpaceError, match=r"broken\.json: The search space is empty"):
        load_space(broken)
