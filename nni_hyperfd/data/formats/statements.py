"""What fields of single images say, understood by all of them together: splits, and pictures that somebody has marked as unusable."""

from __future__ import annotations

from nni_hyperfd.data.formats.annotation import Annotations
from nni_hyperfd.data.report import Problem
from nni_hyperfd.data.stated_split import is_unusable, stated_split, valid_is_a_split


def settle(annotations: Annotations) -> None:
    """Give each entry the split that its fields state, before that of its file; leave out what is marked as unusable."""
    valid_splits = valid_is_a_split(fields for _, fields in annotations.stated)
    unknown: dict[str, set[str]] = {}
    unusable: dict[str, None] = {}
    for entry, fields in reversed(annotations.stated):  # of several rows, the first decides
        split, words = stated_split(fields, valid_splits)
        entry.split = split or entry.split
        if split is None and words:
            unknown.setdefault(entry.file, set()).update(words)
        if is_unusable(fields, valid_splits):
            unusable[entry.image] = None
    for image in sorted(unusable):
        annotations.findings.add(Problem.UNUSABLE, image)
        annotations.unread(image, Problem.UNUSABLE)
    for file, found in sorted(unknown.items()):
        annotations.findings.note(
            f"{file}: {', '.join(sorted(found)[:5])} in the column for splits are none of train, val and test, and split nothing"
        )
