"""The coordinator partitions of one internal topic that this broker leads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from ottla.core.errors import ApiError, ErrorCode
from ottla.server.coordinator.result import RecordCodec
from ottla.server.coordinator.runtime import (
    CoordinatorPartition,
    CoordinatorShard,
    PartitionLog,
    PartitionState,
    RuntimeSettings,
)

logger = logging.getLogger(__name__)

S = TypeVar("S", bound=CoordinatorShard)


class CoordinatorRuntime(Generic[S]):
    """The coordinator partitions that this broker leads. ``open_log`` gives None for a partition it cannot lead now."""

    def __init__(
        self,
        open_log: Callable[[int], PartitionLog | None],
        new_shard: Callable[[int], S],
        codec: RecordCodec,
        settings: RuntimeSettings,
        wall_clock_ms: Callable[[], int],
    ) -> None:
        self._open_log = open_log
        self._new_shard = new_shard
        self._codec = codec
        self._settings = settings
        self._wall_clock_ms = wall_clock_ms
        self._partitions: dict[int, CoordinatorPartition[S]] = {}

    def active(self, partition: int) -> CoordinatorPartition[S]:
        """The loaded partition; ApiError NOT_COORDINATOR or COORDINATOR_LOAD_IN_PROGRESS otherwise."""
        found = self._partitions.get(partition)
        if found is not None and found.state is PartitionState.ACTIVE:
            return found
        if found is not None and found.state is PartitionState.LOADING:
            raise ApiError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        raise ApiError(ErrorCode.NOT_COORDINATOR)

    def partitions(self) -> list[CoordinatorPartition[S]]:
        """All partitions here, in whatever state."""
        return list(self._partitions.values())

    def active_partitions(self) -> list[CoordinatorPartition[S]]:
        """All loaded partitions."""
        return [found for found in self._partitions.values() if found.state is PartitionState.ACTIVE]

    @property
    def is_loading(self) -> bool:
        """Whether some partition is not loaded yet."""
        return any(found.state is PartitionState.LOADING for found in self._partitions.values())

    def elected(self, partition: int, leader_epoch: int) -> None:
        """This broker leads the partition in that epoch: load it, unless it is loaded or being loaded already.

        Who was leader before as well has the same log: what is in memory, and what waits for its commit, stays. Only a
        load that failed is tried again.
        """
        found = self._partitions.get(partition)
        if found is not None:
            if found.leader_epoch >= leader_epoch:
                return
            if found.state in (PartitionState.LOADING, PartitionState.ACTIVE):
                found.leader_epoch = leader_epoch
                return
            self.resigned(partition)
        log = self._open_log(partition)
        if log is None:
            logger.error("coordinator partition %d is led here, but its log is not open", partition)
            return
        self._partitions[partition] = started = CoordinatorPartition(
            partition, leader_epoch, log, self._new_shard(partition), self._codec, self._settings, self._wall_clock_ms
        )
        started.start()

    def resigned(self, partition: int) -> None:
        """Another broker leads the partition, or it is gone."""
        found = self._partitions.pop(partition, None)
        if found is not None:
            found.close()

    def led_partitions(self) -> list[int]:
        """Indexes of all partitions here, loaded or not."""
        return list(self._partitions)

    def stop(self) -> None:
        """Refuse everything that waits; nothing is written."""
        for partition in self.led_partitions():
            self.resigned(partition)

    async def wait_until_loaded(self) -> None:
        """Return when no partition is loading any more."""
        waits: list[Awaitable[None]] = [found.wait_until_loaded() for found in self._partitions.values()]
        await asyncio.gather(*waits)
