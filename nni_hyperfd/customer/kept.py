"""The last ranker of a platform that this customer has seen, kept on disk for when the platform is away."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.files import write_file
from nni_hyperfd.protocol.messages import ExtractorState, RankerState
from nni_hyperfd.ranker.ranker import Ranker

ABOUT = "ranker.json"


class KeptRanker:
    """One ranker in a folder: its safetensors file, and JSON that says which one it is.

    Args:
        folder: Made with the first ranker.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def version(self) -> int | None:
        """Version of the ranker that is kept, if there is one."""
        about = self._about()
        return None if about is None else int(about["version"])

    def images(self) -> int:
        """Images in one sample of a data set, as the platform wants it."""
        return int((self._about() or {})["images"])

    def keep(self, state: RankerState, extractor: ExtractorState) -> None:
        """Replace what is kept; a reader finds either the old or the new ranker, whole.

        Raises:
            PlatformError: The ranker is damaged.
            OSError: The disk is full.
        """
        Ranker.from_bytes(state.tensors)
        name = f"ranker-{state.version}.safetensors"
        about = {
            "file": name,
            "version": state.version,
            "images": extractor.images,
            "sha256": sha256(state.tensors).hexdigest(),
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        write_file(self._folder / name, state.tensors)
        write_file(self._folder / ABOUT, json.dumps(about))
        for other in self._folder.glob("ranker-*.safetensors"):
            if other.name != name:
                other.unlink(missing_ok=True)

    def ranker(self) -> Ranker | None:
        """The ranker; None where none is kept or its file is damaged."""
        about = self._about()
        if about is None:
            return None
        try:
            content = (self._folder / str(about["file"])).read_bytes()
            return (
                Ranker.from_bytes(content).eval() if sha256(content).hexdigest() == about["sha256"] else None
            )
        except (OSError, PlatformError):
            return None

    def _about(self) -> dict[str, int | str] | None:
        try:
            about = json.loads((self._folder / ABOUT).read_text())
            return about if {"file", "version", "images", "sha256"} <= about.keys() else None
        except (OSError, ValueError, AttributeError):
            return None
