"""A platform on a server that goes away: before an experiment, in its middle, and for good measure at its end."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nni_hyperfd.cli import main
from nni_hyperfd.customer import http, steady
from nni_hyperfd.customer.outbox import FILE_NAME, Outbox
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.plugin.tuner import HyperFDTuner
from nni_hyperfd.protocol.messages import BeginUpdate, TrialRecord


@pytest.fixture
def remote(
    server: Any, nni_experiment: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Any]:
    """Experiments of a customer of ``server``, which runs; the features are taken from the cache of other tests."""
    server.start()
    monkeypatch.setattr(http, "PAUSES", (0.05,))
    # Who is back is asked with the next result, however soon that comes.
    monkeypatch.setattr(steady, "QUIET", 0.0)
    monkeypatch.setenv("HYPERFD_PLATFORM", server.url)
    monkeypatch.setenv("HYPERFD_TOKEN", server.token("customer"))
    return nni_experiment


def experience(server: Any) -> list[float | None]:
    """Results that the platform has, of all experiments."""
    with closing(Store(server.folder)) as store:
        return sorted((trial.ap for trial in store.trials()), key=lambda ap: ap or 0.0)


def version(server: Any) -> int:
    with closing(Store(server.folder)) as store:
        return len(store.versions()) - 1


def sync(nni: Any) -> int:
    return main(["sync", nni.folder.name, "--experiments", str(nni.folder.parent)])


def test_a_server_that_is_killed_in_the_middle_of_an_experiment(
    server: Any,
    remote: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    nni = remote()
    nni.begin(HyperFDTuner(data="faces", budget=3))
    first, second, third = nni.request(3)
    nni.report(first, 0.5)
    server.kill()
    nni.report(second, 0.25)
    with caplog.at_level(logging.WARNING):
        nni.report(third, 0.75)
    assert nni.errors() == []
    assert f"run `hyperfd sync {nni.folder.name}` when the platform is back" in caplog.text
    waiting = Outbox(nni.folder / FILE_NAME).waiting()
    assert {message.ap for message in waiting if isinstance(message, TrialRecord)} >= {0.25, 0.75}
    assert isinstance(waiting[-1], BeginUpdate)

    # The tuner, which is this process, lives on as it does while NNI's page is open.
    assert sync(nni) == 1
    assert "is away (Connection refused)" in capsys.readouterr().err
    server.start()
    assert experience(server) == [0.5]
    assert sync(nni) == 0
    assert (
        "exp1: the platform learned from 3 results and went from version 0 to 1." in capsys.readouterr().out
    )
    assert sync(nni) == 0
    assert "nothing waits" in capsys.readouterr().out
    assert main(["finish", "exp1", "--experiments", str(nni.folder.parent)]) == 0
    assert "Finished before" in capsys.readouterr().out
    assert experience(server) == [0.25, 0.5, 0.75]
    assert version(server) == 1
    assert "customer." not in (nni.folder / "hyperfd.json").read_text(), "the token is kept nowhere"


def test_an_experiment_begins_while_the_platform_is_away(
    server: Any,
    remote: Callable[..., Any],
    drawn_faces: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert main(["recommend", "--data", str(drawn_faces), "--budget", "3", "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)
    server.kill()
    nni = remote()
    with caplog.at_level(logging.WARNING):
        nni.begin(HyperFDTuner(data="faces", budget=3))
        first, second, third = nni.request(3)
        nni.report(first, 0.5)
    assert nni.errors() == []
    sentences = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(sentences) == 1, sentences
    assert sentences[0].startswith("Going on with the platform's ranker version 0, kept here")
    proposed = [form["parameters"] for form in nni.proposals()]
    assert proposed == [entry["parameters"] for entry in expected["configurations"]]

    server.start()
    assert experience(server) == []
    nni.report(second, 0.25)
    assert experience(server) == [0.25, 0.5], "with the first message that gets through, all that waited"
    nni.report(third, 0.75)
    assert nni.errors() == []
    assert experience(server) == [0.25, 0.5, 0.75]
    assert version(server) == 1
    assert not (nni.folder / FILE_NAME).exists()


def test_hyperfd_gp_keeps_its_plan_while_the_platform_is_away(
    server: Any, remote: Callable[..., Any], drawn_faces: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It begins with the kept ranker's configurations, and plans by itself as soon as the platform is back."""
    assert main(["recommend", "--data", str(drawn_faces)]) == 0
    server.kill()
    nni = remote()
    nni.begin(HyperFDTuner(data="faces", budget=3, method="hyperfd-gp"))
    plan = json.loads((nni.folder / "hyperfd.json").read_text())["ranking"]
    (first,) = nni.request()
    with caplog.at_level(logging.INFO):
        nni.report(first, 0.5)
    assert "The plan stays as it is" in caplog.text
    assert json.loads((nni.folder / "hyperfd.json").read_text())["ranking"] == plan
    (second,) = nni.request()
    server.start()
    with caplog.at_level(logging.INFO):
        nni.report(second, 0.25)
    assert "The rest is planned anew" in caplog.text
    (third,) = nni.request()
    nni.report(third, 0.75)
    assert nni.errors() == []
    assert experience(server) == [0.25, 0.5, 0.75]
    assert len({json.dumps(form["parameters"]) for form in nni.proposals()}) == 3


