"""Scalars for TensorBoard, written where they arise.

torch's writer works in a thread of its own, so that a full disk ends in a stack trace from there. A few values for each
validation need no thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


class ScalarLog:
    """An event file in ``folder``, which is made; raises OSError where the disk refuses."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(folder / f"events.out.tfevents.{int(time.time())}.{os.getpid()}", "wb")  # noqa: SIM115
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        """Writes named values of one step; they can be looked at at once."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
        self._file.flush()

    def __enter__(self) -> ScalarLog:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def show_on_page(folder: Path) -> None:
    """Makes the TensorBoard button of NNI's page find what a trial on this machine writes into ``folder``.

    NNI 3.0 hands a trial ``EXPERIMENT/environments/local-env/trials/ID``, but its button looks into
    ``EXPERIMENT/trials/ID/output/tensorboard`` (microsoft/nni issue 5609). A link joins the two. Elsewhere nothing happens,
    and a trial does not fail for want of a link.
    """
    trial = folder.absolute().parent
    if len(trial.parents) > 3 and (trial.parent.name, trial.parents[2].name) == ("trials", "environments"):
        link = trial.parents[3] / "trials" / trial.name / "output" / "tensorboard"
        with suppress(OSError):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(folder.absolute(), target_is_directory=True)
