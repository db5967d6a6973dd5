"""The audit log as a topic, `audit.log.topic`: each event is a record, its value the line of JSON, its key who did it.

An ordinary topic with one partition: who may read it, or write to it, is for ACLs to say. The node that has noted an
event writes it, through its own log when it leads the partition, else with a Produce request to who does. The topic is
made when there is something to write; its retention is that of the broker, or what somebody sets.

Nobody waits for it: what cannot be written yet is kept, up to `most_kept` events, and what is above is counted as lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from ottla.core.errors import ERRORS, ApiError, ErrorCode
from ottla.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.records.record import Record, build_batch
from ottla.schema.topic import topic_settings
from ottla.server.broker.share.dead_letter_targets import LocalTarget, RemoteTarget, Target
from ottla.server.broker.topic_creation import create_topics
from ottla.server.metadata.image import ConfigResourceType
from ottla.server.security.audit import encode_lines

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker
    from ottla.server.security.audit import Audit

logger = logging.getLogger(__name__)

LONGEST_BATCH_BYTES: Final = 256 * 1024
LONGEST_CLOSE_S: Final = 2.0
_RECORD_BYTES: Final = 40  # more than the lengths and deltas of a record can need
_TIMEOUT_S: Final = 30.0
_BACKOFF_S: Final = 0.25
_BACKOFF_MAX_S: Final = 10.0


class AuditTopic:
    """Writes to the topic in a task, which is there as long as there is something to write."""

    def __init__(self, broker: Broker, audit: Audit, name: str, most_kept: int) -> None:
        self._broker = broker
        self._audit = audit
        self._name = name
        self._most_kept = most_kept
        self._queue: deque[Record] = deque()
        self._task: asyncio.Task[None] | None = None
        self._is_told = False

    def put(self, events: list[dict[str, Any]]) -> None:
        """Have these written, after those that were put before."""
        room = self._most_kept - len(self._queue)
        self._audit.lost += max(len(events) - max(room, 0), 0)
        self._queue.extend(_record(event) for event in events[: max(room, 0)])
        if self._queue and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._write_all())

    async def close(self) -> None:
        """Wait for what is being written, though not for long; the rest is lost."""
        task = self._task
        if task is not None:
            await asyncio.wait([task], timeout=LONGEST_CLOSE_S)
        self.abort()

    def abort(self) -> None:
        """Write no more."""
        if self._task is not None:
            self._task.cancel()
        self._audit.lost += len(self._queue)
        self._queue.clear()

    async def _write_all(self) -> None:
        backoff_s = _BACKOFF_S
        while self._queue:
            try:
                target = await self._target()
                records = self._portion(target.max_message_bytes)
                batch = build_batch(records)
                await asyncio.wait_for(target.append(batch, self._broker.env.clock.now_ms()), _TIMEOUT_S)
            except (ApiError, TimeoutError) as error:
                if not self._is_told:
                    self._is_told = True
                    logger.warning("audit events wait, the topic %s does not take them: %s", self._name, error)
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, _BACKOFF_MAX_S)
            except Exception:
                logger.exception("audit events are lost, the topic %s does not take them", self._name)
                self._audit.lost += len(self._queue)
                self._queue.clear()
            else:
                for _ in records:
                    self._queue.popleft()
                self._audit.written += len(records)
                self._is_told = False
                backoff_s = _BACKOFF_S

    def _portion(self, max_message_bytes: int) -> list[Record]:
        """The first of those that wait, as many as one batch may have; at least one."""
        limit = min(max_message_bytes, LONGEST_BATCH_BYTES) - 61
        found: list[Record] = []
        size = 0
        for record in self._queue:
            size += _RECORD_BYTES + len(record.key or b"") + len(record.value or b"")
            if found and size > limit:
                break
            found.append(record)
        return found

    async def _target(self) -> Target:
        broker, name = self._broker, self._name
        topic = broker.image.topics.by_name.get(name)
        if topic is None:
            request = CreateTopicsRequest(
                topics=[CreatableTopic(name=name, num_partitions=1, replication_factor=-1)],
                timeout_ms=broker.config["request.timeout.ms"],
            )
            code = ERRORS[(await create_topics(broker, request)).topics[0].error_code]
            topic = broker.image.topics.by_name.get(name)
            if topic is None:
                raise ApiError(code if code is not ErrorCode.NONE else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        leader = topic.partitions[0].leader
        if leader == broker.node_id:
            partition = broker.replicas.get_by_id(topic.topic_id, 0)
            if partition is None or not partition.is_leader:
                raise ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
            return LocalTarget(partition)
        if leader < 0:
            raise ApiError(ErrorCode.LEADER_NOT_AVAILABLE)
        settings = topic_settings(broker.config, broker.image.config_of(ConfigResourceType.TOPIC, name))
        return RemoteTarget(broker, leader, name, 0, settings["max.message.bytes"])


def _record(event: dict[str, Any]) -> Record:
    principal = event.get("principal")
    key = None if principal is None else str(principal).encode("utf-8", "replace")
    return Record(timestamp_ms=event["time_ms"], key=key, value=encode_lines([event]).rstrip(b"\n"))
