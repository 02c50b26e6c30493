"""One trial as NNI or a person starts it: files, reports, stops, and one sentence for whatever goes wrong."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import open_pixels
from nni_hyperfd.detection.evaluation.detections import ap50, detect, evaluation_batches, ground_truth
from nni_hyperfd.detection.network.export import export_onnx
from nni_hyperfd.detection.network.precision import cpu_autocast
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.detection.network.weights import base_detector, load_detector, read_notes, save_detector
from nni_hyperfd.detection.training.augment import CropPlan
from nni_hyperfd.detection.training.budgets import BUDGETS, Budget, get_budget
from nni_hyperfd.detection.training.fine_tuning import CPUEngine
from nni_hyperfd.detection.training.losses import Losses
from nni_hyperfd.spaces.architecture import mobilenet_v2
from nni_hyperfd.spaces.hyperparameters import FIRST_CHOICE
from nni_hyperfd.trial import Trial, run_trial, summary

SCRIPT = Path(__file__).parents[1] / "trial_code" / "finetune.py"
TINY = Budget("tiny", 64, 96, 2, 8, 1, 1, 2, batch_size=4)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """``trial_code/finetune.py`` as a module."""
    spec = importlib.util.spec_from_file_location("finetune", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A trial sets the threads of torch and answers SIGTERM; neither outlives its test. A tiny budget is known."""
    monkeypatch.setitem(BUDGETS, "tiny", TINY)
    monkeypatch.delenv("NNI_TRIAL_JOB_ID", raising=False)
    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    yield
    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def finetune(
    script: ModuleType,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """``finetune(folder, "--budget", "tiny", ...)``: runs the script; returns (exit code, stdout, stderr)."""

    def run(folder: Path, *options: str) -> tuple[int, str, str]:
        defaults = [
            "--data",
            str(folder),
            "--out",
            str(tmp_path / "out"),
            "--cache",
            str(cache),
            "--config",
            "{}",
        ]
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *defaults, "--budget", "tiny", *options])
        code = script.main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def refusal(result: tuple[int, str, str]) -> str:
    """The one sentence of a trial that ended with code 1 and no result."""
    code, out, err = result
    assert code == 1
    assert out == ""
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("finetune.py: ")]
    assert len(lines) == 1, err
    assert err.rstrip().endswith(lines[0])
    return lines[0]


def test_a_smoke_trial_from_end_to_end(
    drawn_faces: Path, finetune: Run, tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = {"optimizer": "adam", "lr": 0.001, "crop": 0.55, "iou": 0.4, "locw": 4, "negp": 2}
    code, out, _ = finetune(drawn_faces, "--budget", "smoke", "--config", json.dumps(config), "--seed", "3")
    assert code == 0
    assert "24 images" in caplog.text  # the report on the data
    printed = json.loads(out.splitlines()[-1])
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "best.safetensors",
        "best.onnx",
        "result.json",
        "detections.npz",
        "detections.png",
        "tensorboard",
    }
    notes = read_notes(tmp_path / "out" / "best.safetensors")
    assert notes["evaluation_size"] == str(get_budget("smoke").evaluation_size)
    assert printed["val_ap"] == result["val_ap"] == max(ap for _, ap in result["curve"])
    assert result["parameters"] == config
    assert (result["seed"], result["budget"]["name"]) == (3, "smoke")
    budget = get_budget("smoke")
    assert [epoch for epoch, _ in result["curve"]] == list(
        range(budget.validate_every, budget.epochs + 1, budget.validate_every)
    )
    assert 0 < result["test_ap"] <= 1

    assert (result["kept"] == "base") == (result["handed_out"]["val_ap"] == result["base"]["val_ap"])
    assert result["handed_out"]["val_ap"] >= result["base"]["val_ap"]
    assert (printed["base"], printed["handed_out"]) == (result["base"], result["handed_out"])
    assert f"{result['base']['val_ap']:.3f} / {result['base']['test_ap']:.3f} the base alone" in caplog.text

    # TensorBoard sees the curve, from the base on.
    (events,) = (tmp_path / "out" / "tensorboard").iterdir()
    seen = [event for event in EventFileLoader(str(events)).Load() if event.HasField("summary")]
    assert [event.step for event in seen] == [0, *(epoch for epoch, _ in result["curve"])]
    named = [{value.tag: value for value in event.summary.value} for event in seen]
    assert named[1].keys() == {"val/ap50", "loss/classification", "loss/boxes", "loss/landmarks"}
    shown = [make_ndarray(values["val/ap50"].tensor).item() for values in named]
    assert shown == pytest.approx([result["base"]["val_ap"], *(ap for _, ap in result["curve"])])

    # The saved weights are those that reached what is said of them.
    store = open_pixels(load_dataset(drawn_faces), 2 * budget.evaluation_size, cache)
    model = load_detector(tmp_path / "out" / "best.safetensors")
    for split, key in (("val", "val_ap"), ("test", "test_ap")):
        indices = store.splits[split]
        with cpu_autocast():
            found = detect(model, evaluation_batches(store, indices, budget.evaluation_size))
        truth = ground_truth(store, indices, budget.evaluation_size)
        assert ap50(found, truth) == pytest.approx(result["handed_out"][key], abs=1e-6)
    with Image.open(tmp_path / "out" / "detections.png") as picture:
        assert picture.size == (864, 576)


