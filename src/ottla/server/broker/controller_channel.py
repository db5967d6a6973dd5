"""Requests to the active controller, wherever it is: in this process, on another node, or about to be elected.

The channel asks whoever leads the metadata log, as this node knows it. NOT_CONTROLLER, a lost connection and an unknown
leader are reasons to try again, until the time of the request is over: a request may therefore be carried out twice,
and every API that goes this way can take that, as in Kafka. Where the active controller is in this very process, its
handler is called directly, without a connection.

When leadership moves, nobody waits for the old leader's answer any longer, and whoever pauses between attempts goes on
at once (`leader_changed`). Each API has a connection of its own, so that a topic of ten thousand partitions does not
hold up the heartbeats behind it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

from ottla.core.errors import ApiError, ErrorCode
from ottla.server.broker.request_metrics import error_counter

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from ottla.protocol.message import Request, Response
    from ottla.server.broker.request_metrics import CountErrors
    from ottla.server.peers.peers import Address, Peers

CHANNEL_PREFIX: Final = "controller:"
FIRST_PAUSE_MS: Final = 20
LONGEST_PAUSE_MS: Final = 250
"""Between attempts: the first pause, doubled each time up to the longest, and half of it by chance."""


class ControllerUnavailableError(Exception):
    """No active controller answered in time; one line says why the last attempt failed."""


class LeaderLocator(Protocol):
    """As much of the metadata log as the channel needs (`ottla.server.raft.metadata_log.MetadataLog`)."""

    def leader_address(self) -> tuple[str, int] | None:
        """Host and port of the leader's controller listener; None when either is unknown."""


class LocalController(Protocol):
    """The controller in this process (`ottla.server.broker.local_controller`)."""

    @property
    def is_active(self) -> bool:
        """Whether it may be asked."""

    async def answer(self, message: Request) -> Any:
        """The response. Raises ApiError NOT_CONTROLLER when it is not, or ceases to be, the active one."""


class ControllerChannel:
    """`request` asks the active controller.

    `peers` makes the connections when the first one is needed. `local` is None on nodes without the controller role.
    An attempt that is not answered within `attempt_timeout_ms` (controller.socket.timeout.ms) is given up.
    """

    def __init__(
        self,
        peers: Callable[[], Peers],
        log: LeaderLocator,
        random: Random,
        *,
        local: LocalController | None = None,
        attempt_timeout_ms: int = 30_000,
    ) -> None:
        self._peers = peers
        self._log = log
        self._random = random
        self._local = local
        self._attempt_timeout_ms = attempt_timeout_ms
        self._asked: Address | None = None
        """Where requests went last."""
        self._change: asyncio.Future[None] | None = None
        """Ends the pauses of all who wait for a leader."""

    async def request(self, message: Request, *, timeout_ms: int) -> Any:
        """The active controller's response to `message`, in the highest version that both sides know.

        Raises ControllerUnavailableError when there is none within `timeout_ms`, and UnsupportedPeerVersionError when
        the active controller does not offer the API.
        """
        deadline = asyncio.get_running_loop().time() + timeout_ms / 1000
        pause_ms = FIRST_PAUSE_MS
        while True:
            change = self._next_change()
            response, problem = await self._attempt(message, deadline)
            if problem is None:
                return response
            remaining_ms = _remaining_ms(deadline)
            if remaining_ms <= 0:
                what = type(message).__name__.removesuffix("Request")
                raise ControllerUnavailableError(f"{what}: no answer within {timeout_ms} ms: {problem}")
            by_chance = pause_ms * (0.5 + 0.5 * self._random.random())
            await asyncio.wait((change,), timeout=min(by_chance, remaining_ms) / 1000)
            pause_ms = FIRST_PAUSE_MS if change.done() else min(2 * pause_ms, LONGEST_PAUSE_MS)

    def leader_changed(self, _: object = None) -> None:
        """Another node leads the metadata log, or nobody does."""
        asked, self._asked = self._asked, None
        if asked is not None and asked != self._log.leader_address():
            reason = f"{asked[0]}:{asked[1]} is not the active controller any more."
            self._peers().disconnect(asked, reason, channel_prefix=CHANNEL_PREFIX)
        change, self._change = self._change, None
        if change is not None:
            change.set_result(None)

    def served_versions(self, api_key: int) -> tuple[int, int] | None:
        """Lowest and highest version of a forwarded API that the active controller serves, as far as it is known."""
        if self._asked is None:
            return None
        return self._peers().versions(self._asked, f"{CHANNEL_PREFIX}EnvelopeRequest").get(api_key)

    async def _attempt(self, message: Request, deadline: float) -> tuple[Any, str | None]:
        """The response, or why there is none yet."""
        local = self._local
        remaining_ms = max(1, _remaining_ms(deadline))
        if local is not None and local.is_active:
            return await self._ask_local(local, message, remaining_ms)
        address = self._log.leader_address()
        if address is None:
            return None, "there is no active controller."
        # Imported here: a node that is a cluster of its own asks nobody else.
        from ottla.server.peers.errors import PeerError, UnsupportedPeerVersionError

        self._asked = address
        timeout_ms = min(remaining_ms, self._attempt_timeout_ms)
        channel = CHANNEL_PREFIX + type(message).__name__
        try:
            response = await self._peers().send(address, message, timeout_ms=timeout_ms, channel=channel)
        except UnsupportedPeerVersionError:
            raise
        except PeerError as error:
            return None, str(error)
        if _says_not_controller(response):
            return None, f"{address[0]}:{address[1]} is not the active controller."
        return response, None

    async def _ask_local(self, local: LocalController, message: Request, timeout_ms: int) -> tuple[Any, str | None]:
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await local.answer(message), None
        except TimeoutError:
            return None, "the active controller, which is on this node, did not answer."
        except ApiError as error:
            if error.code != ErrorCode.NOT_CONTROLLER:
                raise
            return None, "this node is not the active controller any more."

    def _next_change(self) -> asyncio.Future[None]:
        if self._change is None:
            self._change = asyncio.get_running_loop().create_future()
        return self._change


def _says_not_controller(response: Response) -> bool:
    """Whether it is refused so as a whole, or any part of it."""
    cls = type(response)
    if cls not in _COUNTERS:
        _COUNTERS[cls] = error_counter(cls)
    count = _COUNTERS[cls]
    errors: dict[int, int] = {}
    return count is not None and count(response, errors) and int(ErrorCode.NOT_CONTROLLER) in errors


_COUNTERS: dict[type[Response], CountErrors | None] = {}


def _remaining_ms(deadline: float) -> int:
    return int((deadline - asyncio.get_running_loop().time()) * 1000)
