"""What the name of a class says: whether it means faces, heads, something that is none, or nothing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FACE_WORDS = _words(
    "face faces human_face humanface facial gesicht gesichter visage visages cara caras rostro rostros rosto rostos viso visi "
    "volto volti faccia facce gezicht gezichten ansikte ansikten ansikt ansigt ansigter kasvot kasvo twarz twarze obličej tvář "
    "lice arc față fata yüz yuz wajah muka mặt лицо лица обличчя лице πρόσωπο وجه פנים चेहरा ใบหน้า"
)
FACE_SYLLABLES = ("人脸", "人臉", "脸", "臉", "面部", "面孔", "顔", "얼굴", "ใบหน้า", "चेहरा")
HEAD_WORDS = _words(
    "head heads human_head kopf köpfe kopfe tête tete têtes cabeza cabezas cabeça cabeca testa teste hoofd huvud hode hoved głowa "
    "голова kepala"
)
HEAD_SYLLABLES = ("人头", "人頭", "头部", "頭部", "머리")
NO_WORDS = _words(
    "no non not none without wo w/o un ohne kein keine keinen nicht pas sans aucun aucune sin ninguna ninguno sem não nao nenhum "
    "nenhuma senza nessun nessuna nessuno zonder geen niet uten ikke utan ingen inget inte uden ei bez brak nie ne není nincs nem fără "
    "absent missing negative neg anti не без нет немає hayır değil yok tanpa bukan không δεν όχι χωρίς ليس لا بدون לא ללא בלי नहीं बिना ไม่มี ไม่ใช่"
)
NO_SYLLABLES = ("非", "无", "無", "不是", "没有", "沒有", "なし", "ではない", "없음", "아님", "ไม่ใช่", "ไม่มี")
UNSURE_WORDS = _words(
    "ignore ignored ignoring dontcare unsure uncertain maybe doubtful unklar ignorieren ignorer ignorar"
)
FILLERS = _words(
    "a an the de la le el der die das ein eine einen un une una um uma is es ist est è é jest any visible real human clear"
)
MASK_WORDS = _words(
    "mask masks masked unmasked nomask facemask maske masken masque masques mascarilla tapabocas cubrebocas máscara mascara "
    "mascherina mondkapje munskydd maseczka маска masker"
)
MASK_SYLLABLES = ("口罩", "マスク", "마스크")
MOOD_WORDS = _words(
    "happy happiness sad sadness angry anger neutral surprise surprised surprise fear fearful disgust disgusted contempt smile smiling "
    "laughing crying spoof real fake live"
)
OBJECTS_AFTER_FACE = _words("shield shields guard guards recognition id book paint cream cloth towel")
OTHER_FACES = _words("animal dog cat pet monkey horse statue doll toy mannequin dummy clock watch")
PARTS_OF_FACES = _words(
    "part parts eye eyes nose noses mouth lip lips ear ears brow eyebrow eyebrows chin cheek cheeks hair forehead jaw landmark "
    "landmarks keypoint keypoints point points auge augen nase mund ohr ojo ojos nariz boca oreja oeil yeux nez bouche oreille"
)
STATES_OF_PARTS = _words("open closed shut with without visible covered mit ohne avec sans con sin")
NOT_THE_WORD = re.compile(
    r"sur|inter|type|pre|bore|out|pro"
)  # surface, interface, typeface, preface: no faces
NOTHING_SAID = _words(
    "object objects obj item target roi region box bbox bndbox rect rectangle label labels default class class0 annotation instance "
    "foreground positive detection objekt objet objeto"
)
OPEN_IMAGES = {
    "/m/0dzct": "Human face", "/m/04hgtk": "Human head", "/m/01g317": "Person", "/m/04yx4": "Man", "/m/03bt1vf": "Woman",
    "/m/05r655": "Girl", "/m/01bl7v": "Boy", "/m/02p0tk3": "Human body", "/m/014sv8": "Human eye", "/m/0k0pj": "Human nose",
    "/m/0283dt1": "Human mouth", "/m/039xj_": "Human ear",
}  # fmt: skip
FACE_WITNESSES = tuple(
    word
    for word in (*FACE_SYLLABLES, *NO_SYLLABLES, *MASK_SYLLABLES, *sorted(FACE_WORDS | HEAD_WORDS))
    if not word.isascii()
)


def normal(name: str) -> str:
    """A class name without case, outer blanks and differences that only Unicode sees."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def words_of(name: str) -> list[str]:
    """Words of a class name: "humanFace_2", "human-face" and "Human Face" say the same."""
    apart = re.sub(
        r"(?<=[a-zß-ÿ])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", unicodedata.normalize("NFKC", name)
    )
    # Vowel signs of Hindi and Thai are marks, which Python does not count among the letters of a word.
    letters = (
        letter if letter.isalpha() or unicodedata.category(letter)[0] == "M" else " "
        for letter in apart.casefold()
    )
    return "".join(letters).split()


