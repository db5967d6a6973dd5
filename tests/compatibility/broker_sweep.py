"""What our clients can do on a cluster: every feature tried once, for `tests.compatibility.old_brokers`.

A check does its thing and returns, or raises. `UnsupportedVersionError` is an answer too, "no"; anything else is a
failure of the client. Checks ask for what the broker says it has, never for its version.
"""

from __future__ import annotations

import contextlib
import itertools
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import ottla
from ottla import KafkaError, TopicPartition
from ottla import admin as api
from ottla.core.errors import ErrorCode
from ottla.errors import ProducerFencedError, UnsupportedVersionError

TIMES: dict[str, Any] = {"default_api_timeout_ms": 20_000, "request_timeout_ms": 10_000}
PATIENCE_S = 25.0


class NotHereError(Exception):
    """The check makes no sense on this cluster."""


class Outcome(NamedTuple):
    """What came of a check: yes, no (the broker lacks it, and the client says so), not here, or FAILED."""

    status: str
    message: str


class Sweep:
    """One cluster, and what checks have in common."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.admin: ottla.Admin = ottla.Admin(bootstrap, **TIMES)
        self.node_id = self.admin.describe_cluster().nodes[0].id
        self._names = (f"sweep-{uuid.uuid4().hex[:8]}-{number}" for number in itertools.count())

    def name(self) -> str:
        return next(self._names)

    def topic(self, partitions: int = 1, **configs: object) -> str:
        """A new topic that can be used."""
        name = self.name()
        settings = {key.replace("_", "."): value for key, value in configs.items()}
        self.admin.create_topics(api.NewTopic(name, partitions, 1, configs=settings or None))
        wait(lambda: name in self.admin.list_topics(), f"the topic {name}")
        return name

    def producer(self, **settings: Any) -> ottla.Producer[Any, Any]:
        return ottla.Producer(self.bootstrap, {"delivery.timeout.ms": 20_000, "request.timeout.ms": 10_000}, **settings)

    def consumer(self, **settings: Any) -> ottla.Consumer[Any, Any]:
        return ottla.Consumer(self.bootstrap, **{"auto_offset_reset": "earliest"} | TIMES | settings)

    def fill(self, topic: str, count: int = 10, *, partition: int | None = 0, **settings: Any) -> list[bytes]:
        """Values 0, 1, ... with timestamps 1000, 1001, ..., and a header; returns the values."""
        values = [b"%d" % number for number in range(count)]
        headers = {} if settings.pop("headers", True) is None else {"trace": b"1"}
        with self.producer(**settings) as producer:
            sent = [
                producer.send(topic, value, key=value, partition=partition, timestamp_ms=1000 + index, headers=headers)
                for index, value in enumerate(values)
            ]
            producer.flush(PATIENCE_S)
            for delivery in sent:
                delivery.result(PATIENCE_S)
        return values

    def read(self, topic: str, count: int, **settings: Any) -> list[Any]:
        """The first records of partition 0, without a group."""
        with self.consumer(**settings) as consumer:
            consumer.assign([TopicPartition(topic, 0)])
            return take(consumer, count)

    def same(self, topic: str, values: list[bytes], **settings: Any) -> list[Any]:
        records = self.read(topic, len(values), **settings)
        expect([record.value for record in records], values)
        return records


def take(consumer: ottla.Consumer[Any, Any], count: int, timeout_s: float = PATIENCE_S) -> list[Any]:
    """At least so many records, or as many as come in time."""
    found: list[Any] = []
    deadline = time.monotonic() + timeout_s
    while len(found) < count and time.monotonic() < deadline:
        found.extend(consumer.poll(timeout_s=0.2))
    return found


def wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.05)


def expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"expected {str(wanted)[:150]}, found {str(found)[:150]}")


def raises(call: Callable[[], object], *codes: ErrorCode) -> None:
    """The broker understood the call and refused it with one of these."""
    try:
        call()
    except KafkaError as error:
        if error.code not in codes:
            raise
    else:
        raise AssertionError(f"expected one of {[code.name for code in codes]}")


# Producing


def produces(**settings: Any) -> Callable[[Sweep], object]:
    def check(sweep: Sweep) -> None:
        topic = sweep.topic()
        records = sweep.same(topic, sweep.fill(topic, **settings))
        expect([record.timestamp_ms for record in records], [1000 + index for index in range(len(records))])
        expect([dict(record.headers) for record in records], [{"trace": b"1"}] * len(records))

    return check


def produces_without_acknowledgement(sweep: Sweep) -> None:
    topic = sweep.topic()
    with sweep.producer(acks="0", enable_idempotence=False) as producer:
        for value in (b"a", b"b"):
            producer.send(topic, value)
    sweep.same(topic, [b"a", b"b"])


def produces_with_all_codecs(sweep: Sweep) -> None:
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        topic = sweep.topic()
        sweep.same(topic, sweep.fill(topic, 200, compression_type=codec))


def produces_many_at_once(sweep: Sweep) -> None:
    topic, values = sweep.topic(), [b"%06d" % number for number in range(20_000)]
    with sweep.producer() as producer:
        bulk = producer.send_many(topic, values)
        producer.flush(PATIENCE_S)
        expect(bulk.count, len(values))
    sweep.same(topic, values)


def topics_made_by_sending(sweep: Sweep) -> None:
    topic = sweep.name()
    with sweep.producer() as producer:
        producer.send(topic, b"first").result(PATIENCE_S)
    sweep.same(topic, [b"first"])


def transactions(sweep: Sweep) -> None:
    topic = sweep.topic()
    with sweep.producer(transactional_id=topic) as producer:
        with producer.transaction():
            producer.send(topic, b"kept")
        with contextlib.suppress(ZeroDivisionError), producer.transaction():
            producer.send(topic, b"dropped").result(PATIENCE_S)
            raise ZeroDivisionError
        with producer.transaction():
            producer.send(topic, b"kept too")
    sweep.same(topic, [b"kept", b"kept too"], isolation_level="read_committed")
    sweep.same(topic, [b"kept", b"dropped", b"kept too"])


def transactions_with_offsets(sweep: Sweep) -> None:
    """By group id alone, as brokers before KIP-447 want it."""
    topic, group = sweep.topic(), sweep.name()
    sweep.fill(topic)
    with sweep.producer(transactional_id=group) as producer, producer.transaction():
        producer.send_offsets_to_transaction({TopicPartition(topic, 0): 4}, group)
    partition = TopicPartition(topic, 0)

    def committed() -> bool:
        found = sweep.admin.list_consumer_group_offsets({group: [partition]})[group][partition]
        return found is not None and found.offset == 4

    wait(committed, "the offset of the transaction")


def transactions_with_offsets_of_a_member(sweep: Sweep) -> None:
    """With the consumer's membership, so that a fenced member cannot commit (KIP-447)."""
    topic, group = sweep.topic(), sweep.name()
    sweep.fill(topic)
    with sweep.consumer(group_id=group, topics=[topic], enable_auto_commit=False) as consumer:
        expect(len(take(consumer, 10)), 10)
        with sweep.producer(transactional_id=group) as producer, producer.transaction() as transaction:
            transaction.send_offsets(consumer)
        committed = consumer.committed([TopicPartition(topic, 0)])[TopicPartition(topic, 0)]
        expect(committed and committed.offset, 10)


