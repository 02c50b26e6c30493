"""What a new platform starts from: ranker version 0 and the server's own experience, shipped with the package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.files import write_file
from nni_hyperfd.platform.state.records import FirstState
from nni_hyperfd.protocol.tensors import to_blob
from nni_hyperfd.ranker.offline import OfflineData
from nni_hyperfd.ranker.ranker import Ranker

if TYPE_CHECKING:
    from importlib.abc import Traversable  # importlib.resources has it from Python 3.11 on

RANKER, OFFLINE, ABOUT = "ranker0.safetensors", "offline.safetensors", "about.json"
IMPORTANCE = "importance"
"""Kind of the blob that holds Ω."""


def first_state(ranker: Ranker, offline: OfflineData, base_id: str) -> FirstState:
    """Version 0 from a warmed-up ranker, which leaves no Ω.

    Args:
        ranker: With an encoder for every space of ``offline.experience``.
        offline: D_offline and S_offline.
        base_id: Of the base detector with which their features were computed.

    Raises:
        PlatformError: The offline data has experience in a space that the ranker does not know.
    """
    _check(ranker, offline)
    return FirstState(ranker.to_bytes(), to_blob(IMPORTANCE, {}, {}), offline.to_bytes(), base_id)


def write_assets(folder: Path, state: FirstState, about: Mapping[str, Any]) -> None:
    """Write version 0 as the files that the package ships; ``about`` says how it was made."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / RANKER, state.ranker)
    write_file(folder / OFFLINE, state.offline)
    write_file(folder / ABOUT, json.dumps({**about, "base_id": state.base_id}, indent=1) + "\n")


def read_assets(folder: Path | Traversable | None = None) -> FirstState:
    """Inverse of :func:`write_assets`, by default of what the package ships.

    Raises:
        PlatformError: The files are missing or damaged.
    """
    place = files("nni_hyperfd") / "assets" / "platform" if folder is None else folder
    try:
        about = json.loads((place / ABOUT).read_text())
        ranker, offline = (place / RANKER).read_bytes(), (place / OFFLINE).read_bytes()
        _check(Ranker.from_bytes(ranker), OfflineData.from_bytes(offline))
        return FirstState(ranker, to_blob(IMPORTANCE, {}, {}), offline, str(about["base_id"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PlatformError(
            f"the first state in {place} is missing or damaged ({error}); install the package again"
        ) from None


def _check(ranker: Ranker, offline: OfflineData) -> None:
    unknown = offline.experience.keys() - ranker.shapes.keys()
    if unknown:
        raise PlatformError(
            f"the ranker has no encoder for the offline experience in {', '.join(sorted(unknown))}"
        )
