"""Offsets of partitions: look them up, and delete records below them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from ottla.client.admin.calls import AdminCalls
from ottla.client.admin.outcomes import at_least_zero, by_topic, outcome
from ottla.client.admin.routing import Leaders, Target
from ottla.client.errors import KafkaError
from ottla.client.model import TopicPartition, topic_partition
from ottla.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopic,
)
from ottla.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)


class OffsetSpec(IntEnum):
    """Which offset of a partition is looked up, where it is not the one of a timestamp."""

    LATEST = -1
    """Where the next record goes; with read_committed the last stable offset."""
    EARLIEST = -2
    """The first record that is kept."""
    MAX_TIMESTAMP = -3
    """The record with the largest timestamp (KIP-734)."""
    EARLIEST_LOCAL = -4
    """The first record on the leader's own disk (KIP-405)."""
    LATEST_TIERED = -5
    """The last record in tiered storage (KIP-1005)."""
    EARLIEST_PENDING_UPLOAD = -6
    """The first record that is not in tiered storage yet (KIP-1023)."""


_SINCE_VERSION = {
    OffsetSpec.MAX_TIMESTAMP: 7,
    OffsetSpec.EARLIEST_LOCAL: 8,
    OffsetSpec.LATEST_TIERED: 9,
    OffsetSpec.EARLIEST_PENDING_UPLOAD: 11,
}
"""First version of ListOffsets that knows the spec; a lower one would take it for a timestamp."""

IN_ISOLATION = {"read_uncommitted": 0, "read_committed": 1}

DELETE_ALL = -1
"""For `delete_records`: all that is in the partition now."""


class ListedOffset(NamedTuple):
    """An offset that was looked up; `offset` is None when no record has so late a timestamp, or there is none."""

    offset: int | None
    timestamp_ms: int | None
    leader_epoch: int | None


class OffsetCalls(AdminCalls):
    """Calls about the offsets of partitions."""

    async def list_offsets(
        self,
        specs: Mapping[TopicPartition, OffsetSpec | int],
        *,
        isolation_level: str = "read_uncommitted",
        timeout_s: float | None = None,
    ) -> dict[TopicPartition, ListedOffset]:
        """Look offsets up: by `OffsetSpec`, or the first whose timestamp (ms since 1970) is at least this number."""
        if isolation_level not in IN_ISOLATION:
            raise ValueError(f"isolation_level is {isolation_level!r}: it is read_uncommitted or read_committed")
        wanted = {topic_partition(partition): int(spec) for partition, spec in specs.items()}
        for partition, spec in wanted.items():
            if spec < min(OffsetSpec):
                raise ValueError(f"{partition}: {spec} is neither an OffsetSpec nor a timestamp")

        async def ask(target: Target, asked: list[TopicPartition]) -> dict[TopicPartition, ListedOffset | KafkaError]:
            found: dict[TopicPartition, ListedOffset | KafkaError] = {}
            for since in sorted({_since(wanted[partition]) for partition in asked}):
                part = [partition for partition in asked if _since(wanted[partition]) == since]
                try:
                    found |= await self._listed(target, part, wanted, IN_ISOLATION[isolation_level], since)
                except KafkaError as error:  # a broker that is too old for some specs still answers for the others
                    found |= dict.fromkeys(part, error)
            return found

        return await self._routing.run("list_offsets", wanted, Leaders(self._leaders), ask, timeout_s)

    @staticmethod
    async def _listed(
        target: Target,
        asked: list[TopicPartition],
        wanted: Mapping[TopicPartition, int],
        isolation_level: int,
        since: int,
    ) -> dict[TopicPartition, ListedOffset | KafkaError]:
        request = ListOffsetsRequest(
            replica_id=-1,
            isolation_level=isolation_level,
            topics=[
                ListOffsetsTopic(
                    name=topic,
                    partitions=[
                        ListOffsetsPartition(
                            partition_index=partition, timestamp=wanted[TopicPartition(topic, partition)]
                        )
                        for partition in partitions
                    ],
                )
                for topic, partitions in by_topic(asked).items()
            ],
            timeout_ms=target.timeout_ms,
        )
        response = await target.request(request, ListOffsetsResponse, min_version=max(since, 2 * isolation_level))
        return {
            TopicPartition(topic.name, partition.partition_index): outcome(
                partition.error_code,
                None,
                ListedOffset(
                    at_least_zero(partition.offset),
                    at_least_zero(partition.timestamp),
                    at_least_zero(partition.leader_epoch),
                ),
            )
            for topic in response.topics
            for partition in topic.partitions
        }

    async def delete_records(
        self, before: Mapping[TopicPartition, int], *, timeout_s: float | None = None
    ) -> dict[TopicPartition, int]:
        """Delete the records below an offset (`DELETE_ALL`: all). Returns where each partition starts now (KIP-107)."""
        wanted = {topic_partition(partition): offset for partition, offset in before.items()}

        async def ask(target: Target, asked: list[TopicPartition]) -> dict[TopicPartition, int | KafkaError]:
            request = DeleteRecordsRequest(
                topics=[
                    DeleteRecordsTopic(
                        name=topic,
                        partitions=[
                            DeleteRecordsPartition(
                                partition_index=partition, offset=wanted[TopicPartition(topic, partition)]
                            )
                            for partition in partitions
                        ],
                    )
                    for topic, partitions in by_topic(asked).items()
                ],
                timeout_ms=target.timeout_ms,
            )
            response = await target.request(request, DeleteRecordsResponse)
            return {
                TopicPartition(topic.name, partition.partition_index): outcome(
                    partition.error_code, None, partition.low_watermark
                )
                for topic in response.topics
                for partition in topic.partitions
            }

        return await self._routing.run("delete_records", wanted, Leaders(self._leaders), ask, timeout_s)


def _since(spec: int) -> int:
    return _SINCE_VERSION.get(OffsetSpec(spec), 1) if spec < 0 else 1
