"""NNI's REST interface, as the tuner uses it."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from typing import Any

TIMEOUT = 10.0


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
            OSError: the manager cannot be reached or refuses.
        """
        profile = self._call("GET", "experiment")
        profile["params"]["maxTrialNumber"] = trials
        self._call("PUT", "experiment?update_type=MAX_TRIAL_NUM", profile)

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
