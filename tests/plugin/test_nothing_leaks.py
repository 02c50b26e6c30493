"""All traffic of a whole experiment is recorded, and nothing of the images is in it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nni_hyperfd.cli import main
from nni_hyperfd.customer.ledger import FILE_NAME, read_ledger
from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import open_pixels
from nni_hyperfd.detection.evaluation.detections import evaluation_batches
from nni_hyperfd.detection.network.weights import BASES, base_detector
from nni_hyperfd.metafeature.profile import PROFILE_SIZE, profile_dataset
from nni_hyperfd.plugin.tuner import HyperFDTuner
from nni_hyperfd.spaces.stages import Stage

WINDOW = 32
"""Bytes of an image, or of its pixels, in which a leak is seen."""


class Proxy:
    """Passes TCP connections on to a port, and keeps all that is said in both directions."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.sent: list[bytearray] = []
        self.received: list[bytearray] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._upstream))
            for one, other, kept in ((client, server, self.sent), (server, client, self.received)):
                kept.append(bytearray())
                thread = threading.Thread(target=_pass_on, args=(one, other, kept[-1]), daemon=True)
                self._threads.append(thread)
                thread.start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()


def _pass_on(source: socket.socket, target: socket.socket, kept: bytearray) -> None:
    try:
        while piece := source.recv(2**16):
            kept += piece
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


def bodies(stream: bytes) -> Iterator[bytes]:
    """The bodies of the HTTP messages of a connection, unpacked."""
    while stream:
        head, found, stream = stream.partition(b"\r\n\r\n")
        assert found, head[:100]
        fields = dict(re.findall(rb"^([^:\r\n]+): *(.*?)\r?$", head, re.MULTILINE))
        fields = {name.lower(): value for name, value in fields.items()}
        assert b"transfer-encoding" not in fields
        length = int(fields.get(b"content-length", 0))
        body, stream = stream[:length], stream[length:]
        yield gzip.decompress(body) if fields.get(b"content-encoding") == b"gzip" else body