def fencing(sweep: Sweep) -> None:
    topic = sweep.topic()
    with contextlib.suppress(ProducerFencedError), sweep.producer(transactional_id=topic) as first:
        first.init_transactions()
        with sweep.producer(transactional_id=topic) as second:
            second.init_transactions()
        with first.transaction():
            first.send(topic, b"late")
        raise AssertionError("the first producer was not fenced")


# Consuming


def assigns(assignor: str) -> Callable[[Sweep], object]:
    def check(sweep: Sweep) -> None:
        group_of_two(sweep, partition_assignment_strategy=assignor)

    return check


def group_of_two(sweep: Sweep, **settings: Any) -> None:
    """Two members share four partitions; one leaves, the other takes over where it was."""
    topic, group = sweep.topic(4), sweep.name()
    common = {"group_id": group, "topics": [topic], "heartbeat_interval_ms": 300, **settings}
    if "group_protocol" in settings:
        del common["heartbeat_interval_ms"]
    with sweep.consumer(**common) as first, sweep.consumer(**common) as second:

        def shared() -> bool:
            first.poll(timeout_s=0.1)
            second.poll(timeout_s=0.1)
            return len(first.assignment()) == len(second.assignment()) == 2

        wait(shared, "two partitions for each of the two members")
        for partition in range(4):
            sweep.fill(topic, 5, partition=partition)
        found: set[Any] = set()

        def read() -> bool:
            for member in (first, second):
                found.update((one.partition, one.offset) for one in member.poll(timeout_s=0.1))
            return len(found) == 20

        wait(read, "20 records")
        first.commit()
        second.commit()
        second.close()
        wait(lambda: not first.poll(timeout_s=0.1) and len(first.assignment()) == 4, "the partitions of the other one")


