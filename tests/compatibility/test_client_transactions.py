"""Our transactional producer against Ottla and Apache Kafka, in both versions of the protocol, beside Java's.

What readers of committed records see (librdkafka, Java, and ours), who fences whom, and positions that are committed
with the records.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions
from confluent_kafka import TopicPartition as RdTopicPartition
from confluent_kafka.admin import AdminClient

import ottla
from benchmarks.brokers import KAFKA_HOME, ApacheKafka, OttlaBroker
from ottla import admin
from ottla.client.errors import (
    AuthorizationError,
    CommitFailedError,
    FatalProducerError,
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    ProducerFencedError,
    TransactionAbortableError,
)
from ottla.client.model import ConsumerGroupMetadata, TopicPartition
from tests.compatibility.drivers import ClientError, Java, wait_until
from tests.compatibility.test_client_admin import SecuredKafka
from tests.compatibility.test_transactions import FEATURES, read
from tests.compatibility.topics import create_topic
from tests.conftest import SETTINGS, MakeBroker, require

Producer = ottla.Producer[object, object]


class JavaProducer:
    """A transactional producer of Apache Kafka."""

    def __init__(self, java: Java, name: str, bootstrap: str, transactional_id: str) -> None:
        self._java = java
        self._name = name
        self._call("init", bootstrap=bootstrap, transactional_id=transactional_id)

    def _call(self, step: str, **arguments: object) -> None:
        self._java.process.call(do="transaction", producer=self._name, step=step, **arguments)

    def begin(self) -> None:
        self._call("begin")

    def send(self, topic: str, value: str) -> None:
        self._call("send", topic=topic, partition=0, value=value)

    def offset(self, topic: str, offset: int, group: str) -> None:
        self._call("offset", topic=topic, partition=0, offset=offset, group=group)

    def commit(self) -> None:
        self._call("commit")

    def close(self) -> None:
        self._call("close")


def new_producer(bootstrap: str, transactional_id: str, **settings: object) -> Producer:
    return ottla.Producer(bootstrap, transactional_id=transactional_id, **{"max_block_ms": 20_000, **settings})  # type: ignore[arg-type]


def committed_offset(bootstrap: str, group: str, topic: str) -> int:
    """The position of a group in partition 0; -1001 without one. Waits for transactions under way."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    asked = ConsumerGroupTopicPartitions(group, [RdTopicPartition(topic, 0)])
    [found] = admin.list_consumer_group_offsets([asked], require_stable=True).values()
    return int(found.result(20).topic_partitions[0].offset)


