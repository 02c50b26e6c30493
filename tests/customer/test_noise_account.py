"""The noise of one customer from process to process: one secret, every answer written down, and what they cost together."""

from __future__ import annotations

import logging
import stat
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch

from nni_hyperfd.customer.noise_account import ANSWERS, SECRET, KeptNoise, default_folder
from nni_hyperfd.errors import HyperFDError, PluginError
from nni_hyperfd.metafeature.extractor import MetaFeatureExtractor
from nni_hyperfd.metafeature.features import CHANNELS, LEVELS, ImageFeatures
from nni_hyperfd.metafeature.noise import epsilon
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.plugin.tuner import HyperFDTuner


def draw_features(seed: int = 0) -> ImageFeatures:
    pooled = torch.randn(5, LEVELS, CHANNELS, generator=torch.Generator().manual_seed(seed))
    return ImageFeatures(pooled, pooled, torch.ones(5, dtype=torch.long))


@pytest.fixture
def extractor() -> MetaFeatureExtractor:
    torch.manual_seed(0)
    return MetaFeatureExtractor()


def test_another_process_gives_the_same_answers_and_knows_what_was_spent(
    tmp_path: Path, extractor: MetaFeatureExtractor
) -> None:
    folder, features = tmp_path / "private", draw_features()
    first = KeptNoise(2.0, folder)
    view = first.noise.view(extractor, features)
    phi, _ = view.meta_feature(), view.pair()
    again = KeptNoise(2.0, folder)
    assert torch.equal(again.noise.view(extractor, features).meta_feature(), phi)
    one, two = (f"{epsilon({2.0: answers}):.3g}" for answers in (1, 2))
    assert f"epsilon {one} at delta 1e-05 for 1 answers about the images; {two} with all" in str(again)
    # Other images have an account of their own; another multiplier goes into the same one.
    other = KeptNoise(2.0, folder)
    other.noise.view(extractor, draw_features(1)).meta_feature()
    assert str(other).count(one) == 2
    louder = KeptNoise(9.0, folder)
    louder.noise.view(extractor, features).meta_feature()
    assert f"{epsilon({2.0: 2, 9.0: 1}):.3g} with all" in str(louder)


def test_nobody_else_may_read_it(tmp_path: Path, extractor: MetaFeatureExtractor) -> None:
    kept = KeptNoise(1.0, tmp_path / "private")
    kept.noise.view(extractor, draw_features()).meta_feature()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "private").iterdir()}
    assert modes == {SECRET: 0o600, ANSWERS: 0o600}
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o700
    assert len((tmp_path / "private" / SECRET).read_bytes()) == 32


def test_processes_that_begin_together_share_one_secret(
    tmp_path: Path, extractor: MetaFeatureExtractor
) -> None:
    with ThreadPoolExecutor(8) as pool:
        noises = list(pool.map(lambda _: KeptNoise(1.0, tmp_path), range(8)))
    answers = [noise.noise.view(extractor, draw_features()).meta_feature() for noise in noises]
    assert all(torch.equal(answer, answers[0]) for answer in answers)


def test_nothing_is_said_that_cannot_be_written_down(
    tmp_path: Path,
    extractor: MetaFeatureExtractor,
    disk_full_after: Callable[[int], AbstractContextManager[None]],
) -> None:
    kept = KeptNoise(1.0, tmp_path)
    view = kept.noise.view(extractor, draw_features())
    view.meta_feature()
    size = (tmp_path / ANSWERS).stat().st_size
    with disk_full_after(size + 10), pytest.raises(PluginError, match="nothing was sent"):
        view.pair()
    # What was cut short spoils neither the lines before nor those after it.
    view.pair()
    fresh = KeptNoise(1.0, tmp_path)
    fresh.noise.view(extractor, draw_features()).meta_feature()
    assert f"{epsilon({1.0: 2}):.3g} with all" in str(fresh)


def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HyperFDError, match=r"cannot be kept in .*set XDG_STATE_HOME") as caught:
        KeptNoise(1.0, tmp_path / "file" / "private")
    assert "\n" not in str(caught.value)


def test_the_folder_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "hyperfd" / "privacy"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert default_folder().relative_to(Path.home()) == Path(".local/state/hyperfd/privacy")


# ------------------------------------------------------------------------------------------------ in an experiment


def test_the_log_of_an_experiment_says_what_it_spent(
    nni_experiment: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    nni = nni_experiment()
    with caplog.at_level(logging.INFO):
        nni.begin(HyperFDTuner(data="faces", budget=1, privacy_noise=5))
        (trial,) = nni.request()
        nni.report(trial, 0.4)
    assert nni.errors() == []
    said = [r.getMessage() for r in caplog.records if r.getMessage().startswith("privacy noise 5: epsilon")]
    # Three words each: the noise, the data and the question. φ, and in each step of the update a pair and a gradient.
    kept = (tmp_path / "state" / "hyperfd" / "privacy" / ANSWERS).read_text().split()
    answers, rest = divmod(len(kept), 3)
    assert (answers > 3, rest) == (True, 0)
    assert f"{epsilon({5.0: 1}):.3g} at delta 1e-05 for 1 answers" in said[0]
    assert f"{epsilon({5.0: answers}):.3g} at delta 1e-05 for {answers} answers" in said[-1]
    assert Platform.open(tmp_path / "platform").status().version == 1


def test_without_the_accountant_nothing_begins(
    nni_experiment: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opacus.accountants.analysis", None)
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=1, privacy_noise=5))
    assert nni.request() == []
    assert "pip install 'nni-hyperfd[privacy]'" in nni.errors()[0]
