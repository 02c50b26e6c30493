"""How much a customer may ask of the server: how often, how large, how slowly."""

from __future__ import annotations

import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus

import anyio
from anyio import CapacityLimiter
from starlette.requests import ClientDisconnect, Request

from nni_hyperfd.protocol.messages import RecommendRequest
from nni_hyperfd.server.refusals import Refusal

_NEIGHBORS = 1500
"""About how many candidates a generation adds: the best 50, each changed in every place."""
_RANKED = 50
"""Candidates that count as one more request: whoever asks for 20 000 of a space of networks, which takes about two seconds, has a quarter of
the ranker's time and not all of it."""
_PIECE = 2**16
"""Bytes of a body that count as one more request: reading a body of 4 MiB keeps all customers waiting for a tenth of a second."""


@dataclass(frozen=True)
class Limits:
    """What one customer may ask for.

    Args:
        rate: Requests a second, on average; an update sends some hundred small ones in a row.
        burst: Requests in a row that may come faster.
        at_once: Requests under way.
        body_bytes: Largest body, counted after unpacking; a gradient of the extractor takes 0.27 MB.
        body_seconds: Longest time in which a body may arrive.
        ranked: Largest number of candidates that one recommendation looks at, all generations together; 20 000
            architectures take about a second.
    """

    rate: float = 50.0
    burst: int = 200
    at_once: int = 64
    body_bytes: int = 4 * 2**20
    body_seconds: float = 20.0
    ranked: int = 20_000


class Rates:
    """A bucket of tokens for each customer: ``burst`` at most, ``rate`` more a second, one a request and one a piece of its body."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = limits.rate, float(limits.burst), clock
        self._largest = min(limits.burst, limits.body_bytes // _PIECE)
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens, and when they were counted

    def take(self, customer: str) -> None:
        """Count one request.

        Raises:
            Refusal: It is one too many.
        """
        tokens, moment = self._tokens(customer)
        enough = tokens >= 1.0
        self._buckets[customer] = (tokens - 1.0 if enough else tokens, moment)
        if not enough:
            raise _too_many(
                f"these are more than {self._rate:g} requests a second", (1.0 - tokens) / self._rate
            )

    def pay(self, customer: str, pieces: int) -> None:
        """Count pieces of a body, which have come and so are counted in any case.

        Raises:
            Refusal: They are more than there was room for; in the time that it names there is room for the largest body.
        """
        left = self.owe(customer, pieces)
        if left < 0.0:
            raise _too_many(
                f"these are more bytes than {self._rate:g} pieces of {_PIECE // 1024} KiB a second",
                (self._largest - left) / self._rate,
            )

    def owe(self, customer: str, requests: int) -> float:
        """Count what a request that was taken is worth; what there are no tokens for the next ones wait for. Tokens that are left."""
        tokens, moment = self._tokens(customer)
        self._buckets[customer] = (tokens - requests, moment)
        return tokens - requests

    def _tokens(self, customer: str) -> tuple[float, float]:
        """Those of now, and when that is."""
        moment = self._clock()
        tokens, counted = self._buckets.get(customer, (self._burst, moment))
        return min(self._burst, tokens + (moment - counted) * self._rate), moment


class UnderWay:
    """Each customer's requests that are not answered yet.

    Those that may wait for the ranker come one at a time, so that of the threads that wait for it, and of its time, each customer has
    the same share, however much one of them asks for. So do plans, which wait for each other.
    """

    def __init__(self, limits: Limits) -> None:
        self._most = limits.at_once
        self._count: Counter[str] = Counter()
        self._turns: defaultdict[tuple[str, bool], CapacityLimiter] = defaultdict(lambda: CapacityLimiter(1))

    @contextmanager
    def one_more(self, customer: str) -> Iterator[None]:
        """Count a request until it is answered.

        Raises:
            Refusal: It is one too many.
        """
        if self._count[customer] >= self._most:
            raise _too_many(f"{self._most} of your requests are not answered yet", 1.0)
        self._count[customer] += 1
        try:
            yield
        finally:
            self._count[customer] -= 1

    def turn(self, customer: str, plans: bool) -> CapacityLimiter:
        """What the next of them waits for."""
        return self._turns[customer, plans]


async def read_body(request: Request, limits: Limits, pay: Callable[[int], None]) -> bytes:
    """The body of a request, unpacked.

    It is counted while it comes in, so that no more than a little above the limit is ever held, whatever the header
    says and however well it was packed.

    Args:
        request: Whose body.
        limits: Of its customer.
        pay: Told of each further piece that has come.

    Raises:
        Refusal: It is too large, too slow, more than the customer may send now, or not what its header says.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise _malformed("a body may be packed by gzip only")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limits.body_bytes:
        raise _too_large(limits)
    unpacker = _Inflater(limits) if encoding == "gzip" else None
    body, received, paid = bytearray(), 0, 0
    try:
        with anyio.fail_after(limits.body_seconds):
            async for chunk in request.stream():
                received += len(chunk)
                body += chunk if unpacker is None else unpacker.inflate(chunk, len(body))
                pieces = max(received, len(body)) // _PIECE
                pay(pieces - paid)
                paid = pieces
                if max(received, len(body)) > limits.body_bytes:
                    raise _too_large(limits)
    except TimeoutError:
        raise Refusal(
            HTTPStatus.REQUEST_TIMEOUT,
            "too_slow",
            f"the body did not arrive within {limits.body_seconds:g} seconds",
        ) from None
    except ClientDisconnect:
        raise _malformed("the body ended too early") from None
    if unpacker is not None:
        unpacker.finish()
    return bytes(body)


def work_of(message: RecommendRequest, limits: Limits) -> int:
    """As how many further requests a recommendation counts; one that would keep the server busy for long is refused.

    Raises:
        Refusal: It would.
    """
    ranked = message.candidates + _NEIGHBORS * message.generations
    if ranked > limits.ranked:
        raise _malformed(
            f"{message.candidates} candidates and {message.generations} generations are more than this platform ranks at "
            f"once ({limits.ranked}, where a generation counts as {_NEIGHBORS}); ask for fewer"
        )
    return ranked // _RANKED


class _Inflater:
    """One gzip stream, unpacked no further than the limit."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    def inflate(self, chunk: bytes, so_far: int) -> bytes:
        if self._stream.eof and chunk:
            raise _malformed("something follows the packed body")
        try:
            part = self._stream.decompress(chunk, self._limits.body_bytes + 1 - so_far)
        except zlib.error:
            raise _malformed("the body is not what gzip makes") from None
        if self._stream.unconsumed_tail:
            raise _too_large(self._limits)
        if self._stream.unused_data:
            raise _malformed("something follows the packed body")
        return part

    def finish(self) -> None:
        if not self._stream.eof:
            raise _malformed("the packed body ended too early")


def _malformed(message: str) -> Refusal:
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "refused", message)


def _too_many(what: str, seconds: float) -> Refusal:
    return Refusal(
        HTTPStatus.TOO_MANY_REQUESTS, "too_many", f"{what}; wait and send it again", retry_after=seconds
    )


def _too_large(limits: Limits) -> Refusal:
    return Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too_large",
        f"the body is larger than {limits.body_bytes} bytes",
    )