@pytest.fixture(scope="module", params=["ottla", pytest.param("kafka", marks=pytest.mark.xdist_group("kafka"))])
def old_cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker whose transactions are of version 1."""
    java: Java = request.getfixturevalue("clients")["java"]
    require(java.missing())
    directory = tmp_path_factory.mktemp("old")
    if request.param == "kafka":
        require(None if (KAFKA_HOME / "libs").exists() else "Apache Kafka (scripts/install-tools kafka)")
        heap = "-Xmx512m -Xms128m -XX:TieredStopAtLevel=1"
        broker: ApacheKafka | OttlaBroker = ApacheKafka(directory, settings=SETTINGS, heap=heap)
    else:
        broker = OttlaBroker(Path(directory), settings=SETTINGS)
    broker.start()
    arguments = ("--bootstrap-server", broker.bootstrap, "downgrade", "--feature", "transaction.version=1")
    java.tool(FEATURES, *arguments)
    yield broker.bootstrap
    broker.stop()


def check_outcomes(bootstrap: str, name: str, java: Java | None = None) -> None:
    """Six transactions on two partitions, every second one committed."""
    create_topic(bootstrap, name, partitions=2)
    with new_producer(bootstrap, name) as producer:
        for number in range(6):
            producer.begin_transaction()
            for partition in range(2):
                producer.send(name, f"{number}", partition=partition)
            producer.flush(20)
            assert read(bootstrap, name, 2).count(b"%d" % number) == 0
            if number % 2:
                producer.commit_transaction()
            else:
                producer.abort_transaction()
        expected = [b"1", b"1", b"3", b"3", b"5", b"5"]
        wait_until(lambda: sorted(read(bootstrap, name, 2)) == expected, "what was committed")
        if java is not None:
            seen = java.consume(bootstrap, name, 6, committed=True)
            assert sorted(message.value or b"" for message in seen) == expected
    with ottla.Consumer(
        bootstrap, group_id=name, auto_offset_reset="earliest", isolation_level="read_committed", topics=[name]
    ) as consumer:
        found: list[object] = []
        wait_until(lambda: len(found.extend(r.value for r in consumer.poll(0.5)) or found) >= 6, "six records")  # type: ignore[func-returns-value]
        assert sorted(found) == expected  # type: ignore[type-var]


def test_only_committed_transactions_are_seen(cluster: str, name: str, java: Java) -> None:
    check_outcomes(cluster, name, java)


def test_only_committed_transactions_of_version_1_are_seen(old_cluster: str, name: str, java: Java) -> None:
    check_outcomes(old_cluster, name, java)


def check_fencing(bootstrap: str, name: str, java: Java) -> None:
    """Ours, then Java's, then ours again, with one transactional id: each ends the one before."""
    create_topic(bootstrap, name)
    ours = new_producer(bootstrap, name)
    ours.begin_transaction()
    ours.send(name, "ours").result(20)

    theirs = JavaProducer(java, f"{name}-1", bootstrap, name)
    theirs.begin()
    theirs.send(name, "theirs")
    with pytest.raises((ProducerFencedError, TransactionAbortableError)):
        ours.commit_transaction()
    with pytest.raises(ProducerFencedError, match=rf"transactional.id '{name}'"):
        ours.abort_transaction()
    with pytest.raises(ProducerFencedError):
        ours.begin_transaction()
    theirs.commit()
    ours.close()

    theirs.begin()
    theirs.send(name, "theirs, too late")
    with new_producer(bootstrap, name) as again:
        with again.transaction():
            again.send(name, "ours again")
        with pytest.raises(ClientError, match=r"ProducerFenced|InvalidProducerEpoch|KafkaException"):
            theirs.commit()
        theirs.close()
    wait_until(lambda: read(bootstrap, name) == [b"theirs", b"ours again"], "what was committed")


def test_java_and_we_fence_each_other(cluster: str, name: str, java: Java) -> None:
    check_fencing(cluster, name, java)


def test_java_and_we_fence_each_other_in_version_1(old_cluster: str, name: str, java: Java) -> None:
    check_fencing(old_cluster, name, java)


