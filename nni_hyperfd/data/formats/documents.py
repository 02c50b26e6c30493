"""What formats with one JSON file an image share: finding these files, and reading them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from nni_hyperfd.data.formats.annotation import Annotations
from nni_hyperfd.data.formats.folder import DataFolder


def with_broken(folder: DataFolder, ours: Sequence[str]) -> list[str]:
    """``ours``, and the JSON files that lie beside them and are called like an image: what cannot be read of the same export."""
    places = {os.path.dirname(name) for name in ours}
    broken = [
        name
        for name in folder.with_suffix(".json")
        if os.path.dirname(name) in places and folder.fits(os.path.splitext(name)[0])
    ]
    return sorted({*ours, *broken})


def documents(
    folder: DataFolder, files: Sequence[str], shapes: str, annotations: Annotations
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each file, its name without the ending, and the object in it; one without a list of ``shapes`` is noted as malformed."""
    for file in files:
        stem = os.path.splitext(file)[0]
        try:
            document = folder.json(file)
        except ValueError:
            document = None
        if isinstance(document, dict) and isinstance(document.get(shapes), list):
            yield file, stem, document
        else:
            annotations.malformed_file(file, stem)
