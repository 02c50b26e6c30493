"""NNI's REST interface, as the tuner uses it."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from typing import Any

TIMEOUT = 10.0
LOOKS_WITHIN = 20.0
"""Seconds within which the manager surely looks at an experiment's duration; it does so every half second, or every five for trials
elsewhere."""


class Page:
    """The manager of the running experiment, found through the address on which it talks to the tuner.

    Args:
        channel: ``NNI_TUNER_COMMAND_CHANNEL``, such as ``ws://localhost:8080/tuner``.
    """

    def __init__(self, channel: str) -> None:
        self._address = re.sub(r"^ws(.*)/tuner$", r"http\1/api/v1/nni", channel)

    def finish(self, trials: int) -> None:
        """Let the experiment's status become DONE.

        A tuner that has nothing more to propose leaves NNI 3.0 in TUNER_NO_MORE_TRIAL for ever; DONE comes only with
        ``maxTrialNumber``, so this lowers it to the number of trials that were started.

        Raises:
            OSError: The manager cannot be reached or refuses.
        """
        profile = self._call("GET", "experiment")
        profile["params"]["maxTrialNumber"] = trials
        self._call("PUT", "experiment?update_type=MAX_TRIAL_NUM", profile)

    def show(self, sentence: str) -> None:
        """Make ``sentence`` the error that the experiment ends with on the page.

        The page shows the first of the manager's own errors, and NNI 3.0 calls every error of a tuner "Dispatcher stream error". The one
        of its errors whose text can be chosen is that of a duration that it cannot read, which it quotes, in small letters.
        So the sentence is for a moment the longest duration of the experiment, until the manager has come upon it.

        Raises:
            OSError: The manager cannot be reached or refuses.
        """
        if self._has_failed():
            return
        profile = self._call("GET", "experiment")
        params = profile["params"]
        duration = params.get("maxExperimentDuration")
        try:
            # A sentence that ended in d, h, m or s would be a number of days, hours, minutes or seconds.
            params["maxExperimentDuration"] = f"{sentence.rstrip('.')}."
            self._call("PUT", "experiment?update_type=MAX_EXEC_DURATION", profile)
            end = time.monotonic() + LOOKS_WITHIN
            while not self._has_failed() and time.monotonic() < end:
                time.sleep(0.1)
        finally:
            params["maxExperimentDuration"] = duration
            if duration is None:
                del params["maxExperimentDuration"]
            self._call("PUT", "experiment?update_type=MAX_EXEC_DURATION", profile)

    def _has_failed(self) -> bool:
        return bool(self._call("GET", "check-status")["status"] == "ERROR")

    def _call(self, method: str, path: str, content: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self._address}/{path}",
            data=None if content is None else json.dumps(content).encode(),
            headers={"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            text = answer.read()
        return json.loads(text) if text.strip() else None
