"""Keeps a member of a share group alive, in the background."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ottla.client.errors import KafkaError, UnsupportedVersionError
from ottla.client.share.membership import Reaction, ShareMembership, no_share_groups
from ottla.protocol.messages.share_group_heartbeat import ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse

if TYPE_CHECKING:
    from ottla.client.metrics.consumer import GroupMetrics
    from ottla.client.network.cluster import Cluster

GROUP = 0
"""Key type of a group's coordinator."""
LONGEST_SLEEP_S = 3600.0

_LOG = logging.getLogger("ottla.client")


class ShareHeartbeats:
    """A task that carries out what the membership decides. `changed` is set when it has something to tell."""

    def __init__(
        self, cluster: Cluster, membership: ShareMembership, changed: asyncio.Event, metrics: GroupMetrics | None = None
    ) -> None:
        self._cluster = cluster
        self._membership = membership
        self._changed = changed
        self._metrics = metrics
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._attempt = 0

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    def wake(self) -> None:
        """Something may be due earlier than was thought."""
        self._wake.set()

    async def leave(self, timeout_ms: int) -> None:
        """Leave the group, if the member is in it; an answer is not insisted on."""
        if self._membership.may_be_known:
            try:
                await self._send(self._membership.leave_request(), timeout_ms)
            except KafkaError:
                pass  # the session of a member that is gone runs out by itself
        self._membership.left()

    async def stop(self) -> None:
        """No more heartbeats."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        try:
            await self._keep_up()
        except Exception as problem:
            _LOG.exception("Heartbeats of a share consumer failed as they never should")
            self._membership.error = KafkaError(f"heartbeats failed as they never should: {problem!r}.")
            self._changed.set()

    async def _keep_up(self) -> None:
        membership = self._membership
        while membership.error is None:
            now_ms = self._cluster.now_ms()
            if membership.poll_expired(now_ms):
                await self.leave(self._cluster.settings.request_timeout_ms)
                membership.left(until_polled=True)
                self._changed.set()
            elif membership.is_active and membership.next_heartbeat_ms <= now_ms:
                await self._beat()
            else:
                await self._sleep((membership.next_heartbeat_ms - now_ms) / 1000 if membership.is_active else None)

    async def _beat(self) -> None:
        membership = self._membership
        started_ms = self._cluster.now_ms()
        before = membership.assignment
        try:
            response = await self._send(membership.heartbeat_request(), self._cluster.settings.request_timeout_ms)
        except UnsupportedVersionError:
            membership.error = no_share_groups()
            self._changed.set()
            return
        except KafkaError as error:
            membership.unanswered(self._cluster.now_ms(), self._backoff_ms())
            if not error.retriable:
                membership.error = error
                self._changed.set()
            return
        now_ms = self._cluster.now_ms()
        backoff_ms = self._backoff_ms()
        reaction = membership.answered(response, now_ms, backoff_ms)
        if not response.error_code:
            self._attempt = 0
            if self._metrics is not None:
                self._metrics.heartbeat_answered(now_ms - started_ms)
        if reaction is Reaction.FIND_COORDINATOR:
            self._cluster.forget_coordinator(GROUP, membership.group_id)
            membership.next_heartbeat_ms = now_ms + backoff_ms
        if reaction is Reaction.FAIL or membership.assignment != before:
            if self._metrics is not None and reaction is not Reaction.FAIL:
                self._metrics.rebalanced(now_ms - started_ms)
            self._changed.set()

    async def _send(self, request: ShareGroupHeartbeatRequest, timeout_ms: int) -> ShareGroupHeartbeatResponse:
        node_id = await self._cluster.coordinator(GROUP, self._membership.group_id, timeout_ms)
        self._membership.may_be_known = True
        response = await self._cluster.request(node_id, request, timeout_ms=timeout_ms)
        assert isinstance(response, ShareGroupHeartbeatResponse)
        return response

    def _backoff_ms(self) -> int:
        self._attempt += 1
        return self._cluster.backoff.delay_ms(self._attempt - 1)

    async def _sleep(self, seconds: float | None) -> None:
        self._wake.clear()
        expiry_s = self._membership.seconds_until_poll_expires(self._cluster.now_ms())
        try:
            async with asyncio.timeout(min(LONGEST_SLEEP_S, expiry_s, LONGEST_SLEEP_S if seconds is None else seconds)):
                await self._wake.wait()
        except TimeoutError:
            pass
