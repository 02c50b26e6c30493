"""What NNI's records, the tuner's notes and the trials' folders say of an experiment, for its report."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from nni_hyperfd.customer import ledger
from nni_hyperfd.customer.outbox import FILE_NAME as OUTBOX
from nni_hyperfd.customer.outbox import Outbox
from nni_hyperfd.customer.result import Result, read_metric
from nni_hyperfd.errors import DataError, PluginError
from nni_hyperfd.files import write_file
from nni_hyperfd.pages.handed_out import HandedOut, hand_out
from nni_hyperfd.pages.report_facts import ReportFacts, Sent, TrialFacts, TrialFolder
from nni_hyperfd.pages.report_page import report_page
from nni_hyperfd.plugin.experiment_end import in_words
from nni_hyperfd.plugin.memo import Memo, Presence, read_receipt
from nni_hyperfd.plugin.records import Records, TrialJob
from nni_hyperfd.spaces.stages import TRIAL_CHECKPOINTS
from nni_hyperfd.spaces.unread import configuration_of

FOLDER = "report"
"""In the folder of the experiment, where no other is named."""
PAGE = "report.html"


def read_facts(experiment: Path) -> ReportFacts:
    """Everything of the experiment in the folder ``experiment``, reported so far if it is under way.

    Raises:
        PluginError: No trial of it has a result, or its records cannot be read.
    """
    records, memo = Records(experiment), Memo.read(experiment)
    jobs = records.trial_jobs()
    trials = tuple(_trial(records, memo, number, job) for number, job in enumerate(jobs, start=1))
    facts = ReportFacts(
        experiment_id=records.experiment_id,
        folder=experiment,
        data=memo.settings.data if memo else None,
        state="",
        method=memo.settings.method if memo else None,
        version=memo.version if memo else None,
        wanted=memo.settings.budget if memo else None,
        platform=memo.settings.platform if memo else None,
        trials=trials,
        seconds=records.seconds(),
        sent=_sent(experiment),
        learned="",
    )
    if not facts.finished:
        running = sum(not trial.ended for trial in trials)
        raise PluginError(
            f"experiment {records.experiment_id} has no finished trial to report ({len(trials)} trials began, {running} of them "
            "have not ended); wait for the first result, or see the trials' logs on NNI's page."
        )
    state, learned = _ending(experiment, facts, memo)
    return replace(facts, state=state, learned=learned)


def write_page(experiment: Path) -> Path:
    """Write the page alone into the experiment's folder, and say where it is.

    Raises:
        HyperFDError: As :func:`read_facts`, or the disk refuses.
    """
    out = experiment / FOLDER
    return _write(out, read_facts(experiment), None)


def write_report(experiment: Path, out: Path | None = None) -> tuple[ReportFacts, HandedOut | None, Path]:
    """Write the page and the best detector into ``out``, by default a folder of the experiment's.

    Returns:
        The facts, what was handed out (None: there is no detector), and the page.

    Raises:
        HyperFDError: As :func:`read_facts`; the best detector is damaged; the disk refuses.
    """
    facts = read_facts(experiment)
    out = (out or experiment / FOLDER).expanduser().resolve()
    _make(out)
    try:
        handed = hand_out(facts, out)
    except OSError as error:
        raise _cannot_write(out, error) from error
    return facts, handed, _write(out, facts, handed)


def _write(out: Path, facts: ReportFacts, handed: HandedOut | None) -> Path:
    _make(out)
    try:
        write_file(out / PAGE, report_page(facts, handed))
    except OSError as error:
        raise _cannot_write(out, error) from error
    return out / PAGE


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(out, error) from error


def _cannot_write(out: Path, error: OSError) -> DataError:
    return DataError(f"cannot write to {out} ({error.strerror or error}): name another folder with --out")


def _trial(records: Records, memo: Memo | None, number: int, job: TrialJob) -> TrialFacts:
    result = _result(job.value)
    parameters = configuration_of(job.parameters)
    ranking = list(memo.ranking) if memo else []
    reports = [reported.ap for value in job.curve if (reported := _result(value))]
    return TrialFacts(
        number=number,
        job_id=job.job_id,
        parameters={key: value for key, value in job.parameters.items() if key != TRIAL_CHECKPOINTS},
        place=ranking.index(parameters) + 1 if parameters in ranking else None,
        score=memo.score(parameters) if memo else None,
        ap=result.ap if result else None,
        test_ap=result.test_ap if result else None,
        seconds=result.seconds if result else None,
        reports=tuple(reports),
        ended=job.ended,
        training=TrialFolder.read(records.trial_folder(job.job_id)),
    )


def _result(value: Any) -> Result | None:
    try:
        return None if value is None else read_metric(value)
    except PluginError:
        return None


def _sent(experiment: Path) -> tuple[Sent, ...]:
    entries = ledger.read_ledger(experiment / ledger.FILE_NAME)
    count = Counter(entry.call for entry in entries)
    return tuple(
        Sent(call, messages, sum(entry.bytes for entry in entries if entry.call == call))
        for call, messages in count.items()
    )


def _so_far(results: int, memo: Memo) -> str:
    if memo.settings.method == "hyperfd-mf":
        return f"{results} result{'s' if results != 1 else ''}"
    return f"{results} of {memo.settings.budget} results"


def _ending(experiment: Path, facts: ReportFacts, memo: Memo | None) -> tuple[str, str]:
    """One sentence on whether it is over, and one on what the platform learned."""
    receipt = read_receipt(experiment)
    alive = Presence(experiment).process_id() is not None
    if memo is None:
        return "of another tuner", "Nothing: the experiment used another tuner."
    if receipt is not None:
        sentence = in_words(receipt)
        return "the experiment is over", f"{sentence[0].upper()}{sentence[1:]}."
    if alive and (
        any(not trial.ended for trial in facts.trials) or len(facts.finished) < memo.settings.budget
    ):
        return (
            f"still under way, reported so far: {_so_far(len(facts.finished), memo)}",
            "Nothing yet: that comes with the experiment's end.",
        )
    if Outbox(experiment / OUTBOX).waiting():
        return (
            "the experiment is over",
            f"Nothing yet: it was away, and the results wait on this disk for `hyperfd sync {facts.experiment_id}`.",
        )
    return (
        "the experiment has stopped",
        f"The experiment's folder does not say; `hyperfd finish {facts.experiment_id}` makes the update if it is owed, and says what came of it.",
    )
