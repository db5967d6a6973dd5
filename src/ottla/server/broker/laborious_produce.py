"""Batches whose records have to be looked at before they are appended, in worker threads.

A topic that is compacted, or has a codec of its own, or a timestamp out of bounds, make the broker decompress what a
client has sent, and a kilobyte can become megabytes (`records.validation`). So that nobody holds up the others:

- it is done in worker threads, `AT_ONCE` batches of the whole broker at a time, in the order in which they came;
- the batches of a request together may become as long as one batch may, or `MOST_GROWTH` times what was sent, and hold
  `MOST_RECORDS`, or as many as uncompressed ones of that size. What is above is refused, MESSAGE_TOO_LARGE: producers
  split their batches then, and try again.

The requests of a connection stay in their order: this one is awaited as any other that cannot be answered at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, NamedTuple

from ottla.core.errors import ApiError, ErrorCode
from ottla.records.validation import (
    MOST_RECORDS,
    SMALLEST_RECORD_BYTES,
    Allowance,
    AppendOrigin,
    LaboriousBatchError,
    open_batch,
)

if TYPE_CHECKING:
    from ottla.core.binary import Buffer
    from ottla.protocol.messages.produce import PartitionProduceResponse
    from ottla.server.broker.broker import Broker
    from ottla.server.log.log import AppendResult
    from ottla.server.log.verification import Verification
    from ottla.server.replication.partition import Partition

AT_ONCE: Final = 2
MOST_GROWTH: Final = 16


class Unopened(NamedTuple):
    """A batch, and where its answer belongs: `answers[at]`."""

    answers: list[PartitionProduceResponse]
    at: int
    partition: Partition
    records: Buffer
    verification: Verification | None


async def append_opened(
    broker: Broker, unopened: list[Unopened], acks: int, produce_version: int
) -> AsyncIterator[tuple[Unopened, AppendResult | ApiError]]:
    """Open and append one after the other; what became of each."""
    if broker.openings is None:
        broker.openings = asyncio.Semaphore(AT_ONCE)
    sent = sum(len(batch.records) for batch in unopened)
    largest = max(batch.partition.log.config.rules.max_decompressed_bytes for batch in unopened)
    allowance = Allowance(max(largest, MOST_GROWTH * sent), max(MOST_RECORDS, sent // SMALLEST_RECORD_BYTES))
    for batch in unopened:
        try:
            result = await _append(broker, batch, acks, produce_version, allowance)
        except ApiError as error:
            yield batch, error
        else:
            yield batch, result


async def _append(
    broker: Broker, batch: Unopened, acks: int, produce_version: int, allowance: Allowance
) -> AppendResult:
    assert broker.openings is not None
    partition = batch.partition
    env = broker.env
    while True:
        rules = partition.log.config.rules
        async with broker.openings:
            opened = await env.run_blocking(open_batch, batch.records, env.clock.now_ms(), rules, allowance)
        if not partition.is_leader:
            raise ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        now_ms = env.clock.now_ms()
        try:
            return partition.append(opened, acks, now_ms, AppendOrigin.CLIENT, produce_version, batch.verification)
        except LaboriousBatchError:
            continue  # the settings of the topic are different now
