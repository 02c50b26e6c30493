"""A platform behind a network: questions as HTTP requests.

Every question may be repeated without harm, so a request whose answer does not come is sent again.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import random
import secrets
import time
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlsplit

import requests
from requests.auth import AuthBase

from nni_hyperfd.customer.ledger import Ledger
from nni_hyperfd.errors import (
    ForbiddenError,
    PlatformAwayError,
    PlatformError,
    TrustError,
    UnknownTaskError,
    UpdateLostError,
)
from nni_hyperfd.protocol.calls import CALLS, PROTOCOL, read_answer
from nni_hyperfd.protocol.fields import RANKER_BYTES_LIMIT
from nni_hyperfd.protocol.messages import Question

logger = logging.getLogger(__name__)

PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds between one attempt of a call and the next."""
LONGEST_PAUSE = 30.0
"""Longest pause, in seconds, that a platform may ask for."""
TIMEOUT = (10.0, 300.0)
"""Seconds to connect, and of silence afterwards: an update on thousands of tasks thinks for minutes."""
ANSWER_LIMIT = 2 * RANKER_BYTES_LIMIT
"""Largest answer in bytes that is read."""

_TRY_AGAIN = frozenset((408, 429, 502, 503, 504))
_AWAY = _TRY_AGAIN | {500}
A = TypeVar("A")


class HTTPPlatform:
    """Implements :class:`~nni_hyperfd.protocol.calls.PlatformAPI`.

    Certificates are verified; one of an authority of your own is trusted by its file's name in the environment variable
    ``REQUESTS_CA_BUNDLE``.

    Args:
        url: Such as ``https://platform.example:8443``; ``http://`` only on this machine itself.
        token: That the platform's operator gave to this customer.
        ledger: List of everything that is sent; None to keep none.

    Raises:
        PlatformError: A URL or a token that cannot be used.
    """

    def __init__(self, url: str, token: str, ledger: Ledger | None = None) -> None:
        self.url = url.rstrip("/")
        self._ledger = ledger
        self._patient = True
        self._chance = random.Random()
        self._session = requests.Session()
        # As auth and not as a header, which a line of ~/.netrc would take the place of.
        self._session.auth = _Bearer(token)
        self._session.headers.update({"User-Agent": "nni-hyperfd", "X-HyperFD-Protocol": PROTOCOL})
        # A proxy named in the environment has no business between two programs of one machine.
        none: dict[str, Any] = {"http": None, "https": None, "all": None}
        self._proxies = none if _checked(url) else None

    def close(self) -> None:
        """Give up the connections."""
        self._session.close()

    def ask(self, question: Question[A]) -> A:
        """The answer to one question; sent again while nobody answers. See `PlatformAPI.ask`."""
        call = CALLS[type(question)]
        fields = question.model_dump(exclude_none=True) if call.method == "GET" else {}
        path = call.route.format(**{name: quote(str(value), safe="") for name, value in fields.items()})
        query = {name: value for name, value in fields.items() if f"{{{name}}}" not in call.route}
        body = None if call.method == "GET" else question.model_dump_json().encode()
        if self._ledger is not None:
            self._ledger.add(question, body or b"")
        answer = self._answer(path, query, body)
        if answer is None and call.may_be_none:
            return cast(A, None)
        if answer is None:
            raise UnknownTaskError(f"the platform {self.url} does not know this experiment")
        try:
            return read_answer(question, answer)
        except PlatformError as error:
            raise TrustError(
                f"the answer of {self.url} is not understood ({error}); update the package"
            ) from None

    # ------------------------------------------------------------------------------------------------ the wire

    def _answer(self, path: str, query: dict[str, Any], body: bytes | None) -> bytes | None:
        """The answer to a request; None for a task that is not there.

        Raises:
            PlatformAwayError: The platform was not reached in several attempts, or cannot serve.
            TrustError: Something else than the platform answered, or the platform does not know the token.
            PlatformError: It refused the message.
        """
        headers = {}
        if body is not None:
            headers = {"Content-Type": "application/json", "Idempotency-Key": secrets.token_hex(16)}
        # While a platform is away, each further call is one attempt: whoever waits for it has other things to do.
        pauses = PAUSES if self._patient else ()
        for pause in (*pauses, None):
            wanted = 0.0
            try:
                status, answer, wanted = self._once(f"{self.url}{path}", headers, query, body)
            except requests.exceptions.SSLError as error:
                reason = self._insecure(error)
            except (
                requests.ConnectionError,
                requests.Timeout,
                requests.exceptions.ChunkedEncodingError,
            ) as error:
                reason = _reason(error)
            except (requests.RequestException, OSError) as error:
                raise TrustError(f"cannot ask {self.url}: {error}") from None
            else:
                if status not in _TRY_AGAIN:
                    self._patient = status not in _AWAY
                    return self._read(status, answer)
                reason = self._told(status, answer)
            if pause is not None:
                time.sleep(max(pause * self._chance.uniform(0.75, 1.25), min(wanted, LONGEST_PAUSE)))
        self._patient = False
        raise PlatformAwayError(f"the platform {self.url} is away ({reason})")

    def _once(
        self, url: str, headers: dict[str, str], query: dict[str, Any], body: bytes | None
    ) -> tuple[int, bytes, float]:
        """Status, body, and the pause asked for in seconds."""
        with self._session.request(
            "GET" if body is None else "POST",
            url,
            params=query,
            data=body,
            headers=headers,
            timeout=TIMEOUT,
            proxies=self._proxies,
            # Wherever a redirection leads, the token was not meant for it.
            allow_redirects=False,
            stream=True,
        ) as answer:
            content = bytearray()
            for piece in answer.iter_content(2**16):
                content += piece
                if len(content) > ANSWER_LIMIT:
                    raise TrustError(f"{self.url} answered with more than {ANSWER_LIMIT} bytes")
            wanted = answer.headers.get("Retry-After", "")
            return answer.status_code, bytes(content), float(wanted) if wanted.isdecimal() else 0.0

    def _read(self, status: int, answer: bytes) -> bytes | None:
        if status == 200:
            return answer
        kind, told = _object(answer).get("kind"), self._told(status, answer)
        if status == 404 and kind == "no_task":
            return None
        if status == 409 and kind == "update_lost":
            raise UpdateLostError(told)
        if status == 403 and kind == "forbidden":
            raise ForbiddenError(told)
        if status in _AWAY:
            raise PlatformAwayError(f"the platform {self.url} cannot serve ({told})")
        if status == 401:
            raise TrustError(
                f"the platform {self.url} does not know the token; set HYPERFD_TOKEN to the one that its operator gave you"
            )
        if kind is None:
            raise TrustError(
                f"{self.url} does not answer like a platform of HyperFD (status {status}); check the address"
            )
        raise PlatformError(told)

    def _told(self, status: int, answer: bytes) -> str:
        """The platform's own sentence, or the status where there is none."""
        message = _object(answer).get("message")
        if not isinstance(message, str) or not message:
            return f"status {status}"
        return "".join(letter if letter.isprintable() else " " for letter in message[:500])

    def _insecure(self, error: requests.exceptions.SSLError) -> str:
        """Why the connection failed; a certificate that is not trusted will be no better the next time."""
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise TrustError(
                f"the certificate of {self.url} is not trusted ({_reason(error)}); if its authority is your own, name "
                "its file in the environment variable REQUESTS_CA_BUNDLE"
            ) from None
        return _reason(error)


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise PlatformError("the platform's token is empty or damaged; copy it again from its operator")
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def is_url(location: str) -> bool:
    """Whether a platform's location is the address of a server, and not a folder or a database."""
    return location.startswith(("http://", "https://"))


