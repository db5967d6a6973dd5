"""Reading as a consumer reads: aborted transactions filtered with what the broker says about them."""

from __future__ import annotations

from dataclasses import dataclass, field

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionData,
)
from ottla.records.batch import batches, crc_matches
from ottla.records.control import read_end_transaction_marker
from ottla.records.record import read_batch_records
from tests.simulation.workloads.client import RETRIABLE, BrokenError, Client
from tests.simulation.workloads.producer import Content

READ_UNCOMMITTED, READ_COMMITTED = 0, 1


@dataclass
class View:
    """What was read of one partition, from offset 0 up to `position`."""

    records: dict[int, Content] = field(default_factory=dict)
    position: int = 0
    high_watermark: int = 0
    last_stable_offset: int = 0


async def fetch(
    client: Client,
    topic: str,
    partition: int,
    offset: int,
    *,
    isolation: int = READ_COMMITTED,
    max_wait_ms: int = 0,
    max_bytes: int = 100_000,
) -> PartitionData:
    """One Fetch of one partition, repeated while the connection breaks."""
    wanted = FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=max_bytes)
    request = FetchRequest(
        max_wait_ms=max_wait_ms,
        min_bytes=1,
        max_bytes=max_bytes,
        isolation_level=isolation,
        topics=[FetchTopic(topic=topic, partitions=[wanted])],
    )
    while True:
        try:
            response = await client.ask(request, 12, FetchResponse)
        except BrokenError:
            await client.back_off()
            continue
        assert response.error_code == ErrorCode.NONE, response
        if not response.responses and response.throttle_time_ms:
            await client.back_off()  # the connection is muted for as long as the quota wants
            continue
        data = response.responses[0].partitions[0]
        if data.error_code not in RETRIABLE:
            return data
        await client.back_off()


def visible(data: PartitionData, offset: int, isolation: int) -> tuple[dict[int, Content], int]:
    """The records from `offset` on that a consumer hands to its application, and where it reads next."""
    aborted = sorted(data.aborted_transactions or (), key=lambda transaction: transaction.first_offset)
    open_aborted: set[int] = set()
    found: dict[int, Content] = {}
    content = data.records or b""
    for position, header in batches(content):
        assert crc_matches(content, position, header), "a corrupt batch was served"
        if header.last_offset < offset:
            continue
        if isolation == READ_COMMITTED and header.producer_id >= 0:
            while aborted and aborted[0].first_offset <= header.last_offset:
                open_aborted.add(aborted.pop(0).producer_id)
            if header.is_control:
                [control] = read_batch_records(content, position, header)
                marker = read_end_transaction_marker(control)
                if marker is not None and not marker.is_commit:
                    open_aborted.discard(header.producer_id)
            elif header.is_transactional and header.producer_id in open_aborted:
                offset = header.next_offset
                continue
        if not header.is_control:
            for record in read_batch_records(content, position, header):
                if record.offset >= offset:
                    found[record.offset] = (record.key, record.value)
        offset = header.next_offset
    return found, offset


async def follow(
    client: Client, topic: str, partition: int, view: View, *, isolation: int = READ_COMMITTED, max_wait_ms: int = 0
) -> bool:
    """Read on by one Fetch; whether it brought anything."""
    data = await fetch(client, topic, partition, view.position, isolation=isolation, max_wait_ms=max_wait_ms)
    if data.error_code == ErrorCode.OFFSET_OUT_OF_RANGE and client.cluster.may_lose:
        view.records, view.position = {}, 0
        return True
    assert data.error_code == ErrorCode.NONE, (topic, partition, view.position, ErrorCode(data.error_code))
    found, position = visible(data, view.position, isolation)
    view.records.update(found)
    moved = position > view.position
    view.position = position
    view.high_watermark, view.last_stable_offset = data.high_watermark, data.last_stable_offset
    return moved


async def read_all(client: Client, topic: str, partition: int, *, isolation: int = READ_COMMITTED) -> View:
    """Everything that is there now."""
    view = View()
    while await follow(client, topic, partition, view, isolation=isolation):
        pass
    return view
