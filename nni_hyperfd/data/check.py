"""From what annotations say to images with faces: classes, sizes, orientation, units and every box are checked.

What cannot be believed is never background: its image is left out, with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from nni_hyperfd.data.faces import FaceImage, check_faces
from nni_hyperfd.data.formats.annotation import Annotations, Entry, RawFace
from nni_hyperfd.data.formats.classes import decide
from nni_hyperfd.data.formats.folder import ImageHeader
from nni_hyperfd.data.formats.statements import settle
from nni_hyperfd.data.lying import annotated_as_stored, is_size
from nni_hyperfd.data.report import ClassCount, Findings, Problem, Role
from nni_hyperfd.data.tables import are_fractions, are_percent, may_be_percent
from nni_hyperfd.errors import DataError


@dataclass(frozen=True)
class Checked:
    """Names (relative to the folder) and images, sorted by name, and the classes of all boxes."""

    names: list[str]
    images: list[FaceImage]
    classes: tuple[ClassCount, ...]


def check(
    annotations: Annotations, faces: Iterable[str] | None = None, ignore: Iterable[str] | None = None
) -> Checked:
    """Everything that `load_dataset` checks about single images.

    Raises:
        DataError: It cannot be told which classes are faces.
    """
    findings = annotations.findings
    settle(annotations)
    classes = _classes(annotations, faces, ignore)
    merged = _one_entry_an_image(annotations)
    merged = _in_pixels(merged, annotations)
    stored = annotated_as_stored(merged, annotations)
    names: list[str] = []
    images: list[FaceImage] = []
    for name in annotations.folder.images:
        header = annotations.folder.header(name)
        if header is None:
            findings.add(Problem.BROKEN_IMAGE, name)
            findings.left_out[name] = Problem.BROKEN_IMAGE
            continue
        if name in findings.left_out:
            continue
        if name not in merged:
            findings.add(Problem.UNANNOTATED_IMAGE, name)
            findings.leave_out(name, Problem.UNANNOTATED_IMAGE)
            continue
        entry = merged[name]
        sizes = ((header.width, header.height), header.upright)
        if not entry.fractions and entry.size and not any(is_size(entry.size, each) for each in sizes):
            findings.add(Problem.WRONG_SIZE, name)
            findings.leave_out(name, Problem.WRONG_SIZE)
            continue
        chosen = _chosen(entry.faces, classes, name, findings)
        image = check_faces(annotations.folder.root / name, header, chosen, name in stored, name, findings)
        if image is None:
            continue
        _note_kind(header, name, findings)
        names.append(name)
        images.append(image)
        if not len(image.boxes):
            findings.add(Problem.NO_FACES, name)
    for encoding, files in annotations.folder.encodings().items():
        findings.note(
            f"{len(files)} annotation files are not UTF-8, read with the encoding {encoding}, such as {files[0]}"
        )
    return Checked(names, images, tuple(sorted(classes.values(), key=lambda each: -each.boxes)))


def _classes(
    annotations: Annotations, faces: Iterable[str] | None, ignore: Iterable[str] | None
) -> dict[str | None, ClassCount]:
    """The role of every class; then images that lack an unreadable face, rather than something else, are left out."""
    found = [face for entry in annotations.entries() for face in entry.faces]
    named = any(face.label is not None for face in found)
    numbers = {face.number for face in found if face.number is not None}
    if not named and numbers and (len(numbers) > 1 or faces is not None or ignore is not None):
        for entry in annotations.entries():
            entry.faces = [replace(face, label=face.number) for face in entry.faces]
        found = [face for entry in annotations.entries() for face in entry.faces]
    where = str(annotations.folder.root)
    if not named and numbers and annotations.class_names and faces is None:
        found_names, found_numbers = (
            ", ".join(sorted(annotations.class_names)[:12]),
            ", ".join(sorted(numbers)[:12]),
        )
        raise DataError(
            f"the boxes of {where} have the class numbers {found_numbers}, to which none of the named classes belongs ({found_names}): mend "
            "the list of classes, or say which are faces by faces: [numbers] in classArgs or --faces NUMBER."
        )
    counts = Counter(face.label for face in found)
    missed: Counter[str | None] = Counter(
        label for _, _, label in annotations.missed if label is not None and label not in counts
    )
    classes = decide(counts | missed, annotations.groups, where, faces, ignore) if counts | missed else {}
    for image, problem, label in annotations.missed:
        if label is None or classes[label].role is not Role.OTHER:
            annotations.unread(image, problem)
    return {name: replace(each, boxes=counts[name]) for name, each in classes.items()}


def _chosen(
    faces: Sequence[RawFace], classes: Mapping[str | None, ClassCount], name: str, findings: Findings
) -> list[RawFace]:
    chosen = []
    for face in faces:
        role = classes[face.label].role
        if role is Role.OTHER:
            findings.add(Problem.OTHER_CLASS, name)
            continue
        if role is Role.IGNORED and face.label is None:
            findings.add(Problem.UNKNOWN_CLASS, name)
        chosen.append(replace(face, ignored=True) if role is Role.IGNORED else face)
    return chosen


def _one_entry_an_image(annotations: Annotations) -> dict[str, Entry]:
    """Entries by image; images of which entries disagree, or are named without being spoken of, are left out."""
    findings = annotations.findings
    by_image: dict[str, list[Entry]] = {}
    spoken: set[str] = set()
    for entry in annotations.entries():
        by_image.setdefault(entry.image, []).append(entry)
        if entry.faces or not entry.silent:
            spoken.add(entry.file)
    merged = {}
    for image, entries in by_image.items():
        problem = None
        telling = [entry for entry in entries if not entry.silent or entry.faces or entry.file in spoken]
        if not telling:
            problem = Problem.SILENT_FILE
        elif any(entry.silent and not entry.faces and entry.file in annotations.orphans for entry in telling):
            problem = Problem.ORPHANS
        elif (
            len({_said(entry) for entry in telling}) > 1
            or len({entry.size for entry in telling if entry.size}) > 1
        ):
            problem = Problem.CONTRADICTION
        if problem is None:
            merged[image] = next((entry for entry in telling if entry.size), telling[0])
        elif image not in findings.left_out:
            findings.add(problem, image)
            findings.leave_out(image, problem)
    return merged


def _said(entry: Entry) -> frozenset[tuple[object, ...]]:
    return frozenset(
        (tuple(round(value, 1) for value in face.box), face.ignored, face.label) for face in entry.faces
    )


def _in_pixels(entries: dict[str, Entry], annotations: Annotations) -> dict[str, Entry]:
    """Boxes that are fractions of their pictures, though the format has pixels, become pixels; told by the whole set."""
    asked = {name: entry for name, entry in entries.items() if not entry.fractions and entry.faces}
    boxes = [face.box for entry in asked.values() for face in entry.faces]
    if are_fractions(boxes):
        annotations.findings.note(
            f"boxes are taken as fractions of their pictures: none of {4 * len(boxes)} numbers is beyond 1"
        )
        return {**entries, **{name: _scaled(entry, annotations) for name, entry in asked.items()}}
    told = [
        (face.box, frame)
        for name, entry in asked.items()
        for face in entry.faces
        if (frame := entry.size or annotations.frame(name)) is not None
    ]
    boxes, frames = [box for box, _ in told], [frame for _, frame in told]
    if are_percent(boxes, frames):
        raise DataError(
            f"all {len(boxes)} boxes of {annotations.folder.root} lie within the first 100 pixels of pictures of another size, as percent "
            "would: write pixels, or fractions from 0 to 1."
        )
    if may_be_percent(boxes, frames):
        annotations.findings.note(
            f"no number of {len(boxes)} boxes is beyond 100: they are taken as pixels, which nothing contradicts; if they are percent of "
            "the pictures, write fractions from 0 to 1"
        )
    for name, entry in asked.items():
        doubtful = sum(max(map(abs, face.box)) <= 1 and any(face.box) for face in entry.faces)
        if doubtful:
            annotations.findings.add(Problem.UNIT_DOUBT, name, doubtful)
            annotations.findings.leave_out(name, Problem.UNIT_DOUBT)
    return entries


def _scaled(entry: Entry, annotations: Annotations) -> Entry:
    width, height = entry.size or annotations.frame(entry.image) or (1.0, 1.0)
    faces = [
        replace(
            face,
            box=(face.box[0] * width, face.box[1] * height, face.box[2] * width, face.box[3] * height),
            landmarks=None
            if face.landmarks is None
            else tuple((x * width, y * height) for x, y in face.landmarks),
        )
        for face in entry.faces
    ]
    return replace(entry, faces=faces, size=entry.size or (width, height), fractions=entry.size is None)


def _note_kind(header: ImageHeader, name: str, findings: Findings) -> None:
    if header.mode == "P":
        findings.add(Problem.PALETTE, name)
    elif header.mode in ("1", "L", "LA", "La"):
        findings.add(Problem.GRAYSCALE, name)
    elif header.mode.startswith(("I", "F")):
        findings.add(Problem.DEEP, name)
    if header.transparent:
        findings.add(Problem.ALPHA, name)
