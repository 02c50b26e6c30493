r"""Differentially private messages about a customer's images: the clipped Gaussian mechanism.

*Adjacency.* Two data sets are neighbors if they differ in one image of the train split, replaced by any other one together
with its boxes. The number of images n is no secret.

*Mechanism.* With noise every image goes through G alone, as a data set of one, so that it moves a mean over images by its
own share and no more. Each image's vector is clipped to norm C, so that a replacement moves the mean of n of them by at most
2C/n, whatever G the platform has sent and whatever the image is; the noise is Gaussian with z times that as its deviation in
each coordinate. A gradient is treated in the same way, image by image, and clipped to a multiple of the norm of the
gradient that it answers, which the platform itself has sent.

*Composition.* Every *question* (a G and what is asked of it) is one Gaussian mechanism of noise multiplier z. φ and φ̃ come
from two halves of the images, so an image moves only one of them, and the pair is one mechanism.

*Repetition.* Noise is drawn by a key that is made of a secret of the customer's, the data and the question. A question that
is asked again, as after a lost answer or in the next experiment, gets the same answer: nothing can be averaged away, and
nothing is spent twice. Different data get different noise, so that the difference of two answers is no answer.

The Gaussian mechanism: Dwork and Roth, The Algorithmic Foundations of Differential Privacy, 2014, §3.5.3; gradients clipped one
by one: Abadi et al., Deep Learning with Differential Privacy, 2016.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from nni_hyperfd.errors import DataError
from nni_hyperfd.metafeature.extractor import MetaFeatureExtractor, image_inputs
from nni_hyperfd.metafeature.features import ImageFeatures

DELTA = 1e-5
"""δ at which ε is stated: far below one in the number of images of any customer."""

CLIP = 8.0
"""C. G ends in a layer normalization over 64 numbers, so an image's vector has norm √64 unless its gains are trained far away."""

GRADIENT_CLIP = 32.0
"""Longest gradient of one image per unit of ∂L/∂φ; those of the shipped G are about as long."""

ORDERS = tuple(1 + 10 ** (tenth / 10) for tenth in range(-40, 41))
"""Of Rényi differential privacy: those near 1 matter where ε is large, and large ones where it is small."""

DATA_DIGITS, QUESTION_DIGITS = 16, 32
"""Lengths of the names by which answers are kept."""

CHUNK = 64
"""Images whose gradients are in memory at once, 0.2 MB each."""


@dataclass(frozen=True)
class NoiseSettings:
    """How much noise.

    Args:
        multiplier: Z, standard deviation of the noise in units of the sensitivity.
        clip: C, largest norm of one image's share of φ.
        gradient_clip: Largest norm of one image's share of ∂L/∂θ_G, in units of the norm of ∂L/∂φ.
        delta: δ.

    Raises:
        DataError: A value out of range.
    """

    multiplier: float
    clip: float = CLIP
    gradient_clip: float = GRADIENT_CLIP
    delta: float = DELTA

    def __post_init__(self) -> None:
        for name in ("multiplier", "clip", "gradient_clip", "delta"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)) or (name == "delta" and value >= 1):
                raise DataError(f"Privacy noise: {name} is {value!r}; it must be a finite number above 0.")


def epsilon(answers: Mapping[float, int], delta: float = DELTA) -> float:
    """ε of all answers together, at most; by Opacus' accountant of Rényi differential privacy.

    Args:
        answers: Noise multiplier -> number of Gaussian mechanisms with it, each of which may depend on the ones before.
        delta: δ.

    Raises:
        DataError: Opacus is not installed.
    """
    if not any(answers.values()):
        return 0.0
    rdp = accountant()
    spent = sum(
        np.asarray(rdp.compute_rdp(q=1.0, noise_multiplier=multiplier, steps=count, orders=ORDERS))
        for multiplier, count in answers.items()
    )
    return float(rdp.get_privacy_spent(orders=ORDERS, rdp=spent, delta=delta)[0])


def accountant() -> ModuleType:
    """Opacus' analysis of Rényi differential privacy.

    Raises:
        DataError: Opacus is not installed.
    """
    try:
        from opacus.accountants.analysis import rdp
    except ImportError:
        raise DataError(
            "Privacy noise is accounted for by Opacus, which is not installed; run pip install 'nni-hyperfd[privacy]'."
        ) from None
    return rdp


def clip_rows(rows: Tensor, norm: float) -> Tensor:
    """Rows ``[n, F]``, each scaled down to ``norm`` where it is longer; a row that is not finite becomes zeros.

    The latter is what a hostile G may bring about, and zeros tell no more than a clipped row does.
    """
    found = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)
    if not found.isfinite().all():
        rows = torch.where(found.isfinite(), rows, 0.0)
    # A factor for very long rows would lose its digits in float32, and with them the bound.
    return (rows.double() * (norm / found).clamp(max=1.0).nan_to_num()).to(rows.dtype)


def noised(clean: Tensor, sensitivity: float, multiplier: float, generator: np.random.Generator) -> Tensor:
    """The Gaussian mechanism: ``clean`` ``[F]`` with noise of deviation ``multiplier`` x ``sensitivity`` in each entry."""
    drawn = torch.from_numpy(generator.standard_normal(len(clean)))
    return (clean.double() + multiplier * sensitivity * drawn).float()


