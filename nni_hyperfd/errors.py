"""The errors of this package: one root, so that a caller can catch everything of ours at once."""

from __future__ import annotations


class HyperFDError(Exception):
    """Root of all errors raised on purpose by ``nni_hyperfd``; the message is one sentence a user can act on."""


class SpaceError(HyperFDError):
    """A search space or a configuration that does not fit it."""


class DataError(HyperFDError):
    """A folder of images or annotations that cannot be used."""


class TrainingError(HyperFDError):
    """A fine-tuning that cannot go on, for example because its loss is not finite."""


class PlatformError(HyperFDError):
    """A platform state or request that is refused; the state is left as it was."""


class RankerError(PlatformError):
    """Settings, a state, results or a step that do not fit the ranker, wherever it runs."""


class UpdateLostError(PlatformError):
    """An update whose turn is over: it was taken over, or a newer version came first; begin it again."""


class PlatformAwayError(PlatformError):
    """A platform that cannot be reached, or cannot serve for now; the same message may be taken later."""


class RefusedError(PlatformError):
    """An experiment that was begun while the platform was away, and that the platform will not have."""


class UnknownTaskError(PlatformError):
    """A task that the platform does not have."""


class ForbiddenError(PlatformError):
    """A task or an update of another customer."""


class TrustError(PlatformError):
    """Customer and platform do not know each other: an unknown token, an untrusted certificate, another kind of server."""


class PluginError(HyperFDError):
    """A wrong setting of the NNI plugin or the command line."""
