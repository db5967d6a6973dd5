"""The registry of hosted partitions follows the metadata."""

from __future__ import annotations

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.metadata_records import ConfigRecord, PartitionRecord
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.config import BrokerConfig
from ottla.server.replication.replicas import Replicas
from tests.server.broker.data_world import NOW_MS, batch, world
from tests.server.broker.support import NODE_ID, run


def test_partitions_placed_here_are_hosted_by_name_and_by_id() -> None:
    async def main() -> None:
        async with world() as broker:
            topic_id = broker.create_topic("here", 2)
            broker.create_topic("elsewhere", leader=2, replicas=[2])
            replicas = broker.replicas
            assert {(found.topic, found.partition) for found in replicas} == {("here", 0), ("here", 1)}
            assert replicas.get("here", 1) is replicas.get_by_id(topic_id, 1)
            assert replicas.get("here", 2) is None
            assert replicas.get_by_id(bytes(16), 0) is None
            image = broker.metadata.image
            assert replicas.missing_partition_error("nowhere", 0, image) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            assert replicas.missing_partition_error("here", 2, image) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            assert replicas.missing_partition_error("elsewhere", 0, image) == ErrorCode.NOT_LEADER_OR_FOLLOWER

    run(main())


def test_new_partitions_of_a_topic_are_added() -> None:
    async def main() -> None:
        async with world() as broker:
            topic_id = broker.create_topic()
            first = broker.partition()
            broker.commit(
                PartitionRecord(
                    partition_id=1,
                    topic_id=topic_id,
                    replicas=[1],
                    isr=[1],
                    leader=1,
                    leader_epoch=0,
                    partition_epoch=0,
                )
            )
            assert broker.partition() is first
            assert broker.partition(index=1).is_leader

    run(main())


def test_a_topic_deleted_and_made_again_in_one_commit_is_the_new_one() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            client = await broker.client()
            await broker.produce(client, batch(b"old"))
            old = broker.partition()
            broker.delete_topic("topic")
            assert broker.replicas.get("topic", 0) is None
            broker.create_topic()
            assert broker.partition() is not old
            assert not old.is_leader
            assert broker.partition().log.log_end_offset == 0

    run(main())


def test_changed_settings_reach_the_logs() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic("plain")
            broker.create_topic("chosen", settings={"retention.ms": "5"})
            broker.commit(ConfigRecord(resource_type=2, resource_name="plain", name="retention.ms", value="7"))
            assert broker.partition("plain").log.config.retention_ms == 7
            broker.commit(ConfigRecord(resource_type=2, resource_name="plain", name="retention.ms", value=None))
            assert broker.partition("plain").log.config.retention_ms == 604_800_000
            # A broker's setting is the default of the topics; whoever composes the node hands the configuration over.
            for resource in ("", str(NODE_ID)):
                broker.replicas.config = broker.broker.config.with_dynamic({"log.retention.ms": "9"}, {})
                broker.commit(ConfigRecord(resource_type=4, resource_name=resource, name="log.retention.ms", value="9"))
                assert broker.partition("plain").log.config.retention_ms == 9
                assert broker.partition("chosen").log.config.retention_ms == 5

    run(main())


def test_a_whole_image_is_taken_over_at_start() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic("kept", 2)
            broker.create_topic("gone")
            client = await broker.client()
            await broker.produce(client, batch(b"a"), topic="kept")
            config = BrokerConfig.of({"node.id": NODE_ID})
            again = Replicas(NODE_ID, config, broker.broker.log_directories)
            again.load(broker.metadata.image)
            assert len(list(again)) == 3
            found = again.get("kept", 0)
            assert found is not None
            assert (found.log.log_end_offset, found.log.high_watermark) == (1, 1)
            broker.delete_topic("gone")
            again.load(broker.metadata.image)
            assert {found.topic for found in again} == {"kept"}

    run(main())


def test_a_partition_whose_log_cannot_be_made_is_offline_and_the_others_are_served() -> None:
    async def main() -> None:
        disk = MemoryDisk()
        async with world({"log.dirs": "one,two"}, disk=disk) as broker:
            disk.fail_at(1, path_part="topic-0")
            broker.create_topic(partitions=2)
            disk.clear_faults()
            assert broker.replicas.get("topic", 0) is None
            image = broker.metadata.image
            assert broker.replicas.missing_partition_error("topic", 0, image) == ErrorCode.KAFKA_STORAGE_ERROR
            client = await broker.client()
            assert (await broker.produce(client, batch(b"a", timestamp_ms=NOW_MS), partition=1)).error_code == 0
            answer = await broker.produce(client, batch(b"a"))
            assert answer.error_code == ErrorCode.KAFKA_STORAGE_ERROR

    run(main())
