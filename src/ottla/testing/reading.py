"""Reading a topic from where one was, with the records as Python objects."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import merge
from typing import TYPE_CHECKING, Any

from ottla.client.consumer.filtering import deliverable
from ottla.client.errors import RecordDeserializationError, error_for
from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID, TopicPartition
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.records.reader import RecordCursor, UndeserializableRecordError
from ottla.serde.resolve import resolve_deserializer

if TYPE_CHECKING:
    from ottla.protocol.messages.fetch import PartitionData
    from ottla.records.reader import ConsumerRecord

FETCH_BYTES = 64 * 1024 * 1024
_MOST_RECORDS = 1 << 31


class Reader:
    """What was read of a topic so far. No I/O: it says what to fetch, and takes what was fetched.

    A topic that was made anew under its name is read from its beginning.
    """

    def __init__(self, topic: str, key: Any, value: Any, *, committed: bool, since: Mapping[int, int]) -> None:
        self.topic = topic
        self.exists = False
        self._key = _deserializer(key, "key")
        self._value = _deserializer(value, "value")
        self._committed = committed
        self._since = since
        self._topic_id = ZERO_UUID
        self._offsets: dict[int, int] = {}
        self._records: dict[int, list[ConsumerRecord[Any, Any]]] = {}
        self._seen_end: set[int] = set()

    @property
    def found(self) -> list[ConsumerRecord[Any, Any]]:
        """The records, by time as far as the order within partitions allows."""
        if len(self._records) == 1:
            return list(*self._records.values())
        return list(merge(*self._records.values(), key=lambda record: record.timestamp_ms))

    def forget(self) -> None:
        """The topic is not there."""
        self.exists = False
        self._topic_id = ZERO_UUID
        self._offsets.clear()
        self._records.clear()

    def follow(self, topic_id: bytes) -> None:
        """A round of reading begins."""
        if topic_id != self._topic_id:
            self.forget()
            self._topic_id = topic_id
        self.exists = True
        self._seen_end.clear()

    def next_fetch(self, partition: int) -> FetchRequest | None:
        """The next request for a partition, None when its end was seen in this round."""
        if partition in self._seen_end:
            return None
        offset = self._offsets.setdefault(partition, self._since.get(partition, 0))
        self._records.setdefault(partition, [])
        wanted = FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=FETCH_BYTES)
        return FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=FETCH_BYTES,
            isolation_level=int(self._committed),
            topics=[FetchTopic(topic=self.topic, partitions=[wanted])],
        )

    def take(self, data: PartitionData) -> None:
        """The answer to it. Raises `KafkaError`, and `RecordDeserializationError` for what the deserializers refuse."""
        partition = data.partition_index
        offset = self._offsets[partition]
        if data.error_code != ErrorCode.NONE:
            raise error_for(data.error_code)
        records = bytes(data.records or b"")
        aborted = data.aborted_transactions or () if self._committed else None
        found = deliverable(
            TopicPartition(self.topic, partition), records, offset, -1, aborted=aborted, check_crcs=True
        )
        if found.error is not None:
            raise found.error
        for position, header in found.batches:
            cursor = RecordCursor(records, position, header, topic=self.topic, partition=partition, from_offset=offset)
            while not cursor.exhausted:
                self._take(cursor, self._records[partition])
        self._offsets[partition] = found.end_offset
        if found.end_offset == offset:
            self._seen_end.add(partition)

    def start_at(self, partition: int, offset: int) -> None:
        """Where to go on after OFFSET_OUT_OF_RANGE."""
        self._offsets[partition] = offset

    def _take(self, cursor: RecordCursor, output: list[ConsumerRecord[Any, Any]]) -> None:
        try:
            cursor.take(_MOST_RECORDS, self._key, self._value, output)
        except UndeserializableRecordError as error:
            raise RecordDeserializationError(
                f"The {error.origin} at offset {error.offset} of {error.topic}-{error.partition} can not be "
                f"deserialized: {error.__cause__}.",
                hint='Say what it is ("json", str, a class …), or read bytes.',
            ) from error.__cause__


def _deserializer(spec: Any, field: str) -> Any:
    deserializer = resolve_deserializer(spec, field)
    return None if getattr(deserializer, "is_identity", False) else deserializer
