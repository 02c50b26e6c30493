"""``hyperfd recommend``, ``status`` and ``register`` as somebody at a terminal meets them; ``finish`` has its tests with the
plugin and in real experiments."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from nni_hyperfd.cli import main
from nni_hyperfd.cli.recommend import rests_on
from nni_hyperfd.cli.table import table
from nni_hyperfd.customer import http
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.protocol.messages import RecommendRequest
from nni_hyperfd.spaces.hyperparameters import COUNT_KEYS


@pytest.fixture
def platform(tmp_path: Path, make_platform: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> Path:
    make_platform(tmp_path / "platform")
    monkeypatch.setenv("HYPERFD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "platform"


def test_recommend_prints_ranked_configurations_and_leaves_no_trace(
    platform: Path, drawn_faces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "recommend",
        "--data",
        str(drawn_faces),
        "--platform",
        str(platform),
        "--budget",
        "3",
        "--seed",
        "5",
    ]
    assert main([*command, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["version"] == 0
    assert len(content["configurations"]) == 3
    scores = [each["score"] for each in content["configurations"]]
    assert scores == sorted(scores, reverse=True)
    assert set(content["configurations"][0]["parameters"]) == {
        "optimizer",
        "lr",
        "crop",
        "iou",
        "locw",
        "negp",
    }
    assert main(command) == 0
    lines = capsys.readouterr().out.rstrip().splitlines()
    assert lines[0] == "Recommended for faces by platform version 0:"
    assert f"lr={content['configurations'][0]['parameters']['lr']}" in lines[-5]
    assert lines[-1].startswith("This rests on 72 results on the platform's own data sets and on 0 of its")
    assert content["experience"] == {"results": 72, "experiments": 0}
    assert main([*command, "--spares"]) == 0
    assert capsys.readouterr().out.count("spare") == len(content["spares"]) >= 3
    assert Store(platform).counts().open_tasks == 0


def test_a_ranking_says_what_it_rests_on(
    platform: Path, drawn_faces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody has tried counts of dynamic assignment yet; then one experiment has."""
    command = ["recommend", "--data", str(drawn_faces), "--platform", str(platform), "--space", "assignment"]
    assert main(command) == 0
    last = capsys.readouterr().out.rstrip().splitlines()[-1]
    assert last.startswith(
        "This rests on 0 results on the platform's own data sets and on 0 of its customers'"
    )
    assert "no better than chance" in last
    assert "nni_hyperfd.DYCORSTuner" in last
    content = {
        "parameters": dict.fromkeys(COUNT_KEYS, 10),
        "val_ap": 0.5,
        "test_ap": 0.4,
        "budget": {"name": "smoke"},
        "seed": 0,
    }
    file = platform.parent / "result.json"
    file.write_text(json.dumps(content))
    assert main(["record", str(file), *command[1:]]) == 0
    capsys.readouterr()
    assert main(command) == 0
    last = capsys.readouterr().out.rstrip().splitlines()[-1]
    assert "0 results on the platform's own data sets and on 1 of its" in last
    assert "may be little better than chance" in last


@pytest.mark.parametrize(("results", "warned"), [(299, True), (300, False)])
def test_a_ranking_that_rests_on_little_is_called_so(results: int, warned: bool) -> None:
    assert ("DYCORSTuner" in rests_on(results, 12)) == warned


