"""Where a platform is, as people write it: a folder, the URL of a database, or the address of a server."""

from __future__ import annotations

import re
from pathlib import Path

from nni_hyperfd.errors import PluginError

__all__ = ["at_home", "platform_location"]

_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
# localhost, 10.0.0.1, platform.example.org: names of machines that a folder seldom has.
_MACHINE = re.compile(r"localhost|(?:[a-z0-9-]+\.)+(?!(?:db|sqlite)$)(?:[a-z]{2,}|\d{1,3})\.?", re.IGNORECASE)
# As `platform.state.store` names it, which is no room for customers to look into.
_DATABASE = "platform.sqlite"
_SLIPPED = re.compile(r"^(?:https?:?)?[/\\]*", re.IGNORECASE)


def platform_location(text: str, base: Path = Path()) -> str:
    """``text`` without blanks around it, if nobody can mean an address by it that would be taken for the name of a folder.

    A folder below ``base`` with a name like a machine's is meant if a platform is in it.

    Raises:
        PluginError: It looks like a machine, ``host:8600``, or a share, whose folder is written ``./host:8600``; or its scheme is
            ``file``; or nobody has the home folder that it names.
    """
    place = text.strip()
    scheme = _SCHEME.match(place)
    if scheme:
        if scheme[1].casefold() == "file":
            raise PluginError(f"the platform {text!r} is a folder: write its path, {place[scheme.end() :]}.")
        return scheme[0].casefold() + place[scheme.end() :]
    first = place.partition("/")[0]
    address_like = (
        any(mark in first for mark in ":@\\")
        or first.casefold() in ("http", "https")
        or (_MACHINE.fullmatch(first) is not None and not (base / place / _DATABASE).exists())
    )
    if place.startswith("//") or (address_like and not first.startswith((".", "~", "$"))):
        host = _SLIPPED.sub("", place, count=1)
        raise PluginError(
            f"the platform {text!r} may be a server or a folder: write https://{host} for the server, or ./{place.lstrip('/')} for a "
            "folder of that name."
        )
    if place.startswith("~"):
        at_home(Path(place))
    return place


def at_home(path: Path) -> Path:
    """``path`` with the home folder that its ``~`` means.

    Raises:
        PluginError: It names an account that this machine does not have.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise PluginError(
            f"{path} begins with the home folder of an account that is not on this machine: write the path itself."
        ) from error
