"""Wrote the folder ``files_v1`` beside it, with the package of its time; kept to show what is in there.

    PYTHONPATH=<checkout of commit edc19ec> python tests/assets/make_files.py FOLDER

What a customer's disk and the benchmarks' folder kept from that commit on: image features, the notes of an experiment, a lookup
table in both forms, and a method's runs. ``fingerprint.txt`` is what the caches of the data set that ``data_set`` writes are named by.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from PIL import Image


def data_set(folder: Path) -> Path:
    """Three flat pictures with a face each; every byte is the same with any version of Pillow."""
    folder.mkdir(parents=True)
    for shade, name in enumerate("abc"):
        Image.new("RGB", (64, 48), (40 * shade, 90, 200)).save(folder / f"{name}.bmp")
    lines = ["image,xmin,ymin,xmax,ymax", *(f"{name}.bmp,8,8,40,40" for name in "abc")]
    (folder / "boxes.csv").write_text("\n".join(lines) + "\n")
    (folder / "splits.json").write_text(json.dumps({"train": ["a.bmp"], "val": ["b.bmp"], "test": ["c.bmp"]}))
    return folder


def main() -> None:
    """Only the names of that commit are imported here."""
    from nni_hyperfd.benchmark.runs import Run, StoredRuns
    from nni_hyperfd.benchmark.table import LookupTable, Row, TableFile
    from nni_hyperfd.detection.dataset import load_dataset
    from nni_hyperfd.plugin.settings import Settings

    from nni_hyperfd.metafeature.features import ImageFeatures
    from nni_hyperfd.plugin.memo import Memo

    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    features = torch.arange(2 * 3 * 86).reshape(2, 3, 86).half() / 64
    ImageFeatures(features, features / 2, torch.tensor([1, 4])).save(folder / "features.safetensors")
    search_space = {"lr": {"_type": "choice", "_value": [0.001, 0.003]}}
    settings = Settings.from_class_args({"data": "/data/faces", "platform": "/data/platform", "seed": 3})
    Memo(settings, search_space, ({"lr": 0.003}, {"lr": 0.001})).write(folder)
    rows = [
        Row("hpo", "faces", '{"lr":0.001}', "table", 0, 0.5, 0.6, 0.55, 30.25, "cpu", "v1"),
        Row(
            "hpo",
            "faces",
            '{"lr":0.003}',
            "table",
            0,
            *[float("nan")] * 3,
            0.0,
            "cpu",
            "v1",
            failure="not finite",
        ),
    ]
    LookupTable(rows).save(folder / "table.csv.gz")
    with TableFile(folder / "table.jsonl") as lines:
        for row in rows:
            lines.append(row)
    runs = StoredRuns(folder / "runs.json", "0123456789abcdef")
    runs.put(4, 0, Run([12.5, 3.0], [0.5, 0.75], 1.5, ndcg=0.9))
    (folder / "fingerprint.txt").write_text(load_dataset(data_set(folder / "data")).fingerprint() + "\n")


if __name__ == "__main__":
    main()
