"""A platform behind a real network: the server in a thread of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from nni_hyperfd.platform.platform import Platform
from tests.fixtures.served import Served, serving


@pytest.fixture
def serve() -> Iterator[Callable[[Platform], Served]]:
    """Serves a platform until the test ends."""
    with ExitStack() as stack:
        yield lambda platform: stack.enter_context(serving(platform))
