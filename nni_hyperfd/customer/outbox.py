"""What a platform has yet to hear of an experiment, on the customer's disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.files import write_file
from nni_hyperfd.protocol.messages import BeginUpdate, OpenTask, TrialRecord, parse

FILE_NAME = "hyperfd.outbox.jsonl"

REFUSED_NAME = "hyperfd.refused.jsonl"
"""Where messages are kept that no platform will take."""

Waiting = OpenTask | TrialRecord | BeginUpdate
"""Messages that may wait; the others of an update belong to one conversation, which is begun anew instead."""

_KINDS: dict[str, type[OpenTask] | type[TrialRecord] | type[BeginUpdate]] = {
    kind.__name__: kind for kind in (OpenTask, TrialRecord, BeginUpdate)
}


class Outbox:
    """Messages of one experiment that wait for its platform, oldest first, in a file that is there while there are any.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Beside the file and not the file itself, which comes and goes.
        self.lock = FileLock(path.with_suffix(".lock"))
        """To be held by whoever delivers; NNI's threads and ``hyperfd sync`` may do so at the same time."""

    def add(self, message: Waiting) -> None:
        """Keep a message until it is delivered; one that is there already is not kept twice.

        Raises:
            PlatformError: The disk is full.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self.lock:
            waiting = self.waiting()
            if message not in waiting:
                self.replace([*waiting, message])

    def give_up(self) -> Path:
        """Set all messages aside for their owner, as nobody will take them; returns the file that holds them."""
        aside = self._path.with_name(REFUSED_NAME)
        with self.lock:
            refused = Outbox(aside)
            for message in self.waiting():
                refused.add(message)
            self.replace([])
        return aside

    def waiting(self) -> list[Waiting]:
        """All messages.

        Raises:
            PlatformError: The file is damaged.
        """
        try:
            lines = self._path.read_text().splitlines()
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise PlatformError(f"the outbox {self._path} cannot be read: {error}") from None
        try:
            entries = [json.loads(line) for line in lines]
            return [parse(_KINDS[entry["message"]], json.dumps(entry["content"])) for entry in entries]
        except (ValueError, KeyError, TypeError) as error:
            raise PlatformError(f"the outbox {self._path} is damaged ({error}); move it away") from None

    def replace(self, messages: Sequence[Waiting]) -> None:
        """Keep just these; a reader never sees half of them, and neither does whoever comes after a power cut.

        Raises:
            PlatformError: It cannot be written.
        """
        lines = [
            f'{{"message": "{type(message).__name__}", "content": {message.model_dump_json()}}}\n'
            for message in messages
        ]
        try:
            if not lines:
                self._path.unlink(missing_ok=True)
                return
            write_file(self._path, "".join(lines))
        except OSError as error:
            raise PlatformError(f"the outbox {self._path} cannot be written ({error.strerror})") from error
