"""Changing settings of topics, brokers, groups and client metrics subscriptions.

Both APIs come down to the same: what overrides would the resource have afterwards, are they valid together, and which
ConfigRecords lead there. A resource is changed as a whole or not at all. Broker resources always get their records,
even for an unchanged value, because setting a value again is how a broker is made to reload a file (KAFKA-14136).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import metadata_records as messages
from ottla.schema.config import BrokerConfig, find_setting
from ottla.schema.definition import Setting, SettingError
from ottla.schema.dynamic import appended, subtracted, validate_broker_overrides
from ottla.schema.topic import TOPIC_SETTINGS, validate_topic_overrides
from ottla.server.controller.min_isr import MIN_ISR
from ottla.server.controller.result import check_topic_name
from ottla.server.metadata.features import ELR_VERSION
from ottla.server.metadata.image import NO_LEADER, ConfigResource, ConfigResourceType, MetadataImage, TopicImage

SET, DELETE, APPEND, SUBTRACT = range(4)
"""Operations of IncrementalAlterConfigs."""

_OPERATION_NAMES = ("SET", "DELETE", "APPEND", "SUBTRACT")


class Change(NamedTuple):
    """One setting to change; `value` is None for DELETE only."""

    name: str
    operation: int
    value: str | None


class Refusal(NamedTuple):
    """What is answered for one resource; code NONE and no text when it was accepted."""

    code: ErrorCode
    text: str | None


ACCEPTED = Refusal(ErrorCode.NONE, None)


class ConfigCommands:
    """The commands on settings. `image` and `config` are as of the last record."""

    __slots__ = ("config", "image")

    def __init__(self, image: MetadataImage, config: BrokerConfig) -> None:
        self.image = image
        self.config = config

    def alter(
        self, resources: Iterable[tuple[ConfigResource, list[Change]]], *, replace: bool
    ) -> tuple[list[Any], list[Refusal]]:
        """The records, and one answer per resource in order. `replace` (AlterConfigs) drops overrides not named."""
        resources = list(resources)
        times = Counter(resource for resource, _ in resources)
        records: list[Any] = []
        answers = []
        for resource, changes in resources:
            try:
                if times[resource] > 1:
                    raise ApiError(ErrorCode.INVALID_REQUEST, "Each resource must appear at most once.")
                records += self._alter_resource(resource, changes, replace)
                answers.append(ACCEPTED)
            except ApiError as error:
                answers.append(Refusal(error.code, error.message))
        if self.image.features.get(ELR_VERSION, 0):
            records += self._no_longer_eligible([record for record in records if record.name == MIN_ISR])
        return records, answers

    def _no_longer_eligible(self, changes: Iterable[messages.ConfigRecord]) -> Iterator[messages.PartitionChangeRecord]:
        """With another minimum, a leader may have acknowledged what replicas outside of the ISR lack (KIP-966).

        Kafka forgets eligible replicas of leaderless partitions as well (ClearElrRecord), and with them who could lead.
        Nothing is acknowledged there until one of them does, and then it is decided anew.
        """
        topics = self.image.topics
        affected: dict[str, TopicImage] = {}
        for change in changes:
            if change.resource_type != ConfigResourceType.TOPIC:
                affected.update(topics.by_name)
            elif change.resource_name in topics.by_name:
                affected[change.resource_name] = topics.by_name[change.resource_name]
        for topic in affected.values():
            for index, partition in topic.partitions.items():
                if partition.eligible_leader_replicas and partition.leader != NO_LEADER:
                    yield messages.PartitionChangeRecord(
                        partition_id=index, topic_id=topic.topic_id, eligible_leader_replicas=[]
                    )

    def _alter_resource(
        self, resource: ConfigResource, changes: list[Change], replace: bool
    ) -> list[messages.ConfigRecord]:
        resource_type, name = resource
        check_changes(changes)
        before = self.image.config_of(resource_type, name)
        validate = self._validator(resource_type, name)
        after = {} if replace else dict(before)
        for change in changes:
            value = self._value(resource_type, change, before)
            if value is None:
                after.pop(change.name, None)
            else:
                after[change.name] = value
        validate(after)
        if resource_type == ConfigResourceType.TOPIC and name not in self.image.topics.by_name:
            raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{name}' does not exist.")
        always = resource_type == ConfigResourceType.BROKER
        if always and self.image.features.get(ELR_VERSION, 0):
            self._check_min_isr(name, before, after, [change.name for change in changes])
        named = [change.name for change in changes]
        named += [setting for setting in before if replace and setting not in after and setting not in named]
        return [
            messages.ConfigRecord(
                resource_type=resource_type, resource_name=name, name=setting, value=after.get(setting)
            )
            for setting in named
            if always or after.get(setting) != before.get(setting)
        ]

    def _check_min_isr(
        self, name: str, before: Mapping[str, str], after: Mapping[str, str], named: Iterable[str]
    ) -> None:
        """Who may become leader is judged by one value (KIP-966): it is the cluster's, and cannot go away."""
        if name and (MIN_ISR in named or (MIN_ISR in before and MIN_ISR not in after)):
            raise ApiError(ErrorCode.INVALID_CONFIG, f"Broker-level {MIN_ISR} cannot be altered while ELR is enabled.")
        if not name and MIN_ISR not in after and (MIN_ISR in before or MIN_ISR in named):
            raise ApiError(ErrorCode.INVALID_CONFIG, f"Cluster-level {MIN_ISR} cannot be removed while ELR is enabled.")

    def _validator(self, resource_type: int, name: str) -> Callable[[Mapping[str, str | None]], None]:
        """What judges all overrides of the resource together; ApiError when there can be no such resource."""
        config = self.config
        if resource_type == ConfigResourceType.TOPIC:
            if not name:
                raise ApiError(ErrorCode.INVALID_REQUEST, "Default topic resources are not allowed.")
            check_topic_name(name)
            return lambda overrides: validate_topic_overrides(overrides, config)
        if resource_type == ConfigResourceType.BROKER:
            if name:
                _broker_id(name)
            return lambda overrides: validate_broker_overrides(config, overrides, per_broker=bool(name))
        if resource_type == ConfigResourceType.CLIENT_METRICS:
            if not name:
                raise ApiError(ErrorCode.INVALID_REQUEST, "Subscription name can't be empty")
            from ottla.schema.client_metrics import validate_client_metrics_overrides

            return validate_client_metrics_overrides
        if resource_type == ConfigResourceType.GROUP:
            if not name:
                raise ApiError(ErrorCode.INVALID_REQUEST, "Default group resources are not allowed.")
            from ottla.schema.group import validate_group_overrides

            return lambda overrides: validate_group_overrides(overrides, config)
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Unknown resource type {resource_type}")

    def _value(self, resource_type: int, change: Change, before: Mapping[str, str]) -> str | None:
        if change.operation == SET:
            return change.value
        if change.operation == DELETE:
            return None
        assert change.value is not None
        setting = setting_of(resource_type, change.name)
        if setting is None:
            raise ApiError(
                ErrorCode.INVALID_CONFIG,
                f"Can't {_OPERATION_NAMES[change.operation]} to key {change.name} because its type is not LIST.",
            )
        combine = appended if change.operation == APPEND else subtracted
        try:
            return combine(setting, before.get(change.name), change.value)
        except SettingError:
            raise ApiError(
                ErrorCode.INVALID_CONFIG,
                f"Can't {_OPERATION_NAMES[change.operation]} to key {change.name} because its type is not LIST.",
            ) from None


