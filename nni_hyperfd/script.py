"""What surrounds the work of a script that NNI starts, or a person: its parameters, reports, log, output folder and end."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nni_hyperfd.errors import DataError, HyperFDError
from nni_hyperfd.spaces.hyperparameters import FIRST_CHOICE


class Reporter:
    """Hands results to NNI inside an experiment, and prints them outside."""

    def __init__(self) -> None:
        self.inside = "NNI_TRIAL_JOB_ID" in os.environ and os.environ.get("NNI_PLATFORM") != "unittest"

    def parameters(self) -> dict[str, Any]:
        """The configuration NNI hands over; the first choice outside."""
        if not self.inside:
            return dict(FIRST_CHOICE.parameters())
        import nni

        return dict(nni.get_next_parameter())

    def output_folder(self) -> Path:
        """NNI's folder for this trial, or ``out`` outside."""
        return Path(os.environ["NNI_OUTPUT_DIR"]) if self.inside else Path("out")

    def intermediate(self, ap: float) -> None:
        if self.inside:
            import nni

            nni.report_intermediate_result(ap)

    def final(self, result: Mapping[str, Any]) -> None:
        numbers = {key: result[key] for key in ("test_ap", "heldout_ap", "seconds")}
        if self.inside:
            import nni

            nni.report_final_result({"default": result["val_ap"], **numbers})
        beside = {key: result[key] for key in ("base", "compared", "kept", "handed_out") if key in result}
        print(json.dumps({"val_ap": result["val_ap"], **numbers, **beside}))


def as_script(run: Callable[[], object]) -> int:
    """What surrounds the work of a trial's script: its log, NNI's stop, and one sentence in place of a traceback.

    Python ends in order when NNI stops a trial, so that logs are complete and no partial file is left behind.

    Returns:
        The exit status.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        run()
    except HyperFDError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def writing_into(out: Path) -> Iterator[None]:
    """The output folder, made where it is missing.

    Raises:
        DataError: The disk refuses.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise DataError(
            f"cannot write to the output folder {out} ({error.strerror or error}): free some disk space or name "
            "another one"
        ) from error
