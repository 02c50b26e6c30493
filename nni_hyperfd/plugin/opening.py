"""One way to every platform: a folder, a database, or a server."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from nni_hyperfd.customer import ledger, outbox
from nni_hyperfd.customer.http import HTTPPlatform, is_url
from nni_hyperfd.customer.kept import KeptRanker
from nni_hyperfd.customer.settings import Settings
from nni_hyperfd.customer.steady import SteadyPlatform
from nni_hyperfd.data.pixels import default_cache_dir
from nni_hyperfd.errors import PlatformError
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.protocol.calls import PlatformAPI


def platform_of(settings: Settings, notes: Path | None = None) -> PlatformAPI:
    """The platform that ``settings`` name.

    Args:
        settings: Checked ``classArgs``.
        notes: Folder of the experiment, for its ledger and outbox; by default the cache, as for what is no experiment's.
    """
    cache = settings.cache_dir or default_cache_dir()
    return open_platform(settings.platform, settings.token, notes or cache, cache)


def open_platform(location: str, token: str | None, notes: Path, cache: Path) -> PlatformAPI:
    """The platform at ``location``.

    Args:
        location: Folder of the state, URL of a database, or ``https://host:port`` of a server.
        token: For a server.
        notes: Folder for an experiment's ledger and outbox, if the platform is a server.
        cache: Folder for what can be downloaded again.

    Raises:
        PlatformError: The place holds something damaged, or the address or the token cannot be used.
    """
    if not is_url(location):
        return Platform.open(location)
    if not token:
        raise PlatformError(
            f"the platform {location} wants a token; set HYPERFD_TOKEN to the one that its operator gave you"
        )
    remote = HTTPPlatform(location, token, ledger.Ledger(notes / ledger.FILE_NAME))
    kept = KeptRanker(cache / "platforms" / sha256(remote.url.encode()).hexdigest()[:16])
    return SteadyPlatform(remote, kept, outbox.Outbox(notes / outbox.FILE_NAME))
