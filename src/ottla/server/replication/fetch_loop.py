"""One connection to one leader: the shell of `fetcher.LeaderFetcher`."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

from ottla.protocol.messages.fetch import FetchRequest
from ottla.server.peers.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ottla.runtime.env import Env
    from ottla.server.peers.peers import Address
    from ottla.server.replication.fetcher import LeaderFetcher

logger = logging.getLogger(__name__)


class Asking(Protocol):
    """As much of `ottla.server.peers.Peers` as this needs."""

    async def send(self, address: Address, message: Any, *, timeout_ms: int, channel: str) -> Any:
        """The response. Raises PeerError."""


class FetchLoop:
    """Asks and takes answers, as long as there is something to fetch.

    `locate` gives the leader's address, None while it is not known.
    """

    def __init__(
        self,
        leader_id: int,
        core: LeaderFetcher,
        env: Env,
        peers: Asking,
        locate: Callable[[], Address | None],
        channel: str,
        timeout_ms: int,
    ) -> None:
        self.leader_id = leader_id
        self.core = core
        self.is_waiting = False
        """Whether the leader holds a request of ours."""
        self.asked_at_s = 0.0
        self._env = env
        self._peers = peers
        self._locate = locate
        self._channel = channel
        self._timeout_ms = timeout_ms
        self._wake = asyncio.Event()
        self._has_failed = False
        self._task = asyncio.get_running_loop().create_task(self._run(), name=channel)

    def wake(self) -> None:
        """There may be something to ask now."""
        self._wake.set()

    def stop(self) -> asyncio.Task[None]:
        """End it; what to wait for."""
        self._task.cancel()
        return self._task

    async def _run(self) -> None:
        core = self.core
        while True:
            self._wake.clear()
            request = core.next_request(self._now_ms())
            if request is None:
                await self._rest()
                continue
            try:
                await self._ask(request)
            except asyncio.CancelledError:
                raise
            except Exception:
                # A bug: the partitions of this leader are tried again, and those of others are not hurt.
                logger.exception("fetching over %s failed", self._channel)
                core.request_failed(self._now_ms())

    async def _ask(self, request: Any) -> None:
        core = self.core
        address = self._locate()
        try:
            if address is None:
                raise PeerError("nobody knows where it listens.")
            self.is_waiting = True
            self.asked_at_s = asyncio.get_running_loop().time()
            response = await self._peers.send(address, request, timeout_ms=self._timeout_ms, channel=self._channel)
        except PeerError as error:
            if not self._has_failed:
                self._has_failed = True
                logger.warning("%s: the leader cannot be fetched from: %s", self._channel, error)
            core.request_failed(self._now_ms())
            return
        finally:
            self.is_waiting = False
        if self._has_failed:
            self._has_failed = False
            logger.info("%s: the leader answers again", self._channel)
        wall_ms = self._env.clock.now_ms()
        if isinstance(request, FetchRequest):
            core.fetched(response, self._now_ms(), wall_ms)
        else:
            core.offsets_found(response, self._now_ms(), wall_ms)

    async def _rest(self) -> None:
        deadline_ms = self.core.deadline_ms()
        try:
            if deadline_ms is None:
                await self._wake.wait()
            else:
                await asyncio.wait_for(self._wake.wait(), max(deadline_ms - self._now_ms(), 1) / 1000)
        except TimeoutError:
            pass

    @staticmethod
    def _now_ms() -> int:
        return int(asyncio.get_running_loop().time() * 1000)
