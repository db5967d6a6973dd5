"""A partition of an internal topic as its coordinator sees it: where replication and coordination meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.server.log.log import AppendOrigin

if TYPE_CHECKING:
    from collections.abc import Callable

    from ottla.runtime.env import Env
    from ottla.server.log.verification import Verification
    from ottla.server.replication.partition import Partition

REQUIRED_ACKS = -1  # what a coordinator answered must survive a change of leader


class CoordinatorLog:
    """The port `coordinator.runtime.PartitionLog` over a hosted partition."""

    __slots__ = ("_env", "_listener", "_partition")

    def __init__(self, partition: Partition, env: Env) -> None:
        self._partition = partition
        self._env = env
        self._listener: Callable[[], None] | None = None

    @property
    def log_start_offset(self) -> int:
        return self._partition.log.log_start_offset

    @property
    def log_end_offset(self) -> int:
        return self._partition.log.log_end_offset

    @property
    def high_watermark(self) -> int:
        return self._partition.log.high_watermark

    def append(
        self,
        records: bytearray,
        now_ms: int,
        *,
        verification: Verification | None = None,
        transaction_version: int = 0,
    ) -> int:
        return self._partition.append(
            records,
            REQUIRED_ACKS,
            now_ms,
            AppendOrigin.COORDINATOR,
            verification=verification,
            transaction_version=transaction_version,
        ).last_offset

    async def read(self, offset: int, max_bytes: int) -> bytes:
        log = self._partition.log
        found = log.read(offset, max_bytes, upper_bound=log.log_end_offset, min_one_batch=True)
        cached = found.read_cached()
        return bytes(cached) if cached is not None else bytes(await self._env.run_blocking(found.read))

    def delete_records_before(self, offset: int) -> None:
        """Cut off older records; ApiError when this broker does not lead the partition any more."""
        self._partition.delete_records_before(offset)

    def set_listener(self, listener: Callable[[], None] | None) -> None:
        if self._listener is None:
            self._partition.add_waiter(self)
        self._listener = listener
        if listener is None:
            self._partition.remove_waiter(self)

    def partition_changed(self, partition: Partition) -> None:
        """The partition's offsets moved (`replication.partition.PartitionWaiter`)."""
        if self._listener is not None:
            self._listener()
