"""The controller's core: commands in, records and responses out; `replay` is the only place where its state changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ottla.protocol.messages import metadata_records as messages
from ottla.protocol.messages.create_partitions import CreatePartitionsRequest
from ottla.protocol.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from ottla.protocol.messages.delete_topics import DeleteTopicsRequest
from ottla.schema.config import BrokerConfig
from ottla.server.controller.brokers import BrokerRegistration, fence_records, register_records, unregister_records
from ottla.server.controller.configs import Change, ConfigCommands
from ottla.server.controller.result import Charge, Randomness, Result
from ottla.server.controller.topics import TopicCommands
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.dynamic_settings import with_dynamic_settings
from ottla.server.metadata.image import ConfigResource, ConfigResourceType, MetadataImage

if TYPE_CHECKING:
    from ottla.protocol.messages.alter_partition_reassignments import AlterPartitionReassignmentsRequest
    from ottla.protocol.messages.elect_leaders import ElectLeadersRequest
    from ottla.protocol.messages.update_features import UpdateFeaturesRequest
    from ottla.server.controller.client_quotas import QuotaAlteration

PRODUCER_ID_BLOCK: Final = 1000
"""Producer ids that a broker takes at a time."""


class InternalTopic(NamedTuple):
    """How an internal topic is made: the broker settings with `prefix` give its size, `settings` are its own."""

    prefix: str
    settings: Mapping[str, str]
    has_min_isr: bool


_INTERNAL_TOPICS: Final[Mapping[str, InternalTopic]] = {
    "__consumer_offsets": InternalTopic(
        "offsets.topic", {"cleanup.policy": "compact", "compression.type": "producer"}, has_min_isr=False
    ),
    "__transaction_state": InternalTopic(
        "transaction.state.log", {"cleanup.policy": "compact", "compression.type": "uncompressed"}, has_min_isr=True
    ),
    "__share_group_state": InternalTopic(
        "share.coordinator.state.topic",
        {"cleanup.policy": "delete", "compression.type": "producer", "retention.ms": "-1"},
        has_min_isr=True,
    ),
}


class ProducerIds(NamedTuple):
    """A block of producer ids: from `first` up to, not including, `end`."""

    first: int
    end: int


class ControllerCore:
    """State is the newest image (committed or not) and the configuration with the image's dynamic settings.

    Commands never change state. Their result is either refused by the log, and then nothing happened, or appended, and
    then replayed here at once, so that the next command is decided on it.
    """

    def __init__(self, image: MetadataImage, config: BrokerConfig, node_id: int, randomness: Randomness) -> None:
        self.image = image
        self.node_id = node_id
        self.config = with_dynamic_settings(config, image, node_id)
        self._topics = TopicCommands(image, self.config, randomness)
        self._configs = ConfigCommands(image, self.config, node_id)

    def prepare(self, records: Iterable[Any]) -> MetadataDelta:
        """Try records on the state without changing it: what cannot be replayed must not get into the log."""
        delta = MetadataDelta(self.image)
        for record in records:
            delta.replay(record)
        return delta

    def replay(self, delta: MetadataDelta, last_offset: int, epoch: int, timestamp_ms: int) -> None:
        """Take over prepared records, which are in the log now; the new state is `image`."""
        assert delta.image is self.image, "prepared on another state"
        image = self.image = delta.apply(last_offset, epoch, timestamp_ms)
        if any(resource_type == ConfigResourceType.BROKER for resource_type, _ in delta.changed_configs):
            self.config = with_dynamic_settings(self.config, image, self.node_id)
        self._topics.image = self._configs.image = image
        self._topics.config = self._configs.config = self.config
        self._topics.track(delta)

    def check_invariants(self) -> None:
        """Assert what must hold between any two commands (tests, simulation)."""
        topics = self.image.topics
        assert len(topics.by_name) == len(topics.by_id)
        for name, topic in topics.by_name.items():
            assert topic.name == name
            assert topics.by_id[topic.topic_id] is topic
            assert list(topic.partitions) == list(range(len(topic.partitions)))
            for partition in topic.partitions.values():
                assert set(partition.isr) <= set(partition.replicas)
                assert partition.leader == -1 or partition.leader in partition.isr

    # Commands

    def bootstrap(self, records: list[Any]) -> Result:
        """The first records of a new cluster, in one metadata transaction as Kafka writes them."""
        framed = [messages.BeginTransactionRecord(name="Bootstrap records"), *records, messages.EndTransactionRecord()]
        return Result(framed, None)

    def register_broker(self, registration: BrokerRegistration, offset: int) -> Result:
        """The broker has started; the response is its epoch, which is `offset`, the offset of the first record."""
        return Result(register_records(self.image, registration, offset), offset, atomic=False)

    def fence_broker(self) -> Result:
        """This node's broker is about to stop; no response."""
        return Result(fence_records(self.image, self.node_id), None)

    def create_topics(
        self, request: CreateTopicsRequest, *, with_configs: bool, charge: Charge | None = None
    ) -> Result:
        """CreateTopics; the response is a CreateTopicsResponse."""
        return self._topics.create_topics(request, with_configs=with_configs, charge=charge)

    def auto_create_topics(self, names: Iterable[str], charge: Charge | None = None) -> Result:
        """What a client's Metadata request, or the first use of an internal topic, makes: partitions and settings by
        the broker's configuration. The response is a CreateTopicsResponse."""
        request = CreateTopicsRequest(topics=[self._automatic(name) for name in names])
        return self._topics.create_topics(request, with_configs=False, charge=charge)

    def delete_topics(self, request: DeleteTopicsRequest, *, api_version: int, charge: Charge | None = None) -> Result:
        """DeleteTopics; the response is a DeleteTopicsResponse."""
        return self._topics.delete_topics(request, api_version=api_version, charge=charge)

    def create_partitions(self, request: CreatePartitionsRequest, *, charge: Charge | None = None) -> Result:
        """CreatePartitions; the response is a CreatePartitionsResponse."""
        return self._topics.create_partitions(request, charge=charge)

    def alter_configs(
        self, resources: Iterable[tuple[ConfigResource, list[Change]]], *, replace: bool, validate_only: bool
    ) -> Result:
        """Both AlterConfigs APIs; the response is one `Refusal` per resource, in order."""
        records, answers = self._configs.alter(resources, replace=replace)
        return Result([] if validate_only else list(records), answers)

    def update_features(self, request: UpdateFeaturesRequest, *, api_version: int, kraft_version: int) -> Result:
        """UpdateFeatures; the response is a `features.FeaturesUpdate`."""
        from ottla.server.controller.features import update_features

        return update_features(self.image, self.config, request, api_version=api_version, kraft_version=kraft_version)

    def alter_client_quotas(
        self, alterations: Iterable[QuotaAlteration], *, unknown_hosts: Collection[str], validate_only: bool
    ) -> Result:
        """AlterClientQuotas; the response is `client_quotas.Answers`."""
        from ottla.server.controller.client_quotas import alter_client_quotas

        return alter_client_quotas(self.image, alterations, unknown_hosts=unknown_hosts, validate_only=validate_only)

    def elect_leaders(self, request: ElectLeadersRequest) -> Result:
        """ElectLeaders; the response is an ElectLeadersResponse. Raises ApiError for an unknown election type."""
        from ottla.server.controller.elections import elect_leaders

        return elect_leaders(self.image, request)

    def alter_partition_reassignments(self, request: AlterPartitionReassignmentsRequest) -> Result:
        """AlterPartitionReassignments; the response is an AlterPartitionReassignmentsResponse."""
        from ottla.server.controller.reassignments import alter_reassignments

        return alter_reassignments(self.image, request)

    def unregister_broker(self, broker_id: int) -> Result:
        """The broker is gone for good; no response. ApiError when there is no such broker, or it is this one."""
        return Result(unregister_records(self.image, broker_id, self.node_id), None)

    def allocate_producer_ids(self, broker_epoch: int) -> Result:
        """The next block of producer ids; the response is `ProducerIds`."""
        first = self.image.producer_ids.next_producer_id
        end = first + PRODUCER_ID_BLOCK
        record = messages.ProducerIdsRecord(broker_id=self.node_id, broker_epoch=broker_epoch, next_producer_id=end)
        return Result([record], ProducerIds(first, end))

    def _automatic(self, name: str) -> CreatableTopic:
        internal = _INTERNAL_TOPICS.get(name)
        if internal is None:
            return CreatableTopic(name=name, num_partitions=-1, replication_factor=-1)
        config, prefix = self.config, internal.prefix
        settings = {**internal.settings, "segment.bytes": str(config[f"{prefix}.segment.bytes"])}
        brokers = len(self.image.brokers)
        if internal.has_min_isr:
            settings["min.insync.replicas"] = str(config.adapted(f"{prefix}.min.isr", brokers))
        return CreatableTopic(
            name=name,
            num_partitions=config[f"{prefix}.num.partitions"],
            replication_factor=config.adapted(f"{prefix}.replication.factor", brokers),
            configs=[CreatableTopicConfig(name=setting, value=value) for setting, value in settings.items()],
        )
