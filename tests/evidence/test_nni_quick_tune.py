"""A search by price whose trainings are NNI's trials: played step by step it is the one that is played on a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nni import NoMoreTrialError

from benchmarks.nni_quick_tune import METHODS, Playing, QuickTune, known_curves
from nni_hyperfd.evidence.curves import CurveMethod, CurveTable, CurveTask
from nni_hyperfd.evidence.rivals.early_stopping import ASHA, BOHB, Hyperband, SuccessiveHalving
from nni_hyperfd.evidence.table import canonical
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_search_space, standard_space
from nni_hyperfd.spaces.unread import configuration_of

LENGTH = 4
COUNT = 9


class Watched(CurveTask):
    """Notes the validations that were asked for, and which came."""

    def __init__(self, curves: np.ndarray, validations: int) -> None:
        super().__init__(np.zeros(0), curves, validations)
        self.steps: list[tuple[int, int]] = []

    def go_on(self, index: int) -> float:
        self.steps.append((index, int((~np.isnan(self.seen[index])).sum())))
        return super().go_on(index)


@given(
    kind=st.sampled_from([ASHA, BOHB, Hyperband, SuccessiveHalving]),
    seed=st.integers(0, 99),
    price=st.integers(1, 6),
    fails=st.lists(st.booleans(), min_size=COUNT, max_size=COUNT),
)
def test_step_by_step_it_is_what_is_played_on_a_table(
    kind: type[CurveMethod], seed: int, price: int, fails: list[bool]
) -> None:
    same_steps(kind, seed, price, fails)


@pytest.mark.parametrize("method", METHODS)
def test_so_are_those_of_quick_tune_tool(method: str) -> None:
    pytest.importorskip("qtt")
    same_steps(METHODS[method], 0, 2, [False, True] + [False] * (COUNT - 2))


def same_steps(kind: type[CurveMethod], seed: int, price: int, fails: list[bool]) -> None:
    rng = np.random.default_rng(seed)
    curves = np.where(np.array(fails)[:, None], np.nan, rng.random((COUNT, LENGTH)))
    offline = CurveTable(
        rng.random((3, COUNT, LENGTH)), rng.random((COUNT, 2)), np.zeros((3, 0)), np.arange(COUNT)
    )
    at_once, method = Watched(curves, price * LENGTH), kind()
    method.reset(offline, seed)
    method.search(at_once)

    playing, steps = Playing(kind(), offline, LENGTH, price * LENGTH, seed), []
    while (wanted := playing.next()) is not None:
        steps.append((wanted.index, wanted.at))
        playing.tell(wanted, curves[wanted.index, wanted.at])
    assert steps == at_once.steps
    assert playing.next() is None, "and is over"


def test_offline_curves_are_read_off_at_the_epochs_of_the_experiment() -> None:
    space = standard_space("hpo")
    texts = [canonical(space.parameters(each)) for each in space.enumerate()]
    six, three, four = (known_curves(space, texts, epochs).aps for epochs in (6, 3, 4))
    measured = ~np.isnan(six).any(axis=2)
    assert measured.sum() >= 100
    assert np.array_equal(three[measured], six[measured][:, [1, 3, 5]]), "no other times than those measured"
    between = six[measured][:, 0] + (six[measured][:, 1] - six[measured][:, 0]) / 2
    assert four[measured][:, 0] == pytest.approx(between), "one quarter lies halfway between 1/6 and 2/6"
    assert np.isnan(four[~measured]).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_trial_trains_one_epoch_and_goes_on_from_the_checkpoint(method: str, tmp_path: Path) -> None:
    pytest.importorskip("qtt")
    search_space = standard_search_space("hpo")
    space = Space.from_search_space(search_space)
    tuner = QuickTune(method, LENGTH, 2, str(tmp_path))
    tuner.update_search_space(search_space)
    rng = np.random.default_rng(0)
    trained: dict[str, list[str]] = {}
    broken: list[dict[str, Any]] = []

    def trial(number: int) -> None:
        parameters = tuner.generate_parameters(number)
        assert parameters not in broken, "what failed is not asked for again"
        if number == 1:
            broken.append(parameters)
            tuner.trial_end(number, False)
            return
        assert parameters["TRIAL_CHECKPOINTS"] == str(tmp_path)
        configuration = configuration_of(parameters)
        assert space.admits(space.parse(configuration))
        trained.setdefault(canonical(configuration), []).append(parameters["TRIAL_EPOCHS"])
        tuner.receive_trial_result(number, parameters, {"default": float(rng.random())})
        tuner.trial_end(number, True)

    def play() -> None:
        for number in range(99):
            trial(number)

    with pytest.raises(NoMoreTrialError):
        play()
    paid = sum(map(len, trained.values()))
    assert LENGTH < paid <= 2 * LENGTH
    for epochs in trained.values():
        assert epochs == [f"{at}-{at}/{LENGTH}" for at in range(1, len(epochs) + 1)]
    assert any(len(epochs) == LENGTH for epochs in trained.values()), "one came to its end"
