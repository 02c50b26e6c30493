"""The learning curve of a training that one trial brought to its end, for methods that do not go on with trainings."""

from __future__ import annotations

from dataclasses import replace

from nni_hyperfd.customer.result import Result, read_metric
from nni_hyperfd.errors import PluginError
from nni_hyperfd.plugin.continued import Length
from nni_hyperfd.plugin.records import Attempt, Records


def known_length(records: Records) -> Length | None:
    """Of the trials' full trainings; None where nobody knows it beforehand, so that there is no saying at which share a validation was."""
    try:
        return Length.of(records)
    except PluginError:
        return None


def beginning_of(outcome: Attempt, length: Length) -> tuple[float, ...]:
    """AP@50 on val after each validation so far of a trial of full length that has no result; empty where they cannot be told."""
    if outcome.value is not None or outcome.epochs is not None or len(outcome.curve) > length.validations:
        return ()
    try:
        return tuple(read_metric(value).ap for value in outcome.curve)
    except PluginError:
        return ()


def result_of(outcome: Attempt, length: Length | None) -> Result | None:
    """What a trial brought, None where it has no final metric; with its curve where it is of full length and made each validation once.

    Raises:
        PluginError: The metric is no AP.
    """
    if outcome.value is None:
        return None
    result = read_metric(outcome.value)
    if length is None or outcome.epochs is not None or len(outcome.curve) != length.validations:
        return result
    try:
        aps = [read_metric(value).ap for value in outcome.curve]
    except PluginError:
        return result  # a curve is more than was asked for
    shares = [(number + 1) / length.validations for number in range(length.validations)]
    return replace(result, curve=tuple(zip(shares, aps)))
