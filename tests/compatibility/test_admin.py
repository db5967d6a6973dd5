"""Administration, offsets and limits through client libraries: topics, settings, groups, times, sizes, errors."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from benchmarks.wire import EARLIEST, LATEST, Connection, WireError
from tests.compatibility.drivers import Client, Message, wait_until
from tests.compatibility.topics import create_topic

pytestmark = pytest.mark.xdist_group("admin")


@pytest.fixture
def admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})


@pytest.fixture
def writer(clients: dict[str, Client]) -> Client:
    return clients["confluent-kafka"]


def refused(future: object) -> str:
    """The name of the error that a future of the admin client ends with."""
    with pytest.raises(KafkaException) as problem:
        future.result(20)  # type: ignore[attr-defined]
    return str(problem.value.args[0].name())


def settings_of(admin: AdminClient, kind: ResourceType, name: str) -> dict[str, ConfigEntry]:
    resource = ConfigResource(kind, name)
    result: dict[str, ConfigEntry] = admin.describe_configs([resource])[resource].result(20)
    return result


def alter(admin: AdminClient, kind: ResourceType, name: str, setting: str, value: str | None) -> None:
    operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
    entry = ConfigEntry(setting, value or "", incremental_operation=operation)
    resource = ConfigResource(kind, name, incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(20)


def test_topics_are_created_described_grown_and_deleted(admin: AdminClient, bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name, 3, {"retention.ms": "1234567"})
    described = admin.describe_topics(TopicCollection([name]))[name].result(20)
    assert [one.id for one in described.partitions] == [0, 1, 2]
    assert all(one.leader is not None and len(one.isr) == len(one.replicas) == 1 for one in described.partitions)
    assert str(described.topic_id) != "AAAAAAAAAAAAAAAAAAAAAA"
    assert not described.is_internal
    admin.create_partitions([NewPartitions(name, 5)])[name].result(20)
    wait_until(lambda: len(admin.list_topics(name).topics[name].partitions) == 5, "five partitions")
    assert settings_of(admin, ResourceType.TOPIC, name)["retention.ms"].value == "1234567"
    admin.delete_topics([name])[name].result(20)
    wait_until(lambda: name not in admin.list_topics().topics, "no topic")
    create_topic(bootstrap, name, 1)
    again = admin.describe_topics(TopicCollection([name]))[name].result(20)
    assert str(again.topic_id) != str(described.topic_id)


def test_impossible_topics_are_refused_with_kafkas_errors(admin: AdminClient, bootstrap: str, name: str) -> None:
    def create(topic: NewTopic, **options: object) -> str:
        return refused(admin.create_topics([topic], **options)[topic.topic])

    create_topic(bootstrap, name)
    assert create(NewTopic(name, 1, 1)) == "TOPIC_ALREADY_EXISTS"
    assert create(NewTopic("no/such name", 1, 1)) == "TOPIC_EXCEPTION"
    assert create(NewTopic(name + "-a", 0, 1)) == "INVALID_PARTITIONS"
    assert create(NewTopic(name + "-b", 1, 3)) == "INVALID_REPLICATION_FACTOR"
    assert create(NewTopic(name + "-c", 1, 1, config={"no.such.setting": "1"})) == "INVALID_CONFIG"
    assert create(NewTopic(name + "-d", 1, 1, config={"retention.ms": "often"})) == "INVALID_CONFIG"
    assert refused(admin.delete_topics([name + "-e"])[name + "-e"]) == "UNKNOWN_TOPIC_OR_PART"
    assert refused(admin.create_partitions([NewPartitions(name, 1)])[name]) == "INVALID_PARTITIONS"
    admin.create_topics([NewTopic(name + "-f", 1, 1)], validate_only=True)[name + "-f"].result(20)
    assert name + "-f" not in admin.list_topics().topics


def test_topic_settings_change_and_go_back_to_their_defaults(admin: AdminClient, bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name)
    before = settings_of(admin, ResourceType.TOPIC, name)["max.message.bytes"]
    assert before.is_default
    alter(admin, ResourceType.TOPIC, name, "max.message.bytes", "5000")
    wait_until(
        lambda: settings_of(admin, ResourceType.TOPIC, name)["max.message.bytes"].value == "5000", "the new setting"
    )
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    errors: list[KafkaError | None] = []
    producer.produce(name, b"x" * 10_000, on_delivery=lambda error, _: errors.append(error))
    producer.flush(20)
    assert errors[0] is not None
    assert errors[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    alter(admin, ResourceType.TOPIC, name, "max.message.bytes", None)
    wait_until(lambda: settings_of(admin, ResourceType.TOPIC, name)["max.message.bytes"].is_default, "the default")
    producer.produce(name, b"x" * 10_000, on_delivery=lambda error, _: errors.append(error))
    producer.flush(20)
    assert errors[1] is None


def test_broker_settings_are_described_and_changed(admin: AdminClient, bootstrap: str) -> None:
    node = str(next(iter(admin.list_topics().brokers)))
    settings = settings_of(admin, ResourceType.BROKER, node)
    assert settings["log.segment.bytes"].value == "1073741824"
    assert settings["node.id"].is_read_only
    alter(admin, ResourceType.BROKER, node, "log.cleaner.threads", "2")
    wait_until(
        lambda: settings_of(admin, ResourceType.BROKER, node)["log.cleaner.threads"].value == "2", "the new setting"
    )
    alter(admin, ResourceType.BROKER, node, "log.cleaner.threads", None)
    with pytest.raises(KafkaException):
        alter(admin, ResourceType.BROKER, node, "node.id", "7")


def test_the_cluster_describes_itself(admin: AdminClient, bootstrap: str) -> None:
    cluster = admin.describe_cluster().result(20)
    assert len(cluster.cluster_id) == 22
    assert [f"{node.host}:{node.port}" for node in cluster.nodes] == [bootstrap]
    assert cluster.controller is not None


def test_offsets_are_found_by_time(bootstrap: str, name: str, writer: Client, admin: AdminClient) -> None:
    create_topic(bootstrap, name)
    start = 1_700_000_000_000
    times = [start, start + 1000, start + 5000, start + 2000, start + 9000]
    for number, timestamp in enumerate(times):
        writer.produce(bootstrap, name, [Message(0, None, str(number).encode(), (), timestamp)])
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": name, "log_level": 0})

    def offset_for(timestamp: int) -> int:
        return int(consumer.offsets_for_times([TopicPartition(name, 0, timestamp)], timeout=20)[0].offset)

    assert [offset_for(start + ms) for ms in (-1, 0, 1, 1000, 1500, 5001, 9000)] == [0, 0, 1, 1, 2, 4, 4]
    assert offset_for(start + 9001) in (-1, 5)
    assert consumer.get_watermark_offsets(TopicPartition(name, 0), timeout=20) == (0, 5)
    consumer.close()
    partition = TopicPartition(name, 0)
    for spec, offset in ((OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 5), (OffsetSpec.max_timestamp(), 4)):
        assert admin.list_offsets({partition: spec})[partition].result(20).offset == offset


def test_records_before_an_offset_are_deleted(bootstrap: str, name: str, writer: Client, admin: AdminClient) -> None:
    create_topic(bootstrap, name)
    writer.produce(bootstrap, name, [Message(0, None, str(number).encode()) for number in range(10)])
    deleted = admin.delete_records([TopicPartition(name, 0, 4)])[TopicPartition(name, 0, 4)].result(20)
    assert deleted.low_watermark == 4
    assert [message.value for message in writer.consume(bootstrap, name, 6)] == [b"4", b"5", b"6", b"7", b"8", b"9"]
    with Connection(bootstrap) as connection:
        assert connection.list_offset(name, 0, EARLIEST) == 4
        assert connection.list_offset(name, 0, LATEST) == 10
        with pytest.raises(WireError) as problem:
            connection.fetch(name, 0, 3)
        assert problem.value.code == KafkaError.OFFSET_OUT_OF_RANGE


def test_groups_are_listed_described_reset_and_deleted(
    bootstrap: str, name: str, writer: Client, admin: AdminClient
) -> None:
    create_topic(bootstrap, name)
    writer.produce(bootstrap, name, [Message(0, None, str(number).encode()) for number in range(10)])
    member = writer.join(bootstrap, name, name)
    wait_until(lambda: len(member.received) == 10, "all records")
    described = admin.describe_consumer_groups([name])[name].result(20)
    assert described.state.name == "STABLE"
    assert described.partition_assignor == "range"
    assert [one.assignment.topic_partitions for one in described.members] == [[TopicPartition(name, 0)]]
    assert refused(admin.delete_consumer_groups([name])[name]) == "NON_EMPTY_GROUP"
    member.leave()

    def committed() -> int:
        found = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)])[name].result(20)
        return int(found.topic_partitions[0].offset)

    assert committed() == 10
    assert name in {one.group_id for one in admin.list_consumer_groups().result(20).valid}
    wait_until(lambda: admin.describe_consumer_groups([name])[name].result(20).state.name == "EMPTY", "an empty group")
    wanted = ConsumerGroupTopicPartitions(name, [TopicPartition(name, 0, 3)])
    admin.alter_consumer_group_offsets([wanted])[name].result(20)
    assert committed() == 3
    admin.delete_consumer_groups([name])[name].result(20)
    assert name not in {one.group_id for one in admin.list_consumer_groups().result(20).valid}
    assert refused(admin.delete_consumer_groups([name])[name]) == "GROUP_ID_NOT_FOUND"


def test_large_records_pass_up_to_the_limit(bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name, 1, {"max.message.bytes": "5000000"})
    producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 6_000_000, "log_level": 0})
    results: list[tuple[int, int | None]] = []

    def report(size: int, error: KafkaError | None) -> None:
        results.append((size, error.code() if error else None))

    for size in (1, 1_000_000, 4_900_000, 5_000_001):
        producer.produce(name, b"x" * size, on_delivery=lambda error, _, size=size: report(size, error))
        producer.flush(20)
    assert results == [(1, None), (1_000_000, None), (4_900_000, None), (5_000_001, KafkaError.MSG_SIZE_TOO_LARGE)]
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": name, "auto.offset.reset": "earliest", "log_level": 0}
    )
    consumer.assign([TopicPartition(name, 0, 0)])
    assert [len(consumer.poll(20).value()) for _ in range(3)] == [1, 1_000_000, 4_900_000]
    consumer.close()


def test_a_topic_that_is_written_to_appears(bootstrap: str, name: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    errors: list[KafkaError | None] = []
    producer.produce(name, b"first", on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(20) == 0
    assert errors == [None]
    with Connection(bootstrap) as connection:
        assert connection.metadata([name]).topics[name][0] == 0


def test_timestamps_are_the_brokers_own_when_the_topic_says_so(bootstrap: str, name: str, writer: Client) -> None:
    create_topic(bootstrap, name, 1, {"message.timestamp.type": "LogAppendTime"})
    before = int(time.time() * 1000)
    writer.produce(bootstrap, name, [Message(0, None, b"x", (), 1000)])
    (message,) = writer.consume(bootstrap, name, 1)
    assert message.timestamp is not None
    assert before - 1000 <= message.timestamp <= int(time.time() * 1000) + 1000


def test_sequence_numbers_are_kept_by_the_broker(bootstrap: str, name: str) -> None:
    from benchmarks.wire import record_batch

    create_topic(bootstrap, name)
    with Connection(bootstrap) as connection:
        producer_id, epoch = connection.init_producer_id()

        def produce(sequence: int, count: int = 2) -> int:
            values = [f"{sequence + number}".encode() for number in range(count)]
            batch = record_batch(values, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)
            return connection.produce(name, 0, batch)

        assert [produce(sequence) for sequence in (0, 2, 4)] == [0, 2, 4]
        assert produce(2) == 2  # sent again: the offset it already has
        with pytest.raises(WireError) as gap:
            produce(9)
        assert gap.value.code == KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER
        values = [value for batch in connection.read_all(name, 0) for value in batch.values()]
        assert values == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_corrupt_batches_are_refused(bootstrap: str, name: str) -> None:
    from benchmarks.wire import record_batch

    create_topic(bootstrap, name)
    with Connection(bootstrap) as connection:
        damaged = bytearray(record_batch([b"value"]))
        damaged[-2] ^= 1
        with pytest.raises(WireError) as problem:
            connection.produce(name, 0, bytes(damaged))
        assert problem.value.code == KafkaError.INVALID_MSG
        assert connection.produce(name, 0, record_batch([b"value"])) == 0


@pytest.mark.parametrize("client", ["confluent-kafka", "kafka-python", "aiokafka", "java", "franz-go"], indirect=True)
def test_a_committed_reader_reads_what_no_transaction_wrote(client: Client, bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name)
    client.produce(bootstrap, name, [Message(0, None, str(number).encode()) for number in range(5)])
    found = client.consume(bootstrap, name, 5, committed=True)
    assert [message.value for message in found] == [b"0", b"1", b"2", b"3", b"4"]


def test_kafka_python_administrates_too(bootstrap: str, name: str) -> None:
    """A second implementation of the admin requests, in a process of its own."""
    import subprocess
    import sys

    program = """
import sys, time
from kafka import KafkaAdminClient
bootstrap, name = sys.argv[1:]
admin = KafkaAdminClient(bootstrap_servers=bootstrap)
admin.create_topics({name: {"num_partitions": 2, "replication_factor": 1}})
deadline = time.monotonic() + 20
while name not in admin.list_topics():
    assert time.monotonic() < deadline
    time.sleep(0.05)
(topic,) = admin.describe_topics([name])
assert len(topic["partitions"]) == 2, topic
assert admin.describe_cluster()["cluster_id"]
assert admin.describe_log_dirs()
admin.delete_topics([name])
while name in admin.list_topics():
    assert time.monotonic() < deadline
    time.sleep(0.05)
print("done")
"""
    command = [sys.executable, "-W", "ignore", "-c", program, bootstrap, name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "done\n", done.stderr
