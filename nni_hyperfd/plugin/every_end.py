"""NNI 3.0 keeps it from a tuner that a trial has ended which a resumed experiment began again: how a tuner hears of it."""

from __future__ import annotations

from typing import Any

import nni
from nni.runtime.msg_dispatcher import MsgDispatcher
from nni.tuner import Tuner


def hear_of_every_end(dispatcher: MsgDispatcher, tuner: Tuner) -> None:
    """Have ``tuner.trial_end`` told of every trial, with ``parameters`` where an earlier process of the tuner asked for it.

    At ``maxTrialNumber`` NNI tells the tuner nothing else any more, so that it would wait for ever.

    Args:
        dispatcher: NNI's; ``NNI's manager → dispatcher → tuner`` is the way of all that a tuner hears.
        tuner: Its tuner.
    """
    handle_trial_end = dispatcher.handle_trial_end

    def tell_all(data: dict[str, Any]) -> None:
        handle_trial_end(data)
        form = nni.load(data["hyper_params"])
        if dispatcher.is_created_in_previous_exp(form["parameter_id"]):
            success = data["event"] == "SUCCEEDED"
            tuner.trial_end(form["parameter_id"], success, parameters=form["parameters"])

    dispatcher.handle_trial_end = tell_all