def test_training_that_makes_a_good_start_worse_hands_out_the_start(
    drawn_faces: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault is put into real training: after every epoch the heads say 'no face' to everything."""
    train = CPUEngine.train

    def diverge(engine: CPUEngine, plan: CropPlan, rate: float) -> Losses:
        losses = train(engine, plan, rate)
        with torch.no_grad():
            for head in engine.model.heads:
                head.weight.zero_()
                head.bias.view(-1, 16)[:, 0] = 10.0
        return losses

    monkeypatch.setattr(CPUEngine, "train", diverge)
    outcome = run_trial(Trial(drawn_faces, "tiny", config={}, cache=cache, out=tmp_path / "out"))
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert outcome.val_ap == result["val_ap"] == 0, "configurations are compared by what training reached"
    assert result["kept"] == "base"
    assert result["base"]["val_ap"] > 0.2
    kept, base = load_detector(tmp_path / "out" / "best.safetensors"), base_detector(mobilenet_v2())
    for name, value in base.state_dict().items():
        assert torch.equal(value, kept.state_dict()[name]), name
    assert float(read_notes(tmp_path / "out" / "best.safetensors")["val_ap"]) == pytest.approx(
        result["base"]["val_ap"], abs=1e-4
    )


@pytest.mark.parametrize(("val", "said"), [(1.0, True), (0.9999, False)])
def test_a_val_split_without_an_error_is_told_to_be_too_small(val: float, said: bool) -> None:
    found = {"val_ap": val, "test_ap": 0.9}
    line = summary({**found, "base": found, "handed_out": found, "kept": "trained"})
    assert ("put more images into it" in line) == said


def test_another_detector_stands_beside_the_result(
    drawn_faces: Path, finetune: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The other one is the exported base: at the evaluation size it reaches what the base does, and it gets its best size."""
    export_onnx(base_detector(mobilenet_v2()), tmp_path / "other.onnx")
    caplog.set_level(logging.INFO)
    code, out, _ = finetune(drawn_faces, "--compare", str(tmp_path / "other.onnx"))
    assert code == 0
    result = json.loads(out.splitlines()[-1])
    assert result["compared"]["size"] in (96, 144, 192)
    assert (
        result["compared"]["val_ap"] >= result["base"]["val_ap"] - 0.02
    )  # float32 against the CPU's own type
    assert f"other.onnx (at {result['compared']['size']} pixels)" in caplog.text


def test_a_detector_that_cannot_be_read_is_told_before_training(
    drawn_faces: Path, finetune: Run, tmp_path: Path
) -> None:
    (tmp_path / "other.onnx").write_text("no detector")
    assert "no ONNX model" in refusal(finetune(drawn_faces, "--compare", str(tmp_path / "other.onnx")))
    assert not (tmp_path / "out" / "best.safetensors").exists()


def test_another_architecture_of_the_space(drawn_faces: Path, finetune: Run, tmp_path: Path) -> None:
    config = {"s2_depth": 1, "s2_b1": "k5e4", "s3_depth": 1, "s3_b1": "k3e6", "s4_depth": 2, "s4_b1": "k7e6"}
    config |= {"s4_b2": "k3e4", "s5_depth": 3, "s5_b1": "k3e4", "s5_b2": "k3e4", "s5_b3": "k5e4"}
    config |= {"s6_depth": 2, "s6_b1": "k3e4", "s6_b2": "k3e6", "s7_b1": "k3e4"}
    code, _, _ = finetune(drawn_faces, "--config", json.dumps(config))
    assert code == 0
    depths = load_detector(tmp_path / "out" / "best.safetensors").architecture.depths
    assert depths == (1, 1, 1, 2, 3, 2, 1)


def test_an_unreadable_image_in_the_middle_costs_that_image(
    drawn_faces: Path, finetune: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(drawn_faces, folder)
    dataset = load_dataset(folder)
    broken = dataset.images[dataset.splits["train"][4]].path
    broken.write_bytes(broken.read_bytes()[:900])
    with caplog.at_level("INFO"):
        assert finetune(folder)[0] == 0
    assert f"images whose pixels cannot be decoded: 1 ({broken.name})" in caplog.text, (
        "counted in the one summary"
    )


def test_what_cannot_be_trained_on_is_refused_in_one_sentence(
    drawn_faces: Path, finetune: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(drawn_faces, folder)
    splits = json.loads((folder / "splits.json").read_text())
    (folder / "splits.json").write_text(json.dumps(splits | {"val": []}))
    assert "val split" in refusal(finetune(folder))
    document = json.loads((folder / "annotations.coco.json").read_text())
    val = {image["id"] for image in document["images"] if Path(image["file_name"]).name in splits["val"]}
    kept = [one for one in document["annotations"] if one["image_id"] not in val]
    (folder / "annotations.coco.json").write_text(json.dumps(document | {"annotations": kept}))
    (folder / "splits.json").write_text(json.dumps(splits))
    assert "has no face" in refusal(finetune(folder))
    for one in document["annotations"]:
        if one["image_id"] in val:
            one["bbox"][2:] = [4, 4]
            one.pop("keypoints", None)
    (folder / "annotations.coco.json").write_text(json.dumps(document))
    assert "36 pixels" in refusal(finetune(folder))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--budget", "long"], "unknown budget 'long'"),
        (["--config", '{"lr": -1}'], "lr"),
        (["--config", '{"s2_depth": 1}'], "s2_b1"),
        (["--config", '{"TRIAL_BUDGET": 0}'], "TRIAL_BUDGET"),
        (["--device", "cuda:99"], "no device 'cuda:99'"),
        (["--base", "/nowhere"], "/nowhere/standard.safetensors"),
        (["--format", "voc"], "voc"),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(
    drawn_faces: Path, finetune: Run, options: list[str], said: str
) -> None:
    assert said in refusal(finetune(drawn_faces, *options)).lower().replace("trial_budget", "TRIAL_BUDGET")


def test_a_missing_folder_is_refused_in_one_sentence(finetune: Run, tmp_path: Path) -> None:
    assert "nowhere" in refusal(finetune(tmp_path / "nowhere"))


def test_an_output_folder_that_cannot_be_made(drawn_faces: Path, finetune: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "name another one" in refusal(finetune(drawn_faces, "--out", str(tmp_path / "file" / "out")))


@pytest.mark.parametrize("config", ["{", "[1]"])
def test_a_configuration_that_is_no_json_object(
    drawn_faces: Path, finetune: Run, capsys: pytest.CaptureFixture[str], config: str
) -> None:
    with pytest.raises(SystemExit):
        finetune(drawn_faces, "--config", config)
    assert "no JSON" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_is_a_failure_and_no_result(
    drawn_faces: Path, finetune: Run, tmp_path: Path
) -> None:
    model = RetinaFace(mobilenet_v2())
    state = {
        name: torch.full_like(value, torch.nan) if "heads" in name else value
        for name, value in model.state_dict().items()
    }
    (tmp_path / "base").mkdir()
    save_detector(tmp_path / "base" / "standard.safetensors", model, state)
    said = refusal(finetune(drawn_faces, "--base", str(tmp_path / "base")))
    assert "loss is not finite (classification nan" in said
    assert not (tmp_path / "out" / "result.json").exists()


@pytest.mark.parametrize("size", [50, 100_000])
def test_a_full_disk_is_one_sentence(
    drawn_faces: Path,
    finetune: Run,
    tmp_path: Path,
    cache: Path,
    size: int,
    disk_full_after: Callable[[int], AbstractContextManager[None]],
) -> None:
    open_pixels(load_dataset(drawn_faces), 2 * TINY.evaluation_size, cache)
    with disk_full_after(size):
        said = refusal(finetune(drawn_faces))
    assert "free some disk space" in said
    assert str(tmp_path / "out") in said
    assert not list((tmp_path / "out").glob("*.partial"))


def test_a_stop_leaves_the_best_weights_so_far_and_memory_stays_small(
    drawn_faces: Path, tmp_path: Path, cache: Path
) -> None:
    """A real process at the sizes of `short`, with one step an epoch and no end."""
    out = tmp_path / "out"
    code = (
        "import dataclasses, runpy, sys; from nni_hyperfd.detection.training.budgets import BUDGETS as b; b['endless'] = "
        "dataclasses.replace(b['short'], epoch_images=32, epochs=10**6, validate_every=1, stop_after=10**6); "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    options = ["--data", drawn_faces, "--budget", "endless", "--config", "{}", "--out", out, "--cache", cache]
    with subprocess.Popen(
        [sys.executable, "-c", code, SCRIPT, *options],
        env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1]), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        limit = time.monotonic() + 300
        while not (out / "best.safetensors").exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < limit
            time.sleep(0.1)
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.send_signal(signal.SIGTERM)
        printed, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert printed == ""  # no result is reported for half a trial
    assert "Traceback" not in said
    assert load_detector(out / "best.safetensors").architecture == mobilenet_v2()
    assert not list(out.glob("*.partial"))
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak < 2_000_000  # kB


class FakeNNI(ModuleType):
    """What NNI offers a trial, remembered."""

    def __init__(self, parameters: dict) -> None:
        super().__init__("nni")
        self.parameters = parameters
        self.heard: list[tuple[str, object]] = []

    def get_next_parameter(self) -> dict:
        return self.parameters

    def report_intermediate_result(self, value: float) -> None:
        self.heard.append(("intermediate", value))

    def report_final_result(self, value: dict) -> None:
        self.heard.append(("final", value))


def test_inside_nni_the_curve_and_the_result_are_reported(
    drawn_faces: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nni = FakeNNI({"optimizer": "sgd", "lr": 0.001, "TRIAL_BUDGET": 1})
    monkeypatch.setitem(sys.modules, "nni", nni)
    monkeypatch.setenv("NNI_PLATFORM", "local")
    monkeypatch.setenv("NNI_TRIAL_JOB_ID", "abc")
    monkeypatch.setenv("NNI_OUTPUT_DIR", str(tmp_path / "nni"))
    saved = []
    monkeypatch.setattr(
        nni,
        "report_intermediate_result",
        lambda value: saved.append((tmp_path / "nni" / "best.safetensors").exists()),
    )
    outcome = run_trial(Trial(drawn_faces, "tiny", cache=cache))
    assert saved == [True]  # TRIAL_BUDGET: one epoch, and the weights are there before NNI can stop the trial
    assert nni.heard == [
        (
            "final",
            {
                "default": outcome.val_ap,
                "test_ap": outcome.test_ap,
                "heldout_ap": outcome.heldout_ap,
                "seconds": pytest.approx(outcome.seconds, abs=0.01),
            },
        )
    ]
    assert json.loads((tmp_path / "nni" / "result.json").read_text())["parameters"] == {
        "optimizer": "sgd",
        "lr": 0.001,
    }


def test_a_training_by_hand_without_a_configuration_takes_the_first_choice(
    drawn_faces: Path, cache: Path, tmp_path: Path
) -> None:
    run_trial(Trial(drawn_faces, "tiny", cache=cache, out=tmp_path))
    assert json.loads((tmp_path / "result.json").read_text())["parameters"] == FIRST_CHOICE.parameters()


def test_a_trial_reads_the_folder_as_it_is_told(drawn_faces: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(Path(__file__).parents[1] / "trial_code" / "finetune.py"),
        "--data",
        str(drawn_faces),
        "--out",
        str(tmp_path),
    ]
    run = subprocess.run(
        [*command, "--faces", "smile", "--config", "{}"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert run.returncode == 1
    assert "faces names 'smile', which is no class of" in run.stderr.splitlines()[-1]


# --- parts of trainings -----------------------------------------------------------------------------------------------


def part(
    script_run: Run, folder: Path, epochs: str, checkpoints: Path, *options: str
) -> tuple[int, str, str]:
    config = {"lr": 0.003, "TRIAL_EPOCHS": epochs, "TRIAL_CHECKPOINTS": str(checkpoints)}
    return script_run(folder, "--config", json.dumps(config), *options)


def curve(out: Path) -> list[list[float]]:
    return json.loads((out / "result.json").read_text())["curve"]


def test_a_trial_goes_on_from_where_another_stopped(
    drawn_faces: Path, finetune: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, left = tmp_path / "out", tmp_path / "left"
    assert part(finetune, drawn_faces, "1-2/2", left)[0] == 0
    whole = curve(out)
    assert not left.exists(), "nobody goes on from the end"
    assert part(finetune, drawn_faces, "1-1/2", left)[0] == 0
    assert [path.suffix for path in left.iterdir()] == [".safetensors"]
    assert part(finetune, drawn_faces, "2-2/2", left)[0] == 0
    assert curve(out) == whole
    assert "trains anew" not in caplog.text
    result = json.loads((out / "result.json").read_text())
    assert result["epochs"] == {"before": 1, "of": 2}

    # Another seed is another training, of which nobody left anything.
    assert part(finetune, drawn_faces, "2-2/2", left, "--seed", "1")[0] == 0
    assert (
        "trains anew from its first epoch, and its price is that of 2 epochs: the checkpoint " in caplog.text
    )
    assert [epoch for epoch, _ in curve(out)] == [1, 2]
    assert json.loads((out / "result.json").read_text())["epochs"] == {"before": 0, "of": 2}


@pytest.mark.parametrize(
    ("epochs", "sentence"),
    [
        ("3-4/6", "TRIAL_EPOCHS is 3-4/6, and a training with --budget tiny has 2 epochs"),
        ("2-1/2", "TRIAL_EPOCHS is '2-1/2': give a part of a training, such as 3-4/6"),
        ("half", "TRIAL_EPOCHS is 'half': give a part of a training, such as 3-4/6"),
    ],
)
def test_what_is_no_part_of_the_training_is_refused(
    drawn_faces: Path, finetune: Run, tmp_path: Path, epochs: str, sentence: str
) -> None:
    assert sentence in refusal(part(finetune, drawn_faces, epochs, tmp_path / "left"))
