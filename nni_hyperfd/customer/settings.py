"""The settings of an experiment: NNI's ``classArgs``, checked before anything expensive begins."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from nni_hyperfd.data.reading import EXIF, FORMATS, Reading
from nni_hyperfd.errors import PluginError
from nni_hyperfd.location import at_home, platform_location

logger = logging.getLogger(__name__)

DEFAULT_PLATFORM = "~/.local/share/hyperfd"
METHODS = ("hyperfd", "hyperfd-gp", "hyperfd-mf")
SPACES = ("hpo", "nas", "joint", "flat")


def default_platform() -> str:
    """Where the platform is unless named: ``HYPERFD_PLATFORM`` or ``~/.local/share/hyperfd``."""
    return os.environ.get("HYPERFD_PLATFORM") or DEFAULT_PLATFORM


def default_token() -> str | None:
    """What a platform on a server knows this customer by: ``HYPERFD_TOKEN``."""
    return os.environ.get("HYPERFD_TOKEN") or None


@dataclass(frozen=True)
class Settings:
    """What ``classArgs`` may say; every key but ``data`` has a default.

    Args:
        data: Folder of annotated images. A relative path starts at NNI's ``trialCodeDirectory``, where the trial
            command starts too, so that both may name the folder in the same way; so does ``$NAME``.
        platform: Folder of the platform's state, made on first use, the URL of a database, or of a server
            (``https://host:port``); by default ``HYPERFD_PLATFORM`` or ``~/.local/share/hyperfd``.
        token: For a platform on a server; by default ``HYPERFD_TOKEN``, which is the better place: NNI shows ``classArgs``
            on its page and writes them into its logs.
        budget: B, results after which the experiment ends; with hyperfd-mf the price of all trials, in full trainings.
        method: ``hyperfd``, the paper's ranking; hyperfd-gp, which plans the rest of the trials anew after each result; or hyperfd-mf,
            which goes on with those trainings whose beginnings promise most.
        checkpoints: Of hyperfd-mf, folder in which trials find where others stopped, by default in the experiment's own folder. Trials on
            other machines need one that all of them reach by this name; where they do not, they train anew, and pay for it.
        exploration: Share of the budget drawn from the second-best part of the ranking, 0 to 1; of the method hyperfd.
        candidates: Configurations sampled and ranked where a space is too large to rank all of it.
        seed: Of everything that recommendation and update draw at random.
        format: Annotation format, recognized from the folder when absent.
        faces: Names of the classes that are faces, told by their names when absent. The trial command takes the same names by
            ``--faces``, as it reads the folder by itself; so with the next two.
        ignore: Names of the classes whose boxes count neither for nor against a detector.
        exif: Upright or stored, how pictures that EXIF turns were annotated, where nothing tells.
        space: Kind that the search space must have, as a check: hpo, nas, joint or flat.
        cache_dir: Where image-level features are kept between experiments; by default ``HYPERFD_CACHE`` or
            ``~/.cache/hyperfd``. It never leaves this machine.
        privacy_noise: Noise multiplier of the Gaussian mechanism on φ and on gradients; 0 sends both as they are. The log says
            which (ε, δ) it amounts to. Needs the extra ``privacy`` of this package.
        max_madds: Networks that are tried have fewer multiply-adds than this, in millions, of the backbone at 640×360.
        max_ms: Networks that are tried are quicker than this, in milliseconds for one image of 640×360 on this machine's CUDA device or
            else on one core of its CPU, as the sum of what their parts were measured to take.
        trial_reads: Keys of the search space that a trial of the user's own reads; any other key of the space is refused. The
            shipped trial needs no such list.
    """

    data: Path
    platform: str = field(default_factory=default_platform)
    budget: int = 4
    method: str = "hyperfd"
    exploration: float = 0.5
    candidates: int = 200
    seed: int = 0
    format: str | None = None
    faces: tuple[str, ...] | None = None
    ignore: tuple[str, ...] | None = None
    exif: str | None = None
    space: str | None = None
    cache_dir: Path | None = None
    checkpoints: Path | None = None
    privacy_noise: float = 0.0
    max_madds: float | None = None
    max_ms: float | None = None
    trial_reads: tuple[str, ...] | None = None
    token: str | None = field(default_factory=default_token, repr=False)

    @classmethod
    def from_class_args(cls, arguments: Mapping[str, Any], also: tuple[str, ...] = ()) -> Settings:
        """Check ``classArgs``; ``also`` are keys that the caller has taken out of them, to be named where allowed keys are.

        Raises:
            PluginError: An unknown key (with the nearest known one), a missing ``data``, a value out of range.
        """
        _refuse_unknown_keys(arguments, also)
        data = _text(arguments, "data")
        if data is None:
            raise PluginError(
                "classArgs: data is missing; write data: <folder of your annotated images> in the experiment's config."
            )
        values: dict[str, Any] = {
            "data": Path(data),
            "platform": _platform(arguments),
            "budget": whole_number(arguments, "budget", 1, 1000),
            "method": _one_of(arguments, "method", METHODS),
            "exploration": real_number(arguments, "exploration", 1),
            "candidates": whole_number(arguments, "candidates", 1, 100_000),
            "seed": whole_number(arguments, "seed", 0, 2**63 - 1),
            "format": _one_of(arguments, "format", FORMATS),
            "faces": _names(arguments, "faces"),
            "ignore": _names(arguments, "ignore"),
            "exif": _one_of(arguments, "exif", EXIF),
            "space": _one_of(arguments, "space", SPACES),
            "cache_dir": _path(arguments, "cache_dir"),
            "checkpoints": _path(arguments, "checkpoints"),
            "privacy_noise": real_number(arguments, "privacy_noise", 1000),
            "max_madds": real_number(arguments, "max_madds", 1e6),
            "max_ms": real_number(arguments, "max_ms", 1e6),
            "trial_reads": _names(arguments, "trial_reads"),
            "token": _token(arguments),
        }
        return cls(**{key: value for key, value in values.items() if value is not None})

    def resolved(self, base: Path) -> Settings:
        """The same settings with absolute paths, relative ones taken from the folder ``base``; ``$NAME`` is replaced.

        Raises:
            PluginError: An environment variable in a path is not set, or it names the home folder of an unknown account.
        """
        return replace(
            self,
            data=_absolute(self.data, base),
            platform=_absolute_platform(self.platform, base),
            cache_dir=None if self.cache_dir is None else _absolute(self.cache_dir, base),
            checkpoints=None if self.checkpoints is None else _absolute(self.checkpoints, base),
        )

    def as_class_args(self) -> dict[str, Any]:
        """Plain values from which :meth:`from_class_args` makes equal settings, but for the token, which is not to be kept."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "token"}
        plain = {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}

    def reading(self) -> Reading:
        """How the data folder is read."""
        return Reading.of(self)


def _absolute_platform(platform: str, base: Path) -> str:
    location = platform if "://" in platform else platform_location(_expanded(platform), base)
    return location if "://" in location else str(_absolute(Path(location), base))


def _absolute(path: Path, base: Path) -> Path:
    as_written = base / path
    if "$" in str(path) and as_written.exists():  # a name may hold a dollar
        return as_written.resolve()
    return (base / at_home(Path(_expanded(str(path))))).resolve()


def _expanded(path: str) -> str:
    expanded = os.path.expandvars(path)
    if "$" in expanded:
        raise PluginError(
            f"classArgs name the path {path!r}, and that environment variable is not set; set it before `nnictl create`, or write "
            "the path itself."
        )
    return expanded


def _refuse_unknown_keys(arguments: Mapping[str, Any], also: tuple[str, ...]) -> None:
    known = [*(field.name for field in fields(Settings)), *also]
    for key in arguments:
        if key in known:
            continue
        near = difflib.get_close_matches(str(key), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise PluginError(f"classArgs: unknown key {key!r}; {hint}Allowed keys are {', '.join(known)}.")


def _text(arguments: Mapping[str, Any], key: str) -> str | None:
    value = arguments.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise PluginError(f"classArgs: {key} must be a path, not {value!r}.")
    return value


def _platform(arguments: Mapping[str, Any]) -> str | None:
    value = _text(arguments, "platform")
    return None if value is None else platform_location(value)


def _token(arguments: Mapping[str, Any]) -> str | None:
    value = arguments.get("token")
    if value is not None and not (isinstance(value, str) and value.strip()):
        # Without the value: this sentence is shown on NNI's page.
        raise PluginError("classArgs: token must be the text that the platform's operator gave you.")
    if value is not None:
        logger.warning(
            "classArgs hold the platform's token, which NNI shows on its page and writes into its logs; set HYPERFD_TOKEN instead."
        )
    return value


def _names(arguments: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    value = arguments.get(key)
    if value is None:
        return None
    # Numbers are names where a format numbers its classes; bool is an int to Python, and YAML's "no" a bool.
    named = isinstance(value, list) and all(
        isinstance(each, str | int) and not isinstance(each, bool) for each in value
    )
    if not named or not value:
        raise PluginError(f"classArgs: {key} must be a list of names, such as [face], not {value!r}.")
    return tuple(str(each) for each in value)


def _path(arguments: Mapping[str, Any], key: str) -> Path | None:
    value = _text(arguments, key)
    return None if value is None else Path(value)


def whole_number(arguments: Mapping[str, Any], key: str, low: int, high: int) -> int | None:
    """The value of ``key``, None where it is absent.

    Raises:
        PluginError: It is no whole number from ``low`` to ``high``.
    """
    value = arguments.get(key)
    if value is None:
        return None
    # bool is an int to Python, but "budget: yes" is a slip.
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise PluginError(f"classArgs: {key} must be a whole number from {low} to {high}, not {value!r}.")
    return value


def real_number(arguments: Mapping[str, Any], key: str, high: float) -> float | None:
    """The value of ``key``, None where it is absent.

    Raises:
        PluginError: It is no number from 0 to ``high``.
    """
    value = arguments.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
        raise PluginError(f"classArgs: {key} must be a number from 0 to {high:g}, not {value!r}.")
    return float(value)


def _one_of(arguments: Mapping[str, Any], key: str, choices: tuple[str, ...]) -> str | None:
    value = arguments.get(key)
    if value is None:
        return None
    if value not in choices:
        raise PluginError(f"classArgs: {key} must be one of {', '.join(choices)}, not {value!r}.")
    return str(value)
