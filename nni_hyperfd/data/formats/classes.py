"""Which classes of an annotation are faces, told by their names in the languages that annotators write.

In this order: what the customer says; classes that are called a face; heads, where no class is called a face; states of
masks and moods, which only a face has; a single class that says nothing, such as "object". Everything else is asked about:
persons must not become faces, nor faces background, without a word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from nni_hyperfd.data.formats.class_words import OPEN_IMAGES, kind_of, normal
from nni_hyperfd.data.report import ClassCount, Role, printable
from nni_hyperfd.errors import DataError

SAID = "as the settings say"

Verdict = tuple[Role, str]
"""A role and why."""

WHATEVER_ELSE: Mapping[str, Verdict] = {
    "unsure": (Role.IGNORED, "its name says so"),
    "no face": (Role.OTHER, "its name says that it is no face"),
}
"""Kinds of names that say their role whatever the other classes are called."""

BY_SIGN: Mapping[str, tuple[Mapping[str, Verdict], Verdict]] = {
    "face": (
        {
            "face": (Role.FACE, "its name says so"),
            "face mask": (Role.FACE, "its name says so"),
            "other face": (Role.IGNORED, "a face, but of a kind that another class is not"),
            "mask": (
                Role.IGNORED,
                "a masked face or a mask beside classes of faces; choose it by faces if it is one",
            ),
        },
        (Role.OTHER, "another class is called a face"),
    ),
    "other face": (
        {"other face": (Role.FACE, "its name says so")},
        (Role.OTHER, "another class is called a face"),
    ),
    "group": (
        {"face": (Role.FACE, "its group is called a face")},
        (Role.OTHER, "another group is called a face"),
    ),
    "mask": (
        dict.fromkeys(("mask", "mood", "face mask"), (Role.FACE, "with or without, a mask is on a face")),
        (Role.OTHER, "faces are those with and without a mask"),
    ),
    "head": (
        {"head": (Role.FACE, "a head, and no class is called a face")},
        (Role.OTHER, "heads stand for faces"),
    ),
    "mood": ({}, (Role.FACE, "only a face has it")),
    "nothing": ({}, (Role.FACE, "the only class, and its name says nothing")),
}
"""By what the faces of a set are told (`_sign`): what each kind of name is then, and what all others are.

Where groups tell, it is the kind of a group's name.
"""


def decide(
    counts: Mapping[str | None, int],
    groups: Mapping[str, str],
    where: str,
    faces: Iterable[str] | None = None,
    ignore: Iterable[str] | None = None,
) -> dict[str | None, ClassCount]:
    """The role of every class.

    Args:
        counts: Boxes of each class; None: boxes whose class has no name.
        groups: Class to the group that the annotation puts it in (COCO's supercategory).
        where: The folder, for messages.
        faces: Names (or numbers) that the customer has chosen as faces.
        ignore: Those that shall count neither way.

    Raises:
        DataError: A chosen name does not occur, or no name says which class is a face.
    """
    chosen = _chosen(counts, where, faces, ignore)
    if faces is not None:
        return {
            name: ClassCount(
                name,
                count,
                chosen.get(name, Role.OTHER),
                SAID if name in chosen else "not among the classes chosen",
            )
            for name, count in counts.items()
        }
    rest = {name: count for name, count in counts.items() if name not in chosen}
    ignored = {name: ClassCount(name, counts[name], Role.IGNORED, SAID) for name in chosen}
    return _told_by_names(rest, groups, where) | ignored


def _told_by_names(
    counts: Mapping[str | None, int], groups: Mapping[str, str], where: str
) -> dict[str | None, ClassCount]:
    kinds = {name: kind_of(name) for name in counts if name is not None}
    if not kinds:
        return {
            name: ClassCount(name, count, Role.FACE, "no class has a name") for name, count in counts.items()
        }
    sign = _sign(kinds, groups)
    if sign is None:
        raise DataError(_question(counts, where))
    verdicts, otherwise = BY_SIGN[sign]

    def verdict(name: str | None) -> Verdict:
        if name is None:
            return Role.IGNORED, "no name, while other classes have one"
        kind = kinds[name]
        if kind in WHATEVER_ELSE:
            return WHATEVER_ELSE[kind]
        if sign == "group":
            kind = kind_of(groups[name]) if name in groups else "something else"
        return verdicts.get(kind, otherwise)

    return {name: ClassCount(name, count, *verdict(name)) for name, count in counts.items()}


def _sign(kinds: Mapping[str, str], groups: Mapping[str, str]) -> str | None:
    """By what the faces of a set are told."""
    found = Counter(kinds.values())
    if found["face"]:
        return "face"
    if found["other face"]:
        return "other face"
    # A group that is also the name of the whole project says nothing of its members.
    said = {groups[name] for name in kinds if name in groups and kind_of(groups[name]) == "face"}
    if said and (
        {*groups.values()} - said
        or len(kinds) == 1
        or all(_may_be_faces(kinds[name]) for name in kinds if name in groups)
    ):
        return "group"
    found["mask"] += found.pop("face mask", 0)
    if found["mask"] > 1 or (
        found["mask"] and found["mask"] + found["mood"] + found["no face"] + found["unsure"] == len(kinds)
    ):
        return "mask"
    if found["head"]:
        return "head"
    if found["mask"]:
        return None
    meaningful = [kind for kind in kinds.values() if kind not in ("unsure", "no face")]
    if meaningful and all(kind == "mood" for kind in meaningful):
        return "mood"
    return "nothing" if meaningful == ["nothing"] else None


def _may_be_faces(kind: str) -> bool:
    return kind in ("mood", "nothing", "mask")


def _chosen(
    counts: Mapping[str | None, int], where: str, faces: Iterable[str] | None, ignore: Iterable[str] | None
) -> dict[str | None, Role]:
    by_normal: dict[str, list[str]] = {}
    for name in counts:
        if name is not None:
            by_normal.setdefault(normal(name), []).append(name)
            by_normal.setdefault(normal(OPEN_IMAGES.get(name, name)), [name])
    chosen: dict[str | None, Role] = {}
    for setting, wanted, role in (("faces", faces, Role.FACE), ("ignore", ignore, Role.IGNORED)):
        for one in wanted or ():
            found = by_normal.get(normal(str(one)))
            if found is None:
                raise DataError(
                    f"{setting} names {str(one)!r}, which is no class of {where}: its classes are {_listed(counts)}."
                )
            for name in found:
                if chosen.get(name, role) is not role:
                    raise DataError(
                        f"{str(one)!r} is among the faces and among the classes to ignore: take it out of one of them."
                    )
                chosen[name] = role
    return chosen


def _listed(counts: Mapping[str | None, int]) -> str:
    shown = sorted(
        ((name, count) for name, count in counts.items() if name is not None), key=lambda item: -item[1]
    )
    text = ", ".join(f"{printable(name)} ({count} boxes)" for name, count in shown[:12])
    return (text or "without names") + (", ..." if len(shown) > 12 else "")


def _question(counts: Mapping[str | None, int], where: str) -> str:
    return (
        f"no class of {where} is called a face: they are {_listed(counts)}; say which are faces by faces: [names] in classArgs or "
        "--faces NAME (and by ignore which count for nothing)."
    )
