"""What the tuner leaves in NNI's folder of the experiment, so that another process can finish or resume it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from nni_hyperfd.customer.settings import Settings
from nni_hyperfd.errors import PlatformError, PluginError
from nni_hyperfd.files import write_file

if TYPE_CHECKING:
    from nni_hyperfd.protocol.messages import UpdateReceipt

FILE_NAME = "hyperfd.json"
RECEIPT = "hyperfd.update.json"
FORMAT = 1


@dataclass(frozen=True)
class Memo:
    """Notes of one experiment.

    Args:
        settings: Checked and with absolute paths.
        search_space: As NNI gave it.
        ranking: Parameters of the configurations to try, in this order; the first ones are the recommended ones.
        provisional: Why the ranking is not the platform's own, where it was made while that was away.
        scores: What the platform foretold for each of the ranking when it was planned; None where it is not known any more.
        version: Of the platform that made the first plan; None where an older version of this package made it.
    """

    settings: Settings
    search_space: Mapping[str, Any]
    ranking: tuple[Mapping[str, Any], ...]
    provisional: str | None = None
    scores: tuple[float | None, ...] = ()
    version: int | None = None

    @classmethod
    def read(cls, experiment: Path) -> Memo | None:
        """Notes in the folder of an experiment; None where there are none.

        Raises:
            PluginError: They are damaged or were written by another version.
        """
        path = experiment / FILE_NAME
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise PluginError(f"the tuner's notes {path} cannot be read: {error}.") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise PluginError(f"the tuner's notes {path} were written by another version of nni_hyperfd.")
        return cls(
            settings=Settings.from_class_args(content["settings"]),
            search_space=content["search_space"],
            ranking=tuple(content["ranking"]),
            provisional=content.get("provisional"),
            scores=tuple(content.get("scores", ())),
            version=content.get("version"),
        )

    def score(self, parameters: Mapping[str, Any]) -> float | None:
        """What was foretold for a configuration, where that is known."""
        known = (score for each, score in zip(self.ranking, self.scores) if each == parameters)
        return next(known, None)

    def write(self, experiment: Path) -> None:
        """Put the notes into the folder of an experiment; a reader never sees half of them.

        Raises:
            PluginError: They cannot be written.
        """
        content = {
            "format": FORMAT,
            "settings": self.settings.as_class_args(),
            "search_space": self.search_space,
            "ranking": self.ranking,
            "provisional": self.provisional,
            "scores": self.scores,
            "version": self.version,
        }
        _write(experiment / FILE_NAME, content)


def write_receipt(experiment: Path, receipt: UpdateReceipt) -> None:
    """Keep what the platform answered to the experiment's one update, for whoever asks later.

    Raises:
        PluginError: It cannot be written.
    """
    _write(experiment / RECEIPT, receipt.model_dump(mode="json"))


def read_receipt(experiment: Path) -> UpdateReceipt | None:
    """What :func:`write_receipt` kept; None where there is nothing that can be read."""
    # Imported late: a tuner is made within NNI's ten seconds, and reads none.
    from nni_hyperfd.protocol.messages import UpdateReceipt, parse

    try:
        return parse(UpdateReceipt, (experiment / RECEIPT).read_bytes())
    except (OSError, PlatformError):
        return None


class Presence:
    """Whether the tuner of an experiment is alive, so that nobody finishes the experiment behind its back."""

    def __init__(self, experiment: Path) -> None:
        self._path = experiment / "hyperfd.pid"

    def announce(self) -> None:
        """Say that this process is the tuner.

        Raises:
            PluginError: The file cannot be written.
        """
        _write(self._path, {"pid": os.getpid(), "started": psutil.Process().create_time()})

    def process_id(self) -> int | None:
        """Process id of the living tuner, if there is one."""
        try:
            content = json.loads(self._path.read_text())
            process = psutil.Process(int(content["pid"]))
            # Process ids are used again; the moment of the start is not.
            same = abs(process.create_time() - float(content["started"])) < 1.0
            return process.pid if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            return None


def _write(path: Path, content: Mapping[str, Any]) -> None:
    try:
        write_file(path, json.dumps(content, indent=1))
    except OSError as error:
        raise PluginError(
            f"the tuner's notes {path} cannot be written ({error.strerror or error}): see to the disk that they are on"
        ) from error
