"""Networks under limits in experiments: tuner and advisor try no others, and what nothing meets is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nni.runtime.tuner_command_channel import CommandType

from nni_hyperfd.cli import main
from nni_hyperfd.detection.network.latency import Latency
from nni_hyperfd.plugin.advisor import HyperFDAdvisor
from nni_hyperfd.plugin.tuner import HyperFDTuner
from nni_hyperfd.spaces.architecture import backbone_flops
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.cost import PartCosts, stage_costs
from nni_hyperfd.spaces.standard import standard_search_space, standard_space

Make = Callable[..., Any]
NAS = standard_search_space("nas")


def middle() -> tuple[PartCosts, float]:
    """Milliseconds of parts on this device, and halfway from the quickest network to the slowest."""
    ms = Latency.of_this_device(None).milliseconds
    quickest = standard_space("nas").networks.cheapest(ms)
    return ms, (quickest + ms.rest + sum(float(table.max()) for table in stage_costs(ms))) / 2


def keep_to(limits: tuple[PartCosts, float], forms: list[dict[str, Any]]) -> None:
    ms, limit = limits
    assert forms
    for form in forms:
        network = Configuration.from_parameters(
            {key: value for key, value in form["parameters"].items() if key != "TRIAL_BUDGET"}
        ).architecture
        assert network is not None
        assert backbone_flops(network) < 430e6
        assert ms.of(network) < limit


def test_the_tuner_tries_nothing_over_a_limit(nni_experiment: Make) -> None:
    nni = nni_experiment()
    limits = middle()
    nni.begin(HyperFDTuner(data="faces", budget=3, max_madds=430, max_ms=limits[1]), NAS)
    (failed,) = nni.request()
    nni.end(failed, "FAILED")
    for _ in range(3):
        (trial,) = nni.request()
        nni.report(trial, 0.5)
        nni.end(trial)
    assert nni.errors() == []
    assert len(nni.proposals()) == 4
    keep_to(limits, nni.proposals())
    ranking = json.loads((nni.folder / "hyperfd.json").read_text())["ranking"]
    keep_to(limits, [{"parameters": each} for each in ranking])


def test_the_advisor_draws_nothing_over_a_limit(
    nni_experiment: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = SimpleNamespace(NNI_TUNER_COMMAND_CHANNEL="ws://_unittest_placeholder_", NNI_MODE="start")
    monkeypatch.setattr("nni.runtime.msg_dispatcher_base.dispatcher_env_vars", environment)
    nni = nni_experiment()
    limits = middle()
    advisor = HyperFDAdvisor(
        data="faces", budget=4, brackets="all", share=0.5, max_madds=430, max_ms=limits[1]
    )
    nni.advisor, nni.sent = advisor, []
    nni._dispatcher = advisor
    advisor.send = nni._receive
    nni.do(CommandType.Initialize, NAS)
    nni.request(4)
    assert nni.errors() == []
    keep_to(limits, nni.proposals())
    keep_to(limits, [{"parameters": each} for each in advisor._experiment.ranking])


@pytest.mark.parametrize(
    ("class_args", "space", "sentence"),
    [
        (
            {"max_madds": 100},
            "nas",
            "the cheapest network of the search space has 184.5 million multiply-adds",
        ),
        ({"max_ms": 0.001}, "joint", "the cheapest network of the search space takes "),
        ({"max_ms": 5}, "hpo", "max_ms limits networks, and the search space has none to choose"),
        ({"max_madds": -1}, "nas", "max_madds must be a number from 0 to"),
        ({"max_madds": float("nan")}, "nas", "max_madds must be a number from 0 to"),
        ({"max_ms": "10ms"}, "nas", "max_ms must be a number from 0 to"),
    ],
)
def test_limits_that_cannot_be_met_are_refused_in_one_sentence(
    class_args: dict[str, Any], space: Any, sentence: str, nni_experiment: Make
) -> None:
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", **class_args), standard_search_space(space))
    assert nni.request() == []
    (error,) = nni.errors()
    assert error.startswith("HyperFD: classArgs: ")
    assert sentence in error


def test_the_command_line_keeps_to_them_and_shows_what_it_sends(
    nni_experiment: Make, drawn_faces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nni_experiment()
    limits = middle()
    options = ["recommend", "--data", str(drawn_faces), "--space", "nas", "--max-madds", "430"]
    assert main([*options, "--max-ms", str(limits[1]), "--json", "--spares"]) == 0
    found = json.loads(capsys.readouterr().out)
    keep_to(limits, [*found["configurations"], *found["spares"]])
    assert main([*options, "--max-ms", str(limits[1]), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert '"network_costs":[[' in told
    assert '"flops_limit":430000000.0' in told
    assert main([*options, "--dry-run"]) == 0
    assert "network_costs" not in capsys.readouterr().out
