"""Handlers that ask for permission themselves: topics that are shown, sessions, settings."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.codec import decode, encode
from ottla.protocol.messages.alter_configs import AlterableConfig, AlterConfigsRequest, AlterConfigsResource
from ottla.protocol.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    TopicRequest,
)
from ottla.protocol.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    ReplicaState,
)
from ottla.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from ottla.server.broker.authorization import AclOperation
from ottla.server.broker.broker import Broker, RequestContext
from ottla.server.broker.handlers import describe_topic_partitions, fetch, metadata
from ottla.server.broker.metadata_answers import NOT_ASKED
from ottla.server.broker.permissions.asking import asker, denied_topics, not_creatable, refused_alteration
from ottla.server.metadata.image import ConfigResourceType
from tests.server.broker.permissions.worlds import (
    ALTER_CONFIGS,
    CLUSTER,
    CLUSTER_ACTION,
    CREATE,
    DESCRIBE,
    GROUP,
    READ,
    TOPIC,
    Permission,
    ToldAuthorizer,
    id_of,
    image_of,
    on,
)
from tests.server.broker.support import FixedMetadata, make_broker

NOT_TOPIC = ErrorCode.TOPIC_AUTHORIZATION_FAILED
DESCRIBES = on(DESCRIBE, TOPIC, "orders")


class FixedLeader:
    leader_id = 1


def broker_with(*allowed: Permission, names: tuple[str, ...] = ("orders", "secrets"), **settings: object) -> Broker:
    known = FixedMetadata(image_of(*names, partitions=2))
    known.leader = FixedLeader()  # type: ignore[attr-defined]
    broker = make_broker(settings, metadata=known)
    broker.authorizer = ToldAuthorizer(allowed)
    return broker


def context_of(version: int = 12, principal: str = "User:alice") -> RequestContext:
    return RequestContext(principal=principal, client_host="10.0.0.1", api_version=version)


def topics_of(response: Any) -> dict[str | None, Any]:
    return {topic.name: topic for topic in response.topics}


def describe(broker: Broker, request: MetadataRequest, version: int = 12, principal: str = "User:alice") -> Any:
    """What the plain way answers; what is answered quickly has to be the same, or left to it."""
    context = context_of(version, principal)
    body = bytearray(encode(request, version))
    request = decode(MetadataRequest, version, bytes(body))
    response: Any = metadata.handle(broker, request, context)
    encoded = encode(response, version)
    for _ in range(2):
        quick = metadata.handle_quickly(broker, body, 0, len(body), context)
        assert quick in (None, encoded)
    return decode(MetadataResponse, version, encoded)


def named(*names: str, **fields: Any) -> MetadataRequest:
    return MetadataRequest(
        topics=[MetadataRequestTopic(name=name) for name in names], allow_auto_topic_creation=False, **fields
    )


# Metadata


def test_whether_a_hidden_topic_exists_is_not_told() -> None:
    topics = topics_of(describe(broker_with(*DESCRIBES), named("orders", "secrets", "none")))
    assert len(topics["orders"].partitions) == 2
    for name in ("secrets", "none"):
        hidden = topics[name]
        assert (hidden.error_code, hidden.topic_id, hidden.partitions) == (NOT_TOPIC, ZERO_UUID, [])


def test_what_is_missing_is_told_to_those_who_may_describe_it() -> None:
    topics = topics_of(describe(broker_with(*on(DESCRIBE, TOPIC, "none")), named("none")))
    assert topics["none"].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_of_all_topics_hidden_ones_are_left_out_and_answers_are_not_mixed() -> None:
    broker = broker_with(*DESCRIBES)
    everything = MetadataRequest(topics=None)
    for _ in range(2):
        assert list(topics_of(describe(broker, everything))) == ["orders"]
        assert list(topics_of(describe(broker, everything, principal="User:admin"))) == ["orders", "secrets"]
        assert list(topics_of(describe(broker, named("secrets"), principal="User:admin"))) == ["secrets"]
        assert topics_of(describe(broker, named("secrets")))["secrets"].error_code == NOT_TOPIC
    assert list(topics_of(describe(broker, MetadataRequest(topics=[]), 0))) == ["orders"]


def test_a_new_permission_counts_at_once() -> None:
    broker = broker_with(*DESCRIBES)
    assert list(topics_of(describe(broker, MetadataRequest(topics=None)))) == ["orders"]
    assert isinstance(broker.authorizer, ToldAuthorizer)
    broker.authorizer.allow(*on(DESCRIBE, TOPIC, "secrets"))
    assert list(topics_of(describe(broker, MetadataRequest(topics=None)))) == ["orders", "secrets"]


def test_by_id_a_hidden_topic_has_no_name() -> None:
    unknown = bytes(15) + b"\1"
    ids = (id_of("orders"), id_of("secrets"), unknown)
    request = MetadataRequest(topics=[MetadataRequestTopic(name=None, topic_id=one) for one in ids])
    answers = {topic.topic_id: topic for topic in describe(broker_with(*DESCRIBES), request).topics}
    assert answers[id_of("orders")].name == "orders"
    assert (answers[id_of("secrets")].name, answers[id_of("secrets")].error_code) == (None, NOT_TOPIC)
    assert answers[unknown].error_code == ErrorCode.UNKNOWN_TOPIC_ID


def test_operations_are_those_of_the_client() -> None:
    request = named("orders", include_topic_authorized_operations=True, include_cluster_authorized_operations=True)
    response = describe(broker_with(*DESCRIBES, *on(READ, TOPIC, "orders"), *on(CREATE, CLUSTER)), request, 10)
    assert response.topics[0].topic_authorized_operations == 1 << DESCRIBE | 1 << READ
    assert response.cluster_authorized_operations == 0  # nobody told it that it may describe the cluster
    response = describe(broker_with(*DESCRIBES, *on(DESCRIBE, CLUSTER)), request, 10)
    assert response.cluster_authorized_operations == 1 << DESCRIBE
    response = describe(broker_with(*DESCRIBES), named("orders"), 10)
    assert response.topics[0].topic_authorized_operations == response.cluster_authorized_operations == NOT_ASKED


def test_a_topic_is_created_for_those_who_may_create_it() -> None:
    request = MetadataRequest(topics=[MetadataRequestTopic(name="new")], allow_auto_topic_creation=True)
    broker = broker_with(*on(DESCRIBE, TOPIC, "new"))
    assert topics_of(describe(broker, request))["new"].error_code == NOT_TOPIC
    for permission in (*on(CREATE, CLUSTER), *on(CREATE, TOPIC, "new")):
        broker = broker_with(*on(DESCRIBE, TOPIC, "new"), permission)
        creating: Any = metadata.handle(broker, request, context_of())
        assert hasattr(creating, "send")
        creating.close()
        assert not_creatable(broker, context_of(), ["new"]) == []


# DescribeTopicPartitions


def pages(broker: Broker, *names: str, cursor: Cursor | None = None, limit: int = 2000) -> Any:
    request = DescribeTopicPartitionsRequest(
        topics=[TopicRequest(name=name) for name in names], response_partition_limit=limit, cursor=cursor
    )
    response = describe_topic_partitions.handle(broker, request, context_of(0))
    return decode(DescribeTopicPartitionsResponse, 0, encode(response, 0))


def test_pages_of_topics() -> None:
    broker = broker_with(*on(DESCRIBE, TOPIC, "a", "c"), *on(READ, TOPIC, "a"), names=("a", "b", "c"))
    topics = topics_of(pages(broker))
    assert list(topics) == ["a", "c"]
    assert topics["a"].topic_authorized_operations == 1 << DESCRIBE | 1 << READ
    first = pages(broker, limit=2)
    assert (list(topics_of(first)), first.next_cursor.topic_name) == (["a"], "c")
    topics = topics_of(pages(broker, "a", "b", "none"))
    for name in ("b", "none"):
        hidden = topics[name]
        assert (hidden.error_code, hidden.topic_id, hidden.partitions) == (NOT_TOPIC, ZERO_UUID, [])
        assert hidden.topic_authorized_operations == NOT_ASKED


def test_who_looks_at_all_topics_has_attempted_nothing() -> None:
    """Else everybody who lists topics would fill the audit log with refusals, and hide what matters among them."""
    told: list[tuple[str, bool]] = []

    class Told:
        def authorization(self, context: Any, operation: Any, resource_type: Any, name: str, allowed: bool) -> None:
            told.append((name, allowed))

    broker = broker_with(*on(DESCRIBE, TOPIC, "a"), names=("a", "b", "c"))
    broker.audit = Told()  # type: ignore[assignment]
    pages(broker)
    assert told == []
    pages(broker, "b")
    assert told == [("b", False)]


# Fetch


class NoReplicas:
    """A broker that hosts nothing, so that all that is permitted is missing."""

    by_name: dict[str, Any] = {}
    by_id: dict[bytes, Any] = {}

    @staticmethod
    def missing_partition_error(name: str, index: int, image: Any) -> ErrorCode:
        return ErrorCode.NOT_LEADER_OR_FOLLOWER


def fetched(broker: Broker, request: FetchRequest, version: int) -> Any:
    broker.replicas = NoReplicas()  # type: ignore[assignment]
    response: Any = fetch.handle(broker, request, context_of(version))
    return decode(FetchResponse, version, encode(response, version))


def fetch_request(*names: str, version: int, **fields: Any) -> FetchRequest:
    wanted = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1000)
    topics = [
        FetchTopic(topic_id=id_of(name), partitions=[wanted])
        if version >= 13
        else FetchTopic(topic=name, partitions=[wanted])
        for name in names
    ]
    return FetchRequest(**({"max_wait_ms": 10_000, "min_bytes": 1, "max_bytes": 1000, "topics": topics} | fields))


@pytest.mark.parametrize("version", [11, 13])
def test_fetches_of_topics_that_one_may_not_read_are_refused_at_once(version: int) -> None:
    broker = broker_with(*on(READ, TOPIC, "orders"))
    response = fetched(broker, fetch_request("orders", "secrets", "none", version=version), version)
    codes = [topic.partitions[0].error_code for topic in response.responses]
    missing = ErrorCode.UNKNOWN_TOPIC_ID if version >= 13 else NOT_TOPIC
    assert codes == [ErrorCode.NOT_LEADER_OR_FOLLOWER, NOT_TOPIC, missing]


def test_a_session_is_checked_with_every_fetch() -> None:
    broker = broker_with(*on(READ, TOPIC, "orders", "secrets"))
    first = fetched(broker, fetch_request("orders", "secrets", version=12, session_epoch=0), 12)
    assert isinstance(broker.authorizer, ToldAuthorizer)
    broker.authorizer.allowed.clear()
    again = FetchRequest(session_id=first.session_id, session_epoch=1, max_wait_ms=10_000, min_bytes=1, max_bytes=9)
    response = fetched(broker, again, 12)
    assert {topic.partitions[0].error_code for topic in response.responses} == {NOT_TOPIC}
    assert len(response.responses) == 2


@pytest.mark.parametrize("version", [12, 15])
def test_followers_are_brokers(version: int) -> None:
    broker = broker_with(*on(READ, TOPIC, "orders"))
    who = {"replica_id": 2} if version < 15 else {"replica_state": ReplicaState(replica_id=2, replica_epoch=1)}
    request = fetch_request("orders", "none", version=version, **who)
    response = fetched(broker, request, version)
    assert {topic.partitions[0].error_code for topic in response.responses} == {NOT_TOPIC}
    again = FetchRequest(session_id=7, session_epoch=3, **who)
    assert fetched(broker, again, version).error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND


# What others ask


def test_denied_topics() -> None:
    broker = broker_with(*on(READ, TOPIC, "orders"))
    topics = ["orders", "secrets", "none", id_of("orders"), id_of("secrets"), id_of("none")]
    assert denied_topics(broker, context_of(), topics) == {"secrets", "none", id_of("secrets")}


def test_who_asks_later_asks_for_the_client_of_then() -> None:
    broker = broker_with(*DESCRIBES)
    context = context_of()
    may_describe = asker(broker, context, AclOperation.DESCRIBE)
    assert may_describe is not None
    context.principal = "User:admin"
    assert may_describe("orders")
    assert not may_describe("secrets")
    context.is_internal = True
    assert asker(broker, context, AclOperation.DESCRIBE) is None


def test_changes_of_settings() -> None:
    kinds = ConfigResourceType

    def refused(kind: int, *allowed: Permission, at_controller: bool = False) -> ErrorCode | None:
        resource = AlterConfigsResource(resource_type=kind, resource_name="x", configs=[AlterableConfig(name="n")])
        request = AlterConfigsRequest(resources=[resource])
        context = context_of()
        if at_controller:
            context.apis = {}
        return refused_alteration(broker_with(*allowed), context, request.resources[0])

    for_cluster = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
    assert refused(kinds.TOPIC) == NOT_TOPIC
    assert refused(kinds.TOPIC, *on(ALTER_CONFIGS, TOPIC, "x")) is None
    assert refused(kinds.GROUP, *on(ALTER_CONFIGS, TOPIC, "x")) == ErrorCode.GROUP_AUTHORIZATION_FAILED
    assert refused(kinds.GROUP, *on(ALTER_CONFIGS, GROUP, "x")) is None
    for kind in (kinds.BROKER, kinds.BROKER_LOGGER, kinds.CLIENT_METRICS):
        assert refused(kind) == for_cluster
        assert refused(kind, *on(ALTER_CONFIGS, CLUSTER)) is None
    assert refused(kinds.BROKER_LOGGER, *on(ALTER_CONFIGS, CLUSTER), at_controller=True) == for_cluster
    assert refused(kinds.BROKER_LOGGER, *on(CLUSTER_ACTION, CLUSTER), at_controller=True) is None
    assert refused(99) is None  # there is no such thing, which the handler says