def _is_face_word(word: str) -> bool:
    if word in FACE_WORDS or any(syllable in word for syllable in FACE_SYLLABLES):
        return True
    # Compounds: catface, faceimage, Babygesicht; not surface, facade or facet.
    for end in ("face", "faces", "gesicht", "gesichter"):
        if word.endswith(end) and not NOT_THE_WORD.fullmatch(word[: -len(end)]):
            return True
    return word.startswith("face") and word[4:] in MASK_WORDS | {
        "image",
        "box",
        "bbox",
        "region",
        "area",
        "front",
        "side",
        "s",
    }


def _is_mask_word(word: str) -> bool:
    return word in MASK_WORDS or any(part in word for part in (*MASK_SYLLABLES, "mask", "masque"))


def _is_head_word(word: str) -> bool:
    return word in HEAD_WORDS or any(syllable in word for syllable in HEAD_SYLLABLES)


def _negates_face(words: Sequence[str]) -> bool:
    """Whether the words say that something is no face; "face without mask" and "no_mask" do not."""
    if any(mark in word for word in words for mark in NO_SYLLABLES):
        return not any(_is_mask_word(word) for word in words)
    for position, word in enumerate(words):
        glued = next(
            (
                no
                for no in ("non", "no", "not", "un", "kein")
                if word.startswith(no) and _is_face_word(word[len(no) :])
            ),
            "",
        )
        if glued or word in ("faceless", "gesichtslos"):
            return not any(_is_mask_word(other) for other in words)
        if word in NO_WORDS:
            rest = [other for other in words[position + 1 :] if other not in FILLERS]
            if not rest or _is_face_word(rest[0]) or _is_head_word(rest[0]):
                return not any(_is_mask_word(other) for other in rest)
            if any(_is_face_word(other) for other in words[:position]) and rest[0] in (
                "found",
                "present",
                "detected",
                "there",
                "face",
            ):
                return True
    return False


def kind_of(name: str) -> str:
    """What a class name says: face, face mask, other face, unsure, no face, head, mask, mood, nothing, or something else."""
    words = words_of(OPEN_IMAGES.get(name, name))
    if not words:
        return "nothing"
    if UNSURE_WORDS & {*words, "".join(words)} or normal(name) in ("don't care", "dont care"):
        return "unsure"
    if _negates_face(words):
        return "no face" if any(
            _is_face_word(w) or _is_head_word(w) or _is_face_word(re.sub("^(non|not|no|un|kein)", "", w)) for w in words
        ) else (
            "something else" if not any(_is_mask_word(w) for w in words) else "mask"
        )  # fmt: skip
    if any(map(_is_face_word, words)):
        part = PARTS_OF_FACES & {*words} and not STATES_OF_PARTS & {*words}
        if part or OBJECTS_AFTER_FACE & {*words}:
            return "something else"
        if any(map(_is_mask_word, words)) and {*words} <= {
            "face",
            "faces",
            "mask",
            "masks",
            "facemask",
            "gesichtsmaske",
        }:
            return "face mask"
        apart = {re.sub("(faces?|gesicht(er)?)$", "", word) for word in words}  # "watchface"
        return "other face" if OTHER_FACES & {*words, *apart} else "face"
    if any(map(_is_mask_word, words)):
        return "mask"
    if any(map(_is_head_word, words)):
        return "head"
    if {*words} <= MOOD_WORDS:
        return "mood"
    if {"background", "hintergrund", "fond", "fondo"} & {*words}:
        return "no face"
    return "nothing" if {*words} <= NOTHING_SAID else "something else"
