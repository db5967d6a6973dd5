"""Faults of requests: which requests are meant, how often, and what becomes of them.

An `Interceptor` is what a broker's router asks instead of its handlers while there are such faults. Those that fit a
request act together: delays add up, and the first that fails it or drops its connection decides how it ends.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.client.errors import KafkaTimeoutError
from ottla.core.errors import ErrorCode
from ottla.server.broker.broker import CloseConnectionError
from ottla.server.node.identity import NODE_CLIENT_ID
from ottla.testing.refusals import Refusal, outcome, refuse
from ottla.testing.subjects import Target, is_meant

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.broker.dispatch import Handle, Route
    from ottla.testing.lines import Cut


class Fault:
    """Something that is wrong with a cluster, until `clear`, the end of its `with` block, or its last time.

    `hits` counts how often it has struck. May be used from every thread.
    """

    def __init__(self, text: str, times: int | None, on_clear: Callable[[Fault], None]) -> None:
        self.text = text
        """What it is, in one line."""
        self.number = 0
        """Its number in the cluster, from 1."""
        self._left = times
        self._hits = 0
        self._is_cleared = False
        self._on_clear = on_clear
        self._changed = threading.Condition()

    @property
    def hits(self) -> int:
        """How often it has struck."""
        return self._hits

    @property
    def is_active(self) -> bool:
        """Whether it can strike again."""
        return not self._is_cleared and self._left != 0

    def wait_hit(self, timeout_s: float = 10.0, *, hits: int = 1) -> None:
        """Wait until it has struck, `hits` times in all. Raises `KafkaTimeoutError`.

        It blocks the thread: in an event loop whose clients shall meet the fault, await `wait_hit_async`.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._hits >= hits, timeout_s):
                raise KafkaTimeoutError(
                    f"{self._hits} of {hits} hits within {timeout_s:g} s: {self.text}.",
                    hint="Does the code under test send such requests to this cluster?",
                )

    async def wait_hit_async(self, timeout_s: float = 10.0, *, hits: int = 1) -> None:
        """`wait_hit` for asyncio."""
        await asyncio.to_thread(self.wait_hit, timeout_s, hits=hits)

    def clear(self) -> None:
        """Take the fault back. Nothing happens when it is over already."""
        with self._changed:
            if self._is_cleared:
                return
            self._is_cleared = True
        self._on_clear(self)

    def expire(self) -> None:
        """Its time is over, and what it did is undone; told by what injects it."""
        with self._changed:
            self._is_cleared = True

    def take(self) -> bool:
        """Strike, if it may still do so; told by what injects it."""
        with self._changed:
            if not self.is_active:
                return False
            if self._left is not None:
                self._left -= 1
            self._hits += 1
            self._changed.notify_all()
            return True

    def give_back(self) -> None:
        """It did not strike after all."""
        with self._changed:
            if self._left is not None:
                self._left += 1
            self._hits -= 1

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {"id": self.number, "fault": self.text, "hits": self._hits, "active": self.is_active, "left": self._left}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.clear()

    def __repr__(self) -> str:
        return f"<Fault {self.number}: {self.text}, {self._hits} hits{'' if self.is_active else ', over'}>"


class Effect(NamedTuple):
    """What happens to a request. Delays are seconds of the cluster's clock."""

    delay_request_s: float = 0.0
    delay_response_s: float = 0.0
    drop_request: bool = False
    drop_response: bool = False
    code: ErrorCode | None = None
    message: str | None = None


class Filter(NamedTuple):
    """Which requests are meant. `api_keys` None is all of them."""

    api_keys: frozenset[int] | None = None
    target: Target = Target()
    client_id: str | None = None

    def fits(self, broker: Broker, route: Route, request: Any, context: RequestContext) -> bool:
        """Whether this request is meant."""
        return (
            (self.api_keys is None or route.api.key in self.api_keys)
            and (_is_no_node(context) if self.client_id is None else self.client_id == context.client_id)
            and (self.target == _ANYTHING or is_meant(self.target, broker, route, request))
        )


_ANYTHING = Target()


def _is_no_node(context: RequestContext) -> bool:
    """What brokers ask each other meets faults only when their client id is named."""
    return context.client_id is None or not context.client_id.startswith(NODE_CLIENT_ID)


class RequestFault(Fault):
    """A fault of requests."""

    def __init__(
        self,
        text: str,
        times: int | None,
        on_clear: Callable[[Fault], None],
        *,
        requests: Filter,
        effect: Effect,
        after: int = 0,
    ) -> None:
        """It spares the first `after` requests that are meant."""
        super().__init__(text, times, on_clear)
        self.requests = requests
        self.effect = effect
        self._spared = after

    def take(self) -> bool:
        with self._changed:
            if self._spared > 0 and self.is_active:
                self._spared -= 1
                return False
        return super().take()


class Interceptor:
    """What stands in front of one broker's handlers. `on_change` is called when the list of faults is another."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.faults: list[RequestFault] = []
        self.cuts: list[Cut] = []
        self._on_change = on_change

    @property
    def is_needed(self) -> bool:
        """Whether there is anything that might strike."""
        return bool(self.faults or self.cuts)

    def __call__(self, route: Route, handle: Handle, broker: Broker, request: Any, context: RequestContext) -> Any:
        cut = next((one for one in self.cuts if one.holds(context)), None)
        struck = [
            fault for fault in self.faults if fault.requests.fits(broker, route, request, context) and fault.take()
        ]
        if not all(fault.is_active for fault in self.faults):
            self.faults = [fault for fault in self.faults if fault.is_active]
            self._on_change()
        if cut is None and not struck:
            return handle(broker, request, context)
        return _carry_out(self, cut, struck, route, handle, broker, request, context)

    def give_back(self, fault: RequestFault) -> None:
        """The request had no place for its error: it is still to strike."""
        fault.give_back()
        if fault.is_active and fault not in self.faults:
            self.faults.append(fault)
            self._on_change()


async def _carry_out(
    interceptor: Interceptor,
    cut: Cut | None,
    struck: list[RequestFault],
    route: Route,
    handle: Handle,
    broker: Broker,
    request: Any,
    context: RequestContext,
) -> Any:
    """Answer a request that is not to be answered as usual."""
    if cut is not None:
        assert context.connection is not None
        await cut.hold(context.connection)
    effects = [fault.effect for fault in struck]
    if delay_s := sum(effect.delay_request_s for effect in effects):
        await asyncio.sleep(delay_s)
    ending = next((fault for fault in struck if fault.effect.code is not None or fault.effect.drop_request), None)
    response: Any = None
    if ending is None:
        response = await outcome(handle(broker, request, context))
    elif (code := ending.effect.code) is None:
        raise CloseConnectionError(ending.text)
    else:
        refusal = Refusal(code, ending.effect.message, ending.requests.target)
        has_struck = False
        try:
            response, has_struck = await refuse(refusal, route, handle, broker, request, context)
        finally:
            if not has_struck:
                interceptor.give_back(ending)
    if delay_s := sum(effect.delay_response_s for effect in effects):
        await asyncio.sleep(delay_s)
    for fault in struck:
        if fault.effect.drop_response:
            raise CloseConnectionError(fault.text)
    return response
