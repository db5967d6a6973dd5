"""Settings of topics, brokers, groups, client metrics and loggers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, TypeVar

from ottla.client.admin.calls import AdminCalls
from ottla.client.admin.outcomes import known, outcome
from ottla.client.admin.routing import AnyNode, Brokers, Cluster, Deadline, Target
from ottla.client.errors import KafkaError, UnsupportedVersionError, error_for
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
)
from ottla.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from ottla.protocol.messages.list_config_resources import ListConfigResourcesRequest, ListConfigResourcesResponse

V = TypeVar("V")


class ConfigType(IntEnum):
    """What has settings. An UNKNOWN one comes from a newer broker."""

    UNKNOWN = 0
    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


class ConfigResource(NamedTuple):
    """Something with settings: `ConfigResource.topic("orders")`, `ConfigResource.broker(1)`, ..."""

    type: ConfigType
    name: str
    """Of a broker its id; empty for what holds for all brokers."""

    @classmethod
    def topic(cls, name: str) -> ConfigResource:
        return cls(ConfigType.TOPIC, name)

    @classmethod
    def broker(cls, broker_id: int | None = None) -> ConfigResource:
        """One broker; without an id the dynamic settings that hold for all of them."""
        return cls(ConfigType.BROKER, "" if broker_id is None else str(broker_id))

    @classmethod
    def broker_logger(cls, broker_id: int) -> ConfigResource:
        """The levels of one broker's loggers."""
        return cls(ConfigType.BROKER_LOGGER, str(broker_id))

    @classmethod
    def group(cls, group_id: str) -> ConfigResource:
        return cls(ConfigType.GROUP, group_id)

    @classmethod
    def client_metrics(cls, name: str) -> ConfigResource:
        """A subscription to metrics of clients (KIP-714)."""
        return cls(ConfigType.CLIENT_METRICS, name)

    def __str__(self) -> str:
        return f"{self.type.name.lower().replace('_', ' ')} {self.name or '(all)'}"


class ConfigSource(IntEnum):
    """Where a setting's value comes from."""

    UNKNOWN = 0
    DYNAMIC_TOPIC_CONFIG = 1
    DYNAMIC_BROKER_CONFIG = 2
    DYNAMIC_DEFAULT_BROKER_CONFIG = 3
    STATIC_BROKER_CONFIG = 4
    DEFAULT_CONFIG = 5
    DYNAMIC_BROKER_LOGGER_CONFIG = 6
    DYNAMIC_CLIENT_METRICS_CONFIG = 7
    DYNAMIC_GROUP_CONFIG = 8


class ConfigValueType(IntEnum):
    """What a setting's text stands for."""

    UNKNOWN = 0
    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


class ConfigSynonym(NamedTuple):
    """A value that would hold if those before it were not set."""

    name: str
    value: str | None
    source: ConfigSource


class ConfigEntry(NamedTuple):
    """A setting. `value` is None when it is sensitive, or has none."""

    name: str
    value: str | None
    source: ConfigSource = ConfigSource.UNKNOWN
    is_sensitive: bool = False
    is_read_only: bool = False
    type: ConfigValueType = ConfigValueType.UNKNOWN
    synonyms: tuple[ConfigSynonym, ...] = ()
    """Empty unless asked for."""
    documentation: str | None = None
    """None unless asked for."""

    @property
    def is_default(self) -> bool:
        return self.source is ConfigSource.DEFAULT_CONFIG


