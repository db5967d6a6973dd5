"""Producer ids for this broker's clients: taken from the controller in blocks, which no other broker ever gets.

When a tenth of a block is left, the next one is asked for, so that nobody waits for it. Where ids run out all the same
(no controller is active just then), who needs one waits a moment and is then told COORDINATOR_LOAD_IN_PROGRESS: clients
of all ages try again on that. A block whose answer was lost is lost with it: there are enough of them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from ottla.core.errors import ERRORS, ApiError, ErrorCode
from ottla.protocol.messages.allocate_producer_ids import AllocateProducerIdsRequest, AllocateProducerIdsResponse
from ottla.server.broker.controller_channel import ControllerUnavailableError
from ottla.server.peers.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ottla.server.broker.controller_channel import ControllerChannel

AHEAD: Final = 10
"""The next block is asked for when one in so many ids of the block at hand is left."""
LONGEST_WAIT_MS: Final = 1000
"""So long a client's request waits for a block."""
REQUEST_TIMEOUT_MS: Final = 30_000
PAUSE_MS: Final = 50
"""After a refusal, before the next attempt."""

logger = logging.getLogger(__name__)


class ProducerIds:
    """The blocks of one broker. Every id is given out once, here or anywhere."""

    def __init__(self, channel: ControllerChannel, node_id: int, broker_epoch: Callable[[], int]) -> None:
        self._channel = channel
        self._node_id = node_id
        self._broker_epoch = broker_epoch
        self._next = self._end = 0
        """The block at hand: what is left of it."""
        self._ask_at = 0
        """At this id it is time for the next block."""
        self._following: range | None = None
        self._newest_end = 0
        self._request: asyncio.Task[None] | None = None

    def try_producer_id(self) -> int | None:
        """A fresh producer id, if there is one at hand."""
        producer_id = self._next
        if producer_id >= self._end:
            block, self._following = self._following, None
            if block is None:
                return None
            producer_id, self._end = block.start, block.stop
            self._ask_at = block.stop - (len(block) + AHEAD - 1) // AHEAD
        self._next = producer_id + 1
        if producer_id >= self._ask_at:
            self._ask()
        return producer_id

    async def producer_id(self) -> int:
        """A fresh producer id. Raises ApiError COORDINATOR_LOAD_IN_PROGRESS when there is none for a while."""
        deadline = asyncio.get_running_loop().time() + LONGEST_WAIT_MS / 1000
        while (producer_id := self.try_producer_id()) is None:
            request = self._ask()
            remaining = deadline - asyncio.get_running_loop().time()
            if remaining <= 0:
                raise ApiError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, "There is no controller to give producer ids.")
            await asyncio.wait((request,), timeout=remaining)
        return producer_id

    def stop(self) -> None:
        """Ask for no more."""
        if self._request is not None:
            self._request.cancel()

    def _ask(self) -> asyncio.Future[None]:
        """One request at a time, for the block after the one at hand."""
        if self._request is None or self._request.done():
            if self._following is not None:
                done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                done.set_result(None)
                return done
            self._request = asyncio.ensure_future(self._allocate())
        return self._request

    async def _allocate(self) -> None:
        request = AllocateProducerIdsRequest(broker_id=self._node_id, broker_epoch=self._broker_epoch())
        try:
            response: AllocateProducerIdsResponse = await self._channel.request(request, timeout_ms=REQUEST_TIMEOUT_MS)
        except (ControllerUnavailableError, PeerError) as error:
            logger.warning("no producer ids: %s", error)
            return
        block = range(response.producer_id_start, response.producer_id_start + response.producer_id_len)
        if response.error_code:
            code = ERRORS.get(response.error_code, ErrorCode.UNKNOWN_SERVER_ERROR)
            logger.warning("no producer ids: the controller answers %s", code.name)
        elif not block or block.start < self._newest_end:
            logger.error("no producer ids: the controller offers %s, and %d is taken", block, self._newest_end - 1)
        else:
            self._following, self._newest_end = block, block.stop
            return
        await asyncio.sleep(PAUSE_MS / 1000)
