"""``hyperfd report`` on experiments whose trials really trained, and on what is left when something is missing."""

from __future__ import annotations

import json
import logging
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nni_hyperfd.cli import main
from nni_hyperfd.customer.ledger import FILE_NAME as LEDGER
from nni_hyperfd.customer.ledger import Ledger
from nni_hyperfd.detection.training.budgets import BUDGETS, Budget
from nni_hyperfd.plugin.memo import Presence, read_receipt
from nni_hyperfd.plugin.records import Records
from nni_hyperfd.plugin.tuner import HyperFDTuner
from nni_hyperfd.protocol.messages import FindTask
from nni_hyperfd.trial import Trial, run_trial
from tests.fixtures.nni_dispatcher import Nni


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training of seconds; one core, as before afterwards."""
    monkeypatch.setitem(BUDGETS, "tiny", Budget("tiny", 64, 96, 2, 8, 1, 1, 2, batch_size=4))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)


@pytest.fixture
def begun(nni_experiment: Callable[..., Nni]) -> Nni:
    """An experiment that wants two results."""
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=2))
    return nni


def train(nni: Nni, data: Path) -> tuple[dict[str, Any], Path]:
    """A trial of this package from its start to its final report; its result and its folder."""
    (parameter_id,) = nni.request()
    out = nni.folder / "environments" / "local-env" / "trials" / nni.jobs[parameter_id]
    parameters = next(form["parameters"] for form in nni.proposals() if form["parameter_id"] == parameter_id)
    run_trial(Trial(data, "tiny", config=parameters, out=out))
    result = json.loads((out / "result.json").read_text())
    nni.report(parameter_id, {"default": result["val_ap"], "test_ap": result["test_ap"], "seconds": 2.0})
    nni.end(parameter_id)
    return result, out


def report(nni: Nni, *options: str) -> int:
    return main(["report", "exp1", "--experiment_dir", str(nni.folder.parent), *options])


def test_from_training_to_a_detector_in_the_hand(
    begun: Nni,
    drawn_faces: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    result, trial = train(begun, drawn_faces)
    (own,) = begun.request()  # a trial that is not ours, and not as good
    begun.report(own, 0.001)
    assert begun.errors() == []
    page = begun.folder / "report" / "report.html"
    assert str(page) in caplog.messages[-1]
    assert "`hyperfd report exp1 " in caplog.messages[-1]
    assert page.is_file()

    out = tmp_path / "hand över"
    capsys.readouterr()
    assert report(begun, "--out", str(out)) == 0
    printed = capsys.readouterr().out
    kept = result["handed_out"]
    for split in ("val", "test"):
        ap = f"{kept[f'{split}_ap']:.3f}"
        low, high = (
            float(end) for end in re.search(rf"on {split}: {ap} \(.*: (\S+) to (\S+)\)", printed).groups()
        )
        assert 0 <= low <= float(ap) <= high <= 1
    assert (out / "best.safetensors").read_bytes() == (trial / "best.safetensors").read_bytes()
    card = (out / "MODEL_CARD.md").read_text()
    assert f"| {kept['test_ap']:.3f} |" in card
    assert "* train: " in card

    written = (out / "report.html").read_text()
    assert not re.search(r"<script|<link|@import|url\(|src=|href=\"(?!data:)", written)
    assert written.count("data:image/jpeg") >= 2
    receipt = read_receipt(begun.folder)
    assert receipt
    assert f"went from version {receipt.version_before} to {receipt.version_after}" in written
    assert "Nothing: no message went to a server" in written

    # The command on the page is one that can be typed.
    command = shlex.split(next(line for line in printed.splitlines() if "hyperfd detect" in line))
    picture = next((drawn_faces / "images").iterdir())
    command = [str(tmp_path / "found") if word == "found" else word for word in command[1:]]
    assert main([str(picture) if word == "PICTURES" else word for word in command]) == 0

    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(out / "best.onnx", providers=["CPUExecutionProvider"])
    scores, boxes, _ = session.run(None, {"images": np.zeros((3, 3, 64, 96), np.float32)})
    assert (len(scores), len(boxes)) == (3, 3)


def test_an_experiment_under_way_is_reported_so_far(
    begun: Nni, drawn_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(begun, drawn_faces)
    assert report(begun, "--out", str(tmp_path / "out")) == 0
    assert "still under way, reported so far: 1 of 2 results" in capsys.readouterr().out
    assert (tmp_path / "out" / "best.safetensors").is_file()

    begun.kill()
    assert Presence(begun.folder).process_id() is None
    assert report(begun, "--out", str(tmp_path / "out")) == 0
    assert "the experiment has stopped" in capsys.readouterr().out
    assert "hyperfd finish exp1" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("gone", ["folder", "result.json", "detections.npz", "best.safetensors"])
def test_what_is_gone_is_told_and_the_rest_is_reported(
    begun: Nni, drawn_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], gone: str
) -> None:
    result, trial = train(begun, drawn_faces)
    if gone == "folder":
        shutil.rmtree(trial)
    elif gone == "best.safetensors":
        (trial / gone).unlink()
    else:
        (trial / gone).write_bytes((trial / gone).read_bytes()[:50])
    capsys.readouterr()
    assert report(begun, "--out", str(tmp_path / "out")) == 0
    printed = capsys.readouterr().out
    kept = "kept no detections.npz" if gone == "detections.npz" else "left no detector"
    assert kept in printed
    assert (tmp_path / "out" / "best.safetensors").exists() == (gone == "detections.npz")
    written = (tmp_path / "out" / "report.html").read_text()
    assert kept in written
    assert f"{result['val_ap']:.3f}" in written
    assert "Precision and recall" not in written


def test_pictures_that_are_gone_are_told(
    begun: Nni, drawn_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(begun, drawn_faces)
    memo = json.loads((begun.folder / "hyperfd.json").read_text())
    memo["settings"]["data"] = str(tmp_path / "moved away")
    (begun.folder / "hyperfd.json").write_text(json.dumps(memo))
    assert report(begun, "--out", str(tmp_path / "out")) == 0
    written = (tmp_path / "out" / "report.html").read_text()
    assert "The pictures are not where they were." in written
    assert "data:image" not in written


def test_one_sentence_for_what_cannot_be_reported(
    begun: Nni, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusal(*arguments: str) -> str:
        capsys.readouterr()
        assert main(list(arguments)) == 1
        (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
        return line

    where = ["--experiments", str(begun.folder.parent)]
    assert "no NNI experiment 'nowhere'" in refusal("report", "nowhere", *where)
    assert "has no finished trial to report (0 trials began" in refusal("report", "exp1", *where)
    first, second = begun.request(2)
    begun.end(first, "FAILED")
    assert "(2 trials began, 1 of them have not ended)" in refusal("report", "exp1", *where)
    begun.report(second, {"default": 0.25})
    (tmp_path / "file").write_text("")
    assert "name another folder with --out" in refusal(
        "report", "exp1", *where, "--out", str(tmp_path / "file")
    )


def test_a_report_that_cannot_be_written_does_not_touch_the_end(
    begun: Nni, caplog: pytest.LogCaptureFixture
) -> None:
    (begun.folder / "report").write_text("in the way")
    for parameter_id in begun.request(2):
        begun.report(parameter_id, 0.5)
    assert begun.errors() == []
    assert read_receipt(begun.folder)
    assert "There is no report yet (cannot write" in caplog.messages[-1]
    assert "run `hyperfd report exp1`" in caplog.messages[-1]


def test_messages_that_left_are_counted(begun: Nni, tmp_path: Path) -> None:
    for parameter_id in begun.request(2):
        begun.report(parameter_id, 0.5)
    ledger = Ledger(begun.folder / LEDGER)
    for body in (b"x" * 400_000, b"x" * 1_100_000):
        ledger.add(FindTask(experiment_id="exp1"), body)
    assert report(begun, "--out", str(tmp_path / "out")) == 0
    written = (tmp_path / "out" / "report.html").read_text()
    assert "2 messages with 1.50 MB" in written
    assert "Nothing: no message" not in written


def test_a_job_that_ran_the_parameters_of_another_is_reported_with_those(begun: Nni) -> None:
    """NNI hands parameters to jobs in the order in which they ask."""
    first, second = begun.request(2)
    listed = {form["parameter_id"]: form["parameters"] for form in begun.proposals()}
    begun.jobs[first], begun.jobs[second] = begun.jobs[second], begun.jobs[first]
    begun.report(first, 0.25)
    begun.report(second, 0.75)
    jobs = {job.job_id: job for job in Records(begun.folder).trial_jobs()}
    assert jobs[begun.jobs[first]].parameters == listed[first]
    assert jobs[begun.jobs[first]].value == 0.25
    assert jobs[begun.jobs[second]].parameters == listed[second]
