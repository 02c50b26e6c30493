"""Formats that are not read here, told by their marks, so that a refusal names what lies in the folder.

Only consulted where no reader claims a folder, or where files that lie like YOLO's text hold lines of another kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from nni_hyperfd.data.formats.folder import DataFolder

__all__ = ["foreign_format", "foreign_lines"]

SHOWN = 1 << 16  # bytes of a file that are looked at
SEEN = 20  # files of a kind that are looked at
_JSON = (".json", ".jsonl", ".ndjson", ".manifest")
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"

# Words that all stand in the beginning of a JSON file, the most telling first.
MARKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Datumaro JSON", ('"items"', '"categories"', '"label"')),
    ("V7 Darwin JSON", ('"bounding_box"', '"slots"')),
    ("V7 Darwin JSON", ('"annotations"', '"original_filename"')),
    ("V7 Darwin JSON", ('"schema_ref"', "darwin")),
    ("Labelbox JSON", ('"data_row"', '"projects"')),
    ("Labelbox JSON", ('"External ID"', '"Label"')),
    ("FiftyOne samples", ('"samples"', '"filepath"')),
    ("FiftyOne labels", ('"classes"', '"labels"', '"bounding_box"')),
    ("SuperAnnotate JSON", ('"className"', '"classId"')),
    ("SuperAnnotate JSON", ('"instances"', '"className"')),
    ("VoTT JSON", ('"asset"', '"regions"')),
    ("SageMaker Ground Truth manifest", ('"source-ref"',)),
    ("Vertex AI JSON lines", ('"imageGcsUri"',)),
    ("Scale AI JSON", ('"task_id"', '"attachment"')),
    ("Hasty JSON", ('"label_classes"', '"images"', '"labels"')),
    ("BDD100K JSON", ('"box2d"',)),
    ("VIA 3 JSON", ('"fname"', '"metadata"', '"fid"')),
    ("COCO results (numbers of images without their names)", ('"image_id"', '"bbox"', '"score"')),
    ("Hugging Face metadata", ('"file_name"', '"objects"')),
)
# Lines of text files, each with the name of its format.
LINES: tuple[tuple[str, str], ...] = (
    ("KITTI txt", rf"[^\d\s][^\n]*?(?:\s+{_NUMBER}){{14,15}}"),
    ("DOTA txt", rf"{_NUMBER}(?:\s+{_NUMBER}){{7}}\s+[^\d\s]\S*(?:\s+[0-2])?"),
    ("text with names of classes (OIDv4, mAP)", rf"[^\W\d][^\n]*?(?:\s+{_NUMBER}){{4,5}}"),
    ("DOTA txt", r"(?:imagesource|gsd):.*"),
)
# First lines of text files that hold the annotations of many images.
LISTS: tuple[tuple[str, str], ...] = (
    ("YOLO Keras txt", r"\S.*\.\w+(?:\s+\d+,\d+,\d+,\d+,\d+)+"),
    ("CelebA bounding boxes", r"\d+\s*\n\s*image_id\s+x_1\s+y_1"),
    ("FDDB ellipses", rf"\S+\n\d+\n{_NUMBER}(?:\s+{_NUMBER}){{4}}\s+1\b"),
    ("MOT challenge txt", rf"\d+,-?\d+(?:,{_NUMBER}){{4,8}}"),
)
ENDINGS: Mapping[str, str] = {
    ".tfrecord": "TFRecord", ".tfrecords": "TFRecord", ".record": "TFRecord", ".parquet": "Parquet", ".mat": "MATLAB",
    ".xlsx": "Excel", ".xls": "Excel", ".ods": "spreadsheet", ".zip": "a packed set (unpack it)", ".tar": "a packed set (unpack it)",
    ".gz": "a packed set (unpack it)", ".7z": "a packed set (unpack it)", ".rar": "a packed set (unpack it)", ".pkl": "pickle",
    ".npy": "NumPy", ".npz": "NumPy", ".sqlite": "database", ".db": "database",
}  # fmt: skip


def foreign_format(folder: DataFolder) -> tuple[str, str] | None:
    """Name of the format and a file in it, where something in the folder looks like annotations that no reader knows."""
    for suffix in _JSON:
        for file in folder.with_suffix(suffix)[:SEEN]:
            text = folder.head(file, SHOWN)
            for title, words in MARKS:
                if all(word in text for word in words):
                    return title, file
    for file in folder.with_suffix(".xml")[:SEEN]:
        if re.search(r"<dataset[\s>].*<image file=", folder.head(file), re.DOTALL):
            return "dlib imglab XML", file
    for file in folder.with_suffix(".csv")[:SEEN]:
        table = _table(folder.head(file))
        if table is not None:
            return table, file
    texts = folder.with_suffix(".txt")
    found = foreign_lines(folder, texts)
    if found is not None:
        return found
    for file in texts[:SEEN]:
        head = folder.head(file).strip()
        for title, pattern in LISTS:
            if re.match(pattern, head):
                return title, file
    for suffix, title in ENDINGS.items():
        for file in folder.with_suffix(suffix)[:1]:
            return title, file
    return None


def foreign_lines(folder: DataFolder, files: Iterable[str]) -> tuple[str, str] | None:
    """Name of the format and a file in it, where every text file that is not empty begins with a line of one that is not read."""
    found: tuple[str, str] | None = None
    for file in [*files][:SEEN]:
        line = next(iter(folder.head(file).strip().splitlines()), "").strip()
        title = next((title for title, pattern in LINES if re.fullmatch(pattern, line)), None)
        if line and title is None:
            return None
        if line and title is not None:
            found = found or (title, file)
    return found


def _table(head: str) -> str | None:
    """Tables whose rows are no boxes of a named image."""
    line = next(iter(head.strip().splitlines()), "")
    fields = [field.strip() for field in line.split(",")]
    if "gs://" in line and len(fields) >= 9:
        return "Vertex AI csv"
    if {"annotator", "annotation_id"} <= {*fields}:
        return "Label Studio csv (choose its JSON)"
    rows = [row.split(",") for row in head.strip().splitlines()[1:-1] or head.strip().splitlines()[1:]]
    flags = [field.strip() for row in rows for field in row[1:]]
    if fields[0].casefold() in ("filename", "image", "image_id") and flags and {*flags} <= {"0", "1"}:
        return "classification of whole pictures (without boxes)"
    return None
