"""NNI's own records, read from a database that NNI 3.0 wrote."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nni_hyperfd.errors import PluginError
from nni_hyperfd.plugin.records import Attempt, Records, all_experiments, find_experiment

ASSET = Path(__file__).parent / "assets" / "nni_3_0_swapped_and_resumed.sql"
EXPERIMENT = "shrz1dap"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    experiment = tmp_path / "elsewhere" / EXPERIMENT
    (experiment / "db").mkdir(parents=True)
    execute(experiment, ASSET.read_text())
    return experiment


def execute(experiment: Path, script: str) -> None:
    with closing(sqlite3.connect(experiment / "db" / "nni.sqlite")) as connection:
        connection.executescript(script)
        connection.commit()


def test_results_go_to_the_configuration_that_ran(folder: Path) -> None:
    """The job listed with x = 1 reported for x = 0, and the job listed with x = 0 ran x = 1 and failed."""
    outcomes = {outcome.parameters["x"]: outcome for outcome in Records(folder).outcomes()}
    found = Attempt(0, {"x": 0, "n": 0}, ended=True, value={"default": 0.0, "x": 0}, reported=False)
    assert outcomes[0] == found
    assert outcomes[1] == Attempt(1, {"x": 1, "n": 1}, ended=True, value=None, reported=True)
    for x, outcome in outcomes.items():
        if outcome.value is not None:
            assert outcome.value["x"] == x


def test_a_resumed_trial_is_one_trial(folder: Path) -> None:
    outcomes = [outcome for outcome in Records(folder).outcomes() if outcome.parameters["x"] == 3]
    value = {"default": 0.1 + 0.2, "x": 3}
    assert outcomes == [Attempt(3, {"x": 3, "n": 3}, ended=True, value=value, reported=True)]


def test_trials_cut_off_by_the_end_of_the_experiment_have_not_ended(folder: Path) -> None:
    assert [o.parameters["x"] for o in Records(folder).outcomes() if not o.ended] == [8, 9]


def test_a_job_that_was_cancelled_by_hand_has_ended(folder: Path) -> None:
    """NNI writes that it is to be cancelled after it is, now and then."""
    execute(folder, "insert into TrialJobEvent values (1, 'FDELx', 'USER_CANCELED', null, '', 8, null, '')")
    execute(
        folder, "insert into TrialJobEvent values (2, 'FDELx', 'USER_TO_CANCEL', '', null, null, null, null)"
    )
    assert [o.parameters["x"] for o in Records(folder).outcomes() if not o.ended] == [9]


@pytest.mark.parametrize(
    ("moment", "ids", "numbers", "earlier"),
    [
        (1, (0, 1), (50, 51), {0: {"default": 0.0, "x": 0}}),
        (1795320500000, (1, 2), (1, 2), {1: None, 2: {"default": 0.2, "x": 2}}),
    ],
    ids=["parameter ids", "numbers, too"],
)
def test_what_began_anew_means_the_job_that_was_begun_last(
    folder: Path,
    moment: int,
    ids: tuple[int, int],
    numbers: tuple[int, int],
    earlier: dict[int, object],
) -> None:
    """Resumed when nothing runs, NNI begins again with parameter and number 1, be there jobs that have them already or not."""
    for job, parameter, number, x in zip(("later", "other"), ids, numbers, (50, 51)):
        form = json.dumps({"parameter_id": parameter, "parameters": {"x": x}})
        execute(
            folder,
            f"insert into TrialJobEvent values ({moment}, '{job}', 'RUNNING', '{form}', '', {number}, null, '')",
        )
    # Each reports for the other's parameters.
    for job, parameter, ap in zip(("later", "other"), reversed(ids), (0.51, 0.5)):
        execute(
            folder,
            f"insert into MetricData values ({moment}, '{job}', '{parameter}', 'FINAL', 0, '\"{ap}\"')",
        )
    values = {outcome.parameters["x"]: outcome.value for outcome in Records(folder).outcomes()}
    assert values[50] == 0.5
    assert values[51] == 0.51
    assert {x: values[x] for x in earlier} == earlier


def test_a_job_that_was_begun_again_runs_what_was_handed_out_since(folder: Path) -> None:
    """Before the stop it reported for one of the jobs of then, after it for one of those of now, by the same id."""
    execute(
        folder,
        """insert into TrialJobEvent values (1, 'a', 'WAITING', '{"parameter_id": 70, "parameters": {"x": 70}}', '', 70, null, '');
        insert into TrialJobEvent values (2, 'b', 'WAITING', '{"parameter_id": 71, "parameters": {"x": 71}}', '', 71, null, '');
        insert into MetricData values (3, 'a', '71', 'PERIODICAL', 0, '"0.1"');
        insert into TrialJobEvent values (4, 'b', 'FAILED', null, '', 71, null, '');
        insert into TrialJobEvent values (5, 'a', 'ADD_RESUMED', '', null, null, null, null);
        insert into TrialJobEvent values (6, 'a', 'WAITING', '{"parameter_id": 70, "parameters": {"x": 70}}', '', 70, null, '');
        insert into TrialJobEvent values (7, 'c', 'WAITING', '{"parameter_id": 71, "parameters": {"x": 72}}', '', 71, null, '');
        insert into MetricData values (8, 'a', '71', 'PERIODICAL', 0, '"0.2"');
        insert into MetricData values (9, 'a', '71', 'FINAL', 0, '"0.2"');""",
    )
    outcomes = {outcome.parameters["x"]: outcome for outcome in Records(folder).outcomes()}
    assert (outcomes[71].value, outcomes[71].curve, outcomes[71].cut_off) == (None, (), (1,))
    assert (outcomes[72].value, outcomes[72].curve) == (0.2, (0.2,))


def test_the_curve_of_a_job_that_was_begun_again_is_that_of_its_last_run(folder: Path) -> None:
    form = '{"parameter_id": 70, "parameters": {"x": 70}}'
    runs = [(0, 0.1), (1, 0.2), (0, 0.1), (1, 0.2), (2, 0.3)]
    execute(folder, f"insert into TrialJobEvent values (1, 'a', 'WAITING', '{form}', '', 70, null, '')")
    for sequence, ap in runs:
        execute(folder, f"insert into MetricData values (2, 'a', '70', 'PERIODICAL', {sequence}, '\"{ap}\"')")
    (outcome,) = [each for each in Records(folder).outcomes() if each.parameters["x"] == 70]
    assert (outcome.curve, outcome.cut_off) == ((0.1, 0.2, 0.3), (2,))
    (job,) = [each for each in Records(folder).trial_jobs() if each.job_id == "a"]
    assert job.curve == (0.1, 0.2, 0.3)


def test_what_a_stop_cut_off_is_over_when_the_job_is_begun_again_and_not_when_it_reports_again(
    folder: Path,
) -> None:
    form = '{"parameter_id": 70, "parameters": {"x": 70}}'
    execute(folder, f"insert into TrialJobEvent values (1, 'a', 'WAITING', '{form}', '', 70, null, '')")
    seen = []
    for begun in (2, 4, 6):
        for sequence in (0, 1):
            execute(
                folder,
                f"insert into MetricData values ({begun}, 'a', '70', 'PERIODICAL', {sequence}, '\"0.{sequence}\"')",
            )
        execute(
            folder,
            f"insert into TrialJobEvent values ({begun + 1}, 'a', 'ADD_RESUMED', '', null, null, null, null)",
        )
        (outcome,) = [each for each in Records(folder).outcomes() if each.parameters["x"] == 70]
        seen.append((outcome.curve, outcome.cut_off))
    assert seen == [((), (2,)), ((), (2, 2)), ((), (2, 2, 2))]
    execute(folder, "insert into MetricData values (8, 'a', '70', 'FINAL', 0, '\"0.7\"')")
    (outcome,) = [each for each in Records(folder).outcomes() if each.parameters["x"] == 70]
    assert (outcome.value, outcome.curve, outcome.cut_off) == (0.7, (), (2, 2, 2))


def test_the_first_result_of_a_job_that_was_begun_again_is_for_good(folder: Path) -> None:
    form = '{"parameter_id": 70, "parameters": {"x": 70}}'
    execute(folder, f"insert into TrialJobEvent values (1, 'a', 'WAITING', '{form}', '', 70, null, '')")
    for ap in (0.5, 0.4):
        for kind in ("PERIODICAL", "FINAL"):
            execute(folder, f"insert into MetricData values (2, 'a', '70', '{kind}', 0, '\"{ap}\"')")
    (outcome,) = [each for each in Records(folder).outcomes() if each.parameters["x"] == 70]
    assert (outcome.value, outcome.curve, outcome.cut_off) == (0.5, (0.5,), ())


def test_trials_added_by_hand_are_left_out(folder: Path) -> None:
    before = Records(folder).outcomes()
    execute(
        folder,
        """insert into TrialJobEvent values (1, '', 'ADD_CUSTOMIZED', '{"x": 99}', null, null, null, null);
        insert into TrialJobEvent values
            (1, 'hand', 'RUNNING', '{"parameter_id": null, "parameter_source": "customized", "parameters": {"x": 99}}', '', 60, null, '');
        insert into MetricData values (1, 'hand', null, 'FINAL', 0, '"0.9"');""",
    )
    assert Records(folder).outcomes() == before


def test_the_end_by_trial_number_waits_for_running_trials(folder: Path) -> None:
    records = Records(folder)
    assert not records.no_trial_left()
    config = {**records.config(), "maxTrialNumber": 10}
    execute(folder, f"update ExperimentProfile set params = '{json.dumps(config)}'")
    assert not records.no_trial_left()
    execute(folder, "insert into TrialJobEvent values (1, 'FDELx', 'SUCCEEDED', null, '', 8, null, '')")
    assert not records.no_trial_left()
    execute(folder, "insert into TrialJobEvent values (1, 'FYKrh', 'FAILED', null, '', 9, null, '')")
    assert records.no_trial_left()


def test_an_experiment_is_found_in_its_own_folder_and_by_nnis_list(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / "nni-experiments").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    assert find_experiment(EXPERIMENT, folder.parent) == folder
    with pytest.raises(PluginError, match="no NNI experiment 'shrz1dap'"):
        find_experiment(EXPERIMENT)
    listed = {EXPERIMENT: {"logDir": str(folder.parent)}}
    (home / "nni-experiments" / ".experiment").write_text(json.dumps(listed))
    assert find_experiment(EXPERIMENT) == folder


def test_damaged_records_are_named(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="not the folder of an NNI experiment"):
        Records(tmp_path)
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "nni.sqlite").write_bytes(b"no database at all, but long enough to look like one" * 40)
    with pytest.raises(PluginError, match="cannot read NNI's records"):
        Records(tmp_path).outcomes()


def test_all_experiments_are_found_where_nni_lists_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert all_experiments() == []
    assert all_experiments(folder.parent) == [folder]
    home = tmp_path / "nni-experiments"
    (home / "usual" / "db").mkdir(parents=True)
    (home / "usual" / "db" / "nni.sqlite").touch()
    (home / "_latest").symlink_to(home / "usual")
    (home / "not_one").mkdir()
    (home / ".experiment").write_text(json.dumps({EXPERIMENT: {"logDir": str(folder.parent)}}))
    assert all_experiments() == sorted([folder, home / "usual"])
    (home / ".experiment").write_text("torn")
    assert all_experiments() == [home / "usual"]
