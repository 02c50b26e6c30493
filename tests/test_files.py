"""One writer: a file is replaced whole or not at all, and anyone whom the umask lets may read it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nni_hyperfd.files import replacing, write_file


@pytest.fixture
def usual_umask() -> None:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path, usual_umask: None) -> None:
    write_file(tmp_path / "a", "text")
    with replacing(tmp_path / "b") as partial:
        save_file({"x": torch.zeros(2)}, partial)  # makes files that only their owner may read
    with replacing(tmp_path / "c") as partial:
        partial.unlink()
        partial.write_bytes(b"anew")
        partial.chmod(0o600)
    assert [oct((tmp_path / name).stat().st_mode & 0o777) for name in "abc"] == ["0o644"] * 3


def test_a_narrow_umask_is_respected(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_file(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_after_an_error_the_old_file_is_there_and_nothing_else(tmp_path: Path) -> None:
    write_file(tmp_path / "a", "old")

    def interrupted() -> None:
        with replacing(tmp_path / "a") as partial:
            partial.write_text("half of the new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_threads_that_write_one_file_do_not_mix_their_bytes(tmp_path: Path) -> None:
    texts = [letter * 200_000 for letter in "abcd"]
    start = threading.Barrier(len(texts))

    def write(text: str) -> None:
        start.wait()
        for _ in range(5):
            write_file(tmp_path / "one", text)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "one").read_text() in texts
    assert os.listdir(tmp_path) == ["one"]


def test_long_names_can_be_written(tmp_path: Path) -> None:
    name = "n" * 250
    write_file(tmp_path / name, "x")
    assert (tmp_path / name).read_text() == "x"


def test_no_module_replaces_files_in_a_way_of_its_own() -> None:
    root = Path(__file__).parents[1] / "nni_hyperfd"
    others = {str(path.relative_to(root)) for path in root.rglob("*.py") if "os.replace(" in path.read_text()}
    # A backup is made whole in a folder of its own, by SQLite, before it is moved.
    assert others == {"files.py", "platform/state/backup.py"}