def setting_of(resource_type: int, name: str) -> Setting | None:
    """The setting of that name that such a resource has; None when it has none."""
    if resource_type == ConfigResourceType.BROKER:
        return find_setting(name)
    if resource_type == ConfigResourceType.TOPIC:
        return TOPIC_SETTINGS.get(name)
    if resource_type == ConfigResourceType.CLIENT_METRICS:
        from ottla.schema.client_metrics import CLIENT_METRICS_SETTINGS

        return CLIENT_METRICS_SETTINGS.get(name)
    if resource_type == ConfigResourceType.GROUP:
        from ottla.schema.group import GROUP_SETTINGS

        return GROUP_SETTINGS.get(name)
    return None


def check_own_broker(name: str, node_id: int) -> None:
    """Raise ApiError INVALID_REQUEST unless the name of a broker resource is this broker's id."""
    if _broker_id(name) != node_id:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Unexpected broker id, expected {node_id}, but received {name}")


def _broker_id(name: str) -> int:
    try:
        return int(name)
    except ValueError:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Node id must be an integer, but it is: {name}") from None


def check_changes(changes: list[Change]) -> None:
    """Raise ApiError INVALID_REQUEST for what no resource can be asked: a key twice, a null to set, no operation."""
    names = [change.name for change in changes]
    if len(set(names)) < len(names):
        raise ApiError(ErrorCode.INVALID_REQUEST, "Error due to duplicate config keys")
    nulls = [change.name for change in changes if change.value is None and change.operation != DELETE]
    if nulls:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {', '.join(nulls)}")
    for change in changes:
        if not SET <= change.operation <= SUBTRACT:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"Unknown operations type {change.operation}")


def describe(  # one place for every reader: handlers and tests
    config: BrokerConfig, image: MetadataImage, node_id: int, resource: ConfigResource, keys: list[str] | None
) -> list[Any]:
    """The `schema.describe.Description`s of a resource; ApiError when there is no such resource.

    Sources and synonyms are those of `config`, which must carry the dynamic settings of `image`. An empty list of keys
    asks for all, like none.
    """
    from ottla.schema import describe as schema

    resource_type, name = resource
    wanted = set(keys) if keys else None
    if resource_type == ConfigResourceType.TOPIC:
        if name not in image.topics.by_name:
            check_topic_name(name)
            raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION.message)
        return schema.describe_topic(config, image.config_of(resource_type, name), wanted)
    if resource_type == ConfigResourceType.BROKER:
        if not name:
            return schema.describe_cluster_wide(config, wanted)
        if name != str(node_id):
            raise ApiError(
                ErrorCode.INVALID_REQUEST,
                f"Unexpected broker id, expected {node_id} or empty string, but received {name}",
            )
        return schema.describe_broker(config, wanted)
    if resource_type == ConfigResourceType.CLIENT_METRICS:
        if not name:
            raise ApiError(ErrorCode.INVALID_REQUEST, "Client metrics subscription name must not be empty")
        return schema.describe_client_metrics(image.config_of(resource_type, name), wanted)
    if resource_type == ConfigResourceType.GROUP:
        if not name:
            raise ApiError(ErrorCode.INVALID_REQUEST, "Group name must not be empty")
        return schema.describe_group(config, image.config_of(resource_type, name), wanted)
    raise ApiError(ErrorCode.INVALID_REQUEST, f"Unsupported resource type: {resource_type}")
