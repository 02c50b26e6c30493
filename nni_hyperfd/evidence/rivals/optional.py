"""Rivals that are other people's libraries, which nothing else here needs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from nni_hyperfd.errors import DataError


def needed(module: str, rival: str, extra: str = "rivals") -> Any:
    """The module, imported only now.

    Args:
        module: Dotted name.
        rival: Who needs it.
        extra: Of this package, which installs it.

    Raises:
        DataError: It is not installed, or does not fit what is.
    """
    try:
        return import_module(module)
    except (ImportError, ValueError) as error:  # ValueError: compiled for another NumPy
        raise DataError(f"the rival {rival} needs pip install -e .[{extra}] ({error})") from error


@contextmanager
def global_numpy_seed(seed: int) -> Iterator[None]:
    """For libraries that draw from NumPy's global generator, whatever seed they are given; its state is put back."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


@contextmanager
def quiet(logger: str, level: int) -> Iterator[None]:
    """What a library logs below ``level`` is not shown meanwhile."""
    loud = logging.getLogger(logger)
    before = loud.level
    loud.setLevel(level)
    try:
        yield
    finally:
        loud.setLevel(before)
