"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest
import requests

pytest_plugins = (
    "tests.fixtures.drawn_platform",
    "tests.fixtures.nni_dispatcher",
    "tests.fixtures.work",
    "tests.fixtures.pictures",
    "tests.fixtures.videos",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real experiments first: where files run side by side, none of the longest is left for the end."""
    items.sort(key=lambda item: "end_to_end" not in item.path.parts)


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Commands set up the logs of their process; here the process goes on, and the test's stderr is closed after it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real face data sets; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("HYPERFD_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"real face data not found at {folder} (set HYPERFD_DATA to their folder)")
    return folder


@pytest.fixture(scope="session")
def drawn_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 drawn scenes with faces and landmarks; nobody writes into it."""
    from nni_hyperfd.synthetic import generate

    return generate(tmp_path_factory.mktemp("drawn") / "faces", "crowd", images=24)


@pytest.fixture(scope="session")
def make_platform() -> Callable[[Path], None]:
    """Makes, in a folder, a platform for the shipped base whose version 0 knows twelve random data sets and six results, with
    learning curves, on each."""
    import numpy as np
    import torch

    from nni_hyperfd.detection.network.weights import base_id
    from nni_hyperfd.metafeature.extractor import image_inputs
    from nni_hyperfd.metafeature.features import CHANNELS, LEVELS, ImageFeatures
    from nni_hyperfd.platform.platform import Platform
    from nni_hyperfd.ranker.encoders import EncoderShape
    from nni_hyperfd.ranker.encodings import encode
    from nni_hyperfd.ranker.offline import Experience, OfflineData
    from nni_hyperfd.ranker.ranker import Ranker
    from nni_hyperfd.spaces.standard import standard_space

    generator = torch.Generator().manual_seed(0)
    shape = (60, LEVELS, CHANNELS)
    features = ImageFeatures(
        gwap=torch.randn(shape, generator=generator),
        mean=torch.randn(shape, generator=generator),
        boxes=torch.randint(0, 9, (60,), generator=generator),
    )
    space = standard_space("hpo")
    configurations = torch.cat([torch.randperm(20, generator=generator)[:6] for _ in range(12)])
    aps = torch.rand(72, generator=generator)
    experience = Experience(
        encode(space, space.sample(20, np.random.default_rng(0))),
        torch.arange(12).repeat_interleave(6),
        configurations,
        aps,
        # What is still to come is halved with each of six validations.
        aps[:, None] * (1 - 0.5 ** torch.arange(1.0, 7.0)),
    )
    members = [torch.arange(5 * s, 5 * s + 5) for s in range(12)]
    offline = OfflineData(features, members, {space.key: experience})
    ranker = Ranker.build({space.key: EncoderShape.of(space)}, seed=0)
    ranker.extractor.set_normalization(image_inputs(features), offline.statistics)
    ranker.eval()

    def make(folder: Path) -> None:
        Platform.create(folder, ranker, offline, base_id()).close()

    return make


@pytest.fixture
def disk_full_after() -> Callable[[int], AbstractContextManager[None]]:
    """``with disk_full_after(size):`` no file may grow beyond ``size`` bytes, as on a disk that is full."""

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


class ServerProcess:
    """``hyperfd serve`` over a folder, at the same port however often it is started."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def token(self, customer: str) -> str:
        """Let a customer in."""
        from nni_hyperfd.platform.state.store import Store
        from nni_hyperfd.server.tokens import new_token

        with closing(Store(self.folder)) as store:
            return new_token(store, customer)

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = [sys.executable, "-W", "ignore", "-m", "nni_hyperfd.cli", "serve"]
        with open(self.folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                [*command, "--platform", str(self.folder), "--port", str(self.port)],
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        end = time.monotonic() + 180.0
        while True:
            try:
                requests.get(f"{self.url}/healthz", timeout=5).raise_for_status()
                return
            except requests.RequestException:
                assert self._process.poll() is None, (self.folder / "server.log").read_text()
                assert time.monotonic() < end, "the server does not come up"
                time.sleep(0.05)

    def kill(self) -> None:
        """``kill -9``."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path: Path, make_platform: Callable[[Path], None]) -> Iterator[ServerProcess]:
    """A small platform for a server process, which is not running yet."""
    make_platform(tmp_path / "platform")
    one = ServerProcess(tmp_path / "platform")
    yield one
    one.kill()