def forms(body: bytes) -> Iterator[bytes]:
    """A body as it is, the blobs that its JSON holds as base64, and its numbers as float32 and float64."""
    yield body
    if body:
        texts: list[str] = []
        numbers: list[float] = []
        _collect(json.loads(body), texts, numbers)
        for dtype in ("<f4", "<f8"):
            yield np.array(numbers, dtype).tobytes()
        for text in texts:
            if len(text) >= 16 and re.fullmatch(r"[A-Za-z0-9+/_-]+=*", text):
                text = text.rstrip("=")
                text = text[: len(text) - (len(text) % 4 == 1)]  # such a length is no base64 but a word
                blob = base64.b64decode(text.replace("-", "+").replace("_", "/") + "==")
                yield blob
                # Short numbers that were made longer for the way; safetensors begin at a multiple of eight.
                with np.errstate(all="ignore"):
                    yield np.frombuffer(blob[: len(blob) // 4 * 4], "<f4").astype("<f2").tobytes()


def _collect(content: Any, texts: list[str], numbers: list[float]) -> None:
    if isinstance(content, dict):
        for key, value in content.items():
            texts.append(key)
            _collect(value, texts, numbers)
    elif isinstance(content, list):
        for value in content:
            _collect(value, texts, numbers)
    elif isinstance(content, str):
        texts.append(content)
    elif isinstance(content, int | float):
        numbers.append(float(content))


def _hashes(data: bytes, size: int) -> np.ndarray:
    """A 64-bit hash of each window of ``size`` bytes, a power of two."""
    found = np.frombuffer(data, np.uint8).astype(np.uint64)
    factor = np.uint64(0x9E3779B97F4A7C15)
    step = 1
    with np.errstate(over="ignore"):
        while step < size:
            found = found[:-step] * factor + found[step:] if len(found) > step else found[:0]
            factor = factor * factor + np.uint64(step)
            step *= 2
    return found


def _any_in(values: np.ndarray, ordered: np.ndarray) -> bool:
    """Whether any of a few values is among many ordered ones."""
    places = np.searchsorted(ordered, values).clip(max=len(ordered) - 1)
    return bool((ordered[places] == values).any())


class Secrets:
    """What may not be found: windows of contents, rows of numbers in any of the usual types, and words.

    Args:
        contents: by kind, such as "image file"; looked for in windows of :data:`WINDOW` bytes.
        numbers: by kind; arrays whose rows are looked for as float16, 32 and 64, short rows as integers, too.
        words: such as names of files.
    """

    def __init__(
        self, contents: dict[str, list[bytes]], numbers: dict[str, np.ndarray], words: list[str]
    ) -> None:
        self._words = [word.lower().encode() for word in words]
        self._windows: dict[int, dict[str, np.ndarray]] = {}
        for kind, pieces in contents.items():
            self._add(kind, WINDOW, pieces)
        for kind, rows in numbers.items():
            short = rows.shape[1] < 8
            for dtype in ("<f2", "<f4", "<f8", *(("<i2", "<i4") if short else ())):
                converted = (np.round(rows) if "i" in dtype else rows).astype(dtype)
                size = converted.itemsize * rows.shape[1] if short else WINDOW
                self._add(f"{kind} as {dtype}", size, [row.tobytes() for row in converted])
        # One bit for the upper bits of each hash: nearly all windows of a message are ruled out by one look.
        self._filters = {size: np.zeros(2**24, bool) for size in self._windows}
        for size, kinds in self._windows.items():
            for windows in kinds.values():
                self._filters[size][windows >> np.uint64(40)] = True

    def _add(self, kind: str, size: int, pieces: list[bytes]) -> None:
        # Windows of few different bytes, such as a black border, say nothing.
        few = 8 if size == WINDOW else 5
        telling = []
        for piece in pieces:
            if len(piece) >= size:
                windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(piece, np.uint8), size)
                ordered = np.sort(windows, axis=1)
                different = (ordered[:, 1:] != ordered[:, :-1]).sum(1) + 1
                telling.append(_hashes(piece, size)[different >= few])
        self._windows.setdefault(size, {})[kind] = np.unique(np.concatenate(telling))

    def found_in(self, body: bytes) -> set[str]:
        """Kinds of secrets that one HTTP body gives away."""
        found = set()
        for form in forms(body):
            lower = form.lower()
            found |= {f"word {word.decode()}" for word in self._words if word in lower}
            for size, kinds in self._windows.items():
                hashes = _hashes(form, size)
                hashes = hashes[self._filters[size][hashes >> np.uint64(40)]]
                found |= {kind for kind, windows in kinds.items() if _any_in(hashes, windows)}
        return found


@pytest.fixture(scope="module")
def secrets(drawn_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What must not leave, by kind."""
    cache = tmp_path_factory.getbasetemp() / "hyperfd-cache"
    dataset = load_dataset(drawn_faces)
    features = profile_dataset(dataset, cache)
    store = open_pixels(dataset, 2 * PROFILE_SIZE, cache)
    with torch.no_grad():
        batch = next(iter(evaluation_batches(store, torch.arange(2), PROFILE_SIZE)))
        maps = base_detector(BASES["standard"]).eval().context(batch.images)
    annotated = json.loads((drawn_faces / "annotations.coco.json").read_text())["annotations"]
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in _files(drawn_faces)]
    return {
        "contents": {
            "image file": [path.read_bytes() for path in _files(drawn_faces)],
            "row of pixels": [row.tobytes() for picture in pictures for row in picture[::8]],
        },
        "numbers": {
            "box": np.array([entry["bbox"] for entry in annotated]),
            "box by its corners": np.array(
                [[x, y, x + w, y + h] for x, y, w, h in (entry["bbox"] for entry in annotated)]
            ),
            "row of a feature map": maps[0].flatten(0, 2)[::7].float().numpy(),
            "pixel of a feature map": maps[0].permute(0, 2, 3, 1).flatten(0, 2)[::7].float().numpy(),
            "image-level features": torch.cat([features.gwap.flatten(1), features.mean.flatten(1)]).numpy(),
        },
        "words": [path.stem for path in _files(drawn_faces)] + [str(drawn_faces), ".jpg"],
    }


def _files(folder: Path) -> list[Path]:
    return sorted((folder / "images").iterdir())


@pytest.fixture(scope="module")
def looked_for(secrets: dict[str, Any]) -> Secrets:
    return Secrets(**secrets)


@pytest.mark.parametrize("method", ["hyperfd-gp", "hyperfd-mf"])
def test_nothing_of_the_images_is_in_the_traffic_of_a_whole_experiment(
    method: str,
    server: Any,
    nni_experiment: Callable[..., Any],
    secrets: dict[str, Any],
    looked_for: Secrets,
    drawn_faces: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    nni = nni_experiment()
    server.start()
    proxy = Proxy(server.port)
    monkeypatch.setenv("HYPERFD_PLATFORM", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("HYPERFD_TOKEN", server.token("customer"))
    nni.begin(HyperFDTuner(data="faces", budget=2, method=method))
    trials = 5 if method == "hyperfd-mf" else 2
    for number in range(trials):
        (parameter_id,) = nni.request()
        stage = Stage.of(nni.proposals()[-1]["parameters"])
        nni.report_intermediate(parameter_id, *[0.4] * (stage.stop - stage.begun if stage else 0))
        nni.report(parameter_id, {"default": 0.5 + number / 8, "test_ap": 0.4, "seconds": 1.5})
    proxy.close()
    assert nni.errors() == []

    sent = [body for stream in proxy.sent for body in bodies(bytes(stream))]
    calls = [entry.call for entry in read_ledger(nni.folder / FILE_NAME)]
    assert {
        "open_task",
        "recommend",
        "record",
        "begin_update",
        "send_features",
        "send_gradient",
        "commit",
    } <= set(calls)
    assert calls.count("recommend") == {"hyperfd-gp": 2, "hyperfd-mf": 6}[method], "each plans anew"
    assert set().union(*(looked_for.found_in(body) for body in sent)) == set()
    for stream in (*proxy.sent, *proxy.received):
        assert not any(word.encode() in stream for word in secrets["words"])

    # What the ledger says is what was on the wire, no more and no less.
    entries = read_ledger(nni.folder / FILE_NAME)
    assert [(e.bytes, e.sha256) for e in entries] == [(len(b), hashlib.sha256(b).hexdigest()) for b in sent]
    assert main(["ledger", "exp1", "--experiments", str(nni.folder.parent)]) == 0
    printed = capsys.readouterr().out
    assert f"{len(sent)} messages, {sum(map(len, sent)) / 1e6:.2f} MB" in printed
    assert "parameters=(optimizer=" in printed

    _rehearsed_is_what_is_sent(server.url, drawn_faces, nni.folder.parent / "cache", capsys)


def _rehearsed_is_what_is_sent(url: str, data: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--dry-run`` sends no body at all, and prints the one that ``hyperfd recommend`` sends."""
    shutil.copytree(os.environ["HYPERFD_CACHE"], cache, ignore=shutil.ignore_patterns("platforms", "*.jsonl"))
    command = ["recommend", "--data", str(data), "--platform", url, "--cache", str(cache)]
    assert main([*command, "--dry-run"]) == 0
    rehearsed = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("{"))
    asked = read_ledger(cache / FILE_NAME)
    assert {entry.call for entry in asked} == {"extractor", "ranker_state"}
    assert not any(entry.bytes for entry in asked)
    assert main(command) == 0
    entry = read_ledger(cache / FILE_NAME)[-1]
    assert entry.call == "recommend"
    capsys.readouterr()
    assert main(["status", "--platform", url]) == 0
    assert capsys.readouterr().out == f"Platform    {url}\nVersion     1\n"
    assert entry.sha256 == hashlib.sha256(rehearsed.encode()).hexdigest()


@pytest.mark.parametrize(
    "leak",
    [
        lambda s: s["contents"]["image file"][3][200:240],
        lambda s: s["contents"]["row of pixels"][70][90:150],
        lambda s: s["numbers"]["box"][5].astype("<f4").tobytes(),
        lambda s: s["numbers"]["box by its corners"][5].astype("<f8").tobytes(),
        lambda s: s["numbers"]["row of a feature map"][9].astype("<f4").tobytes(),
        lambda s: s["numbers"]["row of a feature map"][9].astype("<f2").tobytes(),
        lambda s: s["numbers"]["pixel of a feature map"][9][:16].astype("<f4").tobytes(),
        lambda s: s["numbers"]["image-level features"][2][40:50].astype("<f4").tobytes(),
        lambda s: s["words"][4].encode(),
    ],
    ids=["file", "pixels", "box32", "corners64", "map32", "map16", "pixel32", "features", "name"],
)
def test_the_eavesdropper_would_have_noticed(
    secrets: dict[str, Any], looked_for: Secrets, leak: Callable[[Any], bytes]
) -> None:
    content = b"\x01" * 7 + leak(secrets) + b"\x02" * 9
    body = json.dumps({"phi": [0.25] * 64, "tensors": base64.b64encode(content).decode()}).encode()
    head = b"POST /v1/x HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: "
    packed = gzip.compress(body)
    stream = head + str(len(packed)).encode() + b"\r\n\r\n" + packed
    assert [looked_for.found_in(one) for one in bodies(stream)] != [set()]
    assert looked_for.found_in(json.dumps({"phi": [0.25] * 64}).encode()) == set()


def test_the_eavesdropper_notices_numbers_in_plain_json(secrets: dict[str, Any], looked_for: Secrets) -> None:
    box, features = secrets["numbers"]["box"][4], secrets["numbers"]["image-level features"][1]
    assert looked_for.found_in(json.dumps({"phi": [1.0, *box.tolist()]}).encode())
    assert looked_for.found_in(json.dumps({"phi": features[:64].tolist()}).encode())
