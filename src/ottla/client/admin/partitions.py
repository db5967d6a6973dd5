"""Partitions and their replicas: elect leaders, move replicas to other brokers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from ottla.client.admin.calls import AdminCalls
from ottla.client.admin.outcomes import by_topic, outcome, settle
from ottla.client.admin.routing import Controller, Target
from ottla.client.errors import KafkaError, error_for
from ottla.client.model import TopicPartition, topic_partition
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartition,
    ReassignableTopic,
)
from ottla.protocol.messages.elect_leaders import ElectLeadersRequest, ElectLeadersResponse, TopicPartitions
from ottla.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
    ListPartitionReassignmentsTopics,
)


class ElectionType(IntEnum):
    """Who may become leader."""

    PREFERRED = 0
    """The first replica of the list."""
    UNCLEAN = 1
    """Any replica that is alive, when none in sync is: records may be lost (KIP-460)."""


class PartitionReassignment(NamedTuple):
    """A move under way: who has the partition now, and who of them comes and goes."""

    replicas: tuple[int, ...]
    adding_replicas: tuple[int, ...]
    removing_replicas: tuple[int, ...]


class PartitionCalls(AdminCalls):
    """Calls about partitions and who has them."""

    async def elect_leaders(
        self,
        election_type: ElectionType,
        partitions: Iterable[TopicPartition] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> dict[TopicPartition, bool]:
        """Elect leaders, of all partitions that need it without `partitions`; whether each got a new one.

        False: the right leader was there already. A partition that can have no such leader fails the call.
        """
        wanted = None if partitions is None else [topic_partition(partition) for partition in partitions]

        async def ask(target: Target) -> dict[TopicPartition, bool | KafkaError]:
            request = ElectLeadersRequest(
                election_type=int(election_type),
                topic_partitions=None
                if wanted is None
                else [TopicPartitions(topic=topic, partitions=indexes) for topic, indexes in by_topic(wanted).items()],
                timeout_ms=target.timeout_ms,
            )
            oldest = 1 if election_type is not ElectionType.PREFERRED else None
            response = await target.request(request, ElectLeadersResponse, min_version=oldest)
            if response.error_code:
                raise error_for(response.error_code)
            return {
                TopicPartition(result.topic, partition.partition_id): partition.error_code
                != ErrorCode.ELECTION_NOT_NEEDED
                if partition.error_code in (ErrorCode.NONE, ErrorCode.ELECTION_NOT_NEEDED)
                else error_for(partition.error_code, partition.error_message)
                for result in response.replica_election_results
                for partition in result.partition_result
            }

        return settle(await self._routing.run_one("elect_leaders", Controller(), ask, timeout_s))

    async def alter_partition_reassignments(
        self,
        reassignments: Mapping[TopicPartition, Sequence[int] | None],
        *,
        allow_replication_factor_change: bool = True,
        timeout_s: float | None = None,
    ) -> None:
        """Move partitions to these brokers, the preferred leader first; None cancels a move under way (KIP-455)."""
        wanted = {topic_partition(partition): brokers for partition, brokers in reassignments.items()}

        async def ask(target: Target, asked: list[TopicPartition]) -> dict[TopicPartition, KafkaError | None]:
            request = AlterPartitionReassignmentsRequest(
                timeout_ms=target.timeout_ms,
                allow_replication_factor_change=allow_replication_factor_change,
                topics=[
                    ReassignableTopic(
                        name=topic,
                        partitions=[
                            _reassignable(partition, wanted[TopicPartition(topic, partition)]) for partition in indexes
                        ],
                    )
                    for topic, indexes in by_topic(asked).items()
                ],
            )
            response = await target.request(
                request,
                AlterPartitionReassignmentsResponse,
                min_version=None if allow_replication_factor_change else 1,
            )
            if response.error_code:
                raise error_for(response.error_code, response.error_message)
            return {
                TopicPartition(topic.name, partition.partition_index): outcome(
                    partition.error_code, partition.error_message, None
                )
                for topic in response.responses
                for partition in topic.partitions
            }

        await self._routing.run("alter_partition_reassignments", wanted, Controller(), ask, timeout_s)

    async def list_partition_reassignments(
        self, partitions: Iterable[TopicPartition] | None = None, *, timeout_s: float | None = None
    ) -> dict[TopicPartition, PartitionReassignment]:
        """The moves under way, of these partitions or of all."""
        wanted = None if partitions is None else [topic_partition(partition) for partition in partitions]

        async def ask(target: Target) -> dict[TopicPartition, PartitionReassignment]:
            request = ListPartitionReassignmentsRequest(
                timeout_ms=target.timeout_ms,
                topics=None
                if wanted is None
                else [
                    ListPartitionReassignmentsTopics(name=topic, partition_indexes=indexes)
                    for topic, indexes in by_topic(wanted).items()
                ],
            )
            response = await target.request(request, ListPartitionReassignmentsResponse)
            if response.error_code:
                raise error_for(response.error_code, response.error_message)
            return {
                TopicPartition(topic.name, partition.partition_index): PartitionReassignment(
                    tuple(partition.replicas), tuple(partition.adding_replicas), tuple(partition.removing_replicas)
                )
                for topic in response.topics
                for partition in topic.partitions
            }

        return await self._routing.run_one("list_partition_reassignments", Controller(), ask, timeout_s)


def _reassignable(partition: int, brokers: Sequence[int] | None) -> ReassignablePartition:
    return ReassignablePartition(partition_index=partition, replicas=None if brokers is None else list(brokers))
