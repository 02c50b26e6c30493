"""The split that an annotation states in a field of its own: ``split: test``, ``is_valid: True``, ``train: 0``."""

from __future__ import annotations

from collections.abc import Mapping

from nni_hyperfd.data.flags import FALSE, TRUE
from nni_hyperfd.data.names import SPLIT_WORDS, split_word
from nni_hyperfd.data.tables import number, plain

FIELDS = (
    "split", "subset", "set", "partition", "usage", "mode", "fold", "dataset", "phase", "datasplit", "splitname", "splits",
    "imageset", "mluse", "mlsubset", "trainvaltest", "trainval", "traintest", "group", "part", "kfold", "foldid",
)  # fmt: skip
_QUIET = frozenset({"dataset", "group", "part", "mode"})  # speak of splits only where their words do
FLAGS = {
    prefix + word: split
    for word, split in SPLIT_WORDS.items()
    for prefix in ("", "is", "in", "for", "use", "isin")
}


def stated_split(fields: Mapping[str, object]) -> tuple[str | None, tuple[str, ...]]:
    """The split that fields state, and their words that name none.

    A flag that is set names its split. One that is not set says only where the image is *not*: what is not for training
    is for testing, and what is not for validation or test is for training, unless another flag says more.

    Args:
        fields: Names and values, in the words of the tool; others than those of splits are passed over.
    """
    known = {plain(str(name)): str(value).strip() for name, value in fields.items()}
    named: list[str] = []
    unknown: list[str] = []
    for name in FIELDS:
        said = known.get(name, "")
        if not said:
            continue
        split = SPLIT_WORDS.get(plain(said)) or split_word(said)
        if split is not None:
            named.append(split)
        elif name not in _QUIET:
            unknown.append(plain(said))
    flags = {
        FLAGS[name]: state
        for name, value in known.items()
        if name in FLAGS and (state := _state(value)) is not None
    }
    named += [split for split, state in flags.items() if state]
    unknown += [
        f"{name} {value}"
        for name, value in known.items()
        if name in FLAGS and value and _state(value) is None
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
