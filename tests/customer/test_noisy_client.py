"""A customer with privacy noise at a real platform: the platform cannot tell, and asking again tells it nothing more."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest
import torch

from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.errors import PlatformError, UpdateLostError
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.metafeature.noise import Noise, NoiseSettings
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.session import GRADIENT_NORM
from nni_hyperfd.protocol import tensors
from nni_hyperfd.protocol.messages import CommitUpdate, FeatureStep, GradientStep, Message, OpenTask, Question
from nni_hyperfd.spaces.standard import standard_search_space

A = TypeVar("A")
BASE_ID = "base0"
HPO = standard_search_space("hpo")
SECRET = b"secret"


class Tapped:
    """A platform whose messages are listened to, and whose answer to number ``lost`` gets lost on its way."""

    def __init__(self, platform: Platform, lost: int | None = None) -> None:
        self._platform, self._lost = platform, lost
        self.heard: list[Message] = []

    def ask(self, question: Question[A]) -> A:
        answer = self._platform.ask(question)
        if isinstance(question, OpenTask | FeatureStep | GradientStep | CommitUpdate):
            self.heard.append(question)
            if len(self.heard) == self._lost:
                raise PlatformError("the answer was lost")
        return answer


def about_images(messages: list[Message]) -> list[tuple[object, ...]]:
    """What messages say about the images, without the names that differ between sessions."""
    found: list[tuple[object, ...]] = []
    for message in messages:
        if isinstance(message, OpenTask):
            found.append(message.subject.phi)
        elif isinstance(message, FeatureStep):
            found.append((message.step, message.phi, message.phi_tilde))
        elif isinstance(message, GradientStep):
            found.append((message.step, message.tensors))
        elif isinstance(message, CommitUpdate):
            found.append(message.phi)
    return found


def client_of(platform: Any, features: ImageFeatures, multiplier: float = 0.05) -> TaskClient:
    return TaskClient(platform, features, BASE_ID, noise=Noise(NoiseSettings(multiplier), SECRET))


def experiment(client: TaskClient, name: str = "exp") -> None:
    task = client.open(name, HPO)
    for ap, entry in zip((0.6, 0.7, 0.5), client.recommend(task, budget=3).configurations):
        client.record(task, entry.parameters, ap)
    client.update(task)


def test_an_update_with_noise_makes_a_version(platform: Platform, features: ImageFeatures) -> None:
    tap = Tapped(platform)
    kept: list[tuple[str, str]] = []
    noise = Noise(NoiseSettings(5.0), SECRET, lambda *names: kept.append(names))
    experiment(TaskClient(tap, features, BASE_ID, noise=noise))
    assert platform.status().version == 1
    # One answer each for φ, for every pair and for every gradient; nothing about the images goes unaccounted.
    assert len(kept) == len(tap.heard) >= 4
    assert {name for name, _ in kept} == {kept[0][0]}
    expected = dict(platform.ranker(0).extractor.named_parameters())
    for message in tap.heard:
        if isinstance(message, GradientStep):
            gradient = tensors.unpack(message.tensors, expected, "gradient", GRADIENT_NORM)
            assert tensors.total_norm(gradient) > 0.1 * GRADIENT_NORM


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_asking_again_brings_the_same_numbers(
    open_platform: Any, tmp_path: Any, features: ImageFeatures, lost: int
) -> None:
    straight = Tapped(open_platform(tmp_path / "straight"))
    experiment(client_of(straight, features))
    broken = Tapped(open_platform(tmp_path / "broken"), lost)
    with pytest.raises((PlatformError, UpdateLostError)):
        experiment(client_of(broken, features))
    # Another process with the same secret; the platform hears some messages twice, and nothing new in them.
    experiment(client_of(broken, features))
    once, twice = about_images(straight.heard), about_images(broken.heard)
    assert len(twice) > len(once)
    assert set(twice) == set(once)


def test_the_next_experiment_with_the_same_images_brings_the_same_phi(
    platform: Platform, features: ImageFeatures
) -> None:
    tap = Tapped(platform)
    for name in ("one", "two"):
        client_of(tap, features).open(name, HPO)
    first, second = about_images(tap.heard)
    assert first == second
    silent = TaskClient(platform, features, BASE_ID).subject(HPO).phi
    assert torch.dist(torch.tensor(first), torch.tensor(silent)) > 0.01
