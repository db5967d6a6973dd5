"""Topics, settings and producer ids over the wire, in all versions; the rules themselves are tested with the core."""

from __future__ import annotations

import logging

import pytest

from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages import alter_configs, incremental_alter_configs
from ottla.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from ottla.protocol.messages.create_topics import CreateTopicsRequest
from ottla.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from ottla.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest
from tests.server.broker.handlers.metadata_world import World, run, versions
from tests.server.controller.worlds import topic

E = ErrorCode
TOPIC, BROKER, LOGGER = 2, 4, 8


@pytest.mark.parametrize("version", versions(19))
def test_create_topics(version: int) -> None:
    async def test(world: World) -> None:
        request = CreateTopicsRequest(topics=[topic("a", 2, configs={"segment.ms": "5"}), topic("b", 0)])
        good, bad = (await world.ask(request, version)).topics
        assert (good.name, good.error_code, good.error_message) == ("a", 0, None)
        assert (bad.name, bad.error_code) == ("b", E.INVALID_PARTITIONS)
        assert bad.error_message
        assert len(world.broker.image.topics.by_name["a"].partitions) == 2
        assert (good.topic_id != ZERO_UUID) == (version >= 7)
        if version >= 5:
            settings = {one.name: (one.value, one.config_source) for one in good.configs}
            assert settings["segment.ms"] == ("5", 1)
            assert settings["retention.ms"] == ("604800000", 5)
            assert (good.num_partitions, good.replication_factor) == (2, 1)

    run(test)


@pytest.mark.parametrize("version", versions(20))
def test_delete_topics(version: int) -> None:
    async def test(world: World) -> None:
        await world.controller.create_topics(CreateTopicsRequest(topics=[topic("a"), topic("b")]))
        topic_id = world.broker.image.topics.by_name["b"].topic_id
        if version < 6:
            request = DeleteTopicsRequest(topic_names=["a", "nope"])
        else:
            request = DeleteTopicsRequest(topics=[DeleteTopicState(name="a"), DeleteTopicState(topic_id=topic_id)])
        answers = {one.name: one for one in (await world.ask(request, version)).responses}
        assert answers["a"].error_code == 0
        if version < 6:
            assert answers["nope"].error_code == E.UNKNOWN_TOPIC_OR_PARTITION
            assert list(world.broker.image.topics.by_name) == ["b"]
        else:
            assert answers["b"].topic_id == topic_id
            assert not world.broker.image.topics.by_name

    run(test)


@pytest.mark.parametrize("version", versions(37))
def test_create_partitions(version: int) -> None:
    async def test(world: World) -> None:
        await world.controller.create_topics(CreateTopicsRequest(topics=[topic("a")]))
        asked = [CreatePartitionsTopic(name=name, count=3, assignments=None) for name in ("a", "nope")]
        good, bad = (await world.ask(CreatePartitionsRequest(topics=asked), version)).results
        assert (good.name, good.error_code, good.error_message) == ("a", 0, None)
        assert bad.error_code == E.UNKNOWN_TOPIC_OR_PARTITION
        assert len(world.broker.image.topics.by_name["a"].partitions) == 3

    run(test)


@pytest.mark.parametrize("version", versions(32))
def test_describe_configs(version: int) -> None:
    async def test(world: World) -> None:
        await world.controller.create_topics(CreateTopicsRequest(topics=[topic("a", configs={"segment.ms": "5"})]))
        resources = [
            DescribeConfigsResource(resource_type=TOPIC, resource_name="a", configuration_keys=["segment.ms"]),
            DescribeConfigsResource(resource_type=TOPIC, resource_name="nope", configuration_keys=None),
            DescribeConfigsResource(resource_type=BROKER, resource_name="1", configuration_keys=["node.id"]),
            DescribeConfigsResource(resource_type=LOGGER, resource_name="1", configuration_keys=["root"]),
            DescribeConfigsResource(resource_type=LOGGER, resource_name="", configuration_keys=None),
        ]
        request = DescribeConfigsRequest(resources=resources, include_synonyms=True)
        request.include_documentation = version >= 3
        topic_a, unknown, broker, loggers, nobody = (await world.ask(request, version)).results
        (segment_ms,) = topic_a.configs
        assert (segment_ms.name, segment_ms.value, segment_ms.config_source) == ("segment.ms", "5", 1)
        assert [(one.name, one.value, one.source) for one in segment_ms.synonyms] == [
            ("segment.ms", "5", 1),
            ("log.roll.hours", "168", 5),
        ]
        if version >= 3:
            assert segment_ms.config_type == 5
        assert (unknown.error_code, unknown.configs) == (E.UNKNOWN_TOPIC_OR_PARTITION, [])
        (node_id,) = broker.configs
        assert (node_id.value, node_id.read_only, node_id.is_sensitive) == ("1", True, False)
        (root,) = loggers.configs
        assert (root.name, root.config_source) == ("root", 6)
        assert nobody.error_code == E.INVALID_REQUEST
        request.include_synonyms = False
        assert (await world.ask(request, version)).results[0].configs[0].synonyms == []

    run(test)


