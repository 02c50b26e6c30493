"""What a platform keeps in memory of what lies in its store: a few rankers, what they let one expect, and the offline data.

Nothing on it can become wrong, since versions never change; only so much of it is kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import cached_property
from typing import TypeVar

from nni_hyperfd.platform.own_spaces import OwnSpaces
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.ranker.guard import Guard, GuardSettings
from nni_hyperfd.ranker.offline import OfflineData
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.recommendation.expectation import Expectation
from nni_hyperfd.recommendation.foresight import Foresight
from nni_hyperfd.spaces.space import Space

WORKING = threading.RLock()
"""Held while a ranker works, which borrows torch's one global generator: one thread at a time."""
PLANNING = threading.RLock()
"""Held while hyperfd-gp or hyperfd-mf plans, which takes longer and borrows nothing: others need not wait, but no two plans are in memory."""
RANKERS, EXPECTATIONS = 4, 4
"""Of how many versions each is kept."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Shelf:
    """What a platform reads again and again.

    Args:
        store: Where it comes from.
        images: In one sample of a data set.
        guard: Settings of the platform's guard.
    """

    def __init__(self, store: Store, images: int, guard: GuardSettings) -> None:
        self._store, self._images, self._guard_settings = store, images, guard
        self._rankers: OrderedDict[int, Ranker] = OrderedDict()
        self._expectations: OrderedDict[tuple[int, str], Expectation] = OrderedDict()
        self._foresights: OrderedDict[tuple[int, str, int], Foresight] = OrderedDict()

    def copy(self, version: int) -> Ranker:
        """A ranker of one's own."""
        return Ranker.from_bytes(self._store.ranker(version))

    def ranker(self, version: int) -> Ranker:
        """A ranker to score with, which others score with, too."""
        with WORKING:
            return _kept(self._rankers, version, RANKERS, lambda: self.copy(version).eval())

    def expectation(self, version: int, space: Space) -> Expectation:
        """What a version expects in a space; to fit it takes seconds.

        Raises:
            PlatformError: There is no experience for it.
        """
        with PLANNING:
            return _kept(
                self._expectations,
                (version, space.key),
                EXPECTATIONS,
                lambda: Expectation(self.ranker(version), self._images, self.offline, space),
            )

    def foresight(self, version: int, space: Space, validations: int) -> Foresight:
        """What a version foresees of trainings with so many validations in a space; to fit it takes seconds.

        Raises:
            PlatformError: There are no learning curves for it.
        """
        with PLANNING:
            return _kept(
                self._foresights,
                (version, space.key, validations),
                EXPECTATIONS,
                lambda: Foresight(self.ranker(version), self._images, self.offline, space, validations),
            )

    @cached_property
    def offline(self) -> OfflineData:
        """The server's own data sets and their experience."""
        return OfflineData.from_bytes(self._store.offline())

    @cached_property
    def guard(self) -> Guard:
        """Judges new versions."""
        return Guard(self.offline, self._guard_settings, self._images)

    @cached_property
    def own_spaces(self) -> OwnSpaces:
        """Encoders of customers' own spaces."""
        return OwnSpaces(self._store, self.offline.experience.keys())


def _kept(shelf: OrderedDict[K, V], key: K, most: int, make: Callable[[], V]) -> V:
    """What is on the shelf, or is made and put there in place of what was wanted least recently."""
    if key not in shelf:
        made = make()
        while len(shelf) >= most:
            shelf.popitem(last=False)
        shelf[key] = made
    shelf.move_to_end(key)
    return shelf[key]