class AlterOperation(IntEnum):
    """What an `AlterConfigOp` does with a setting."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


class AlterConfigOp(NamedTuple):
    """A change of one setting: `AlterConfigOp.set("retention.ms", 60_000)`."""

    name: str
    operation: AlterOperation
    value: str | None = None

    @classmethod
    def set(cls, name: str, value: object) -> AlterConfigOp:
        return cls(name, AlterOperation.SET, config_text(value))

    @classmethod
    def delete(cls, name: str) -> AlterConfigOp:
        """Back to the default."""
        return cls(name, AlterOperation.DELETE)

    @classmethod
    def append(cls, name: str, value: object) -> AlterConfigOp:
        """Add to a list."""
        return cls(name, AlterOperation.APPEND, config_text(value))

    @classmethod
    def subtract(cls, name: str, value: object) -> AlterConfigOp:
        """Take from a list."""
        return cls(name, AlterOperation.SUBTRACT, config_text(value))


class ConfigCalls(AdminCalls):
    """Calls about settings."""

    async def describe_configs(
        self,
        resources: ConfigResource | Iterable[ConfigResource],
        *,
        names: Iterable[str] | None = None,
        include_synonyms: bool = False,
        include_documentation: bool = False,
        timeout_s: float | None = None,
    ) -> dict[ConfigResource, dict[str, ConfigEntry]]:
        """The settings of each resource by name; only those in `names`, when given."""
        wanted = [resources] if isinstance(resources, ConfigResource) else list(resources)
        keys = None if names is None else list(names)

        async def ask(
            target: Target, asked: list[ConfigResource]
        ) -> dict[ConfigResource, dict[str, ConfigEntry] | KafkaError]:
            request = DescribeConfigsRequest(
                resources=[
                    DescribeConfigsResource(
                        resource_type=int(one.type), resource_name=one.name, configuration_keys=keys
                    )
                    for one in asked
                ],
                include_synonyms=include_synonyms,
                include_documentation=include_documentation,
            )
            response = await target.request(
                request, DescribeConfigsResponse, min_version=3 if include_documentation else None
            )
            found = {
                ConfigResource(known(ConfigType, result.resource_type), result.resource_name): outcome(
                    result.error_code,
                    result.error_message,
                    {config.name: _entry(config) for config in result.configs},
                )
                for result in response.results
            }
            return _in_better_words(asked, found)

        return await self._routing.run("describe_configs", wanted, _NodesOfResources(), ask, timeout_s)

    async def incremental_alter_configs(
        self,
        changes: Mapping[ConfigResource, AlterConfigOp | Iterable[AlterConfigOp]],
        *,
        validate_only: bool = False,
        timeout_s: float | None = None,
    ) -> None:
        """Change settings, leaving those not named as they are. With `validate_only` nothing is changed (KIP-339)."""
        operations = {
            resource: [ops] if isinstance(ops, AlterConfigOp) else list(ops) for resource, ops in changes.items()
        }

        async def ask(target: Target, asked: list[ConfigResource]) -> dict[ConfigResource, KafkaError | None]:
            request = IncrementalAlterConfigsRequest(
                resources=[
                    AlterConfigsResource(
                        resource_type=int(resource.type),
                        resource_name=resource.name,
                        configs=[
                            AlterableConfig(name=op.name, config_operation=int(op.operation), value=op.value)
                            for op in operations[resource]
                        ],
                    )
                    for resource in asked
                ],
                validate_only=validate_only,
            )
            response = await target.request(request, IncrementalAlterConfigsResponse)
            found = {
                ConfigResource(known(ConfigType, result.resource_type), result.resource_name): outcome(
                    result.error_code, result.error_message, None
                )
                for result in response.responses
            }
            return _in_better_words(asked, found)

        await self._routing.run("incremental_alter_configs", operations, _NodesOfResources(), ask, timeout_s)

    async def set_config(
        self,
        resource: ConfigResource,
        values: Mapping[str, object],
        *,
        validate_only: bool = False,
        timeout_s: float | None = None,
    ) -> None:
        """Set settings of one resource, `{"retention.ms": 60_000}`; None puts one back to its default."""
        changes = [
            AlterConfigOp.delete(name) if value is None else AlterConfigOp.set(name, value)
            for name, value in values.items()
        ]
        await self.incremental_alter_configs({resource: changes}, validate_only=validate_only, timeout_s=timeout_s)

    async def list_config_resources(
        self, types: ConfigType | Iterable[ConfigType] = (), *, timeout_s: float | None = None
    ) -> list[ConfigResource]:
        """What has settings of its own, of these types (all, when none is given; KIP-1142)."""
        wanted = [types] if isinstance(types, ConfigType) else list(types)

        async def ask(target: Target) -> list[ConfigResource]:
            only_client_metrics = wanted == [ConfigType.CLIENT_METRICS]
            try:
                response = await target.request(
                    ListConfigResourcesRequest(resource_types=[int(one) for one in wanted]),
                    ListConfigResourcesResponse,
                    min_version=1,
                )
            except UnsupportedVersionError:
                if not only_client_metrics:  # the first version knows nothing else
                    raise
                response = await target.request(
                    ListConfigResourcesRequest(), ListConfigResourcesResponse, max_version=0
                )
            if response.error_code:
                raise error_for(response.error_code)
            return [
                ConfigResource(known(ConfigType, one.resource_type), one.resource_name)
                for one in response.config_resources
            ]

        return await self._routing.run_one("list_config_resources", AnyNode(), ask, timeout_s)

    async def list_client_metrics_resources(self, *, timeout_s: float | None = None) -> list[str]:
        """Names of the subscriptions to metrics of clients (KIP-714)."""
        found = await self.list_config_resources(ConfigType.CLIENT_METRICS, timeout_s=timeout_s)
        return [resource.name for resource in found]


class _NodesOfResources(AnyNode[ConfigResource]):
    """A broker answers for itself and its loggers, any node for the rest."""

    async def locate(
        self, cluster: Cluster, keys: Sequence[ConfigResource], deadline: Deadline
    ) -> Mapping[ConfigResource, int | KafkaError]:
        brokers = [key for key in keys if key.name and key.type in (ConfigType.BROKER, ConfigType.BROKER_LOGGER)]
        others = [key for key in keys if key not in brokers]
        located = dict(await Brokers(_broker_id).locate(cluster, brokers, deadline)) if brokers else {}
        if others:
            located.update(await super().locate(cluster, others, deadline))
        return located


_SINCE = {ConfigType.BROKER_LOGGER: "2.4", ConfigType.CLIENT_METRICS: "3.7", ConfigType.GROUP: "4.0"}
_UNKNOWN_KIND = re.compile("resource type|incompatible broker")
"""In what brokers say of resources of a kind that they do not know; the oldest say nothing."""


def _in_better_words(
    asked: Iterable[ConfigResource], found: dict[ConfigResource, V | KafkaError]
) -> dict[ConfigResource, V | KafkaError]:
    """What a broker answered, but for the kinds of resources that it does not know."""
    for resource in asked:
        error = found.get(resource)
        is_refused = isinstance(error, KafkaError) and error.code is ErrorCode.INVALID_REQUEST
        is_unknown = resource not in found or (is_refused and _UNKNOWN_KIND.search(str(error)) is not None)
        if is_unknown and resource.type in _SINCE:
            kind = resource.type.name.lower().replace("_", " ")
            found[resource] = UnsupportedVersionError(
                f"the broker knows no settings of {kind}{'' if kind.endswith('s') else 's'}",
                hint=f"Have brokers of Kafka {_SINCE[resource.type]} or newer.",
            )
    return found


def _broker_id(resource: ConfigResource) -> int:
    try:
        return int(resource.name)
    except ValueError:
        raise KafkaError(f"{resource.name!r} is not the id of a broker.") from None


def config_text(value: object) -> str:
    """A setting's value as Kafka writes it: `True` as true, a list with commas."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(map(config_text, value))
    return str(value)


def _entry(config: DescribeConfigsResourceResult) -> ConfigEntry:
    return ConfigEntry(
        config.name,
        config.value,
        known(ConfigSource, max(config.config_source, 0)),
        config.is_sensitive,
        config.read_only,
        known(ConfigValueType, config.config_type),
        tuple(
            ConfigSynonym(synonym.name, synonym.value, known(ConfigSource, synonym.source))
            for synonym in config.synonyms
        ),
        config.documentation,
    )
