"""classArgs: what is accepted, and the sentence that meets a slip."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import pytest

from nni_hyperfd.customer.settings import Settings
from nni_hyperfd.data.reading import Reading, add_reading_options
from nni_hyperfd.errors import PluginError


def test_only_the_data_folder_is_needed() -> None:
    settings = Settings.from_class_args({"data": "/faces"})
    assert settings.budget == 4
    assert settings.exploration == 0.5


def test_a_misspelled_key_is_answered_with_the_nearest_one_and_the_whole_list() -> None:
    with pytest.raises(
        PluginError, match=r"unknown key 'exploraton'; did you mean 'exploration'\?"
    ) as caught:
        Settings.from_class_args({"data": "/faces", "exploraton": 0.1})
    for field in dataclasses.fields(Settings):
        assert field.name in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "data is missing"),
        ({"data": 3}, "data must be a path"),
        ({"data": " "}, "data must be a path"),
        ({"data": "d", "budget": 0}, "budget must be a whole number from 1 to 1000, not 0"),
        ({"data": "d", "budget": True}, "budget must be a whole number"),
        ({"data": "d", "budget": 4.0}, "budget must be a whole number"),
        ({"data": "d", "budget": "4"}, "budget must be a whole number"),
        ({"data": "d", "exploration": 1.5}, "exploration must be a number from 0 to 1"),
        ({"data": "d", "exploration": float("nan")}, "exploration must be a number from 0 to 1"),
        ({"data": "d", "seed": -1}, "seed must be a whole number from 0"),
        ({"data": "d", "candidates": 10**6}, "candidates must be a whole number from 1 to 100000"),
        ({"data": "d", "format": "pascal"}, "format must be one of wider, coco, voc"),
        (
            {"data": "d", "faces": "face"},
            r"faces must be a list of names, such as \[face\], not 'face'",
        ),
        ({"data": "d", "ignore": [False]}, "ignore must be a list of names"),
        ({"data": "d", "faces": []}, "faces must be a list of names"),
        ({"data": "d", "exif": "lying"}, "exif must be one of upright, stored"),
        ({"data": "d", "space": "HPO"}, "space must be one of hpo, nas, joint, flat"),
        ({"data": "d", "platform": "host:8600"}, "write https://host:8600 for the server, or ./host:8600"),
        ({"data": "d", "platform": "https:/host:8600"}, "write https://host:8600"),
        ({"data": "d", "platform": "//host:8600/"}, "write https://host:8600"),
        ({"data": "d", "platform": "[::1]:8600"}, "write https://"),
        ({"data": "d", "platform": "https//host:8600"}, "write https://host:8600"),
        ({"data": "d", "platform": "localhost"}, "write https://localhost for the server, or ./localhost"),
        ({"data": "d", "platform": "10.0.0.7"}, "write https://10.0.0.7"),
        (
            {"data": "d", "platform": "platform.example.org/hyperfd"},
            "write https://platform.example.org/hyperfd",
        ),
        ({"data": "d", "platform": "me@host"}, "write https://me@host"),
        ({"data": "d", "platform": "\\\\\\\\host\\\\share"}, "write https://host"),
        ({"data": "d", "platform": "file:///srv/platform"}, "write its path, /srv/platform"),
        ({"data": "d", "platform": "~nobody-of-that-name/p"}, "an account that is not on this machine"),
        ({"data": "d", "trial_reads": "lr"}, "trial_reads must be a list of names"),
        ({"data": "d", "cache_dir": 7}, "cache_dir must be a path"),
        ({"data": "d", "privacy_noise": -1}, "privacy_noise must be a number from 0 to 1000, not -1"),
        ({"data": "d", "privacy_noise": True}, "privacy_noise must be a number from 0 to 1000, not True"),
        ({"data": "d", "privacy_noise": "5"}, "privacy_noise must be a number from 0 to 1000, not '5'"),
    ],
)
def test_values_out_of_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(PluginError, match=message):
        Settings.from_class_args(arguments)


def test_relative_paths_start_at_the_trial_code_and_urls_stay(tmp_path: Path) -> None:
    settings = Settings.from_class_args({"data": "faces", "cache_dir": "~/cache", "platform": "p.sqlite"})
    resolved = settings.resolved(tmp_path)
    assert resolved.data == tmp_path / "faces"
    assert resolved.platform == str(tmp_path / "p.sqlite")
    assert resolved.cache_dir == Path("~/cache").expanduser()
    remote = Settings.from_class_args({"data": "/faces", "platform": "https://platform.example"}).resolved(
        tmp_path
    )
    assert remote.platform == "https://platform.example"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (" /srv/platform\r\n", "/srv/platform"),
        ("https://host:8600 ", "https://host:8600"),
        ("HTTPS://host:8600", "https://host:8600"),
        ("./localhost", "./localhost"),
        ("platform.v2", "platform.v2"),
        ("p.db", "p.db"),
    ],
)
def test_blanks_around_a_platform_are_no_part_of_it_and_dots_make_no_address(
    written: str, meant: str
) -> None:
    assert Settings.from_class_args({"data": "d", "platform": written}).platform == meant


def test_a_folder_with_a_dollar_in_its_name_is_meant_where_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `hyperfd init` writes it."""
    monkeypatch.setenv("ta", "elsewhere")
    (tmp_path / "da$ta").mkdir()
    assert Settings(Path("da$ta")).resolved(tmp_path).data == tmp_path / "da$ta"


