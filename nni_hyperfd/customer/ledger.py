"""A customer's own list of what has left the machine, one line a message, written before the message goes.

Where the line cannot be written, the message does not leave either.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.protocol.calls import CALLS
from nni_hyperfd.protocol.messages import Question

FILE_NAME = "hyperfd.ledger.jsonl"
LONG = 8
"""Lists of numbers longer than this are counted and not spelled out."""


@dataclass(frozen=True)
class LedgerEntry:
    """One message.

    Args:
        time: When it left, UTC, ISO 8601.
        call: Its name in ``CALLS``, such as ``record``.
        bytes: Length of the request's body.
        sha256: Of the body, hexadecimal.
        fields: What it says, with long lists and tensors replaced by their sizes.
    """

    time: str
    call: str
    bytes: int
    sha256: str
    fields: dict[str, Any]


class Ledger:
    """The list of one experiment, in a file.

    Args:
        path: Of the file, made with the first entry.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, question: Question[Any], body: bytes) -> None:
        """Write down a message that is about to leave; ``body`` is empty where its address says all.

        Raises:
            PlatformError: It cannot be written down, so the message must stay.
        """
        entry = entry_of(question, body)
        # One write, so that processes that share a ledger do not mix their lines; a line that a full disk cut short is
        # ended by the next one's line feed.
        line = f"\n{json.dumps(asdict(entry))}\n".encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "ab", buffering=0) as file:
                written = file.write(line)
        except OSError as error:
            raise PlatformError(
                f"nothing was sent, because the ledger {self._path} cannot be written ({error.strerror})"
            ) from error
        if written != len(line):
            raise PlatformError(f"nothing was sent, because the disk of the ledger {self._path} is full")

    def entries(self) -> list[LedgerEntry]:
        """All messages, oldest first."""
        return read_ledger(self._path)


def entry_of(question: Question[Any], body: bytes) -> LedgerEntry:
    """The entry of a message that leaves now."""
    moment = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    name = CALLS[type(question)].name
    return LedgerEntry(moment, name, len(body), sha256(body).hexdigest(), _summary(question))


def read_ledger(path: Path) -> list[LedgerEntry]:
    """Entries of a ledger, oldest first; none where there is no file.

    Raises:
        PlatformError: It cannot be read.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise PlatformError(f"the ledger {path} cannot be read: {error}") from None
    entries = []
    for line in text.splitlines():
        try:
            entries.append(LedgerEntry(**json.loads(line)))
        except (ValueError, TypeError):
            continue  # a line feed alone, or what a full disk left of a message that then did not leave
    return entries


def _summary(message: BaseModel) -> dict[str, Any]:
    """What a message says, short enough for a line."""
    return {name: _short(getattr(message, name)) for name in type(message).model_fields}


def _short(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _summary(value)
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, tuple | list) and any(isinstance(each, BaseModel) for each in value):
        return [_short(each) for each in value]
    if isinstance(value, tuple | list) and len(value) > LONG:
        return f"{len(value)} numbers"
    if isinstance(value, dict):
        nested = any(isinstance(entry, dict) for entry in value.values())
        return f"search space of {len(value)} keys" if nested else value
    return value
