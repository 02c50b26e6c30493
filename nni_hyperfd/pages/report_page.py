"""The page of ``hyperfd report``: what an experiment brought."""

from __future__ import annotations

import math

import numpy as np

from nni_hyperfd.data.decode import decode
from nni_hyperfd.detection.evaluation.bootstrap import DRAWS, LEVEL
from nni_hyperfd.detection.evaluation.held_out import HeldOut, ImageMarks, marks_by_image
from nni_hyperfd.detection.network.weights import BEST
from nni_hyperfd.detection.training.drawn_back import SHARE
from nni_hyperfd.errors import DataError
from nni_hyperfd.pages.charts import front, lines
from nni_hyperfd.pages.handed_out import CARD, ONNX, HandedOut
from nni_hyperfd.pages.html import Markup, cards, element, html_table, page, section
from nni_hyperfd.pages.report_facts import OnSplit, ReportFacts, TrialFacts
from nni_hyperfd.pages.tiles import TILE, DrawnBox, sheet, tile

SHOWN_SCORE = 0.5
SHOWN = 5
"""Best images on the page, and worst ones."""

FACE, IGNORED, RIGHT, WRONG = "#2f8bff", "#c7ccd4", "#ffc400", "#ff4d3d"
LONGEST_NAME = 84

METHODS = {
    "hyperfd": "The platform ranks every configuration by the inner product of 64 numbers that it made of your data set and 64 that it made of "
    "the configuration, as earlier data sets taught it. A part of the list is drawn at random from the second-best, so that "
    "it learns something new, too. Only differences between scores mean anything.",
    "hyperfd-gp": "A Gaussian process over configurations and the 64 numbers of your data set; after each result it planned the rest anew. "
    "The score is what it expected when it last planned the configuration; only differences mean anything.",
    "hyperfd-mf": "Before each trial a Gaussian process over learning curves, configurations and the 64 numbers of your data set chose the training "
    "to begin or to go on with; TRIAL_EPOCHS says which part of a full training a trial ran. The score is where the training was "
    "last expected to end; only differences mean anything.",
}


def report_page(facts: ReportFacts, handed: HandedOut | None = None) -> str:
    """The document; it holds small copies of some images, so it belongs on the customer's machine."""
    return page(
        f"What experiment {facts.experiment_id} brought",
        element("p", f"{facts.data or facts.folder} · {facts.state}", _class="soft"),
        _cards(facts),
        *(element("p", note, _class="warning") for note in facts.notes()),
        section("The detector", *_detector(facts, handed)),
        section("What was recommended, and what came of it", *_recommended(facts)),
        *((section("What a network costs", *_costs(facts)),) if facts.front else ()),
        section("Learning curves", *_learning(facts)),
        *((section("Precision and recall", *_precision(facts.measured)),) if facts.measured else ()),
        *((section("Pictures", *_pictures(facts)),) if facts.measured else ()),
        section("The price", *_price(facts)),
        section("What left this machine", *_sent(facts)),
        section("What the platform learned", element("p", facts.learned)),
    )


def _cards(facts: ReportFacts) -> Markup:
    values: list[tuple[object, str]] = [
        (f"{each.ap:.3f}", f"AP@50 on {each.name}, {each.interval.low:.2f} to {each.interval.high:.2f}")
        for each in facts.measured
    ]
    if not values and facts.best:
        values = [(f"{facts.best.ap:.3f}", "best AP@50 that was reported")]
    return cards(
        [
            *values,
            (f"{len(facts.finished)} of {len(facts.trials)}", "trials with a result"),
            (_duration(facts.seconds), "on the clock"),
        ]
    )