def resumes_from_commits(sweep: Sweep) -> None:
    topic, group = sweep.topic(), sweep.name()
    values, partition = sweep.fill(topic), TopicPartition(topic, 0)
    settings: dict[str, Any] = {"group_id": group, "topics": [topic], "enable_auto_commit": False}
    with sweep.consumer(**settings) as consumer:
        expect(len(take(consumer, 10)), 10)
        consumer.commit({partition: ottla.OffsetAndMetadata(6, "note")})
        committed = consumer.committed([partition])[partition]
        expect(committed and (committed.offset, committed.metadata), (6, "note"))
    with sweep.consumer(**settings) as consumer:
        expect([record.value for record in take(consumer, 4)], values[6:])
        consumer.commit_async()
    with sweep.consumer(**{**settings, "enable_auto_commit": True}) as consumer:
        expect(take(consumer, 1, 1.0), [])


def static_membership(sweep: Sweep) -> None:
    topic, group = sweep.topic(), sweep.name()
    settings: dict[str, Any] = {"group_id": group, "topics": [topic], "group_instance_id": "one"}
    for _ in range(2):
        with sweep.consumer(**settings) as consumer:
            consumer.poll(timeout_s=0.1)
            wait(lambda: not consumer.poll(timeout_s=0.1) and len(consumer.assignment()) == 1, "the partition")
    # It did not leave when it closed.
    expect(len(sweep.admin.describe_consumer_groups(group)[group].members), 1)
    sweep.admin.remove_members_from_consumer_group(group, [api.MemberToRemove("one")])


def pattern(sweep: Sweep) -> None:
    topic = sweep.topic()
    values = sweep.fill(topic)
    with sweep.consumer(group_id=sweep.name(), topics=f"^{topic[:-1]}.*{topic[-1]}$") as consumer:
        found = {record.value for record in take(consumer, 10) if record.topic == topic}
        expect(found, set(values))


def places(sweep: Sweep) -> None:
    """Offsets by time, ends, seek, position, lag, pausing, by_duration."""
    topic = sweep.topic()
    sweep.fill(topic)
    partition = TopicPartition(topic, 0)
    with sweep.consumer() as consumer:
        expect(consumer.beginning_offsets([partition]), {partition: 0})
        expect(consumer.end_offsets([partition]), {partition: 10})
        found = consumer.offsets_for_times({partition: 1003})[partition]
        expect(found and (found.offset, found.timestamp_ms), (3, 1003))
        expect(consumer.offsets_for_times({partition: 5000})[partition], None)
        expect([one.partition for one in consumer.partitions_for(topic)], [0])
        consumer.assign([partition])
        consumer.seek(partition, 7)
        expect([record.offset for record in take(consumer, 3)], [7, 8, 9])
        expect((consumer.position(partition), consumer.current_lag(partition)), (10, 0))
    expect(len(sweep.read(topic, 10, isolation_level="read_committed", client_rack="somewhere")), 10)
    sweep.read(topic, 0, auto_offset_reset="by_duration:PT1H")
    with sweep.consumer(auto_offset_reset="by_duration:PT1H") as consumer:
        consumer.assign([partition])
        expect(take(consumer, 1, 1.0), [])  # those records say that they are from 1970
        expect(consumer.position(partition), 10)


def columns(sweep: Sweep) -> None:
    topic = sweep.topic()
    sweep.fill(topic, compression_type="lz4")
    with sweep.consumer() as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        expect(len(consumer.poll_columns(timeout_s=PATIENCE_S)), 10)


def many_fetches(sweep: Sweep) -> None:
    """Fetch sessions over many rounds, partitions that come and go."""
    topic = sweep.topic(3)
    for partition in range(3):
        sweep.fill(topic, 300, partition=partition)
    with sweep.consumer(max_partition_fetch_bytes=2000, fetch_max_bytes=4000) as consumer:
        consumer.assign([TopicPartition(topic, partition) for partition in range(3)])
        expect(len({(one.partition, one.offset) for one in take(consumer, 900)}), 900)


def modern_groups(sweep: Sweep) -> None:
    group_of_two(sweep, group_protocol="consumer")


def server_patterns(sweep: Sweep) -> None:
    topic = sweep.topic()
    values = sweep.fill(topic)
    wanted = ottla.SubscriptionPattern(topic)
    with sweep.consumer(group_id=sweep.name(), group_protocol="consumer", topics=wanted) as consumer:
        records: list[Any] = []

        def assigned() -> bool:
            records.extend(consumer.poll(timeout_s=0.1))
            return bool(consumer.assignment())

        wait(assigned, "the partition")
        records += take(consumer, 10 - len(records))
        expect([record.value for record in records], values)


def share_groups(sweep: Sweep) -> None:
    topic, group = sweep.topic(), sweep.name()
    consumer: ottla.ShareConsumer[Any, Any]
    with ottla.ShareConsumer(sweep.bootstrap, group_id=group, topics=[topic], **TIMES) as consumer:
        # The group begins at the end of the topic, once it knows the topic.
        deadline, found = time.monotonic() + PATIENCE_S, 0
        while not found and time.monotonic() < deadline:
            sweep.fill(topic, 1)
            found += len(consumer.poll(timeout_s=0.5))
        expect(bool(found), True)


