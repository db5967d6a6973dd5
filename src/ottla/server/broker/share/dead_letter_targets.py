"""Partitions of dead-letter queues, here or on another broker: append a batch, and wait until it is committed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from ottla.core.errors import ERRORS, ApiError, ErrorCode
from ottla.records.validation import AppendOrigin

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker
    from ottla.server.replication.partition import Partition

_REQUIRED_ACKS = -1
# The last version that names topics: an id would have to be told by each side's own metadata.
_PRODUCE_VERSION = 12
_CHANNEL = "dead letters"


class Target(Protocol):
    """One partition of a queue."""

    topic: str
    max_message_bytes: int

    async def append(self, batch: bytearray, now_ms: int) -> None:
        """Return when the batch is committed. Raises ApiError when it is refused, or nobody knows what became of it."""


class LocalTarget:
    """A partition that this broker leads."""

    def __init__(self, partition: Partition) -> None:
        self.topic = partition.topic
        self.max_message_bytes = partition.log.config.max_message_bytes
        self._partition = partition

    async def append(self, batch: bytearray, now_ms: int) -> None:
        """Return when the high watermark has passed the batch. Raises ApiError."""
        partition = self._partition
        result = partition.append(batch, _REQUIRED_ACKS, now_ms, AppendOrigin.COORDINATOR)
        if partition.log.high_watermark > result.last_offset:
            return
        waiter = _Commit(result.last_offset)
        partition.add_waiter(waiter)
        try:
            await waiter.done
        finally:
            partition.remove_waiter(waiter)


class RemoteTarget:
    """A partition that another broker leads: it gets a Produce request."""

    def __init__(self, broker: Broker, leader: int, topic: str, partition: int, max_message_bytes: int) -> None:
        self.topic = topic
        self.max_message_bytes = max_message_bytes
        self._broker = broker
        self._leader = leader
        self._partition = partition

    async def append(self, batch: bytearray, now_ms: int) -> None:
        """Return when the leader says that the batch is committed. Raises ApiError."""
        from ottla.protocol.messages.produce import (
            PartitionProduceData,
            ProduceRequest,
            ProduceResponse,
            TopicProduceData,
        )
        from ottla.server.broker.neighbours import Neighbours
        from ottla.server.peers.errors import PeerError

        timeout_ms = self._broker.config["request.timeout.ms"]
        data = PartitionProduceData(index=self._partition, records=batch)
        request = ProduceRequest(
            acks=_REQUIRED_ACKS,
            timeout_ms=timeout_ms,
            topic_data=[TopicProduceData(name=self.topic, partition_data=[data])],
        )
        try:
            response: ProduceResponse = await Neighbours(self._broker).ask(
                self._leader, request, channel=_CHANNEL, version=_PRODUCE_VERSION
            )
        except PeerError as error:
            raise ApiError(ErrorCode.NETWORK_EXCEPTION, str(error)) from None
        answer = response.responses[0].partition_responses[0]
        if answer.error_code:
            code = ERRORS.get(answer.error_code, ErrorCode.UNKNOWN_SERVER_ERROR)
            raise ApiError(code, answer.error_message or code.message)


class _Commit:
    """Waits until a partition's high watermark has passed an offset, or its leader is another one."""

    def __init__(self, last_offset: int) -> None:
        self._last_offset = last_offset
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def partition_changed(self, partition: Partition) -> None:
        if self.done.done():
            return
        if not partition.is_leader:
            self.done.set_exception(ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER))
        elif partition.log.high_watermark > self._last_offset:
            self.done.set_result(None)
