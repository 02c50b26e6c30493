"""Who a customer is: a random token, of which the platform keeps only the hash.

A token is ``name.secret`` with a secret of 256 random bits.  Nobody can guess such a secret, so that one round of
SHA-256 keeps it as safe as the slow hashes that passwords need.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from pydantic import TypeAdapter, ValidationError

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.protocol.fields import Identifier

_NAME: TypeAdapter[str] = TypeAdapter(Identifier)
_TOKEN_LIMIT = 256
_NOBODY = "0" * 64


def new_token(store: Store, name: str) -> str:
    """Let a customer in and return his token, which can never be shown again.

    Raises:
        PlatformError: The name is taken, or is none.
    """
    try:
        _NAME.validate_python(name, strict=True)
    except ValidationError:
        raise PlatformError(
            f"{name!r} is no name for a customer: up to 64 letters, digits, '_', '-' and ':', a letter or digit first"
        ) from None
    secret = secrets.token_urlsafe(32)
    store.add_customer(name, _digest(secret))
    return f"{name}.{secret}"


def customer_of(store: Store, token: str) -> str | None:
    """The customer who shows this token; None for nobody."""
    name, dot, secret = token.partition(".")
    if not dot or len(token) > _TOKEN_LIMIT or not token.isascii():
        return None
    # A name that is not there takes as long as a wrong secret.
    known = store.token_sha256(name)
    same = hmac.compare_digest(_digest(secret), known or _NOBODY)
    return name if same and known is not None else None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
