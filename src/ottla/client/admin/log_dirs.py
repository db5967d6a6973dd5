"""Where brokers keep their replicas (KIP-113)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ottla.client.admin.calls import AdminCalls
from ottla.client.admin.outcomes import at_least_zero, by_topic, outcome
from ottla.client.admin.routing import Brokers, Target
from ottla.client.errors import KafkaError, error_for
from ottla.client.model import TopicPartition
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopic,
)
from ottla.protocol.messages.describe_log_dirs import (
    DescribableLogDirTopic,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
)


class TopicPartitionReplica(NamedTuple):
    """A partition's replica on a broker."""

    topic: str
    partition: int
    broker_id: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition} on broker {self.broker_id}"


class ReplicaInfo(NamedTuple):
    """A replica in a log directory."""

    size_bytes: int
    offset_lag: int
    """How far it is behind: the high watermark, or (a future one) the replica it will replace."""
    is_future: bool
    """On its way to this directory, to replace the replica in another one."""


class LogDirDescription(NamedTuple):
    """A log directory. One that failed has its `error`, and nothing else."""

    error: KafkaError | None
    replicas: dict[TopicPartition, ReplicaInfo]
    total_bytes: int | None = None
    """Of the volume it lies on; None from brokers before Kafka 3.3."""
    usable_bytes: int | None = None
    is_cordoned: bool = False
    """Gets no new replicas (KIP-1066)."""


class ReplicaLogDirInfo(NamedTuple):
    """Where a replica is, and where it is going to; None where there is none."""

    current_log_dir: str | None = None
    current_offset_lag: int | None = None
    future_log_dir: str | None = None
    future_offset_lag: int | None = None


class LogDirCalls(AdminCalls):
    """Calls about log directories."""

    async def describe_log_dirs(
        self, brokers: int | Iterable[int] | None = None, *, timeout_s: float | None = None
    ) -> dict[int, dict[str, LogDirDescription]]:
        """The log directories of brokers (all without `brokers`) by path."""

        async def ask(target: Target, asked: list[int]) -> dict[int, dict[str, LogDirDescription] | KafkaError]:
            response = await target.request(DescribeLogDirsRequest(topics=None), DescribeLogDirsResponse)
            _check(response)
            return {target.node_id: {result.log_dir: _log_dir(result) for result in response.results}}

        if brokers is None:
            return await self._routing.run_everywhere("describe_log_dirs", ask, timeout_s)
        wanted = [brokers] if isinstance(brokers, int) else list(brokers)
        return await self._routing.run("describe_log_dirs", wanted, Brokers(int), ask, timeout_s)

    async def describe_replica_log_dirs(
        self, replicas: Iterable[TopicPartitionReplica], *, timeout_s: float | None = None
    ) -> dict[TopicPartitionReplica, ReplicaLogDirInfo]:
        """In which directories of their brokers replicas are. One that the broker does not have is nowhere."""
        wanted = [TopicPartitionReplica(*replica) for replica in replicas]

        async def ask(
            target: Target, asked: list[TopicPartitionReplica]
        ) -> dict[TopicPartitionReplica, ReplicaLogDirInfo | KafkaError]:
            request = DescribeLogDirsRequest(
                topics=[
                    DescribableLogDirTopic(topic=topic, partitions=partitions)
                    for topic, partitions in by_topic((one.topic, one.partition) for one in asked).items()
                ]
            )
            response = await target.request(request, DescribeLogDirsResponse)
            _check(response)
            return {replica: _whereabouts(replica, response) for replica in asked}

        route: Brokers[TopicPartitionReplica] = Brokers(lambda replica: replica.broker_id)
        return await self._routing.run("describe_replica_log_dirs", wanted, route, ask, timeout_s)

    async def alter_replica_log_dirs(
        self, moves: Mapping[TopicPartitionReplica, str], *, timeout_s: float | None = None
    ) -> None:
        """Move replicas to other directories of their brokers; the copying goes on after the call."""
        wanted = {TopicPartitionReplica(*replica): path for replica, path in moves.items()}

        async def ask(
            target: Target, asked: list[TopicPartitionReplica]
        ) -> dict[TopicPartitionReplica, KafkaError | None]:
            paths: dict[str, list[tuple[str, int]]] = {}
            for replica in asked:
                paths.setdefault(wanted[replica], []).append((replica.topic, replica.partition))
            request = AlterReplicaLogDirsRequest(
                dirs=[
                    AlterReplicaLogDir(
                        path=path,
                        topics=[
                            AlterReplicaLogDirTopic(name=topic, partitions=indexes)
                            for topic, indexes in by_topic(partitions).items()
                        ],
                    )
                    for path, partitions in paths.items()
                ]
            )
            response = await target.request(request, AlterReplicaLogDirsResponse)
            return {
                TopicPartitionReplica(topic.topic_name, partition.partition_index, target.node_id): outcome(
                    partition.error_code, None, None
                )
                for topic in response.results
                for partition in topic.partitions
            }

        route: Brokers[TopicPartitionReplica] = Brokers(lambda replica: replica.broker_id)
        await self._routing.run("alter_replica_log_dirs", wanted, route, ask, timeout_s)


def _check(response: DescribeLogDirsResponse) -> None:
    """Brokers before Kafka 3.2 say that one may not ask by leaving everything out."""
    if response.error_code:
        raise error_for(response.error_code)
    if not response.results:
        raise error_for(ErrorCode.CLUSTER_AUTHORIZATION_FAILED)


def _log_dir(result: DescribeLogDirsResult) -> LogDirDescription:
    return LogDirDescription(
        error_for(result.error_code) if result.error_code else None,
        {
            TopicPartition(topic.name, partition.partition_index): ReplicaInfo(
                partition.partition_size, partition.offset_lag, partition.is_future_key
            )
            for topic in result.topics
            for partition in topic.partitions
        },
        at_least_zero(result.total_bytes),
        at_least_zero(result.usable_bytes),
        result.is_cordoned,
    )


def _whereabouts(replica: TopicPartitionReplica, response: DescribeLogDirsResponse) -> ReplicaLogDirInfo | KafkaError:
    current: tuple[str, int] | tuple[None, None] = (None, None)
    future: tuple[str, int] | tuple[None, None] = (None, None)
    for result in response.results:
        if result.error_code == ErrorCode.LOG_DIR_NOT_FOUND:
            continue
        if result.error_code and result.error_code != ErrorCode.KAFKA_STORAGE_ERROR:
            return error_for(result.error_code)
        for topic in result.topics:
            for partition in topic.partitions:
                if (topic.name, partition.partition_index) == replica[:2]:
                    if partition.is_future_key:
                        future = (result.log_dir, partition.offset_lag)
                    else:
                        current = (result.log_dir, partition.offset_lag)
    return ReplicaLogDirInfo(*current, *future)
