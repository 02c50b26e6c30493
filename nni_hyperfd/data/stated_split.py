"""What an annotation says of a whole picture in fields of its own: its split (``split: test``, ``train: 0``), and that it is unusable (``valid: false``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nni_hyperfd.data.flags import FALSE, TRUE
from nni_hyperfd.data.names import SPLIT_WORDS, split_word
from nni_hyperfd.data.tables import number, plain

__all__ = ["FIELDS", "FLAGS", "is_unusable", "speaking", "stated_split", "valid_is_a_split"]

FIELDS = (
    "split", "subset", "set", "partition", "usage", "mode", "fold", "dataset", "phase", "datasplit", "splitname", "splits",
    "imageset", "mluse", "mlsubset", "trainvaltest", "trainval", "traintest", "group", "part", "kfold", "foldid",
)  # fmt: skip
_QUIET = frozenset({"dataset", "group", "part", "mode"})  # speak of splits only where their words do
VALID = "valid"
"""A split in a row of train, valid, test; else the annotator's word that a picture can be used."""
INVALID = ("invalid", "isinvalid")
FLAGS = {
    prefix + word: split
    for word, split in SPLIT_WORDS.items()
    for prefix in ("", "is", "in", "for", "use", "isin")
    if prefix + word not in (VALID, *INVALID)
}


def speaking(fields: Any) -> dict[str, str]:
    """Those of an image's fields that may say something of it, by their names in one spelling; empty ones say nothing."""
    known = fields.items() if isinstance(fields, Mapping) else ()
    return {
        name: said
        for written, value in known
        if value is not None and (said := str(value).strip())
        if (name := plain(str(written))) in FLAGS or name in FIELDS or name in (VALID, *INVALID)
    }


def valid_is_a_split(images: Iterable[Mapping[str, str]]) -> bool:
    """Whether the flag ``valid`` of images means validation: it stands in a row with flags for train or test, and is never set with one.

    Args:
        images: What is `speaking` of each image.
    """
    beside: set[str] = set()
    for fields in images:
        flags = {name for name in fields if name in FLAGS}
        if _state(fields.get(VALID, "")) and any(_state(fields[name]) for name in flags):
            return False
        beside |= {FLAGS[name] for name in flags}
    return bool(beside & {"train", "test"}) and "val" not in beside


def is_unusable(fields: Mapping[str, str], valid_splits: bool) -> bool:
    """Whether somebody has marked an image as one that cannot be used; see `valid_is_a_split`."""
    denied = not valid_splits and _state(fields.get(VALID, "")) is False
    return denied or any(_state(fields.get(name, "")) for name in INVALID)


def stated_split(fields: Mapping[str, str], valid_splits: bool = False) -> tuple[str | None, tuple[str, ...]]:
    """The split that fields state, and their words that name none.

    A flag that is set names its split. One that is not set says only where the image is *not*: what is not for training
    is for testing, and what is not for validation or test is for training, unless another flag says more.

    Args:
        fields: What is `speaking` of an image.
        valid_splits: The flag ``valid`` is one of them (`valid_is_a_split`).
    """
    splits = {**FLAGS, VALID: "val"} if valid_splits else FLAGS
    named: list[str] = []
    unknown: list[str] = []
    for name in FIELDS:
        said = fields.get(name, "")
        if not said:
            continue
        split = SPLIT_WORDS.get(plain(said)) or split_word(said)
        if split is not None:
            named.append(split)
        elif name not in _QUIET:
            unknown.append(plain(said))
    flags = {
        splits[name]: state
        for name, value in fields.items()
        if name in splits and (state := _state(value)) is not None
    }
    named += [split for split, state in flags.items() if state]
    unknown += [
        f"{name} {value}"
        for name, value in fields.items()
        if (name in FLAGS or name == VALID) and _state(value) is None
    ]
    if not named and flags:
        left = [split for split in ("train", "val", "test") if split not in flags]
        # Not in training, with nothing else said: measured with, never trained on.
        named = ["test"] if "train" in flags and "test" in left else left[:1]
    if len({*named}) > 1:
        return None, (*unknown, " and ".join(sorted({*named})))
    return (named[0] if named else None), tuple(unknown)


def _state(value: str) -> bool | None:
    word = value.casefold()
    if word in TRUE or word in FALSE:
        return word in TRUE
    value_of = number(word)
    return bool(value_of) if value_of in (0, 1) else None