class Noise:
    """One customer's noise.

    Args:
        settings: How much.
        secret: Never leaves this machine; whoever has it can take the noise off.
        keep: Called with names of the data and of a question before that is answered for the first time here.
    """

    def __init__(
        self, settings: NoiseSettings, secret: bytes, keep: Callable[[str, str], None] | None = None
    ) -> None:
        self.settings = settings
        self._secret, self._keep = secret, keep
        self._asked: set[bytes] = set()

    def view(self, extractor: MetaFeatureExtractor, features: ImageFeatures) -> NoisyView:
        """``features`` as they may be seen.

        Raises:
            DataError: There are not two images to make φ and φ̃ of.
        """
        return NoisyView(self, extractor, features)

    def answer(self, data: bytes, question: bytes) -> np.random.Generator:
        """The noise of one answer; the same for the same question, and unpredictable without the secret.

        Args:
            data: Digest of the data set.
            question: Digest of G and of what is asked of it.
        """
        about = hmac.digest(self._secret, data, "sha256")
        key = hmac.digest(self._secret, about + question + repr(self.settings).encode(), "sha256")
        if key not in self._asked:
            if self._keep is not None:
                self._keep(about.hex()[:DATA_DIGITS], sha256(key).hexdigest()[:QUESTION_DIGITS])
            self._asked.add(key)
        # All 256 bits go in: torch's generator would keep 32 of them, few enough to try them all.
        return np.random.default_rng(int.from_bytes(key, "big"))


class NoisyView:
    """The view with noise; implements :class:`~nni_hyperfd.metafeature.view.View`.

    Every image takes part in every answer: where noise outweighs sampling, a larger mean is worth more than a fresh sample.

    Raises:
        DataError: There are fewer than two images.
    """

    def __init__(self, noise: Noise, extractor: MetaFeatureExtractor, features: ImageFeatures) -> None:
        count = len(features)
        if count < 2:
            raise DataError(
                "Privacy noise needs at least two images in the train split: it hides one among others."
            )
        self._noise, self._extractor = noise, extractor
        self._inputs = image_inputs(features, extractor.variant)
        # The data set's statistics if all images were like this one: the others' boxes are not this image's to tell.
        boxes = (features.boxes.float() * count).log1p()
        self._statistics = torch.stack([torch.full_like(boxes, math.log(count)), boxes], 1)
        self._data = _digest([self._inputs, self._statistics])

    def meta_feature(self) -> Tensor:
        generator, settings = self._ask("phi"), self._noise.settings
        images = self._images()
        return noised(images.mean(0), 2 * settings.clip / len(images), settings.multiplier, generator)

    def pair(self) -> tuple[Tensor, Tensor]:
        generator, settings = self._ask("pair"), self._noise.settings
        images = self._images()
        sensitivity = 2 * settings.clip / (len(images) // 2)
        phi, phi_tilde = (
            noised(half.mean(0), sensitivity, settings.multiplier, generator) for half in _halves(images)
        )
        return phi, phi_tilde

    def gradient(self, phi: Tensor, phi_tilde: Tensor) -> dict[str, Tensor]:
        generator, settings = self._ask("gradient", phi, phi_tilde), self._noise.settings
        largest = settings.gradient_clip * float(max(phi.norm(), phi_tilde.norm()))
        first, second = (
            self._mean_gradient(inputs, statistics, answer, settings.gradient_clip * float(answer.norm()))
            for inputs, statistics, answer in zip(
                _halves(self._inputs), _halves(self._statistics), (phi, phi_tilde)
            )
        )
        sensitivity = 2 * largest / (len(self._inputs) // 2)
        flat = noised(first + second, sensitivity, settings.multiplier, generator)
        parameters = dict(self._extractor.named_parameters())
        parts = flat.split([parameter.numel() for parameter in parameters.values()])
        return {name: part.view_as(parameters[name]) for name, part in zip(parameters, parts)}

    @torch.no_grad()
    def _images(self) -> Tensor:
        """Each image's own meta-feature, clipped: ``[n, 64]``."""
        return clip_rows(self._extractor(self._inputs[:, None], self._statistics), self._noise.settings.clip)

    def _mean_gradient(self, inputs: Tensor, statistics: Tensor, answer: Tensor, norm: float) -> Tensor:
        """Mean over images of their clipped gradients of <answer, φ of the image>: ``[P]``, all parameters of G in a row."""
        extractor = self._extractor
        buffers = dict(extractor.named_buffers())

        def said(parameters: dict[str, Tensor], image: Tensor, statistic: Tensor) -> Tensor:
            state = {**parameters, **buffers}
            return functional_call(extractor, state, (image[None, None], statistic[None]))[0] @ answer

        parameters = {name: parameter.detach() for name, parameter in extractor.named_parameters()}
        each = vmap(grad(said), in_dims=(None, 0, 0))
        total = torch.zeros(sum(parameter.numel() for parameter in parameters.values()), dtype=torch.float64)
        for images, statistic in zip(inputs.split(CHUNK), statistics.split(CHUNK)):
            # The fused attention has no rule for vmap and would go image by image.
            with sdpa_kernel(SDPBackend.MATH):
                found = each(parameters, images, statistic)
            rows = torch.cat([found[name].flatten(1) for name in parameters], 1)
            total += clip_rows(rows, norm).sum(0)
        return total / len(inputs)

    def _ask(self, kind: str, *arguments: Tensor) -> np.random.Generator:
        extractor = self._extractor
        state = [tensor for _, tensor in sorted(extractor.state_dict().items())]
        what = f"{kind} {extractor.variant}".encode()
        return self._noise.answer(self._data, sha256(what + _digest([*state, *arguments])).digest())


def _halves(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Every second row, and the others: the longer half first."""
    return rows[0::2], rows[1::2]


def _digest(tensors: Iterable[Tensor]) -> bytes:
    found = sha256()
    for tensor in tensors:
        found.update(repr((tensor.shape, tensor.dtype)).encode())
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.digest()