def test_settings_survive_being_written_down() -> None:
    settings = Settings.from_class_args({"data": "/faces", "budget": 7, "format": "voc", "seed": 3})
    assert Settings.from_class_args(settings.as_class_args()) == settings


def test_environment_variables_name_paths_as_they_do_in_the_trial_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACES", "/somewhere")
    monkeypatch.delenv("NO_FACES", raising=False)
    assert Settings(Path("$FACES/train")).resolved(tmp_path).data == Path("/somewhere/train")
    with pytest.raises(PluginError, match="'\\$NO_FACES', and that environment variable is not set"):
        Settings(Path("$NO_FACES")).resolved(tmp_path)


def test_the_token_is_kept_nowhere(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("HYPERFD_TOKEN", raising=False)
    assert Settings.from_class_args({"data": "/faces"}).token is None
    monkeypatch.setenv("HYPERFD_TOKEN", "me.secret")
    settings = Settings.from_class_args({"data": "/faces"})
    assert settings.token == "me.secret"
    assert not caplog.records
    written = Settings.from_class_args({"data": "/faces", "token": "me.other"})
    assert written.token == "me.other"
    assert "set HYPERFD_TOKEN instead" in caplog.text
    for text in (repr(settings), repr(written), str(written.as_class_args()), caplog.text):
        assert "secret" not in text
        assert "other" not in text
    with pytest.raises(PluginError) as caught:
        Settings.from_class_args({"data": "/faces", "token": ["me.other"]})
    assert "other" not in str(caught.value)


def test_how_the_folder_is_read_goes_through_classargs_and_command_lines() -> None:
    arguments = {
        "data": "/faces",
        "format": "yolo",
        "faces": ["face", 1],
        "ignore": ["no mask"],
        "exif": "stored",
    }
    settings = Settings.from_class_args(arguments)
    assert Settings.from_class_args(settings.as_class_args()) == settings
    reading = settings.reading()
    assert reading == Reading("yolo", ("face", "1"), ("no mask",), "stored")
    parser = argparse.ArgumentParser()
    add_reading_options(parser)
    assert Reading.of(parser.parse_args(reading.command_line())) == reading
    assert Reading.of(parser.parse_args([])) == Reading()
    assert Reading.of(parser.parse_args(["--faces", "a", "b", "--faces=c"])).faces == ("a", "b", "c")


@pytest.mark.parametrize("written", ["./a:8600", "sub/a:8600", "/tmp/a:8600", "plain", "~/a:1"])
def test_a_folder_whose_name_has_a_colon_is_named_by_its_path(written: str, tmp_path: Path) -> None:
    settings = Settings.from_class_args({"data": "d", "platform": written}).resolved(tmp_path)
    assert settings.platform == str((tmp_path / Path(written).expanduser()).resolve())


def test_an_address_in_a_variable_is_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "https://platform.example:8600")
    settings = Settings.from_class_args({"data": "d", "platform": "$WHERE"})
    assert settings.resolved(tmp_path).platform == "https://platform.example:8600"
    monkeypatch.setenv("WHERE", "platform.example:8600")
    with pytest.raises(PluginError, match=r"write https://platform\.example:8600"):
        settings.resolved(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_trial_reads_survives_the_notes() -> None:
    settings = Settings.from_class_args({"data": "/d", "trial_reads": ["lr", "momentum"]})
    assert settings.trial_reads == ("lr", "momentum")
    assert Settings.from_class_args(settings.as_class_args()) == settings


def test_a_platform_that_is_there_is_meant_by_a_name_like_a_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier release made such folders."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PluginError, match=r"write https://our\.platform for the server, or \./our\.platform"):
        Settings.from_class_args({"data": "d", "platform": "our.platform"})
    (tmp_path / "our.platform").mkdir()
    (tmp_path / "our.platform" / "platform.sqlite").touch()
    assert Settings.from_class_args({"data": "d", "platform": "our.platform"}).platform == "our.platform"
