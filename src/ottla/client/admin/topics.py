"""Topics: create, delete, list, describe, and give them more partitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ottla.client.admin.acls import AclOperation, operations
from ottla.client.admin.calls import AdminCalls
from ottla.client.admin.configs import ConfigEntry, ConfigSource, config_text
from ottla.client.admin.outcomes import K, known, names, outcome, uuid_text
from ottla.client.admin.routing import AnyNode, Controller, Target
from ottla.client.errors import KafkaError, UnsupportedVersionError, error_for
from ottla.client.model import Node
from ottla.core.errors import ErrorCode
from ottla.core.ids import uuid_from_text
from ottla.protocol.messages.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
)
from ottla.protocol.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from ottla.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse, DeleteTopicState
from ottla.protocol.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition,
    TopicRequest,
)
from ottla.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponsePartition,
    MetadataResponseTopic,
)

_PARTITIONS_PER_RESPONSE = 2000


class NewTopic(NamedTuple):
    """A topic to be made. What is None is as the broker's settings have it (num.partitions, ...; KIP-464)."""

    name: str
    num_partitions: int | None = None
    replication_factor: int | None = None
    replicas_assignments: Mapping[int, Sequence[int]] | None = None
    """Brokers of each partition, the preferred leader first; instead of the two numbers."""
    configs: Mapping[str, object] | None = None
    """Settings of the topic, `{"retention.ms": 60_000}`."""


class NewPartitions(NamedTuple):
    """To how many partitions a topic shall grow, and where the new ones shall be."""

    total_count: int
    new_assignments: Sequence[Sequence[int]] | None = None
    """Brokers of each new partition, the preferred leader first."""


class CreatedTopic(NamedTuple):
    """What the topic came to be; all None when the broker does not tell (before Kafka 2.4, or not authorized)."""

    name: str
    topic_id: str | None = None
    num_partitions: int | None = None
    replication_factor: int | None = None
    configs: dict[str, ConfigEntry] | None = None


class TopicListing(NamedTuple):
    """A topic in a list."""

    name: str
    topic_id: str | None
    is_internal: bool


class PartitionDescription(NamedTuple):
    """Who has a partition. The last two are None when the cluster does not keep them (KIP-966)."""

    partition: int
    leader: Node | None
    leader_epoch: int | None
    replicas: tuple[Node, ...]
    in_sync_replicas: tuple[Node, ...]
    offline_replicas: tuple[Node, ...] = ()
    eligible_leader_replicas: tuple[Node, ...] | None = None
    last_known_eligible_leader_replicas: tuple[Node, ...] | None = None


class TopicDescription(NamedTuple):
    """A topic with its partitions, in order."""

    name: str
    topic_id: str | None
    is_internal: bool
    partitions: tuple[PartitionDescription, ...]
    authorized_operations: frozenset[AclOperation] | None = None
    """None unless asked for."""


