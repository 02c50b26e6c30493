"""Which class names are faces."""

from __future__ import annotations

import pytest

from nni_hyperfd.data.formats.classes import decide
from nni_hyperfd.data.report import Role
from nni_hyperfd.errors import DataError

F, I, O = Role.FACE, Role.IGNORED, Role.OTHER  # noqa: E741


@pytest.mark.parametrize(
    "roles",
    [
        {"face": F, "person": O},
        {"Face": F, "FACE ": F, "Human Face": F, "humanFace": F, "face_1": F},
        {"face": F, "head": O, "person": O},
        {"head": F, "person": O, "helmet": O},
        {"face": F, "non_face": O, "no_face": O, "noface": O, "NonFace": O, "not-a-face": O, "background": O},
        {"with_mask": F, "without_mask": F, "mask_weared_incorrect": F},
        {"mask": F, "no_mask": F},
        {"mask": F},
        {"face_with_mask": F, "face_no_mask": F, "no_face_mask": F},
        {"face": F, "mask": I, "no_mask": I},
        {"face": F, "face_mask": F},
        {"face": F, "ignore": I, "DontCare": I, "maybe_face": I},
        {"face": F, "surface": O, "interface": O, "face_shield": O, "Facebook": O},
        {"human face": F, "dog face": I},
        {"cat_face": F, "cat": O},
        {"Gesicht": F, "kein_Gesicht": O, "Person": O},
        {"visage": F, "sans_visage": O, "personne": O},
        {"cara": F, "sin_cara": O, "caracol": O},
        {"rosto": F, "sem rosto": O},
        {"人脸": F, "非人脸": O, "行人": O},
        {"戴口罩": F, "未戴口罩": F},
        {"人脸戴口罩": F, "人脸无口罩": F},
        {"лицо": F, "не лицо": O},
        {"cara": F, "no es cara": O, "ninguna cara": O},
        {"volto": F, "nessun volto": O, "faccia": F, "nessuna faccia": O},
        {"ansikte": F, "inte ansikte": O, "kasvot": F, "ei kasvot": O},
        {"πρόσωπο": F, "όχι πρόσωπο": O, "وجه": F, "ليس وجه": O},
        {"चेहरा": F, "चेहरा नहीं": O, "ใบหน้า": F, "ไม่ใช่ใบหน้า": O},
        {"head": F, "no head": O, "tête": F, "sans tête": O, "kein Kopf": O, "head no helmet": F},
        {"/m/0dzct": F, "/m/01g317": O},
        {"happy": F, "sad": F, "neutral": F},
        {"object": F},
        {"0": F},
    ],
)
def test_roles(roles: dict[str, Role]) -> None:
    decided = decide(dict.fromkeys(roles, 5), {}, "folder")
    assert {name: each.role for name, each in decided.items()} == roles
    assert all(each.why and each.boxes == 5 for each in decided.values())


@pytest.mark.parametrize(
    "names",
    [["person"], ["person", "car"], ["0", "1"], ["alice", "bob"], ["no_face"], ["mask", "helmet"], ["male", "female"], ["face_mask", "helmet"]],
)  # fmt: skip
def test_what_no_name_tells_is_asked(names: list[str]) -> None:
    with pytest.raises(
        DataError, match=r"no class of folder is called a face: .*\(7 boxes\).* --faces"
    ) as question:
        decide(dict.fromkeys(names, 7), {}, "folder")
    assert all(name in str(question.value) for name in names)


def test_boxes_without_a_class_are_faces_only_where_no_class_has_a_name() -> None:
    assert decide({None: 3}, {}, "folder")[None].role is F
    assert decide({None: 3, "face": 4}, {}, "folder")[None].role is I


def test_the_customer_decides() -> None:
    counts = {"face": 3, "Head ": 4, "person": 5, None: 1}
    chosen = {
        name: each.role for name, each in decide(counts, {}, "f", faces=["HEAD"], ignore=["person"]).items()
    }
    assert chosen == {"face": O, "Head ": F, "person": I, None: O}
    ignoring = {name: each.role for name, each in decide(counts, {}, "f", ignore=["person"]).items()}
    assert ignoring == {"face": F, "Head ": O, "person": I, None: I}
    with pytest.raises(
        DataError, match=r"faces names 'visage', which is no class of f: its classes are person \(5 boxes\)"
    ):
        decide(counts, {}, "f", faces=["visage"])
    with pytest.raises(DataError, match="take it out of one of them"):
        decide(counts, {}, "f", faces=["face"], ignore=["Face"])


def test_groups_tell_where_names_do_not() -> None:
    decided = decide({"smile": 2, "dog": 2}, {"smile": "face", "dog": "animal"}, "f")
    assert {name: each.role for name, each in decided.items()} == {"smile": F, "dog": O}
    with pytest.raises(DataError, match="is called a face"):
        decide({"person": 2, "car": 2}, {"person": "faces", "car": "faces"}, "f")