def check_positions(bootstrap: str, name: str) -> None:
    """Consume, transform, produce: the position moves with the records or not at all."""
    create_topic(bootstrap, name)
    create_topic(bootstrap, f"{name}-out")
    with ottla.Producer(bootstrap) as source:
        for number in range(10):
            source.send(name, f"{number}")
    settings = {"group.id": name, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": bootstrap, **settings})
    consumer.subscribe([name])
    with new_producer(bootstrap, name) as producer:
        for outcome in ("abort", "commit"):
            messages = consumer.consume(10, 20)
            assert len(messages) == 10
            producer.begin_transaction()
            for message in messages:
                producer.send(f"{name}-out", message.value())
            producer.send_offsets_to_transaction({TopicPartition(name, 0): 10}, name)
            if outcome == "abort":
                producer.abort_transaction()
                assert committed_offset(bootstrap, name, name) == -1001
                consumer.seek(RdTopicPartition(name, 0, 0))
            else:
                producer.commit_transaction()
        assert committed_offset(bootstrap, name, name) == 10
        stranger = ConsumerGroupMetadata(name, 7, "nobody")
        producer.begin_transaction()
        producer.send(f"{name}-out", "lost")
        with pytest.raises(CommitFailedError, match="Abort"):
            producer.send_offsets_to_transaction({TopicPartition(name, 0): 3}, stranger)
        with pytest.raises(TransactionAbortableError, match="Abort"):
            producer.commit_transaction()
        producer.abort_transaction()
        with producer.transaction():
            producer.send(f"{name}-out", "last")
    consumer.close()
    assert committed_offset(bootstrap, name, name) == 10
    expected = [*(b"%d" % number for number in range(10)), b"last"]
    wait_until(lambda: read(bootstrap, f"{name}-out") == expected, "what was committed")


def test_positions_are_committed_with_the_records(cluster: str, name: str) -> None:
    check_positions(cluster, name)


def test_positions_are_committed_with_the_records_in_version_1(old_cluster: str, name: str) -> None:
    check_positions(old_cluster, name)


def test_positions_of_our_own_consumer(cluster: str, name: str) -> None:
    create_topic(cluster, name)
    create_topic(cluster, f"{name}-out")
    with ottla.Producer(cluster) as source:
        source.send_many(name, [f"{number}" for number in range(20)]).result(20)
    seen = 0
    with (
        ottla.Consumer(
            cluster, group_id=name, topics=[name], auto_offset_reset="earliest", enable_auto_commit=False
        ) as consumer,
        new_producer(cluster, name) as producer,
    ):
        while seen < 20:
            records = consumer.poll(1.0, max_records=7)
            if not records:
                continue
            seen += len(records)
            with producer.transaction() as transaction:
                for record in records:
                    producer.send(f"{name}-out", record.value)
                transaction.send_offsets(consumer)
            assert committed_offset(cluster, name, name) == seen
    wait_until(lambda: read(cluster, f"{name}-out") == [b"%d" % number for number in range(20)], "every record once")


def test_what_a_user_can_do_wrong(cluster: str, name: str) -> None:
    create_topic(cluster, name)
    with ottla.Producer(cluster) as plain, pytest.raises(IllegalStateError, match=r"transactional\.id"):
        plain.begin_transaction()
    with new_producer(cluster, name) as producer:
        with pytest.raises(IllegalStateError, match="begin"):
            producer.commit_transaction()
        with pytest.raises(KafkaError, match=r"begin|transaction"):
            producer.send(name, "outside").result(20)
        with producer.transaction():
            producer.send(name, "inside")
            with pytest.raises(IllegalStateError, match="over"):
                producer.begin_transaction()
    too_long = new_producer(cluster, f"{name}-2", transaction_timeout_ms=10**9)
    with pytest.raises(FatalProducerError, match=r"transaction\.max\.timeout\.ms"):
        too_long.init_transactions()
    too_long.close()
    wait_until(lambda: read(cluster, name) == [b"inside"], "the one record")


def test_an_error_in_the_block_aborts(cluster: str, name: str) -> None:
    create_topic(cluster, name)
    with new_producer(cluster, name) as producer:

        def fail(*, flushed: bool) -> None:
            with producer.transaction():
                producer.send(name, "before")
                if flushed:
                    producer.flush()
                raise ZeroDivisionError

        for flushed in (True, False):
            with pytest.raises(ZeroDivisionError):
                fail(flushed=flushed)
        with producer.transaction():
            producer.send(name, "after")
    wait_until(lambda: read(cluster, name) == [b"after"], "what was committed")


def test_a_transaction_outlives_the_broker(make_broker: MakeBroker, name: str) -> None:
    broker = make_broker(SETTINGS)
    create_topic(broker.bootstrap, name)
    with new_producer(broker.bootstrap, name, retry_backoff_max_ms=200) as producer:
        for number in range(3):
            producer.begin_transaction()
            producer.send(name, f"{number} before").result(20)
            broker.kill()
            late = producer.send(name, f"{number} after")
            with pytest.raises(KafkaTimeoutError, match=r"commit|flush|delivered"):
                producer.commit_transaction(0.2)
            broker.start()
            producer.commit_transaction(30)
            assert late.result(1).offset >= 0
    assert read(broker.bootstrap, name) == [
        b"%d %s" % (number, when) for number in range(3) for when in (b"before", b"after")
    ]


def test_a_transaction_that_takes_too_long(make_broker: MakeBroker, name: str) -> None:
    broker = make_broker({**SETTINGS, "transaction.abort.timed.out.transaction.cleanup.interval.ms": "200"})
    create_topic(broker.bootstrap, name)
    with new_producer(broker.bootstrap, name, transaction_timeout_ms=1000) as producer:
        producer.begin_transaction()
        producer.send(name, "too slow").result(20)
        with ottla.Producer(broker.bootstrap) as plain:
            plain.send(name, "plain").result(20)
        assert read(broker.bootstrap, name) == []
        wait_until(lambda: read(broker.bootstrap, name) == [b"plain"], "the end of the transaction")
        with pytest.raises(TransactionAbortableError, match=r"transaction\.timeout\.ms=1000"):
            producer.commit_transaction()
        producer.abort_transaction()
        with producer.transaction():
            producer.send(name, "again")
    wait_until(lambda: read(broker.bootstrap, name) == [b"plain", b"again"], "what was in time")


def test_two_phase_commit(make_broker: MakeBroker, name: str) -> None:
    unstable = {"unstable.api.versions.enable": "true", "transaction.two.phase.commit.enable": "true"}
    broker = make_broker({**SETTINGS, **unstable})
    create_topic(broker.bootstrap, name)
    with new_producer(broker.bootstrap, name, transaction_two_phase_commit_enable=True) as producer:
        for value in ("one", "two"):
            with producer.transaction():
                producer.send(name, value)
    wait_until(lambda: read(broker.bootstrap, name) == [b"one", b"two"], "what was committed")
    plain = make_broker(SETTINGS)
    refused = new_producer(plain.bootstrap, name, transaction_two_phase_commit_enable=True)
    with pytest.raises(FatalProducerError, match="InitProducerId"):
        refused.init_transactions()
    refused.close()


@pytest.mark.xdist_group("kafka")
class TestRules:
    """What may be tried again when a rule was missing, against Apache Kafka, which has an authorizer."""

    @pytest.fixture(scope="class")
    def secured(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
        require(None if (KAFKA_HOME / "libs").exists() else "Apache Kafka (scripts/install-tools kafka)")
        secured = SecuredKafka(tmp_path_factory.mktemp("rules"))
        secured.kafka.start()
        yield secured
        secured.kafka.kill()

    @staticmethod
    def settings() -> dict[str, object]:
        return {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_username": "alice",
            "sasl_password": "a",
            "max_block_ms": 20_000,
        }

    @staticmethod
    def allow(secured: SecuredKafka, kind: admin.AclResourceType, name: str, *operations: admin.AclOperation) -> None:
        rules = [admin.AclBinding(kind, name, "User:alice", operation) for operation in operations]
        with secured.admin("root", "secret") as root:
            root.create_acls(rules)
            mine = admin.AclFilter(principal="User:alice")
            wait_until(lambda: set(rules) <= set(root.describe_acls(mine)), "the rules")

    def test_a_producer_goes_on_once_it_may(self, secured: SecuredKafka, name: str) -> None:
        create_topic(secured.plain, name)
        with ottla.Producer(secured.sasl, **self.settings()) as producer:  # type: ignore[arg-type]
            with pytest.raises(AuthorizationError):
                producer.send(name, "refused").result(20)
            self.allow(secured, admin.AclResourceType.TOPIC, name, admin.AclOperation.WRITE)
            producer.send(name, "allowed").result(20)
        assert read(secured.plain, name) == [b"allowed"]

    def test_a_transactional_producer_goes_on_once_it_may(self, secured: SecuredKafka, name: str) -> None:
        create_topic(secured.plain, name)
        self.allow(secured, admin.AclResourceType.TOPIC, name, admin.AclOperation.WRITE, admin.AclOperation.READ)
        with new_producer(secured.sasl, name, **self.settings()) as producer:
            with pytest.raises(AuthorizationError, match="TRANSACTIONAL_ID"):
                producer.init_transactions()
            self.allow(secured, admin.AclResourceType.TRANSACTIONAL_ID, name, admin.AclOperation.WRITE)
            producer.begin_transaction()
            producer.send(name, "aborted")
            with pytest.raises(AuthorizationError, match="GROUP"):
                producer.send_offsets_to_transaction({TopicPartition(name, 0): 1}, name)
            with pytest.raises(TransactionAbortableError):
                producer.commit_transaction()
            producer.abort_transaction()
            self.allow(secured, admin.AclResourceType.GROUP, name, admin.AclOperation.READ)
            with producer.transaction():
                producer.send(name, "committed")
                producer.send_offsets_to_transaction({TopicPartition(name, 0): 1}, name)
        wait_until(lambda: read(secured.plain, name) == [b"committed"], "what was committed")
        assert committed_offset(secured.plain, name, name) == 1