def _checked(url: str) -> bool:
    """Whether a URL leads to this machine itself.

    Raises:
        PlatformError: It is malformed, holds a password, or would send the token in the clear.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise PlatformError(f"the platform's address {url[:200]} is malformed: {error}") from None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise PlatformError(f"the platform's address {url[:200]} must be like https://host:port")
    if parts.username is not None or parts.password is not None:
        raise PlatformError(
            "the platform's address must not hold a name or password; set HYPERFD_TOKEN instead"
        )
    loopback = _is_loopback(host)
    if parts.scheme == "http" and not loopback:
        raise PlatformError(
            f"http://{host} would send the token in the clear; use https:// for a platform on another machine"
        )
    return loopback


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _object(answer: bytes) -> dict[str, Any]:
    try:
        content = json.loads(answer)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _reason(error: Exception) -> str:
    """The innermost reason of a failed request, such as "Connection refused"."""
    if isinstance(error, requests.Timeout):
        return "it did not answer in time"
    inner: BaseException = error
    while following := _cause(inner):
        inner = following
    return str(getattr(inner, "strerror", None) or inner)[:200]


def _cause(error: BaseException) -> BaseException | None:
    """The error inside another one, which requests and urllib3 keep as ``reason``, as an argument, or by ``raise from``."""
    inside = [getattr(error, "reason", None), *error.args, error.__cause__]
    return next((one for one in inside if isinstance(one, BaseException) and one is not error), None)