def test_a_dry_run_says_what_would_leave(
    platform: Path, drawn_faces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["recommend", "--data", str(drawn_faces), "--platform", str(platform), "--budget", "3"]
    assert main([*command, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "works in this process" in printed
    message = RecommendRequest.model_validate_json(
        next(line for line in printed.splitlines() if line.startswith("{"))
    )
    assert message.budget == 3
    assert message.subject is not None
    assert len(message.subject.phi) == 64
    calls = ("open_task", "recommend", "record", "begin_update", "send_features", "send_gradient", "commit")
    rows = {line.split()[0] for line in printed.splitlines() if line}
    assert set(calls) <= rows
    assert printed.rstrip().endswith("None of this was sent; only the platform's ranker was asked for.")
    assert Store(platform).counts().open_tasks == 0
    assert main(["ledger", "--cache", str(platform)]) == 0
    assert "No message has left this machine" in capsys.readouterr().out


def test_recommend_takes_any_search_space_file(
    platform: Path, drawn_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = tmp_path / "space.json"
    space.write_text(
        json.dumps(
            {
                "lr": {"_type": "choice", "_value": [0.001]},
                "optimizer": {"_type": "choice", "_value": ["sgd", "adam"]},
            }
        )
    )
    command = [
        "recommend",
        "--data",
        str(drawn_faces),
        "--platform",
        str(platform),
        "--json",
        "--budget",
        "2",
    ]
    assert main([*command, "--space", str(space)]) == 0
    found = json.loads(capsys.readouterr().out)["configurations"]
    assert sorted(each["parameters"]["optimizer"] for each in found) == ["adam", "sgd"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--data", ".", "--budget", "0"], "budget must be a whole number"),
        (["--data", ".", "--space", "missing.json"], "missing.json"),
    ],
)
def test_wrong_input_is_one_sentence(
    arguments: list[str], sentence: str, platform: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recommend", *arguments, "--platform", str(platform)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("hyperfd: ")
    assert sentence in captured.err
    assert captured.err.count("\n") == 1


def test_status_shows_versions_and_makes_nothing(
    platform: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--platform", str(platform)]) == 0
    assert "Version     0" in capsys.readouterr().out
    assert main(["status", "--platform", str(platform), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["version"] == 0
    assert content["counts"]["done_tasks"] == 0
    assert [entry["version"] for entry in content["versions"]] == [0]
    assert main(["status", "--platform", str(tmp_path / "none")]) == 1
    assert not (tmp_path / "none").exists()


def test_status_of_a_server_needs_a_token_and_a_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(http, "PAUSES", ())
    monkeypatch.delenv("HYPERFD_TOKEN", raising=False)
    assert main(["status", "--platform", "https://127.0.0.1:9"]) == 1
    assert "set HYPERFD_TOKEN" in capsys.readouterr().err
    monkeypatch.setenv("HYPERFD_TOKEN", "me.secret")
    assert main(["status", "--platform", "https://127.0.0.1:9"]) == 1
    assert "is away (Connection refused)" in capsys.readouterr().err
    assert main(["status", "--platform", "http://192.0.2.1"]) == 1
    assert "would send the token in the clear" in capsys.readouterr().err


def test_finish_of_an_unknown_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["finish", "abc"]) == 1
    assert "no NNI experiment 'abc'" in capsys.readouterr().err


def test_register_and_unregister(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into the list of algorithms that NNI reads when a config says ``name:``."""
    from nni.tools.package_utils import get_algo_meta

    monkeypatch.setenv("NNI_CONFIG_DIR", str(tmp_path))
    assert main(["register"]) == 0
    assert main(["register"]) == 0
    tuner, advisor = get_algo_meta("HyperFD"), get_algo_meta("hyperfdadvisor")
    assert tuner is not None
    assert advisor is not None
    assert (tuner.class_name, tuner.is_advisor) == ("nni_hyperfd.HyperFDTuner", False)
    assert (advisor.class_name, advisor.is_advisor) == ("nni_hyperfd.HyperFDAdvisor", True)
    assert len(yaml.safe_load((tmp_path / "registered_algorithms.yml").read_text())["tuners"]) == 2
    assert main(["unregister"]) == 0
    assert get_algo_meta("HyperFD") is None


def test_a_table_lines_up() -> None:
    assert table(("n", "name"), [(1, "a"), (10, "bc")]) == " n  name\n 1  a\n10  bc"


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["serve"],
        ["customer", "list"],
        ["customer", "add", "ada"],
        ["publish", "1"],
        ["backup", "file"],
        ["restore", "file"],
        ["recommend", "--data", "."],
    ],
)
def test_no_command_takes_an_address_for_a_folder(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--platform", "platform.example:8600"]) == 1
    assert "write https://platform.example:8600 for the server" in capsys.readouterr().err
    monkeypatch.setenv("HYPERFD_PLATFORM", "platform.example:8600")
    assert main(command) == 1
    assert "write https://platform.example:8600 for the server" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
