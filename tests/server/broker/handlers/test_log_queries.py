"""ListOffsets, OffsetForLeaderEpoch, DeleteRecords, DescribeProducers and DescribeLogDirs in every version."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.messages import delete_records, describe_log_dirs, describe_producers, list_offsets
from ottla.protocol.messages import offset_for_leader_epoch as epochs
from ottla.records.batch import CorruptRecordError
from ottla.records.control import end_transaction_marker
from ottla.records.record import Record, build_batch
from ottla.records.validation import AppendOrigin
from ottla.runtime.memory_disk import MemoryDisk
from ottla.server.log.log import Log
from ottla.server.log.verification import UNVERIFIED
from tests.server.broker.data_world import NOW_MS, World, batch, world
from tests.server.broker.support import Client, run

LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED, EARLIEST_PENDING = -1, -2, -3, -4, -5, -6


def append(broker: World, *contents: bytes, topic: str = "topic", partition: int = 0, **options: Any) -> None:
    found = broker.partition(topic, partition)
    found.append(batch(*contents, **options), -1, NOW_MS, AppendOrigin.CLIENT, verification=UNVERIFIED)


async def offsets(
    client: Client,
    version: int,
    *wanted: tuple[str, int, int],
    isolation_level: int = 0,
    epoch: int = -1,
    replica_id: int = -1,
) -> list[tuple[int, int, int, int]]:
    """(topic, partition, timestamp) each → (error, timestamp, offset, leader epoch)."""
    request = list_offsets.ListOffsetsRequest(
        replica_id=replica_id,
        isolation_level=isolation_level if version >= 2 else 0,
        topics=[
            list_offsets.ListOffsetsTopic(
                name=name,
                partitions=[
                    list_offsets.ListOffsetsPartition(
                        partition_index=index, timestamp=timestamp, current_leader_epoch=epoch
                    )
                ],
            )
            for name, index, timestamp in wanted
        ],
    )
    response = await client.call(request, version)
    return [
        (found.error_code, found.timestamp, found.offset, found.leader_epoch)
        for topic in response.topics
        for found in topic.partitions
    ]


@pytest.mark.parametrize("version", range(1, 12))
def test_special_places_and_times(version: int) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(leader_epoch=2)
            stamps = (100, 300, 200, 300, 400)
            records = [Record(timestamp_ms=NOW_MS + stamp, value=b"v") for stamp in stamps]
            broker.partition().append(build_batch(records[:3]), -1, NOW_MS, AppendOrigin.CLIENT)
            broker.elect("topic")
            broker.partition().append(build_batch(records[3:4]), -1, NOW_MS, AppendOrigin.CLIENT)
            broker.partition().delete_records_before(1)
            client = await broker.client()
            old, new = (2, 3) if version >= 4 else (-1, -1)

            async def ask(timestamp: int) -> tuple[int, int, int, int]:
                return (await offsets(client, version, ("topic", 0, timestamp)))[0]

            unsupported = (ErrorCode.UNSUPPORTED_VERSION, -1, -1, -1)
            assert await ask(LATEST) == (0, -1, 4, new)
            assert await ask(EARLIEST) == (0, -1, 1, old)
            assert await ask(MAX_TIMESTAMP) == ((0, NOW_MS + 300, 1, old) if version >= 7 else unsupported)
            assert await ask(EARLIEST_LOCAL) == ((0, -1, 1, old) if version >= 8 else unsupported)
            assert await ask(LATEST_TIERED) == ((0, -1, -1, -1) if version >= 9 else unsupported)
            assert await ask(EARLIEST_PENDING) == ((0, -1, -1, -1) if version >= 11 else unsupported)
            assert await ask(-7) == unsupported
            assert await ask(0) == (0, NOW_MS + 300, 1, old), "deleted records are not found"
            assert await ask(NOW_MS + 101) == (0, NOW_MS + 300, 1, old)
            assert await ask(NOW_MS + 300) == (0, NOW_MS + 300, 1, old)
            assert await ask(NOW_MS + 301) == (0, -1, -1, -1)
            broker.partition().delete_records_before(4)
            broker.elect("topic")
            latest = new + 1 if version >= 4 else -1
            assert await ask(EARLIEST) == (0, -1, 4, latest), "the next record will be of the new epoch"

    run(main())


def test_what_can_not_be_fetched_yet_is_not_found() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            append(broker, b"a", timestamp_ms=NOW_MS)
            append(
                broker,
                b"b",
                timestamp_ms=NOW_MS + 50,
                producer_id=1,
                producer_epoch=0,
                base_sequence=0,
                transactional=True,
            )
            client = await broker.client()
            for version in (2, 7, 11):
                for isolation_level, latest, found in ((0, 2, 1), (1, 1, -1)):
                    answers = await offsets(
                        client,
                        version,
                        ("topic", 0, LATEST),
                        isolation_level=isolation_level,
                    )
                    assert answers[0][2] == latest
                    answers = await offsets(client, version, ("topic", 0, NOW_MS + 1), isolation_level=isolation_level)
                    assert answers[0][2] == found
            broker.create_topic("pair", replicas=[1, 2])
            append(broker, b"not replicated", topic="pair")
            assert (await offsets(client, 7, ("pair", 0, LATEST)))[0][2] == 0
            assert (await offsets(client, 7, ("pair", 0, LATEST), replica_id=2))[0][2] == 1

    run(main())


@pytest.mark.parametrize("version", [1, 5, 6, 11])
def test_refusals_of_list_offsets(version: int) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(leader_epoch=2)
            broker.create_topic("elsewhere", leader=2, replicas=[2])
            client = await broker.client()
            answers = await offsets(
                client,
                version,
                ("nowhere", 0, LATEST),
                ("topic", 3, LATEST),
                ("elsewhere", 0, LATEST),
                ("topic", 0, LATEST),
            )
            assert [answer[0] for answer in answers] == [
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                ErrorCode.NOT_LEADER_OR_FOLLOWER,
                0,
            ]
            answers = await offsets(client, version, ("topic", 0, LATEST), ("topic", 0, EARLIEST))
            assert [answer[0] for answer in answers] == [ErrorCode.INVALID_REQUEST] * 2
            if version >= 4:
                for epoch, code in ((1, ErrorCode.FENCED_LEADER_EPOCH), (3, ErrorCode.UNKNOWN_LEADER_EPOCH), (2, 0)):
                    assert (await offsets(client, version, ("topic", 0, LATEST), epoch=epoch))[0][0] == code

    run(main())


def test_a_disk_that_fails_during_a_search_is_an_error_of_that_partition() -> None:
    async def main() -> None:
        disk = MemoryDisk()
        async with world(disk=disk) as broker:
            broker.create_topic()
            append(broker, b"a")
            client = await broker.client()
            disk.fail_at(1, operations=["read", "open"], forever=True)
            assert (await offsets(client, 7, ("topic", 0, 5)))[0][0] == ErrorCode.KAFKA_STORAGE_ERROR
            disk.clear_faults()

    run(main())


def test_a_search_that_meets_corrupt_records_is_an_error_of_that_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    def corrupt() -> None:
        raise CorruptRecordError("batch length 0 at byte 17")

    async def main() -> None:
        async with world() as broker:
            broker.create_topic(partitions=2)
            append(broker, b"a")
            client = await broker.client()
            with monkeypatch.context() as patch:
                patch.setattr(Log, "timestamp_search", lambda self, timestamp_ms: corrupt)
                answers = await offsets(client, 7, ("topic", 0, 5), ("topic", 1, LATEST))
            assert [answer[0] for answer in answers] == [ErrorCode.CORRUPT_MESSAGE, ErrorCode.NONE]

    run(main())


@pytest.mark.parametrize("version", [2, 3, 4])
def test_where_leader_epochs_ended(version: int) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(leader_epoch=1)
            append(broker, b"a", b"b")
            broker.elect("topic")
            broker.elect("topic")
            append(broker, b"c")
            broker.elect("topic")
            client = await broker.client()

            async def ask(epoch: int, topic: str = "topic", current: int = -1) -> tuple[int, int, int]:
                wanted = epochs.OffsetForLeaderPartition(partition=0, leader_epoch=epoch, current_leader_epoch=current)
                request = epochs.OffsetForLeaderEpochRequest(
                    topics=[epochs.OffsetForLeaderTopic(topic=topic, partitions=[wanted])]
                )
                found = (await client.call(request, version)).topics[0].partitions[0]
                return found.error_code, found.leader_epoch, found.end_offset

            assert await ask(1) == (0, 1, 2)
            assert await ask(2) == (0, 1, 2)
            assert await ask(3) == (0, 3, 3)
            assert await ask(4) == (0, 4, 3), "the current epoch, though it wrote nothing yet"
            assert await ask(5) == (0, -1, -1)
            assert await ask(1, "nowhere") == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1, -1)
            assert await ask(1, current=3) == (ErrorCode.FENCED_LEADER_EPOCH, -1, -1)
            assert await ask(1, current=5) == (ErrorCode.UNKNOWN_LEADER_EPOCH, -1, -1)
            assert await ask(1, current=4) == (0, 1, 2)

    run(main())


@pytest.mark.parametrize("version", [0, 1, 2])
def test_records_are_deleted_up_to_the_high_watermark(version: int) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            broker.create_topic("compacted", settings={"cleanup.policy": "compact"})
            broker.create_topic("both", settings={"cleanup.policy": "compact,delete"})
            broker.create_topic("__consumer_offsets")
            append(broker, b"a", b"b", b"c")
            client = await broker.client()

            async def delete(offset: int, topic: str = "topic", partition: int = 0) -> tuple[int, int]:
                wanted = delete_records.DeleteRecordsPartition(partition_index=partition, offset=offset)
                request = delete_records.DeleteRecordsRequest(
                    topics=[delete_records.DeleteRecordsTopic(name=topic, partitions=[wanted])], timeout_ms=1000
                )
                found = (await client.call(request, version)).topics[0].partitions[0]
                return found.error_code, found.low_watermark

            assert await delete(2) == (0, 2)
            assert await delete(1) == (0, 2), "never back"
            assert await delete(4) == (ErrorCode.OFFSET_OUT_OF_RANGE, -1)
            assert await delete(-2) == (ErrorCode.OFFSET_OUT_OF_RANGE, -1)
            assert await delete(-1) == (0, 3)
            assert broker.partition().log.log_start_offset == 3
            assert await delete(0, "nowhere") == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1)
            assert await delete(0, partition=9) == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1)
            assert await delete(0, "compacted") == (ErrorCode.POLICY_VIOLATION, -1)
            assert await delete(0, "both") == (0, 0)
            assert await delete(0, "__consumer_offsets") == (ErrorCode.INVALID_TOPIC_EXCEPTION, -1)

    run(main())


def test_producers_and_their_transactions_are_described() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(partitions=2)
            append(broker, b"a", b"b", producer_id=7, producer_epoch=3, base_sequence=4)
            append(broker, b"c", producer_id=8, producer_epoch=0, base_sequence=0, transactional=True)
            append(broker, b"d", producer_id=9, producer_epoch=0, base_sequence=0, transactional=True)
            marker = end_transaction_marker(
                is_commit=True, producer_id=9, producer_epoch=0, coordinator_epoch=6, timestamp_ms=NOW_MS
            )
            broker.partition().append(marker, -1, NOW_MS, AppendOrigin.COORDINATOR)
            client = await broker.client()
            request = describe_producers.DescribeProducersRequest(
                topics=[
                    describe_producers.TopicRequest(name="topic", partition_indexes=[0, 1, 2]),
                    describe_producers.TopicRequest(name="nowhere", partition_indexes=[0]),
                    describe_producers.TopicRequest(name="no where", partition_indexes=[0]),
                ]
            )
            response = await client.call(request, 0)
            partitions = [found for topic in response.topics for found in topic.partitions]
            unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            illegal = ErrorCode.INVALID_TOPIC_EXCEPTION
            assert [found.error_code for found in partitions] == [0, 0, unknown, unknown, illegal]
            assert [
                (
                    state.producer_id,
                    state.producer_epoch,
                    state.last_sequence,
                    state.last_timestamp,
                    state.coordinator_epoch,
                    state.current_txn_start_offset,
                )
                for state in partitions[0].active_producers
            ] == [(7, 3, 5, NOW_MS, -1, -1), (8, 0, 0, NOW_MS, -1, 2), (9, 0, 0, NOW_MS, 6, -1)]
            assert partitions[1].active_producers == []

    run(main())


@pytest.mark.parametrize("version", range(1, 6))
def test_log_directories_are_described(version: int) -> None:
    async def main() -> None:
        disk = MemoryDisk(capacity_bytes=1_000_000)
        async with world({"log.dirs": "one,two", "cordoned.log.dirs": "two"}, disk=disk) as broker:
            broker.create_topic(partitions=2)
            broker.create_topic("other")
            append(broker, bytes(1000))
            client = await broker.client()

            async def describe(topics: list[Any] | None) -> dict[str, dict[tuple[str, int], int]]:
                request = describe_log_dirs.DescribeLogDirsRequest(topics=topics)
                response = await client.call(request, version)
                assert response.error_code == 0
                for found in response.results:
                    assert found.error_code == 0
                    if version >= 4:
                        assert 0 < found.usable_bytes < found.total_bytes
                    else:
                        assert found.usable_bytes == found.total_bytes == -1
                    assert found.is_cordoned == (version >= 5 and found.log_dir == "two")
                return {
                    found.log_dir: {
                        (topic.name, partition.partition_index): partition.partition_size
                        for topic in found.topics
                        for partition in topic.partitions
                    }
                    for found in response.results
                }

            size = broker.partition().log.size_in_bytes
            assert size > 1000
            assert await describe(None) == {"one": {("topic", 0): size, ("topic", 1): 0, ("other", 0): 0}, "two": {}}
            wanted = [describe_log_dirs.DescribableLogDirTopic(topic="topic", partitions=[0])]
            assert await describe(wanted) == {"one": {("topic", 0): size}, "two": {}}
            assert await describe([]) == {"one": {}, "two": {}}

    run(main())


def test_a_failed_log_directory_is_described_as_such() -> None:
    async def main() -> None:
        disk = MemoryDisk()
        async with world({"log.dirs": "one,two"}, disk=disk) as broker:
            broker.create_topic(partitions=2)
            client = await broker.client()
            failing = broker.broker.log_directories.directory_of(broker.partition().log.topic_partition)
            assert failing is not None
            disk.fail_at(1, path_part=f"{failing.path}/topic", operations=["append"], forever=True)
            answer = await broker.produce(client, batch(b"a"))
            assert answer.error_code == ErrorCode.KAFKA_STORAGE_ERROR
            response = await client.call(describe_log_dirs.DescribeLogDirsRequest(topics=None), 4)
            codes = {found.log_dir: found.error_code for found in response.results}
            assert codes.pop(failing.path) == ErrorCode.KAFKA_STORAGE_ERROR
            assert list(codes.values()) == [0]
            disk.clear_faults()

    run(main())