def _detector(facts: ReportFacts, handed: HandedOut | None) -> list[Markup]:
    best = facts.best
    if best is None:
        return [element("p", "No trial has a result.", _class="soft")]
    parts = [element("p", f"Trial {best.number} ({best.job_id}): {best.name}.")]
    if best.training and best.training.kept_base:
        parts.append(
            element(
                "p",
                "No training beat the shipped base detector on val, so the best detector is that base as it was. More images, or a longer "
                "budget, may change that.",
                _class="warning",
            )
        )
    if best.training and best.training.drawn_back:
        parts.append(
            element(
                "p",
                f"Its weights are those that training reached, {1 - SHARE:.0%} of the way back to the base, which holds better on new pictures; "
                "their AP may differ a little from the one that the trial reported.",
                _class="soft",
            )
        )
    if facts.measured and best.training:
        base = best.training.result["base"]
        rows = [
            (
                each.name,
                len(each.split.names),
                each.split.faces,
                f"{each.ap:.3f}",
                f"{each.interval.low:.3f} to {each.interval.high:.3f}",
                f"{base[f'{each.name}_ap']:.3f}",
            )
            for each in facts.measured
        ]
        head = ("split", "images", "faces that count", "AP@50", f"{LEVEL:.0%} interval", "base, untrained")
        parts += [
            html_table(head, rows),
            element(
                "p",
                f"Intervals: {DRAWS} bootstrap draws over images. Weights and configuration were chosen on val, so its AP is too high by some; "
                "test had no say in any choice.",
                _class="soft",
            ),
        ]
    if handed:
        files = f"{BEST}, {ONNX} and {CARD}" if (handed.folder / ONNX).is_file() else f"{BEST} and {CARD}"
        parts += [
            element("p", f"{handed.parameters:,} parameters. {files} lie in {handed.folder}. {handed.onnx}"),
            element("pre", handed.command),
        ]
    elif best.training:
        parts += [
            element("p", "Copy it out, with ONNX and a model card:"),
            element("pre", f"hyperfd report {facts.experiment_id} --out FOLDER"),
        ]
    return parts


def _recommended(facts: ReportFacts) -> list[Markup]:
    parts = []
    if facts.method:
        version = "" if facts.version is None else f", as version {facts.version} of the platform knew it"
        parts.append(element("p", f"Method {facts.method}{version}. {METHODS[facts.method]}"))
    else:
        parts.append(element("p", "No recommendation of HyperFD: the experiment used another tuner."))
    rows = [
        (
            "" if trial.place is None else trial.place,
            "" if trial.score is None else f"{trial.score:.3f}",
            trial.number,
            trial.name,
            _number(trial.ap),
            _number(trial.test_ap),
            _outcome(trial),
        )
        for trial in facts.trials
    ]
    best = facts.trials.index(facts.best) if facts.best else None
    head = ("place", "foretold", "trial", "configuration", "AP@50 val", "test", "")
    return [*parts, html_table(head, rows, best)]


def _outcome(trial: TrialFacts) -> str:
    if trial.ap is None:
        return "failed" if trial.ended else "has no result yet"
    if trial.training and trial.training.kept_base:
        return f"did not beat the base ({trial.training.val_ap:.3f})"
    return ""


def _learning(facts: ReportFacts) -> list[Markup]:
    curves = {_label(facts, trial): trial.curve for trial in facts.trials if trial.curve}
    if not curves:
        return [element("p", "No trial reported anything on its way.", _class="soft")]
    lowest = min(ap for points in curves.values() for _, ap in points)
    bottom = math.floor(lowest * 5) / 5 if lowest < 1 else 0.8
    own = all(trial.training is None for trial in facts.trials)
    told = "" if own else " Epoch 0 is the base before any training."
    x_title = "reports" if own else "epochs"
    return [
        element("p", f"AP@50 on val after each validation.{told}", _class="soft"),
        lines(curves, x_title, "AP@50 on val", y_range=(bottom, 1.0), dots=True),
    ]


def _costs(facts: ReportFacts) -> list[Markup]:
    priced = [(trial.madds, trial.ap) for trial in facts.finished if trial.madds is not None]
    points = [(madds, ap) for madds, ap in priced if ap is not None]
    best = [(trial.madds or 0.0, trial.ap or 0.0) for trial in facts.front]
    told = (
        f"{len(best)} of {len(points)} networks are worth their cost: no other trial was as good for as few multiply-adds or fewer. A limit in "
        "classArgs (max_madds) has the next experiment choose among the cheaper ones alone."
    )
    rows = [
        (trial.number, f"{trial.madds:.0f}", _number(trial.ap), _number(trial.test_ap), trial.name)
        for trial in facts.front
    ]
    return [
        element("p", told),
        front(points, best, "million multiply-adds of the backbone at 640×360", "AP@50 on val"),
        html_table(("trial", "million multiply-adds", "AP@50 on val", "on test", "network"), rows),
    ]


def _label(facts: ReportFacts, trial: TrialFacts) -> str:
    name = trial.name if len(trial.name) <= LONGEST_NAME else f"{trial.name[: LONGEST_NAME - 1]}…"
    return f"{trial.number}. {name}{' (best)' if trial is facts.best else ''}"


