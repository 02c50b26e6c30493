"""The command lines of docs, where the folder and the data have blanks and other letters in their names: cheap ones run, the others are parsed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image

from nni_hyperfd.cli import main, make_parser

ROOT = Path(__file__).parents[2]
SCRIPTS = ("benchmarks/", "trial_code/", "examples/")


def lines() -> Iterator[tuple[str, str]]:
    """Page and command of every fence, and of every piece of code in a sentence that has arguments."""
    for page in sorted((ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        fences = re.findall(r"^```(?:bash|sh)?\n(.*?)^```", text, re.M | re.S)
        inline = re.findall(
            r"`((?:hyperfd|python) [^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
        )
        for line in [*(line for fence in fences for line in fence.splitlines()), *inline]:
            command = re.sub(r"\s+# .*", "", line).strip()
            if re.match(r"(\w+=\S+ )*(hyperfd|python|nnictl) ", command):
                yield page.name, command


LINES = sorted({*lines()})


def words_of(command: str) -> list[str]:
    """The words behind variables; dots that stand for more of the same are left out."""
    words = [word.removesuffix("...") for word in shlex.split(command)]
    while re.match(r"\w+=", words[0]):
        words.pop(0)
    return words


def test_there_are_lines() -> None:
    assert len(LINES) > 30


@pytest.mark.parametrize(("page", "command"), [line for line in LINES if "hyperfd " in line[1]])
def test_a_line_of_hyperfd_is_understood(page: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = words_of(command)
    if words[0] != "hyperfd":
        return  # another program, whose arguments have the word
    refused = _refusal([word.replace("VERSION", "1") for word in words[1:]], capsys)
    # In a sentence, a command is often called by its name and the option that is spoken of.
    unfinished = "the following arguments are required" in refused or "expected one argument" in refused
    assert not refused or unfinished, f"{page}: {command}: {refused}"


def _refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the parser says against arguments, "" where it takes them."""
    try:
        make_parser().parse_args(arguments)
    except SystemExit:
        return capsys.readouterr().err
    return ""


@pytest.mark.parametrize(("page", "command"), [line for line in LINES if words_of(line[1])[0] != "hyperfd"])
def test_a_line_of_another_program_names_files_and_options_that_exist(page: str, command: str) -> None:
    program, *words = words_of(command)
    if program == "python":
        script = ROOT / words[0]
        assert words[0].startswith(SCRIPTS)
        assert script.is_file(), f"{page}: {command}"
        text = script.read_text(encoding="utf-8")
        shared = (ROOT / "nni_hyperfd" / "data" / "reading.py").read_text(encoding="utf-8")
        for option in {word.split("=")[0] for word in words if word.startswith("--")} - {"--help"}:
            assert f'"{option}"' in text or f'"{option}"' in shared, f"{page}: {script} has no {option}"
    elif "--config" in words:
        config = words[words.index("--config") + 1]
        if config.startswith("examples/"):
            assert yaml.safe_load((ROOT / config).read_text(encoding="utf-8"))["trialCommand"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with data, both with blanks and other letters in their names."""
    place = tmp_path / "mein Klon (größer)"
    data = place / "Gesichter von Zoë"
    data.mkdir(parents=True)
    for number in range(12):
        Image.new("RGB", (200, 150), (20 * number, 90, 0)).save(data / f"Bild {number}.png")
        (data / f"Bild {number}.txt").write_text("0 0.5 0.5 0.3 0.4\n")
    (data / "classes.txt").write_text("face\n")
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("HYPERFD_PLATFORM", str(place / "meine Plattform"))
    return data


@pytest.mark.parametrize(
    ("start", "leaves"),
    [
        ("hyperfd data FOLDER --html page.html", "page.html"),
        ("hyperfd init FOLDER", "Gesichter von Zoë-hyperfd/hyperfd.yml"),
        ("hyperfd customer add ada", "meine Plattform"),
        ("hyperfd sync", None),
    ],
)
def test_a_cheap_line_runs(start: str, leaves: str | None, folder: Path) -> None:
    assert any(command == start for _, command in LINES), "docs say it otherwise by now"
    words = [str(folder) if word == "FOLDER" else word for word in words_of(start)]
    assert main(words[1:]) == 0
    assert leaves is None or any((place / leaves).exists() for place in (folder.parent, folder))
