"""Parameters that no trial reads are refused, with the nearest one that is read."""

from __future__ import annotations

import pytest

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.spaces.hyperparameters import FIELDS
from nni_hyperfd.spaces.standard import standard_search_space
from nni_hyperfd.spaces.unread import refuse_unread, refuse_unread_space, runs_the_shipped_trial


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("learning_rate", "lr"),
        ("LR", "lr"),
        ("optimiser", "optimizer"),
        ("location_weigth", "locw"),
        ("ious", "iou"),
        ("s_l4_a1", "s_l3_a1"),
        ("s2_deep", None),
        ("batch_size", None),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(key: str, near: str | None) -> None:
    with pytest.raises(SpaceError) as caught:
        refuse_unread(["lr", key], "--config")
    assert str(caught.value).startswith(f"--config: finetune.py reads no {key!r}; ")
    assert ("did you mean" in str(caught.value)) == (near is not None)
    if near:
        assert f"did you mean {near!r}?" in str(caught.value)


@pytest.mark.parametrize("kind", ["hpo", "nas", "joint", "assignment"])
def test_every_standard_space_is_read_whole(kind: str) -> None:
    refuse_unread_space(standard_search_space(kind), "python finetune.py --data faces", None)


def test_only_the_shipped_trial_is_known_from_its_command() -> None:
    for command in (
        "python finetune.py --data x",
        "cd /a && '/my venv/python' \"/my code/finetune.py\" --data 'a b'",
        "python finetune.py --data 'a",
        "sh -c 'python finetune.py --data x'",
        "env A=1 python finetune.py; echo done",
        "python finetune.py&& echo done",
        "python -m trial_code.finetune --data x",
    ):
        assert runs_the_shipped_trial(command), command
        with pytest.raises(SpaceError, match="momentum"):
            refuse_unread_space(["lr", "momentum"], command, None)
    for command in (
        "python my_finetune.py",
        "python train.py --script=finetune",
        "python finetune.py.old",
        "",
    ):
        assert not runs_the_shipped_trial(command)
        refuse_unread_space(["lr", "momentum"], command, None)


def test_a_trial_of_ones_own_says_what_it_reads() -> None:
    refuse_unread_space(["momentum", "lr"], "python mine.py", ("lr", "momentum", "depth"))
    # A copy of the shipped script that reads more keeps its name.
    refuse_unread_space(["momentum"], "python finetune.py", (*FIELDS, "momentum"))
    with pytest.raises(SpaceError, match=r"no 'momentun'; did you mean 'momentum'\? .* lr, momentum"):
        refuse_unread_space(["momentun"], "python mine.py", ("lr", "momentum"))