OWN = {
    "mode": {"_type": "choice", "_value": ["a", "b", "c"]},
    "warmup": {"_type": "uniform", "_value": [0, 1]},
}


@pytest.mark.parametrize("begun", [False, True], ids=["nothing tried yet", "a trial begun"])
def test_a_list_ranked_here_in_an_own_space_is_never_taken_for_the_platforms(
    server: Any, remote: Callable[..., Any], drawn_faces: Path, caplog: pytest.LogCaptureFixture, begun: bool
) -> None:
    assert main(["recommend", "--data", str(drawn_faces)]) == 0
    server.kill()
    nni = remote()
    settings: dict[str, Any] = {"data": "faces", "budget": 2, "trial_reads": list(OWN)}
    with caplog.at_level(logging.INFO):
        nni.begin(HyperFDTuner(**settings), OWN)
    assert nni.errors() == []
    assert "untrained encoder" in caplog.text
    assert "Recommended by" not in caplog.text
    before = json.loads((nni.folder / "hyperfd.json").read_text())
    assert "untrained encoder" in before["provisional"]
    if begun:
        nni.request(1)

    # Another process goes on when the platform is back: it asks for the platform's list while there is time to.
    caplog.clear()
    server.start()
    nni.kill()
    with caplog.at_level(logging.INFO):
        nni.begin(HyperFDTuner(**settings), OWN)
    assert nni.errors() == []
    after = json.loads((nni.folder / "hyperfd.json").read_text())
    if begun:
        assert after == before
        assert "not the platform's own" in caplog.text
    else:
        assert after["provisional"] is None
        assert "Recommended by platform version 0" in caplog.text


def test_a_platform_that_was_never_seen_must_be_there(
    remote: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    nni = remote()
    nni.begin(HyperFDTuner(data="faces", platform="http://127.0.0.1:9"))
    nni.request(1)
    assert "the platform http://127.0.0.1:9 is away" in nni.errors()[0]


def test_a_wrong_token_is_told_at_once(remote: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERFD_TOKEN", "customer.wrong")
    nni = remote()
    nni.begin(HyperFDTuner(data="faces"))
    nni.request(1)
    assert "does not know the token; set HYPERFD_TOKEN" in nni.errors()[0]
    assert "wrong" not in nni.errors()[0]
    monkeypatch.delenv("HYPERFD_TOKEN")
    nni.begin(HyperFDTuner(data="faces"))
    nni.request(1)
    assert "wants a token; set HYPERFD_TOKEN" in nni.errors()[0]
