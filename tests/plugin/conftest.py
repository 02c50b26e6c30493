"""Fixtures of the plugin's tests."""

from __future__ import annotations

import pytest

from nni_hyperfd.plugin import session


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test calls what a timer would call."""
    monkeypatch.setattr(session, "SETTLE_SECONDS", 3600.0)