def telemetry(sweep: Sweep) -> None:
    """Without it, nothing may be different."""
    with sweep.producer() as producer:
        producer.send(sweep.topic(), b"value").result(PATIENCE_S)
        expect(bool(producer.client_instance_id(PATIENCE_S)), True)


def old_formats(sweep: Sweep) -> None:
    """Batches of the formats before 0.11, as the broker keeps them when a topic is told so."""
    for version in ("0.9.0", "0.10.2"):
        try:
            topic = sweep.topic(message_format_version=version)
        except KafkaError as error:
            raise NotHereError(str(error)) from error
        for codec in ("none", "gzip", "snappy", "lz4"):
            values = sweep.fill(topic, 50, enable_idempotence=False, compression_type=codec, headers=None)
        records = sweep.same(topic, values * 4)
        if records[0].leader_epoch is not None:  # the older formats have no place for one
            raise NotHereError("the broker ignores message.format.version")
        if records[0].timestamp_ms > 2000 or any(record.headers for record in records):
            raise AssertionError("timestamps or headers are wrong")
        with sweep.consumer() as consumer:
            consumer.assign([TopicPartition(topic, 0)])
            consumer.seek(TopicPartition(topic, 0), 20)  # in the middle of a compressed message
            expect(take(consumer, 180)[0].offset, 20)
            expect(len(consumer.poll_columns(timeout_s=0.1)), 0)
            consumer.seek_to_beginning()
            expect(len(consumer.poll_columns(timeout_s=PATIENCE_S)) > 0, True)


def idempotence_on_old_formats(sweep: Sweep) -> None:
    try:
        topic = sweep.topic(message_format_version="0.10.2")
    except KafkaError as error:
        raise NotHereError(str(error)) from error
    try:
        with sweep.producer() as producer:
            producer.send(topic, b"value").result(PATIENCE_S)
    except KafkaError as error:
        if error.code is not ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT:
            raise
        raise UnsupportedVersionError(str(error), hint="") from error
    raise NotHereError("the broker ignores message.format.version")


FEATURES: dict[str, Callable[[Sweep], object]] = {
    "produce, idempotent": produces(),
    "produce, not idempotent": produces(enable_idempotence=False, acks="1"),
    "produce, acks=0": produces_without_acknowledgement,
    "produce, gzip snappy lz4 zstd": produces_with_all_codecs,
    "`send_many`": produces_many_at_once,
    "topics made by sending to them": topics_made_by_sending,
    "transactions": transactions,
    "transactions with offsets of a group id": transactions_with_offsets,
    "transactions with offsets of a consumer (KIP-447)": transactions_with_offsets_of_a_member,
    "fencing of an older producer": fencing,
    "classic groups: range": assigns("range"),
    "classic groups: roundrobin": assigns("roundrobin"),
    "classic groups: sticky": assigns("sticky"),
    "classic groups: cooperative-sticky": assigns("cooperative-sticky"),
    "commits, `committed`, going on from them": resumes_from_commits,
    "static membership (KIP-345)": static_membership,
    "subscription by pattern": pattern,
    "seek, offsets by time, ends, read_committed": places,
    "`poll_columns`": columns,
    "fetch sessions": many_fetches,
    "records in formats before 0.11": old_formats,
    "idempotence on formats before 0.11": idempotence_on_old_formats,
    '`group_protocol="consumer"` (KIP-848)': modern_groups,
    "server-side regex (KIP-848)": server_patterns,
    "`ShareConsumer` (KIP-932)": share_groups,
    "metrics pushed to the broker (KIP-714)": telemetry,
}


def sweep_cluster(bootstrap: str, only: str = "") -> Iterator[tuple[str, Outcome]]:
    """Try everything; `only` is a part of the name."""
    from tests.compatibility.admin_sweep import ADMIN_CALLS

    sweep = Sweep(bootstrap)
    checks = FEATURES | {f"`Admin.{name}`": check for name, check in ADMIN_CALLS.items()}
    for name, check in checks.items():
        if only in name:
            yield name, outcome_of(sweep, check)
    sweep.admin.close()


def outcome_of(sweep: Sweep, check: Callable[[Sweep], object]) -> Outcome:
    try:
        check(sweep)
    except NotHereError as error:
        return Outcome("", str(error))
    except UnsupportedVersionError as error:
        return Outcome("no", str(error))
    except Exception as error:
        if isinstance(error, KafkaError) and error.code is ErrorCode.UNSUPPORTED_VERSION:
            return Outcome("no", str(error))
        return Outcome("FAILED", f"{type(error).__name__}: {error}")
    return Outcome("yes", "")
