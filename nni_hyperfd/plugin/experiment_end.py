"""The experiment-end hook: every outcome to the platform, then its one update."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nni_hyperfd.customer.customer import Customer
from nni_hyperfd.customer.outbox import FILE_NAME as OUTBOX
from nni_hyperfd.customer.outbox import Outbox
from nni_hyperfd.customer.result import Regime, Result
from nni_hyperfd.customer.settings import Settings
from nni_hyperfd.customer.steady import SteadyPlatform
from nni_hyperfd.errors import PluginError
from nni_hyperfd.plugin.continued import Length, longest
from nni_hyperfd.plugin.curve import known_length, result_of
from nni_hyperfd.plugin.memo import Memo, Presence, write_receipt
from nni_hyperfd.plugin.opening import platform_of
from nni_hyperfd.plugin.records import Attempt, Records
from nni_hyperfd.protocol.messages import BeginUpdate, FindTask, Task, TrialRecord, UpdateReceipt, build

logger = logging.getLogger(__name__)


def end_experiment(
    customer: Customer,
    task: Task,
    outcomes: Iterable[tuple[Mapping[str, Any], Result | None, Regime]],
) -> UpdateReceipt:
    """Hand over ``outcomes`` (parameters, result or None for a failure, training) and let the platform learn from them.

    Outcomes that the platform has already are not counted twice, and an experiment updates it once: repeating this,
    from this process or another, returns the same receipt.
    """
    for parameters, result, training in outcomes:
        customer.record(task, parameters, result, training)
    return customer.update(task)


def in_words(receipt: UpdateReceipt) -> str:
    """One sentence for people."""
    learned = f"{receipt.usable_trials} result{'s' if receipt.usable_trials != 1 else ''}"
    failed = f" ({receipt.failed_trials} failed)" if receipt.failed_trials else ""
    if receipt.version_after is None:
        return f"no usable result{failed}, so the platform stays at version {receipt.version_before}"
    if not receipt.published:
        return (
            f"the platform keeps {learned}{failed} and made version {receipt.version_after} of them, but does not use it until its "
            "operator has looked at it"
        )
    return f"the platform learned from {learned}{failed} and went from version {receipt.version_before} to {receipt.version_after}"


def finish_experiment(folder: Path) -> tuple[UpdateReceipt, bool]:
    """Do from NNI's records what the tuner of an experiment could not; also says whether it had been done before.

    Args:
        folder: Of the experiment.

    Raises:
        HyperFDError: It is not an experiment of this package, its tuner is alive, or its data or platform are gone.
    """
    records, memo = Records(folder), Memo.read(folder)
    if memo is None:
        raise PluginError(
            f"experiment {records.experiment_id} has no recommendation of HyperFD, so there is nothing to finish: it used "
            "another tuner, or its tuner stopped too early."
        )
    settings = with_token(memo.settings, records)
    platform = platform_of(settings, folder)
    task = platform.ask(build(FindTask, experiment_id=records.experiment_id))
    if task is not None and task.status == "done":
        receipt = platform.ask(build(BeginUpdate, task_id=task.task_id))
        if isinstance(receipt, UpdateReceipt):
            write_receipt(folder, receipt)
            return receipt, True
    process = Presence(folder).process_id()
    # A tuner that found the platform away at the end lives as long as NNI's page, and does not try again before that is closed.
    if process is not None and not _owed(Outbox(folder / OUTBOX)):
        raise PluginError(
            f"the tuner of experiment {records.experiment_id} is alive (process {process}) and updates the platform by itself "
            f"after the last result; to end the experiment now, use `nnictl stop {records.experiment_id}`."
        )
    customer = Customer(settings, memo.search_space, platform)
    task = customer.open(records.experiment_id)
    training = records.training()
    outcomes = (
        [(each, result, training.shortened(epochs)) for each, result, epochs in longest(records)]
        if settings.method == "hyperfd-mf"
        else _longest_trainings(records)
    )
    receipt = end_experiment(customer, task, outcomes)
    write_receipt(folder, receipt)
    return receipt, False


def deliver(folder: Path) -> str:
    """Send what the platform of an experiment has not heard of while it was away, and make the update if it is owed.

    Returns:
        One sentence for people.

    Raises:
        HyperFDError: The platform is still away, refused something, or the experiment is not one of this package.
    """
    records, memo = Records(folder), Memo.read(folder)
    box = Outbox(folder / OUTBOX)
    waiting = box.waiting()
    if memo is None or not waiting:
        return "nothing waits"
    if _owed(box):
        receipt, _ = finish_experiment(folder)
        return in_words(receipt)
    platform = platform_of(with_token(memo.settings, records), folder)
    assert isinstance(platform, SteadyPlatform), "only platforms behind a network have an outbox"
    platform.deliver()
    results = sum(isinstance(message, TrialRecord) for message in waiting)
    return (
        f"delivered {results} result{'s' if results != 1 else ''}; the update comes with the experiment's end"
    )


def _owed(box: Outbox) -> bool:
    """The platform was to be updated, and was away."""
    return any(isinstance(message, BeginUpdate) for message in box.waiting())


def with_token(settings: Settings, records: Records) -> Settings:
    """Settings from the tuner's notes, which hold no token: it is in the environment or in NNI's own notes."""
    arguments = (records.config().get("tuner") or records.config().get("advisor") or {}).get(
        "classArgs"
    ) or {}
    return replace(settings, token=settings.token or arguments.get("token"))


def _longest_trainings(records: Records) -> list[tuple[Mapping[str, Any], Result | None, Regime]]:
    """Every configuration that brought a result or failed, once: with the result of its longest training."""
    training, length = records.training(), known_length(records)
    known: list[tuple[Mapping[str, Any], Result | None, Regime]] = []
    places: dict[str, int] = {}
    for outcome in sorted(records.outcomes(), key=lambda outcome: outcome.epochs or 0):
        result = _read(outcome, length)
        if result is None and not outcome.ended:
            continue
        entry = (outcome.configuration, result, training.shortened(outcome.epochs))
        place = places.setdefault(json.dumps(outcome.configuration, sort_keys=True), len(known))
        if place == len(known):
            known.append(entry)
        elif result is not None:
            known[place] = entry
    return known


def _read(outcome: Attempt, length: Length | None) -> Result | None:
    try:
        return result_of(outcome, length)
    except PluginError as error:
        logger.warning("A trial counts as failed: %s.", error)
        return None