def _precision(measured: tuple[OnSplit, ...]) -> list[Markup]:
    curves = {f"{each.name}: AP@50 {each.ap:.3f}": each.split.precision_recall() for each in measured}
    return [
        element(
            "p",
            "Of the faces that count, how many are found, against how many of the detections are right, from the surest detection on; "
            "interpolated, so that AP@50 is the area below.",
            _class="soft",
        ),
        lines(curves, "recall", "precision", x_range=(0.0, 1.0)),
    ]


def _pictures(facts: ReportFacts) -> list[Markup]:
    split = facts.measured[-1]
    marks = marks_by_image(split.split, SHOWN_SCORE)
    worst = sorted(
        (each for each in marks if each.wrong + each.missed), key=lambda each: -each.wrong - each.missed
    )
    best = sorted((each for each in marks if each.right and each not in worst), key=lambda each: -each.right)
    found, wrong, missed = (
        sum(getattr(each, kind) for each in marks) for kind in ("right", "wrong", "missed")
    )
    parts = [
        element(
            "p",
            f"{split.name}, detections with a score of at least {SHOWN_SCORE}: {found} of {found + missed} faces found, {wrong} detections of "
            "no face. Blue: annotated faces; gray, dashed: those that do not count. Yellow: right detections; red: wrong ones.",
            _class="soft",
        )
    ]
    for title, chosen in (("Worst", worst[:SHOWN]), ("Best", best[:SHOWN])):
        tiles = [each for mark in chosen if (each := _tile(facts, split.split, mark))]
        parts.append(element("h3", title))
        if tiles:
            parts.append(sheet(tiles))
        else:
            said = "The pictures are not where they were." if chosen else "None."
            parts.append(element("p", said, _class="soft"))
    return parts


def _tile(facts: ReportFacts, split: HeldOut, mark: ImageMarks) -> Markup | None:
    """One image; None where it is gone."""
    path = (facts.data or facts.folder) / split.names[mark.image]
    try:
        pixels = decode(path, 2 * TILE)
    except DataError:
        return None
    if pixels is None:
        return None
    height, width = split.size[mark.image].tolist()
    scale = np.array([pixels.shape[1] / width, pixels.shape[0] / height] * 2)
    boxes = []
    here = split.truth.image == mark.image
    for corners, ignored in zip(split.truth.boxes[here] * scale, split.truth.ignored[here]):
        boxes.append(DrawnBox(corners.tolist(), IGNORED if ignored else FACE, dashed=bool(ignored)))
    for row, right, wrong in zip(mark.rows, mark.is_right, mark.is_wrong):
        color = RIGHT if right else WRONG if wrong else IGNORED
        word = f"{split.found.scores[row]:.2f}"
        boxes.append(DrawnBox((split.found.boxes[row] * scale).tolist(), color, word=word))
    faces = mark.right + mark.missed
    told = f"{mark.right} of {faces} found" + (f", {mark.wrong} wrong" if mark.wrong else "")
    return tile(pixels, boxes, f"{told} · {path.name}")


def _price(facts: ReportFacts) -> list[Markup]:
    rows = [
        (
            trial.number,
            "" if trial.epochs is None else trial.epochs,
            "" if trial.seconds is None else f"{trial.seconds:.0f}",
            trial.name,
        )
        for trial in facts.trials
    ]
    epochs = sum(trial.epochs or 0 for trial in facts.trials)
    seconds = sum(trial.seconds or 0.0 for trial in facts.trials)
    told = (
        f"{len(facts.trials)} trials, {epochs} epochs, {_duration(seconds)} of training; NNI ran for {_duration(facts.seconds)}, with reading "
        "the data, the recommendation and the platform's update."
    )
    return [element("p", told), html_table(("trial", "epochs", "seconds of training", "configuration"), rows)]


def _sent(facts: ReportFacts) -> list[Markup]:
    if not facts.sent:
        where = f" ({facts.platform})" if facts.platform else ""
        return [
            element(
                "p", f"Nothing: no message went to a server. The platform is on this machine itself{where}."
            )
        ]
    total = sum(each.bytes for each in facts.sent)
    messages = sum(each.messages for each in facts.sent)
    return [
        element(
            "p",
            f"{messages} message{'s' if messages != 1 else ''} with {total / 1e6:.2f} MB to {facts.platform}, and no image, box or file name in any of them. What each of them "
            "said:",
        ),
        element("pre", f"hyperfd ledger {facts.experiment_id}"),
        html_table(
            ("message", "how often", "bytes"), [(each.call, each.messages, each.bytes) for each in facts.sent]
        ),
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