@pytest.mark.parametrize("version", versions(33))
def test_alter_configs(version: int) -> None:
    async def test(world: World) -> None:
        await world.controller.create_topics(CreateTopicsRequest(topics=[topic("a", configs={"segment.ms": "5"})]))
        change = [alter_configs.AlterableConfig(name="retention.ms", value="7")]
        resources = [
            alter_configs.AlterConfigsResource(resource_type=kind, resource_name=name, configs=change)
            for kind, name in ((TOPIC, "a"), (TOPIC, "nope"), (LOGGER, "1"))
        ]
        request = alter_configs.AlterConfigsRequest(resources=resources)
        good, unknown, logger = (await world.ask(request, version)).responses
        assert (good.error_code, good.error_message, good.resource_name) == (0, None, "a")
        assert (unknown.error_code, unknown.resource_type) == (E.UNKNOWN_TOPIC_OR_PARTITION, TOPIC)
        assert (logger.error_code, logger.error_message) == (E.INVALID_REQUEST, "Unknown resource type 8")
        assert world.broker.image.config_of(TOPIC, "a") == {"retention.ms": "7"}

    run(test)


@pytest.mark.parametrize("version", versions(44))
def test_incremental_alter_configs(version: int) -> None:
    async def test(world: World) -> None:
        await world.controller.create_topics(CreateTopicsRequest(topics=[topic("a", configs={"segment.ms": "5"})]))
        change = incremental_alter_configs.AlterableConfig
        name = "ottla.test.levels"
        logging.getLogger(name)

        def resource(kind: int, name: str, *changes: change) -> incremental_alter_configs.AlterConfigsResource:
            return incremental_alter_configs.AlterConfigsResource(
                resource_type=kind, resource_name=name, configs=list(changes)
            )

        resources = [
            resource(LOGGER, "1", change(name=name, config_operation=0, value="DEBUG")),
            resource(TOPIC, "a", change(name="retention.ms", config_operation=0, value="7")),
            resource(LOGGER, "2", change(name=name, config_operation=0, value="INFO")),
            resource(TOPIC, "nope", change(name="retention.ms", config_operation=0, value="7")),
        ]
        request = incremental_alter_configs.IncrementalAlterConfigsRequest(resources=resources)
        responses = (await world.ask(request, version)).responses
        assert [one.error_code for one in responses] == [0, 0, E.INVALID_REQUEST, E.UNKNOWN_TOPIC_OR_PARTITION]
        assert [one.resource_type for one in responses] == [LOGGER, TOPIC, LOGGER, TOPIC]
        assert world.broker.image.config_of(TOPIC, "a") == {"segment.ms": "5", "retention.ms": "7"}
        assert logging.getLogger(name).level == logging.DEBUG
        logging.getLogger(name).setLevel(logging.NOTSET)

    run(test)


@pytest.mark.parametrize(
    ("name", "operation", "value", "code"),
    [
        ("ottla.nope", 0, "INFO", E.INVALID_CONFIG),
        ("root", 0, "LOUD", E.INVALID_CONFIG),
        ("root", 0, "OFF", E.INVALID_CONFIG),
        ("root", 0, None, E.INVALID_REQUEST),
        ("root", 1, None, E.INVALID_REQUEST),
        ("root", 2, "INFO", E.INVALID_REQUEST),
    ],
)
def test_refused_log_levels(name: str, operation: int, value: str | None, code: ErrorCode) -> None:
    async def test(world: World) -> None:
        level = logging.root.level
        change = incremental_alter_configs.AlterableConfig(name=name, config_operation=operation, value=value)
        resource = incremental_alter_configs.AlterConfigsResource(
            resource_type=LOGGER, resource_name="1", configs=[change]
        )
        request = incremental_alter_configs.IncrementalAlterConfigsRequest(resources=[resource])
        (response,) = (await world.ask(request, 1)).responses
        assert response.error_code == code
        assert logging.root.level == level

    run(test)


def test_dynamic_broker_settings_show_at_once() -> None:
    async def test(world: World) -> None:
        change = incremental_alter_configs.AlterableConfig(name="log.retention.ms", config_operation=0, value="77")
        resource = incremental_alter_configs.AlterConfigsResource(
            resource_type=BROKER, resource_name="", configs=[change]
        )
        request = incremental_alter_configs.IncrementalAlterConfigsRequest(resources=[resource])
        assert (await world.ask(request, 1)).responses[0].error_code == 0
        asked = [
            DescribeConfigsResource(resource_type=BROKER, resource_name=name, configuration_keys=["log.retention.ms"])
            for name in ("", "1")
        ]
        results = (await world.ask(DescribeConfigsRequest(resources=asked), 4)).results
        assert [(one.configs[0].value, one.configs[0].config_source) for one in results] == [("77", 3), ("77", 3)]

    run(test)


@pytest.mark.parametrize("version", versions(22))
def test_producer_ids(version: int) -> None:
    async def test(world: World) -> None:
        request = InitProducerIdRequest(transactional_id=None)
        answers = [await world.ask(request, version) for _ in range(3)]
        assert [(one.error_code, one.producer_id, one.producer_epoch) for one in answers] == [
            (0, 0, 0),
            (0, 1, 0),
            (0, 2, 0),
        ]
        empty = await world.ask(InitProducerIdRequest(transactional_id=""), version)
        assert empty.error_code == E.INVALID_REQUEST
        if version >= 3:
            half = await world.ask(InitProducerIdRequest(transactional_id=None, producer_id=0), version)
            assert (half.error_code, half.producer_id) == (E.INVALID_REQUEST, -1)

    run(test)
