"""A customer's privacy noise on disk: the secret it is drawn by, and which questions were answered, so that ε can be stated."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections import Counter
from pathlib import Path
from typing import BinaryIO

from nni_hyperfd.errors import PluginError
from nni_hyperfd.metafeature.noise import QUESTION_DIGITS, Noise, NoiseSettings, accountant, epsilon

SECRET, ANSWERS = "secret", "answers"
SECRET_BYTES = 32


def default_folder() -> Path:
    """``XDG_STATE_HOME/hyperfd/privacy``, by default under ``~/.local/state``: no cache, so nothing empties it."""
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "hyperfd" / "privacy"


class KeptNoise:
    """Noise whose secret and list of answers outlive the process.

    Args:
        multiplier: σ of the Gaussian noise over the clipping norm.
        folder: For its owner alone, made on first use; :func:`default_folder` by default.

    Raises:
        DataError: The multiplier is out of range, or the accountant is not installed.
        PluginError: The folder cannot be used.
    """

    def __init__(self, multiplier: float, folder: Path | None = None) -> None:
        settings = NoiseSettings(multiplier)
        accountant()
        self._folder = folder or default_folder()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            secret = _secret(self._folder / SECRET)
        except OSError as error:
            raise self._unusable(error) from error
        self.noise = Noise(settings, secret, self._keep)
        self._asked: set[tuple[str, str]] = set()

    def __str__(self) -> str:
        """What this process, and what all that used this folder have told about the images that this one spoke of."""
        settings = self.noise.settings
        data = {data for data, _ in self._asked}
        ever = Counter(multiplier for multiplier, about, _ in self._answers() if about in data)
        here = {settings.multiplier: len(self._asked)}
        spent = [epsilon(answers, settings.delta) for answers in (here, ever)]
        return (
            f"privacy noise {settings.multiplier:g}: epsilon {spent[0]:.3g} at delta {settings.delta:g} for "
            f"{len(self._asked)} answers about the images; {spent[1]:.3g} with all that was said about them before"
        )

    def _keep(self, data: str, question: str) -> None:
        """Written down before it is said, so that a crash may count too much and never too little."""
        # The first line break keeps this line whole if a full disk has cut the last one short.
        line = f"\n{self.noise.settings.multiplier!r} {data} {question}\n".encode()
        try:
            with _private(self._folder / ANSWERS, os.O_APPEND) as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._unusable(error) from error
        self._asked.add((data, question))

    def _answers(self) -> set[tuple[float, str, str]]:
        """(multiplier, data, question) of all answers; what a line that was cut short would have told was not said."""
        found = set()
        for line in (self._folder / ANSWERS).read_text().splitlines() if self._asked else ():
            parts = line.split()
            if len(parts) == 3 and len(parts[2]) == QUESTION_DIGITS:
                found.add((float(parts[0]), parts[1], parts[2]))
        return found

    def _unusable(self, error: OSError) -> PluginError:
        return PluginError(
            f"the secret of the privacy noise cannot be kept in {self._folder} ({error.strerror or error}); nothing was sent. "
            "Make the folder writable, or set XDG_STATE_HOME."
        )


def _secret(path: Path) -> bytes:
    """The secret in a file, which is made on first use."""
    if not path.exists():
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
        with _private(partial, os.O_TRUNC) as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # Of two processes that begin together, both go on with the one that is linked first.
        with contextlib.suppress(FileExistsError):
            os.link(partial, path)
        partial.unlink()
    return path.read_bytes()


def _private(path: Path, how: int) -> BinaryIO:
    """A file for its owner alone, made where it is not there, to be written."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600), "wb")
