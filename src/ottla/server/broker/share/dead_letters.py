"""The dead-letter queue of share groups (KIP-1191): records that nobody could process, copied to a topic.

A record is in state ARCHIVING, and that is written, before it comes here; it becomes ARCHIVED once it is in the queue.
So it gets there at least once: after a crash in between, again. Where a group's queue is set up wrongly (no such topic
and none to be created, a topic that is not marked as such a queue, a name without the prefix), the records are given
up, as Kafka does, with a line in the log; for anything that may pass, delivery is tried until it succeeds.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from ottla.core.errors import ERRORS, ApiError, ErrorCode
from ottla.protocol.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from ottla.records.batch import CorruptRecordError, batches
from ottla.records.record import Record, build_batch, read_batch_records
from ottla.runtime.disk import DiskError
from ottla.schema.topic import topic_settings
from ottla.server.broker.share.dead_letter_targets import LocalTarget, RemoteTarget
from ottla.server.broker.topic_creation import create_topics
from ottla.server.metadata.image import ConfigResourceType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ottla.server.broker.broker import Broker
    from ottla.server.broker.share.dead_letter_targets import Target
    from ottla.server.broker.share.delivery import DeadLetter
    from ottla.server.broker.share.groups import ShareGroup
    from ottla.server.broker.share.hosted import HostedSharePartition

logger = logging.getLogger(__name__)

HEADER_PREFIX = "__dlq.errors."
ENABLED_SETTING = "errors.deadletterqueue.group.enable"
AUTO_CREATE_SETTING = "errors.deadletterqueue.auto.create.topics.enable"
PREFIX_SETTING = "errors.deadletterqueue.topic.name.prefix"

_READ_BYTES = 1_048_576
_BACKOFF_S = 0.1
_BACKOFF_MAX_S = 30.0
_BATCH_OVERHEAD_BYTES = 61
_RECORD_OVERHEAD_BYTES = 40  # lengths, deltas: more than a record and its headers can need


class NoQueueError(Exception):
    """The group has no dead-letter queue that could be used; the message says why."""


class DeadLetterQueue:
    """Delivers, for each share partition in order, in a task that lives as long as there is something to deliver."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._tasks: dict[HostedSharePartition, tuple[deque[DeadLetter], asyncio.Task[None]]] = {}

    def put(self, hosted: HostedSharePartition, letters: Iterable[DeadLetter]) -> None:
        """Deliver these, after those that were put before."""
        known = self._tasks.get(hosted)
        if known is not None:
            known[0].extend(letters)
            return
        queue = deque(letters)
        self._tasks[hosted] = queue, asyncio.get_running_loop().create_task(self._deliver_all(hosted, queue))

    def stop(self) -> None:
        """Deliver no more; whoever leads the share partitions next does."""
        for _, task in self._tasks.values():
            task.cancel()

    async def _deliver_all(self, hosted: HostedSharePartition, queue: deque[DeadLetter]) -> None:
        try:
            while queue and not hosted.is_closed:
                letter = queue.popleft()
                try:
                    await self._deliver(hosted, letter)
                except NoQueueError as error:
                    logger.error("records %s of %s are given up without a copy: %s", _range(letter), hosted, error)
                except Exception:
                    # They would hold up all that comes after them, for as long as the broker runs.
                    logger.exception("records %s of %s are given up without a copy", _range(letter), hosted)
                if not hosted.is_closed:
                    hosted.dead_letter_delivered(letter)
        finally:
            self._tasks.pop(hosted, None)

    async def _deliver(self, hosted: HostedSharePartition, letter: DeadLetter) -> None:
        """Returns when the letter is in the queue, or the share partition is closed. Raises NoQueueError."""
        backoff_s = _BACKOFF_S
        offset = letter.first_offset
        copies: dict[int, Record] = {}
        copied_end_offset = offset if hosted.group.copies_dead_letters else letter.end_offset
        while offset < letter.end_offset and not hosted.is_closed:
            try:
                target = await self._target(hosted.group, hosted.partition.partition)
                if offset >= copied_end_offset:
                    copies, copied_end_offset = await self._copies(hosted, letter, offset)
                offset = await self._append(target, hosted, letter, range(offset, copied_end_offset), copies)
                backoff_s = _BACKOFF_S
            except (ApiError, DiskError) as error:
                logger.warning("the dead-letter queue of %s does not take records: %s", hosted, error)
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, _BACKOFF_MAX_S)

    async def _target(self, group: ShareGroup, source_partition: int) -> Target:
        """The partition to append to. Raises NoQueueError, or ApiError for what may be different soon."""
        broker = self._broker
        name = group.dead_letter_topic
        if not name:
            raise NoQueueError("the group has no dead-letter queue")
        prefix = broker.config[PREFIX_SETTING]
        if name.startswith("__") or not name.startswith(prefix or ""):
            raise NoQueueError(f"a dead-letter queue must not be called {name!r} (required prefix {prefix!r})")
        topic = broker.image.topics.by_name.get(name)
        if topic is None:
            if not broker.config[AUTO_CREATE_SETTING]:
                raise NoQueueError(f"there is no topic {name!r}, and {AUTO_CREATE_SETTING} is false")
            await self._create(name)
            topic = broker.image.topics.by_name.get(name)
            if topic is None:
                raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        settings = topic_settings(broker.config, broker.image.config_of(ConfigResourceType.TOPIC, name))
        if not settings[ENABLED_SETTING]:
            raise NoQueueError(f"the topic {name!r} does not have {ENABLED_SETTING}=true")
        index = source_partition % len(topic.partitions)
        leader = topic.partitions[index].leader
        if leader == broker.node_id:
            partition = broker.replicas.get_by_id(topic.topic_id, index)
            if partition is None or not partition.is_leader:
                raise ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
            return LocalTarget(partition)
        if leader < 0:
            raise ApiError(ErrorCode.LEADER_NOT_AVAILABLE)
        return RemoteTarget(broker, leader, name, index, settings["max.message.bytes"])

    async def _create(self, name: str) -> None:
        # The time of giving up is written into each record: the topic must not replace it.
        settings = [(ENABLED_SETTING, "true"), ("message.timestamp.type", "CreateTime")]
        topic = CreatableTopic(
            name=name,
            num_partitions=-1,
            replication_factor=-1,
            configs=[CreatableTopicConfig(name=key, value=value) for key, value in settings],
        )
        request = CreateTopicsRequest(topics=[topic], timeout_ms=self._broker.config["request.timeout.ms"])
        response = await create_topics(self._broker, request)
        code = ERRORS[response.topics[0].error_code]
        if code in (ErrorCode.INVALID_TOPIC_EXCEPTION, ErrorCode.POLICY_VIOLATION):
            raise NoQueueError(f"the topic {name!r} cannot be created: {code.name}")
        if code not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
            raise ApiError(code)

    async def _copies(
        self, hosted: HostedSharePartition, letter: DeadLetter, offset: int
    ) -> tuple[dict[int, Record], int]:
        """The records themselves from `offset` on, as far as they are still there, and the end of what one read found:
        all of a letter could be more than fits into memory.
        """
        found: dict[int, Record] = {}
        log = hosted.partition.log
        offset = max(offset, log.log_start_offset)
        if offset >= letter.end_offset:
            return found, letter.end_offset
        end_offset = offset
        try:
            place = log.read(offset, _READ_BYTES, upper_bound=log.high_watermark, min_one_batch=True)
            content = place.read_cached()
            if content is None:
                content = await hosted.read_blocking(place)
            for position, header in batches(content):
                if header.base_offset >= letter.end_offset:
                    return found, letter.end_offset
                for record in read_batch_records(content, position, header):
                    if letter.first_offset <= record.offset < letter.end_offset:
                        found[record.offset] = record
                end_offset = header.next_offset
        except CorruptRecordError as error:
            logger.error("records %s of %s cannot be copied: %s", _range(letter), hosted, error)
            return found, letter.end_offset
        return found, min(end_offset, letter.end_offset) if end_offset > offset else letter.end_offset

    async def _append(
        self,
        target: Target,
        hosted: HostedSharePartition,
        letter: DeadLetter,
        offsets: range,
        copies: dict[int, Record],
    ) -> int:
        """Append what fits into one batch, wait for its commit; the offset to go on with."""
        now_ms = self._broker.env.clock.now_ms()
        records: list[Record] = []
        size = _BATCH_OVERHEAD_BYTES
        limit = target.max_message_bytes
        for source_offset in offsets:
            record = _dead_record(hosted, letter, source_offset, copies.get(source_offset), now_ms)
            record_size = _size_of(record)
            if _BATCH_OVERHEAD_BYTES + record_size > limit and (record.key or record.value):
                logger.warning("offset %d of %s is too large for its dead-letter queue: only its headers are put there",
                               source_offset, hosted)  # fmt: skip
                record = _dead_record(hosted, letter, source_offset, None, now_ms)
                record_size = _size_of(record)
            if records and size + record_size > limit:
                break
            records.append(record)
            size += record_size
        try:
            await target.append(build_batch(records), now_ms)
        except ApiError as error:
            if error.code in (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.INVALID_RECORD):
                raise NoQueueError(f"the topic {target.topic!r} refuses them: {error}") from error
            raise
        return offsets.start + len(records)


def _dead_record(
    hosted: HostedSharePartition, letter: DeadLetter, offset: int, original: Record | None, now_ms: int
) -> Record:
    headers = (
        ("topic", hosted.partition.topic),
        ("partition", str(hosted.partition.partition)),
        ("offset", str(offset)),
        ("group", hosted.group.group_id),
        ("delivery.count", str(letter.delivery_count)),
        ("message", letter.cause),
    )
    return Record(
        timestamp_ms=now_ms,
        key=None if original is None else original.key,
        value=None if original is None else original.value,
        headers=tuple((HEADER_PREFIX + name, text.encode()) for name, text in headers),
    )


def _size_of(record: Record) -> int:
    """An upper bound of what a record takes in a batch."""
    headers = sum(len(name) + len(value or b"") + 10 for name, value in record.headers)
    return _RECORD_OVERHEAD_BYTES + len(record.key or b"") + len(record.value or b"") + headers


def _range(letter: DeadLetter) -> str:
    return f"[{letter.first_offset}, {letter.end_offset})"
