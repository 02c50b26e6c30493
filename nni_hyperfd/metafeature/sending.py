"""The extractor's parameters θ_G on their way: into a message, and out of one."""

from __future__ import annotations

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.metafeature.extractor import VARIANTS, MetaFeatureExtractor
from nni_hyperfd.protocol import tensors
from nni_hyperfd.protocol.messages import ExtractorState, build


def extractor_state(extractor: MetaFeatureExtractor, version: int, images: int) -> ExtractorState:
    """θ_G of ranker version ``version`` as a message; a sample of a data set has ``images`` images."""
    return build(
        ExtractorState,
        version=version,
        variant=extractor.variant,
        images=images,
        tensors=tensors.pack(extractor.state_dict()),
    )


def received_extractor(state: ExtractorState) -> MetaFeatureExtractor:
    """G with the parameters of a message.

    Raises:
        PlatformError: This package lacks the variant, or the tensors are not that variant's.
    """
    variant = next((name for name in VARIANTS if name == state.variant), None)
    if variant is None:
        raise PlatformError(
            f"the platform uses the extractor variant {state.variant}, which this package lacks"
        )
    extractor = MetaFeatureExtractor(variant)
    load_extractor(extractor, state)
    return extractor


def load_extractor(extractor: MetaFeatureExtractor, state: ExtractorState) -> None:
    """Gives an extractor the parameters of a message.

    Raises:
        PlatformError: The tensors are not those of its variant.
    """
    extractor.load_state_dict(tensors.unpack(state.tensors, extractor.state_dict(), "extractor state"))
