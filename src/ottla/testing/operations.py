"""What tests want of a cluster: topics, records in, records out. Coroutines of steps (`steps`).

They ask brokers by Kafka's own requests, as a client would, only without a socket (`answers`): what is injected into
connections does not hit them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from ottla.client.errors import IllegalStateError, KafkaError, UnknownTopicError, error_for
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.testing.answers import answer
from ottla.testing.steps import Ask, Foreign, Pause, perform

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from ottla.protocol.messages.metadata import MetadataResponseTopic
    from ottla.records.reader import ConsumerRecord
    from ottla.serde.base import DeserializerLike, SerializerLike
    from ottla.server.node.node import Node
    from ottla.testing.reading import Reader

V = TypeVar("V")

TIMEOUT_S = 10.0
"""How long helpers wait for what they were asked to wait for."""
LONGEST_PAUSE_S = 0.02
FIRST_PAUSE_S = 0.001
_FETCH_VERSION = 12  # the last one that names topics
_PRODUCE_VERSION = 12
_LATEST = -1
_EARLIEST = -2
_MOST_TRIES = 100


async def ask(request: Any, version: int | None = None, node_id: int | None = None) -> Any:
    """The response of a broker; None is any. Raises `KafkaError` when it refuses the request as a whole."""

    def action(node: Node) -> Coroutine[Any, Any, Any]:
        return answer(node, request, version)

    return await perform(Ask(node_id, action))


class Patience:
    """How long to wait, and for how long at a time: short pauses first, longer ones later."""

    def __init__(self, timeout_s: float) -> None:
        self._end = time.monotonic() + timeout_s
        self._pause_s = FIRST_PAUSE_S

    async def wait(self) -> bool:
        """Pause; False, at once, when the time is over."""
        left = self._end - time.monotonic()
        if left <= 0:
            return False
        await perform(Pause(min(self._pause_s, left)))
        self._pause_s = min(self._pause_s * 1.5, LONGEST_PAUSE_S)
        return True


class Operations:
    """The helpers. No state: everything is in the brokers."""

    # Topics

    async def topics(self) -> list[str]:
        """The names of the topics that are no internal ones, sorted."""
        response = await ask(MetadataRequest(topics=None, allow_auto_topic_creation=False))
        return sorted(topic.name for topic in response.topics if not topic.is_internal)

    async def create_topic(
        self,
        /,
        name: str,
        partitions: int = 1,
        replication_factor: int = -1,
        **settings: object,
    ) -> str:
        """Make a topic, and return its name. `settings` by Kafka's names with `_` for `.`: `retention_ms=1000`.

        Raises `KafkaError`: TOPIC_ALREADY_EXISTS, INVALID_TOPIC_EXCEPTION, INVALID_CONFIG, …
        """
        from ottla.protocol.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest

        configs = [
            CreatableTopicConfig(name=key.replace("_", "."), value=_setting_text(value))
            for key, value in settings.items()
        ]
        topic = CreatableTopic(
            name=name, num_partitions=partitions, replication_factor=replication_factor, configs=configs
        )
        for result in (await ask(CreateTopicsRequest(topics=[topic]))).topics:
            check(result)
        await self._known_to_all(name, exists=True)
        return name

    async def delete_topic(self, name: str) -> None:
        """Delete a topic. Raises `UnknownTopicError`."""
        from ottla.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState

        for result in (await ask(DeleteTopicsRequest(topics=[DeleteTopicState(name=name)]))).responses:
            check(result)
        await self._known_to_all(name, exists=False)

    async def renew_topic(self, name: str, partitions: int) -> None:
        """Make a topic, instead of one that is there."""
        for _ in range(_MOST_TRIES):
            try:
                await self.create_topic(name, partitions)
            except KafkaError as error:
                if error.code != ErrorCode.TOPIC_ALREADY_EXISTS:
                    raise
            else:
                return
            with suppress(UnknownTopicError):
                await self.delete_topic(name)
        raise IllegalStateError(
            f"somebody makes the topic {name} again as soon as it is deleted.",
            hint="Close the clients that an earlier test has left.",
        )

    # Records

    async def produce(
        self,
        topic: str,
        *values: object,
        key: object = None,
        partition: int | None = None,
        headers: Mapping[str, bytes | str | None] | Iterable[tuple[str, bytes | str | None]] = (),
        timestamp_ms: int | None = None,
        serializer: SerializerLike[Any] | str | None = None,
        key_serializer: SerializerLike[Any] | str | None = None,
    ) -> list[tuple[int, int]]:
        """Write a record for each value; (partition, offset) of each, when all are acknowledged.

        Without a serializer bytes, text and None (a tombstone) go as they are, everything else as JSON. `key`,
        `headers` and `timestamp_ms` are those of all the records. Which partition: `partition`; else by the key, as
        Java's producer does; without a key they take turns. A topic that is missing is made, if the broker is so
        configured, as for any producer.
        """
        from ottla.testing.writing import batches_of

        described = await self._describe(topic, create=True)
        count = len(described.partitions)
        batches = batches_of(
            topic,
            values,
            key,
            headers,
            timestamp_ms=timestamp_ms,
            serializer=serializer,
            key_serializer=key_serializer,
            partition=partition,
            partitions_count=count,
        )
        leaders = {one.partition_index: one.leader_id for one in described.partitions}
        places: dict[int, tuple[int, int]] = {}
        for number, batch in batches.items():
            if number not in leaders:
                raise error_for(
                    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{topic} has {count} partitions, there is none {number}"
                )
            base_offset = await self._append(topic, number, batch.data, leaders[number])
            places.update((row, (number, base_offset + index)) for index, row in enumerate(batch.rows))
        return [places[row] for row in range(len(values))]

    async def records(
        self,
        topic: str,
        value: DeserializerLike[V] | str | None = None,
        *,
        key: DeserializerLike[Any] | str | None = None,
        count: int | None = None,
        timeout_s: float = TIMEOUT_S,
        since: Mapping[int, int] | None = None,
        committed: bool = True,
    ) -> list[ConsumerRecord[Any, V]]:
        """All records of a topic, the oldest first, those of a partition in their order.

        With a `count`: as soon as there are so many (or more, which all come); AssertionError when there are fewer
        after `timeout_s`. `value` and `key` say what they are: a type, a name, a function, a deserializer, as with
        consumers; bytes without. `since`: only from these offsets on, as `end_offsets` gave them. `committed`: nothing
        of transactions that were aborted or are open. A topic that is missing has no records.
        """
        from ottla.testing.reading import Reader

        reader = Reader(topic, key, value, committed=committed, since=since or {})
        patience = Patience(timeout_s)
        while True:
            await self._read_on(reader)
            found = reader.found
            if count is None or len(found) >= count:
                return found
            if not await patience.wait():
                raise AssertionError(_too_few(topic, count, timeout_s, found, exists=reader.exists))

    async def read(
        self,
        topic: str,
        value: DeserializerLike[V] | str | None = None,
        *,
        count: int | None = None,
        timeout_s: float = TIMEOUT_S,
        since: Mapping[int, int] | None = None,
        committed: bool = True,
    ) -> list[V]:
        """The values of a topic: as `records`, and nothing but the values."""
        found = await self.records(topic, value, count=count, timeout_s=timeout_s, since=since, committed=committed)
        return [record.value for record in found]

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """The end of each partition, which is the offset of its next record. Raises `UnknownTopicError`."""
        return await self._offsets(topic, _LATEST)

    async def start_offsets(self, topic: str) -> dict[int, int]:
        """The offset of the first record that each partition has still. Raises `UnknownTopicError`."""
        return await self._offsets(topic, _EARLIEST)

    async def assert_topic_empty(self, topic: str, *, for_s: float = 0.0) -> None:
        """A topic has no records, or does not exist, and stays so `for_s` seconds; AssertionError with what it has."""
        patience = Patience(for_s)
        while True:
            found: list[Any] = await self.records(topic)
            if found:
                raise AssertionError(f"{topic} should be empty; it has {len(found)} records{summary(found)}")
            if not await patience.wait():
                return

    async def wait_until(
        self, condition: Callable[[], Any], *, timeout_s: float = TIMEOUT_S, message: str | None = None
    ) -> Any:
        """Wait until a condition holds, and return what it returned; AssertionError with the `message` if it never
        does.

        It holds when it returns something true. An AssertionError of its own means: not yet. Awaited (`cluster.aio`),
        it may be a coroutine function.
        """
        patience = Patience(timeout_s)
        while True:
            reason: AssertionError | None = None
            seen: object = None
            try:
                seen = condition()
                if hasattr(seen, "__await__"):
                    seen = await perform(Foreign(seen))
                if seen:
                    return seen
            except AssertionError as error:
                reason = error
            if not await patience.wait():
                wanted = message or f"{getattr(condition, '__qualname__', condition)} should hold"
                last = f"at last: {reason}" if reason is not None else f"at last it returned {shorten(seen)}"
                raise AssertionError(f"{wanted}; not within {timeout_s:g} s, {last}") from reason

    # Within

    async def _known_to_all(self, topic: str, *, exists: bool) -> None:
        """Wait until every broker of several has heard of it: a test's next line may ask any of them."""
        request = MetadataRequest(topics=[MetadataRequestTopic(name=topic)], allow_auto_topic_creation=False)
        brokers = (await ask(request)).brokers
        patience = Patience(TIMEOUT_S)
        for broker in brokers if len(brokers) > 1 else ():
            while True:
                described = (await ask(request, node_id=broker.node_id)).topics[0]
                is_there = described.error_code == ErrorCode.NONE and all(
                    one.leader_id >= 0 for one in described.partitions
                )
                is_gone = described.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                if (is_there if exists else is_gone) or not await patience.wait():
                    break

    async def _describe(self, topic: str, *, create: bool = False) -> MetadataResponseTopic:
        """The topic's partitions and leaders; made when it is missing and the broker makes topics."""
        request = MetadataRequest(topics=[MetadataRequestTopic(name=topic)], allow_auto_topic_creation=create)
        patience = Patience(TIMEOUT_S)
        while True:
            described: MetadataResponseTopic = (await ask(request)).topics[0]
            if described.error_code == ErrorCode.NONE:
                return described
            error = error_for(described.error_code, f"the topic {topic} does not exist")
            if not (create and error.retriable and await patience.wait()):
                raise error

    async def _append(self, topic: str, partition: int, batch: bytearray, leader_id: int) -> int:
        from ottla.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData

        data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=partition, records=batch)])
        request = ProduceRequest(acks=-1, timeout_ms=int(TIMEOUT_S * 1000), topic_data=[data])
        answered = (await ask(request, _PRODUCE_VERSION, leader_id)).responses[0].partition_responses[0]
        check(answered)
        return int(answered.base_offset)

    async def _read_on(self, reader: Reader) -> None:
        """Read what has come since the last time."""
        try:
            described = await self._describe(reader.topic)
        except UnknownTopicError:
            reader.forget()
            return
        reader.follow(described.topic_id)
        for partition in described.partitions:
            while (request := reader.next_fetch(partition.partition_index)) is not None:
                response = await ask(request, _FETCH_VERSION, partition.leader_id)
                data = response.responses[0].partitions[0]
                if data.error_code == ErrorCode.OFFSET_OUT_OF_RANGE:  # what was there has been deleted
                    start = await self._offset(reader.topic, data.partition_index, partition.leader_id, _EARLIEST)
                    reader.start_at(data.partition_index, start)
                else:
                    reader.take(data)

    async def _offsets(self, topic: str, timestamp: int) -> dict[int, int]:
        described = await self._describe(topic)
        found = {}
        for partition in described.partitions:
            found[partition.partition_index] = await self._offset(
                topic, partition.partition_index, partition.leader_id, timestamp
            )
        return found

    async def _offset(self, topic: str, partition: int, leader_id: int, timestamp: int) -> int:
        from ottla.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic

        wanted = ListOffsetsPartition(partition_index=partition, timestamp=timestamp)
        request = ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name=topic, partitions=[wanted])])
        answered = (await ask(request, None, leader_id)).topics[0].partitions[0]
        check(answered)
        return int(answered.offset)


def check(result: Any) -> None:
    """Raise the error of a part of a response."""
    if result.error_code != ErrorCode.NONE:
        raise error_for(result.error_code, getattr(result, "error_message", None))


def _setting_text(value: object) -> str:
    """As Kafka's settings are written."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value)


def _too_few(topic: str, count: int, timeout_s: float, found: list[Any], *, exists: bool) -> str:
    if not exists:
        return f"{topic} should have {count} records; the topic does not exist after {timeout_s:g} s"
    return f"{topic} should have {count} records; it has {len(found)} after {timeout_s:g} s{summary(found)}"


def summary(records: list[Any]) -> str:
    """The last records for an error message."""
    if not records:
        return ""
    shown = ", ".join(shorten(record.value) for record in records[-5:])
    return f": {'…, ' if len(records) > 5 else ''}{shown}"


def shorten(value: object, limit: int = 80) -> str:
    """The beginning of how a value looks."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}…"
