"""JSON in which a name stands once: Python keeps the last of several values without a word, and nobody means that."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

__all__ = ["loads"]


def loads(text: str | bytes) -> Any:
    """The content of a JSON text.

    Raises:
        ValueError: It is no JSON, or an object gives one key two values.
    """
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        for key, value in pairs:
            if found[key] != value:
                raise ValueError(f"the key {key!r} stands twice with different values")
    return found