class TopicCalls(AdminCalls):
    """Calls about topics."""

    async def create_topics(
        self,
        topics: str | NewTopic | Iterable[str | NewTopic],
        *,
        validate_only: bool = False,
        retry_on_quota_violation: bool = True,
        timeout_s: float | None = None,
    ) -> dict[str, CreatedTopic]:
        """Make topics; a name alone makes one with the broker's defaults.

        Raises TOPIC_ALREADY_EXISTS and others of Kafka's codes. With `validate_only` nothing is made. A controller
        that throttles (KIP-599) is asked again until the time is up, unless `retry_on_quota_violation` is off.
        """
        given = [topics] if isinstance(topics, str | NewTopic) else list(topics)
        wanted = {topic.name: topic for topic in (NewTopic(one) if isinstance(one, str) else one for one in given)}
        by_default = any(
            topic.replicas_assignments is None and None in (topic.num_partitions, topic.replication_factor)
            for topic in wanted.values()
        )

        async def ask(target: Target, asked: list[str]) -> dict[str, CreatedTopic | KafkaError]:
            request = CreateTopicsRequest(
                topics=[_creatable(wanted[name]) for name in asked],
                timeout_ms=target.timeout_ms,
                validate_only=validate_only,
            )
            response = await target.request(request, CreateTopicsResponse, min_version=4 if by_default else None)
            return {
                result.name: outcome(result.error_code, result.error_message, _created(result))
                for result in response.topics
            }

        route: Controller[str] = _throttled(retry_on_quota_violation)
        return await self._routing.run("create_topics", wanted, route, ask, timeout_s)

    async def delete_topics(
        self,
        topics: str | Iterable[str] = (),
        *,
        topic_ids: str | Iterable[str] = (),
        retry_on_quota_violation: bool = True,
        timeout_s: float | None = None,
    ) -> None:
        """Delete topics, by name or by id (KIP-516)."""
        by_name = names(topics)
        by_id = {text: uuid_from_text(text) for text in names(topic_ids)}
        text_of = {uuid: text for text, uuid in by_id.items()}

        async def ask(target: Target, asked: list[str]) -> dict[str, KafkaError | None]:
            states = [
                DeleteTopicState(topic_id=by_id[one]) if one in by_id else DeleteTopicState(name=one) for one in asked
            ]
            request = DeleteTopicsRequest(
                topics=states,
                topic_names=[one for one in asked if one not in by_id],
                timeout_ms=target.timeout_ms,
            )
            if by_id:
                response = await target.request(request, DeleteTopicsResponse, min_version=6)
            else:
                response = await self._delete_by_name(target, request)
            return {
                text_of.get(result.topic_id) or result.name or "": outcome(
                    result.error_code, result.error_message, None
                )
                for result in response.responses
            }

        route: Controller[str] = _throttled(retry_on_quota_violation)
        await self._routing.run("delete_topics", [*by_name, *by_id], route, ask, timeout_s)
        for partition in [known_one for known_one in self._leaders if known_one.topic in by_name]:
            del self._leaders[partition]

    @staticmethod
    async def _delete_by_name(target: Target, request: DeleteTopicsRequest) -> DeleteTopicsResponse:
        try:
            return await target.request(request, DeleteTopicsResponse, min_version=6)
        except UnsupportedVersionError:
            request.topics = []
            return await target.request(request, DeleteTopicsResponse)

    async def list_topics(
        self, *, list_internal: bool = False, timeout_s: float | None = None
    ) -> dict[str, TopicListing]:
        """All topics that may be seen, by name; internal ones only when asked for."""

        async def ask(target: Target) -> dict[str, TopicListing]:
            response = await target.request(MetadataRequest(topics=None), MetadataResponse, min_version=1)
            return {
                topic.name: TopicListing(topic.name, uuid_text(topic.topic_id), topic.is_internal)
                for topic in response.topics
                if topic.name is not None and (list_internal or not topic.is_internal)
            }

        return await self._routing.run_one("list_topics", AnyNode(), ask, timeout_s)

    async def describe_topics(
        self,
        topics: str | Iterable[str] = (),
        *,
        topic_ids: str | Iterable[str] = (),
        include_authorized_operations: bool = False,
        timeout_s: float | None = None,
    ) -> dict[str, TopicDescription]:
        """Topics with their partitions, by what they were asked with: name or id."""
        by_name = names(topics)
        by_id = {text: uuid_from_text(text) for text in names(topic_ids)}

        async def ask(target: Target, asked: list[str]) -> dict[str, TopicDescription | KafkaError]:
            ids = [one for one in asked if one in by_id]
            plain = [one for one in asked if one not in by_id]
            described: dict[str, TopicDescription | KafkaError] = {}
            if plain:
                try:
                    described |= await _describe_by_pages(target, plain, include_authorized_operations)
                except UnsupportedVersionError:
                    wanted = [MetadataRequestTopic(name=name) for name in plain]
                    described |= await _describe_by_metadata(target, wanted, include_authorized_operations)
            if ids:
                wanted = [MetadataRequestTopic(topic_id=by_id[text], name=None) for text in ids]
                described |= await _describe_by_metadata(target, wanted, include_authorized_operations)
            return described

        route: AnyNode[str] = AnyNode(ErrorCode.LEADER_NOT_AVAILABLE)
        return await self._routing.run("describe_topics", [*by_name, *by_id], route, ask, timeout_s)

    async def create_partitions(
        self,
        new_partitions: Mapping[str, int | NewPartitions],
        *,
        validate_only: bool = False,
        retry_on_quota_violation: bool = True,
        timeout_s: float | None = None,
    ) -> None:
        """Let topics grow to so many partitions, `{"orders": 6}`. Keys may land in other partitions from then on."""
        wanted = {
            name: NewPartitions(count) if isinstance(count, int) else count for name, count in new_partitions.items()
        }

        async def ask(target: Target, asked: list[str]) -> dict[str, KafkaError | None]:
            request = CreatePartitionsRequest(
                topics=[_grown(name, wanted[name]) for name in asked],
                timeout_ms=target.timeout_ms,
                validate_only=validate_only,
            )
            response = await target.request(request, CreatePartitionsResponse)
            return {result.name: outcome(result.error_code, result.error_message, None) for result in response.results}

        route: Controller[str] = _throttled(retry_on_quota_violation)
        await self._routing.run("create_partitions", wanted, route, ask, timeout_s)


def _throttled(retry: bool) -> Controller[K]:
    return Controller(ErrorCode.THROTTLING_QUOTA_EXCEEDED) if retry else Controller()


def _creatable(topic: NewTopic) -> CreatableTopic:
    assignments = topic.replicas_assignments
    placed = assignments is not None
    return CreatableTopic(
        name=topic.name,
        num_partitions=-1 if placed or topic.num_partitions is None else topic.num_partitions,
        replication_factor=-1 if placed or topic.replication_factor is None else topic.replication_factor,
        assignments=[
            CreatableReplicaAssignment(partition_index=partition, broker_ids=list(brokers))
            for partition, brokers in (assignments or {}).items()
        ],
        configs=[
            CreatableTopicConfig(name=name, value=None if value is None else config_text(value))
            for name, value in (topic.configs or {}).items()
        ],
    )


