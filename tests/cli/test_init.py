"""``hyperfd init``: an experiment that NNI's own reader takes, with the settings that were given."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest
from nni.experiment.config import ExperimentConfig

from nni_hyperfd.cli import main
from nni_hyperfd.customer.settings import Settings

ROOT = Path(__file__).parents[2]


def test_the_experiment_says_what_was_asked_for(
    drawn_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Paths are relative where the command stands, absolute in what it writes; a class whose name a shell would take apart."""
    data = tmp_path / "Bilder für alle"
    data.symlink_to(drawn_faces)
    monkeypatch.chdir(tmp_path)
    out = Path("der Versuch")
    command = ["init", data.name, "--out", str(out), "--space", "joint", "--budget", "smoke", "--trials", "7"]
    assert main([*command, "--ignore", "face $(touch x); 'y'"]) == 1
    assert "which is no class of" in capsys.readouterr().err
    assert not out.exists()

    assert main([*command, "--exif", "stored"]) == 0
    config = ExperimentConfig.load(out / "hyperfd.yml").canonical_copy()
    assert config.tuner.class_args["budget"] == 7
    assert config.tuner.class_args["exif"] == "stored"
    assert Path(config.tuner.class_args["data"]) == drawn_faces.resolve()
    Settings.from_class_args(config.tuner.class_args)
    assert [*map(str, shlex.split(config.trial_command))] == [
        *(sys.executable, "finetune.py", "--data", str(drawn_faces.resolve())),
        *("--budget", "smoke", "--exif=stored"),
    ]
    assert {"optimizer", "backbone"} & {*config.search_space}
    for name, origin in (("finetune.py", "trial_code"), ("loopback_only.cjs", "examples")):
        written = out / name
        assert written.read_bytes() == (ROOT / origin / name).read_bytes()
        assert not written.is_symlink()
    umask = os.umask(0)
    os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o666 & ~umask}


def test_nothing_is_overwritten(
    drawn_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert main(["init", str(drawn_faces), "--out", str(tmp_path / "mine")]) == 1
    assert "is there already: name another folder with --out" in capsys.readouterr().err
    assert os.listdir(tmp_path / "mine") == ["notes.txt"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trials", "0"], "--trials is 0"),
        (["--budget", "shrot"], "shrot"),
        (["--faces", "gesicht"], "'gesicht', which is no class of"),
        (["--out", "/proc/none/here"], "name another folder with --out"),
    ],
)
def test_wrong_options_are_one_sentence(
    options: list[str], said: str, drawn_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(drawn_faces), "--out", str(tmp_path / "new"), *options]) == 1
    err = capsys.readouterr().err
    assert err.startswith("hyperfd: ")
    assert err.count("\n") == 1
    assert said in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", ["init", "data"])
def test_a_name_that_is_empty_does_not_mean_the_current_folder(
    command: str, drawn_faces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as "$FACES", which nobody has set."""
    monkeypatch.chdir(drawn_faces)
    assert main([command, ""]) == 1
    assert "a name is empty" in capsys.readouterr().err
