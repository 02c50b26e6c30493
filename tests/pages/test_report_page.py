"""The report's page from facts: everything escaped, nothing from elsewhere, and no trial of ours needed."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nni_hyperfd.detection.evaluation.detections import Detections, GroundTruth
from nni_hyperfd.detection.evaluation.held_out import FILE_NAME, RESULT, HeldOut, save_held_out
from nni_hyperfd.pages.report_facts import ReportFacts, Sent, TrialFacts, TrialFolder
from nni_hyperfd.pages.report_page import report_page
from nni_hyperfd.spaces.standard import standard_space

FACE = np.array([[10, 10, 40, 40]], np.float32)


def trial(
    number: int, ap: float | None, training: TrialFolder | None = None, **parameters: object
) -> TrialFacts:
    reports = () if ap is None else (ap / 2, ap)
    return TrialFacts(
        number, f"job{number}", parameters, number, 1.5, ap, None, 12.0, reports, ap is not None, training
    )


def facts(folder: Path, *trials: TrialFacts, sent: tuple[Sent, ...] = ()) -> ReportFacts:
    return ReportFacts(
        "exp<1>",
        folder,
        folder,
        "over",
        "hyperfd",
        3,
        4,
        "https://p.example",
        trials,
        90.0,
        sent,
        "It learned.",
    )


class Reader(HTMLParser):
    """Collects tags, text, and addresses; a page that is no HTML leaves tags open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_trials_of_the_users_own_are_reported_and_escaped(tmp_path: Path) -> None:
    bad = trial(1, 0.25, mode="<script>alert(1)</script>")
    page = Reader(report_page(facts(tmp_path, bad, trial(2, 0.75, mode="b"), trial(3, None, mode="c"))))
    assert not page.open
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.words
    assert "0.750" in page.words
    assert "left no detector of this package" in page.words
    assert "2 of 3" in page.words
    assert page.addresses == []
    assert "polyline" in page.tags, "reports are curves, too"


def test_what_val_cannot_tell_apart_is_said(tmp_path: Path) -> None:
    parts = trial(1, 1.0, lr=0.001, TRIAL_EPOCHS="1-1/2"), trial(2, 1.0, lr=0.001, TRIAL_EPOCHS="2-2/2")
    others = trial(3, 0.9, lr=0.003), trial(4, None, lr=0.0003)
    said = "2 configurations reached the same AP@50 on val, 1.000"
    assert "reached the same AP@50" not in Reader(report_page(facts(tmp_path, *parts, *others))).words
    nested = trial(5, 1.0, optimizer={"_name": "sgd", "lr": 0.01})
    assert said in Reader(report_page(facts(tmp_path, *parts, *others, nested))).words
    assert facts(tmp_path, trial(1, None, lr=0.1)).notes() == []


def test_what_left_is_summed(tmp_path: Path) -> None:
    sent = (Sent("open_task", 1, 1000), Sent("record", 4, 2_000_000))
    page = Reader(report_page(facts(tmp_path, trial(1, 0.5, x=1), sent=sent)))
    assert "5 messages with 2.00 MB to https://p.example" in page.words


def test_best_is_the_detector_in_the_hand_and_pictures_are_worst_and_best(tmp_path: Path) -> None:
    """The trial with the better training left a worse detector than the one whose base was better."""
    trained, kept = tmp_path / "trained", tmp_path / "kept"
    rng = np.random.default_rng(0)
    for name in ("good.png", "bad.png"):
        Image.fromarray(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8)).save(tmp_path / name)
    truth = GroundTruth(np.array([0, 1]), np.concatenate([FACE, FACE]), np.zeros(2, bool))
    found = Detections(np.array([0, 1]), np.concatenate([FACE, FACE + 50]), np.array([0.9, 0.8], np.float32))
    split = HeldOut(("good.png", "bad.png"), np.array([[96, 128]] * 2), found, truth)
    base = {"val_ap": 0.7, "test_ap": 0.6}
    budget = {"name": "short", "epochs": 2, "evaluation_size": 96}
    for folder, ap, better in ((trained, 0.65, {"val_ap": 0.5, "test_ap": 0.5}), (kept, 0.6, base)):
        folder.mkdir()
        (folder / "best.safetensors").write_bytes(b"")
        save_held_out(folder / FILE_NAME, {"val": split, "test": split})
        which = "base" if better is base else "trained"
        content = {
            "val_ap": ap,
            "test_ap": ap,
            "base": better,
            "kept": which,
            "curve": [[1, ap]],
            "budget": budget,
        }
        (folder / RESULT).write_text(json.dumps(content))
    all_facts = facts(
        tmp_path, trial(1, 0.65, TrialFolder.read(trained), x=1), trial(2, 0.6, TrialFolder.read(kept), x=2)
    )
    assert all_facts.best is all_facts.trials[1]
    page = Reader(report_page(all_facts))
    assert "No training beat the shipped base" in page.words
    worst, best = (
        page.words.index("0 of 1 found, 1 wrong · bad.png"),
        page.words.index("1 of 1 found · good.png"),
    )
    assert worst < best
    assert len(page.addresses) == 2
    assert all(each.startswith("data:image/jpeg;base64,") for each in page.addresses)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"val_ap": "high"}', '{"val_ap": 0.5, "test_ap": 0.5, "base": 3}']
)
def test_a_result_that_is_none_of_ours_is_no_training(tmp_path: Path, text: str) -> None:
    (tmp_path / "best.safetensors").write_bytes(b"")
    (tmp_path / RESULT).write_text(text)
    assert TrialFolder.read(tmp_path) is None
    assert TrialFolder.read(None) is None


def test_the_front_of_cost_against_precision_is_the_one_by_brute_force(tmp_path: Path) -> None:
    space = standard_space("nas")
    rng = np.random.default_rng(0)
    networks = space.sample(9, rng)
    aps = np.round(rng.uniform(0.3, 0.9, 9), 1)
    trials = [
        trial(i + 1, float(ap), None, **space.parameters(each))
        for i, (each, ap) in enumerate(zip(networks, aps))
    ]
    shown = facts(tmp_path, *trials, trial(10, None, None, **space.parameters(networks[0])))
    costs = [each.madds or 0.0 for each in trials]
    worth = [
        i
        for i in range(9)
        if not any(
            costs[j] <= costs[i] and aps[j] >= aps[i] and (costs[j], aps[j]) != (costs[i], aps[i])
            for j in range(9)
        )
    ]
    assert sorted(each.number - 1 for each in shown.front) == worth
    assert 1 < len(worth) < 9
    page = Reader(report_page(shown))
    assert not page.open
    assert f"{len(worth)} of 9 networks are worth their cost" in page.words
    # Without networks there is no such section.
    assert "worth their cost" not in Reader(report_page(facts(tmp_path, trial(1, 0.5, lr=0.01)))).words