def _created(result: CreatableTopicResult) -> CreatedTopic:
    if result.topic_config_error_code or result.num_partitions < 0:
        return CreatedTopic(result.name, uuid_text(result.topic_id))
    configs = {
        config.name: ConfigEntry(
            config.name,
            config.value,
            known(ConfigSource, max(config.config_source, 0)),
            config.is_sensitive,
            config.read_only,
        )
        for config in result.configs or ()
    }
    return CreatedTopic(
        result.name, uuid_text(result.topic_id), result.num_partitions, result.replication_factor, configs
    )


def _grown(name: str, new: NewPartitions) -> CreatePartitionsTopic:
    assignments = new.new_assignments
    return CreatePartitionsTopic(
        name=name,
        count=new.total_count,
        assignments=None
        if assignments is None
        else [CreatePartitionsAssignment(broker_ids=list(brokers)) for brokers in assignments],
    )


async def _describe_by_pages(
    target: Target, topics: list[str], include_authorized_operations: bool
) -> dict[str, TopicDescription | KafkaError]:
    """DescribeTopicPartitions: a response holds so many partitions, and says where the next goes on (KIP-966)."""
    described: dict[str, TopicDescription | KafkaError] = {}
    partitions: dict[str, list[PartitionDescription]] = {}
    wanted, cursor = sorted(topics), None
    while True:
        request = DescribeTopicPartitionsRequest(
            topics=[TopicRequest(name=name) for name in wanted],
            response_partition_limit=_PARTITIONS_PER_RESPONSE,
            cursor=cursor,
        )
        response = await target.request(request, DescribeTopicPartitionsResponse)
        for topic in response.topics:
            name = topic.name or ""
            if topic.error_code:
                described[name] = error_for(topic.error_code)
                continue
            found = partitions.setdefault(name, [])
            found.extend(_partition(target, partition) for partition in topic.partitions)
            described[name] = TopicDescription(
                name,
                uuid_text(topic.topic_id),
                topic.is_internal,
                tuple(found),
                operations(topic.topic_authorized_operations) if include_authorized_operations else None,
            )
        following = response.next_cursor
        if following is None:
            return described
        if cursor is not None and (following.topic_name, following.partition_index) <= (
            cursor.topic_name,
            cursor.partition_index,
        ):
            raise KafkaError("The broker describes topics in a circle.", code=ErrorCode.UNKNOWN_SERVER_ERROR)
        cursor = Cursor(topic_name=following.topic_name, partition_index=following.partition_index)
        wanted = [name for name in wanted if name >= cursor.topic_name]


async def _describe_by_metadata(
    target: Target, wanted: list[MetadataRequestTopic], include_authorized_operations: bool
) -> dict[str, TopicDescription | KafkaError]:
    """Metadata: all in one response; the only way to ask by id (since v12), and of brokers before Kafka 3.7."""
    by_id = wanted[0].name is None
    request = MetadataRequest(
        topics=wanted,
        allow_auto_topic_creation=False,
        include_topic_authorized_operations=include_authorized_operations,
    )
    oldest = 12 if by_id else 8 if include_authorized_operations else 4
    response = await target.request(request, MetadataResponse, min_version=oldest)
    described: dict[str, TopicDescription | KafkaError] = {}
    for topic in response.topics:
        key = uuid_text(topic.topic_id) if by_id else topic.name
        described[key or ""] = (
            error_for(topic.error_code)
            if topic.error_code
            else _described(target, topic, include_authorized_operations)
        )
    return described


def _described(target: Target, topic: MetadataResponseTopic, include_authorized_operations: bool) -> TopicDescription:
    return TopicDescription(
        topic.name or "",
        uuid_text(topic.topic_id),
        topic.is_internal,
        tuple(
            _partition(target, partition)
            for partition in sorted(topic.partitions, key=lambda partition: partition.partition_index)
        ),
        operations(topic.topic_authorized_operations) if include_authorized_operations else None,
    )


def _partition(
    target: Target, partition: MetadataResponsePartition | DescribeTopicPartitionsResponsePartition
) -> PartitionDescription:
    brokers = target.cluster.metadata.brokers

    def nodes(ids: Iterable[int]) -> tuple[Node, ...]:
        return tuple(brokers.get(broker) or Node(broker, "", -1) for broker in ids)

    eligible, last_known = None, None
    if isinstance(partition, DescribeTopicPartitionsResponsePartition):
        if partition.eligible_leader_replicas is not None:
            eligible = nodes(partition.eligible_leader_replicas)
        if partition.last_known_elr is not None:
            last_known = nodes(partition.last_known_elr)
    return PartitionDescription(
        partition.partition_index,
        nodes([partition.leader_id])[0] if partition.leader_id >= 0 else None,
        partition.leader_epoch if partition.leader_epoch >= 0 else None,
        nodes(partition.replica_nodes),
        nodes(partition.isr_nodes),
        nodes(partition.offline_replicas),
        eligible,
        last_known,
    )
