"""What one request uses of its client's quotas."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import TYPE_CHECKING, Any, Final

from ottla.protocol.apis import ApiKey

if TYPE_CHECKING:
    from ottla.server.broker.quotas.client_quotas import ClientQuotas

PRODUCE: Final = int(ApiKey.PRODUCE)
FETCH: Final = int(ApiKey.FETCH)
FETCHES: Final = frozenset((FETCH, int(ApiKey.SHARE_FETCH)))
MUTATIONS: Final = frozenset((int(ApiKey.CREATE_TOPICS), int(ApiKey.DELETE_TOPICS), int(ApiKey.CREATE_PARTITIONS)))

_FRAME_PREFIX_BYTES: Final = 4
_PERCENT_PER_NS: Final = 100 / 1e9


class Usage:
    """What one request uses, from when its handler is called until its response is encoded."""

    __slots__ = ("_busy_ns", "_client_id", "_quotas", "_request_bytes", "_started_ns", "_user", "api_key", "is_timed")

    def __init__(self, quotas: ClientQuotas, api_key: int, request_bytes: int, user: str, client_id: str) -> None:
        self._quotas = quotas
        self._request_bytes = request_bytes
        self._user = user
        self._client_id = client_id
        self.api_key = api_key
        self.is_timed = bool(quotas.request.table)
        self._busy_ns = 0
        # None while nobody works on the request.
        self._started_ns = quotas.now_ns() if self.is_timed else None

    def prepare(self, request: Any) -> None:
        """Keep a fetch within what its quota could ever let through."""
        if self.api_key in FETCHES:
            request.max_bytes = min(request.max_bytes, self._quotas.fetch_limit(self._user, self._client_id))

    def pause(self) -> None:
        """The handler waits, and its time is nobody's."""
        if self._started_ns is not None:
            self._busy_ns += self._quotas.now_ns() - self._started_ns
            self._started_ns = None

    def resume(self) -> None:
        """The request is worked on again, or still."""
        if self.is_timed and self._started_ns is None:
            self._started_ns = self._quotas.now_ns()

    async def timed(self, awaitable: Awaitable[Any]) -> Any:
        """Await a handler that waits in between, counting only its own steps."""
        return await _Steps(awaitable, self)

    def settle(self, response: Any, response_bytes: int) -> int:
        """The response is made (None: there is none): charge for it; the milliseconds its client has to wait."""
        quotas, user, client_id, api_key = self._quotas, self._user, self._client_id, self.api_key
        now_ms = quotas.now_ms()
        waits = [0]
        # A client that wants no response is not told how long to wait; its bytes are limited all the same.
        if response is not None and self.is_timed:
            self.pause()
            waits.append(quotas.request.charge(user, client_id, self._busy_ns * _PERCENT_PER_NS, now_ms))
            self._busy_ns = 0
        if api_key == PRODUCE:
            waits.append(quotas.produce.charge(user, client_id, self._request_bytes, now_ms))
        elif api_key in FETCHES:
            size = response_bytes + _FRAME_PREFIX_BYTES
            waits.append(quotas.fetch.charge(user, client_id, size, now_ms))
            if max(waits) and api_key == FETCH:
                # Nothing of it is going to be sent. (What a share fetch has acquired is.)
                quotas.fetch.record(user, client_id, -size, now_ms)
        elif api_key in MUTATIONS and response is not None:
            waits.append(response.throttle_time_ms)
        return max(waits)

    def sent(self) -> None:
        """Charge for the time since `resume`, with the client's next request."""
        if self.is_timed:
            self.pause()
            amount = self._busy_ns * _PERCENT_PER_NS
            self._quotas.request.record(self._user, self._client_id, amount, self._quotas.now_ms())


class _Steps:
    """Drives an awaitable step by step, and tells a `Usage` when it runs."""

    __slots__ = ("_awaitable", "_usage")

    def __init__(self, awaitable: Awaitable[Any], usage: Usage) -> None:
        self._awaitable = awaitable
        self._usage = usage

    def __await__(self) -> Generator[Any, Any, Any]:
        steps: Any = self._awaitable.__await__()
        usage = self._usage
        value: Any = None
        error: BaseException | None = None
        while True:
            usage.resume()
            try:
                waited_for = steps.send(value) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value
            finally:
                usage.pause()
            value = error = None
            try:
                value = yield waited_for
            except BaseException as problem:
                error = problem
