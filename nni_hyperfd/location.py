"""Where a platform is, as people write it: a folder, the URL of a database, or the address of a server."""

from __future__ import annotations

from nni_hyperfd.errors import PluginError

__all__ = ["platform_location"]


def platform_location(text: str) -> str:
    """``text``, if nobody can mean an address by it that would be taken for the name of a folder.

    Raises:
        PluginError: It looks like ``host:8600``; a folder of such a name is written ``./host:8600``.
    """
    first = text.strip().partition("/")[0]
    address_like = ":" in first and not first.startswith((".", "~", "$"))
    if "://" not in text and (address_like or text.startswith("//")):
        host = text.strip().removeprefix("https:").removeprefix("http:").lstrip("/")
        raise PluginError(
            f"the platform {text!r} may be a server or a folder: write https://{host} for the server, or ./{text.lstrip('/')} for a "
            "folder of that name."
        )
    return text
