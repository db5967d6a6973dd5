"""Creating and deleting topics, adding partitions: Kafka's checks, in Kafka's order, with Kafka's words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages import create_partitions as create_partitions_messages
from ottla.protocol.messages import create_topics as create_topics_messages
from ottla.protocol.messages import delete_topics as delete_topics_messages
from ottla.protocol.messages import metadata_records as messages
from ottla.schema.config import BrokerConfig
from ottla.schema.describe import describe_topic
from ottla.schema.topic import validate_topic_overrides
from ottla.server.controller.placement import check_assignment, directory_of, place
from ottla.server.controller.result import MAX_PARTITIONS_PER_REQUEST, Charge, Randomness, Result, check_topic_name
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.image import ConfigResourceType, MetadataImage

CreateTopicsRequest = create_topics_messages.CreateTopicsRequest
CreateTopicsResponse = create_topics_messages.CreateTopicsResponse
CreatableTopic = create_topics_messages.CreatableTopic
CreatableTopicConfig = create_topics_messages.CreatableTopicConfig
CreatableTopicResult = create_topics_messages.CreatableTopicResult

_METADATA_TOPIC = "__cluster_metadata"


class _InternalTopic(NamedTuple):
    """How an internal topic is made: the broker settings with `prefix` give its size, `settings` are its own."""

    prefix: str
    settings: Mapping[str, str]
    has_min_isr: bool


_INTERNAL_TOPICS: Final[Mapping[str, _InternalTopic]] = {
    "__consumer_offsets": _InternalTopic(
        "offsets.topic", {"cleanup.policy": "compact", "compression.type": "producer"}, has_min_isr=False
    ),
    "__transaction_state": _InternalTopic(
        "transaction.state.log", {"cleanup.policy": "compact", "compression.type": "uncompressed"}, has_min_isr=True
    ),
    "__share_group_state": _InternalTopic(
        "share.coordinator.state.topic",
        {"cleanup.policy": "delete", "compression.type": "producer", "retention.ms": "-1"},
        has_min_isr=True,
    ),
}


class TopicCommands:
    """The commands on topics. `image` and `config` are as of the last record; `follow` keeps them so."""

    __slots__ = ("_configs_cache", "_normalized", "config", "image", "randomness")

    def __init__(self, image: MetadataImage, config: BrokerConfig, randomness: Randomness) -> None:
        self.image = image
        self.config = config
        self.randomness = randomness
        self._normalized: dict[str, str] = {
            name.replace(".", "_"): name for name in image.topics.by_name if "." in name or "_" in name
        }
        self._configs_cache: tuple[Any, list[Any]] = (None, [])

    # Create

    def create_topics(
        self, request: CreateTopicsRequest, *, with_configs: bool, charge: Charge | None = None
    ) -> Result:
        """CreateTopics; `with_configs` (v5 and later) puts the settings of each new topic into the response."""
        names = Counter(topic.name for topic in request.topics)
        records: list[Any] = []
        results: list[CreatableTopicResult] = []
        created: dict[str, str] = {}
        partitions = 0
        for topic in request.topics:
            if names[topic.name] > 1:
                continue
            try:
                count = self._check_new_topic(topic, created)
                partitions += count
                if partitions > MAX_PARTITIONS_PER_REQUEST:
                    raise ApiError(ErrorCode.POLICY_VIOLATION, "Excessively large number of partitions per request.")
                results.append(self._create_topic(topic, records, with_configs, charge))
                created[topic.name.replace(".", "_")] = topic.name
            except ApiError as error:
                results.append(_refused(topic.name, error))
        duplicate = ApiError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
        results += [_refused(name, duplicate) for name, times in names.items() if times > 1]
        response = CreateTopicsResponse(topics=results)
        return Result([] if request.validate_only else records, response)

    def auto_create_topics(self, names: Iterable[str], charge: Charge | None = None) -> Result:
        """Topics with partitions and settings by the broker's configuration."""
        request = CreateTopicsRequest(topics=[self._automatic(name) for name in names])
        return self.create_topics(request, with_configs=False, charge=charge)

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

    def _check_new_topic(self, topic: CreatableTopic, created: Mapping[str, str]) -> int:
        """The checks that need no placement; how many partitions the topic asks for."""
        name = topic.name
        if name == _METADATA_TOPIC:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"Creation of internal topic {name} is prohibited.")
        check_topic_name(name)
        if name in self.image.topics.by_name:
            raise ApiError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
        if "." in name or "_" in name:
            normalized = name.replace(".", "_")
            colliding = created.get(normalized) or self._colliding(normalized)
            if colliding is not None:
                raise ApiError(
                    ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic '{name}' collides with existing topic: {colliding}"
                )
        nulls = [config.name for config in topic.configs if config.value is None]
        if nulls:
            raise ApiError(ErrorCode.INVALID_CONFIG, f"Null value not supported for topic configs: {','.join(nulls)}")
        if topic.configs:
            validate_topic_overrides({config.name: config.value for config in topic.configs}, self.config)
        if topic.assignments:
            return len(topic.assignments)
        return topic.num_partitions if topic.num_partitions >= 0 else int(self.config["num.partitions"])

    def _colliding(self, normalized: str) -> str | None:
        """An existing topic whose name differs only in `.` and `_` (metric names make them the same)."""
        return self._normalized.get(normalized)

    def follow(self, delta: MetadataDelta, image: MetadataImage, config: BrokerConfig) -> None:
        """The records of `delta` are in the log, `image` is the state with them.

        Topics created and deleted are noted, so that collisions are found without going through all names.
        """
        self.image, self.config = image, config
        for topic in delta.deleted_topics.values():
            self._normalized.pop(topic.name.replace(".", "_"), None)
        for topic_id, created in delta.changed_topics.items():
            if created.before is None and topic_id not in delta.deleted_topics:
                name = created.name
                if "." in name or "_" in name:
                    self._normalized[name.replace(".", "_")] = name

    def _create_topic(
        self, topic: CreatableTopic, records: list[Any], with_configs: bool, charge: Charge | None
    ) -> CreatableTopicResult:
        assigned = self._manual_replicas(topic) if topic.assignments else self._placed_replicas(topic)
        if charge is not None:
            charge(len(assigned))
        topic_id = self.randomness.uuid()
        overrides = {config.name: config.value for config in topic.configs}
        records.append(messages.TopicRecord(name=topic.name, topic_id=topic_id))
        for setting, value in overrides.items():
            records.append(
                messages.ConfigRecord(
                    resource_type=int(ConfigResourceType.TOPIC), resource_name=topic.name, name=setting, value=value
                )
            )
        self._partition_records(topic_id, 0, assigned, records)
        return CreatableTopicResult(
            name=topic.name,
            topic_id=topic_id,
            error_message=None,
            num_partitions=len(assigned),
            replication_factor=len(assigned[0]),
            configs=self._described(overrides) if with_configs else [],
        )

    def _described(self, overrides: Mapping[str, Any]) -> list[Any]:
        """The settings of a new topic; those of the last ones are kept, since bulk creations use the same for all."""
        key = (self.config, tuple(overrides.items()))
        if self._configs_cache[0] is None or self._configs_cache[0] != key:
            described = [
                create_topics_messages.CreatableTopicConfigs(
                    name=entry.name,
                    value=entry.value,
                    read_only=entry.is_read_only,
                    config_source=entry.source,
                    is_sensitive=entry.is_sensitive,
                )
                for entry in describe_topic(self.config, overrides)
            ]
            self._configs_cache = (key, described)
        return self._configs_cache[1]

    def _placed_replicas(self, topic: CreatableTopic) -> list[list[int]]:
        factor, count = topic.replication_factor, topic.num_partitions
        if factor < -1 or factor == 0:
            raise ApiError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                "Replication factor must be larger than 0, or -1 to use the default value.",
            )
        if count < -1 or count == 0:
            raise ApiError(
                ErrorCode.INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value."
            )
        if count == -1:
            count = int(self.config["num.partitions"])
        if factor == -1:
            factor = self.config.adapted("default.replication.factor", len(self.image.brokers))
        return self._place(0, count, factor)

    def _place(self, first_partition: int, count: int, factor: int) -> list[list[int]]:
        try:
            return place(self.image.brokers, first_partition, count, factor, self.randomness.below)
        except ApiError as error:
            raise ApiError(error.code, f"Unable to replicate the partition {factor} time(s): {error.message}") from None

    def _manual_replicas(self, topic: CreatableTopic) -> list[list[int]]:
        if topic.replication_factor != -1:
            raise ApiError(
                ErrorCode.INVALID_REQUEST,
                "A manual partition assignment was specified, but replication factor was not set to -1.",
            )
        if topic.num_partitions != -1:
            raise ApiError(
                ErrorCode.INVALID_REQUEST,
                "A manual partition assignment was specified, but numPartitions was not set to -1.",
            )
        assigned: dict[int, list[int]] = {}
        factor: int | None = None
        for assignment in topic.assignments:
            partition = assignment.partition_index
            if partition in assigned:
                raise ApiError(
                    ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                    f"Found multiple manual partition assignments for partition {partition}",
                )
            assigned[partition] = self._checked_assignment(assignment.broker_ids, factor, partition)
            factor = len(assignment.broker_ids)
        if any(partition not in assigned for partition in range(len(assigned))):
            raise ApiError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT, "partitions should be a consecutive 0-based integer sequence"
            )
        return [assigned[partition] for partition in range(len(assigned))]

    def _checked_assignment(self, replicas: list[int], factor: int | None, partition: int) -> list[int]:
        check_assignment(self.image.brokers, replicas)
        if factor is not None and len(replicas) != factor:
            raise _bad_assignment(
                f"The manual partition assignment includes a partition with {len(replicas)} replica(s), but this is "
                f"not consistent with previous partitions, which have {factor} replica(s)."
            )
        if not any(self.image.brokers[broker_id].is_active for broker_id in replicas):
            raise _bad_assignment(
                "All brokers specified in the manual partition assignment for "
                f"partition {partition} are fenced or in controlled shutdown."
            )
        return replicas

    def _partition_records(self, topic_id: bytes, first: int, assigned: list[list[int]], records: list[Any]) -> None:
        brokers = self.image.brokers
        made: dict[tuple[int, ...], tuple[list[int], list[bytes]]] = {}
        record_type, append = messages.PartitionRecord, records.append
        for partition, replicas in enumerate(assigned, first):
            key = tuple(replicas)
            found = made.get(key)
            if found is None:
                isr = [broker_id for broker_id in replicas if brokers[broker_id].is_active]
                found = made[key] = (isr, [directory_of(brokers[broker_id]) for broker_id in replicas])
            isr, directories = found
            append(
                record_type(
                    partition_id=partition,
                    topic_id=topic_id,
                    replicas=replicas,
                    isr=isr,
                    leader=isr[0],
                    leader_epoch=0,
                    partition_epoch=0,
                    directories=directories,
                )
            )

    # Add partitions

    def create_partitions(
        self, request: create_partitions_messages.CreatePartitionsRequest, *, charge: Charge | None = None
    ) -> Result:
        """CreatePartitions: `count` is the number of partitions afterwards."""
        result_type = create_partitions_messages.CreatePartitionsTopicResult
        names = Counter(topic.name for topic in request.topics)
        results = [
            result_type(name=name, error_code=ErrorCode.INVALID_REQUEST, error_message="Duplicate topic name.")
            for name, times in names.items()
            if times > 1
        ]
        records: list[Any] = []
        added = 0
        for topic in request.topics:
            if names[topic.name] > 1:
                continue
            code, text = int(ErrorCode.NONE), None
            try:
                added += self._add_partitions(topic, MAX_PARTITIONS_PER_REQUEST - added, records, charge)
            except ApiError as error:
                code, text = int(error.code), error.message
            results.append(result_type(name=topic.name, error_code=code, error_message=text))
        response = create_partitions_messages.CreatePartitionsResponse(results=results)
        return Result([] if request.validate_only else records, response)

    def _add_partitions(
        self,
        topic: create_partitions_messages.CreatePartitionsTopic,
        limit: int,
        records: list[Any],
        charge: Charge | None,
    ) -> int:
        image = self.image.topics.by_name.get(topic.name)
        if image is None:
            raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION.message)
        existing = len(image.partitions)
        if topic.count == existing:
            raise ApiError(ErrorCode.INVALID_PARTITIONS, f"Topic already has {existing} partition(s).")
        if topic.count < existing:
            raise ApiError(
                ErrorCode.INVALID_PARTITIONS,
                f"The topic {topic.name} currently has {existing} partition(s); {topic.count} would not be an "
                "increase.",
            )
        additional = topic.count - existing
        if additional > limit:
            raise ApiError(ErrorCode.POLICY_VIOLATION, "Excessively large number of partitions per request.")
        if topic.assignments is not None and len(topic.assignments) != additional:
            raise _bad_assignment(
                f"Attempted to add {additional} additional partition(s), but only {len(topic.assignments)} "
                "assignment(s) were specified."
            )
        if charge is not None:
            charge(additional)
        factor = len(next(iter(image.partitions.values())).replicas)
        if topic.assignments is None:
            assigned = self._place(existing, additional, factor)
        else:
            assigned = [
                self._checked_assignment(assignment.broker_ids, factor, existing + index)
                for index, assignment in enumerate(topic.assignments)
            ]
        self._partition_records(image.topic_id, existing, assigned, records)
        return additional

    # Delete

    def delete_topics(
        self, request: delete_topics_messages.DeleteTopicsRequest, *, api_version: int, charge: Charge | None = None
    ) -> Result:
        """DeleteTopics, by name (`topic_names` up to v5) or by name or id (v6)."""
        results: list[delete_topics_messages.DeletableTopicResult] = []
        if not self.config["delete.topic.enable"]:
            code = ErrorCode.INVALID_REQUEST if api_version < 3 else ErrorCode.TOPIC_DELETION_DISABLED
            named: list[tuple[str | None, bytes]] = [(name, ZERO_UUID) for name in request.topic_names]
            named += [(topic.name, topic.topic_id) for topic in request.topics]
            results = [_deletion(name, topic_id, code, "Topic deletion is disabled.") for name, topic_id in named]
            return Result([], delete_topics_messages.DeleteTopicsResponse(responses=results))
        names, ids = self._wanted(request, results)
        by_name, by_id = self.image.topics.by_name, self.image.topics.by_id
        chosen: dict[bytes, str] = {}
        for topic_id in ids:
            topic = by_id.get(topic_id)
            if topic is None:
                results.append(_deletion(None, topic_id, ErrorCode.UNKNOWN_TOPIC_ID))
            else:
                chosen[topic_id] = topic.name
        for name in names:
            topic = by_name.get(name)
            if topic is None:
                results.append(_deletion(name, ZERO_UUID, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
            elif topic.topic_id in chosen:
                del chosen[topic.topic_id]
                text = "The provided topic name maps to an ID that was already supplied."
                results.append(_deletion(name, topic.topic_id, ErrorCode.INVALID_REQUEST, text))
            else:
                chosen[topic.topic_id] = name
        records = []
        for topic_id, name in chosen.items():
            try:
                if charge is not None:
                    charge(len(by_id[topic_id].partitions))
                records.append(messages.RemoveTopicRecord(topic_id=topic_id))
                results.append(_deletion(name, topic_id, ErrorCode.NONE))
            except ApiError as error:
                results.append(_deletion(name, topic_id, error.code, error.message))
        return Result(records, delete_topics_messages.DeleteTopicsResponse(responses=results))

    @staticmethod
    def _wanted(
        request: delete_topics_messages.DeleteTopicsRequest, results: list[Any]
    ) -> tuple[list[str], list[bytes]]:
        """Names and ids given once; what is given twice, or wrongly, is answered into `results`."""
        names: Counter[str] = Counter(request.topic_names)
        ids: Counter[bytes] = Counter()
        for topic in request.topics:
            if topic.name is None and topic.topic_id == ZERO_UUID:
                text = "Neither topic name nor id were specified."
                results.append(_deletion(None, ZERO_UUID, ErrorCode.INVALID_REQUEST, text))
            elif topic.name is None:
                ids[topic.topic_id] += 1
            elif topic.topic_id == ZERO_UUID:
                names[topic.name] += 1
            else:
                text = "You may not specify both topic name and topic id."
                results.append(_deletion(topic.name, topic.topic_id, ErrorCode.INVALID_REQUEST, text))
        for name, times in names.items():
            if times > 1:
                results.append(_deletion(name, ZERO_UUID, ErrorCode.INVALID_REQUEST, "Duplicate topic name."))
        for topic_id, times in ids.items():
            if times > 1:
                results.append(_deletion(None, topic_id, ErrorCode.INVALID_REQUEST, "Duplicate topic id."))
        return [name for name, times in names.items() if times == 1], [i for i, times in ids.items() if times == 1]


def _refused(name: str, error: ApiError) -> CreatableTopicResult:
    return CreatableTopicResult(name=name, error_code=error.code, error_message=error.message, configs=[])


def _bad_assignment(text: str) -> ApiError:
    return ApiError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, text)


def _deletion(
    name: str | None, topic_id: bytes, code: ErrorCode, text: str | None = None
) -> delete_topics_messages.DeletableTopicResult:
    message = None if code == ErrorCode.NONE else text or code.message
    return delete_topics_messages.DeletableTopicResult(
        name=name, topic_id=topic_id, error_code=code, error_message=message
    )
