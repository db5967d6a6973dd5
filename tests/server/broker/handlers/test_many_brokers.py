"""What a client is told of a cluster of several brokers: by the listener it came in on, and by the version it speaks.

broker  listeners         rack  state
1       CLIENTS INTERNAL  a
2       CLIENTS INTERNAL  b     the active controller
3       INTERNAL          c
4       CLIENTS INTERNAL  a     fenced
"""

from __future__ import annotations

from typing import Any

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.codec import decode, encode
from ottla.protocol.messages.describe_cluster import DescribeClusterRequest
from ottla.protocol.messages.describe_topic_partitions import DescribeTopicPartitionsRequest
from ottla.protocol.messages.metadata import MetadataRequest
from ottla.server.broker.broker import Broker, RequestContext
from ottla.server.broker.handlers import describe_cluster, describe_topic_partitions, metadata
from ottla.server.broker.leader_hints import current_leader, leader_endpoints
from ottla.server.metadata.commits import LeaderAndEpoch
from ottla.server.metadata.image import BrokerImage, Endpoint, MetadataImage, PartitionImage, TopicImage, TopicsImage
from tests.server.broker.support import FixedMetadata, make_broker

E = ErrorCode
DIRECTORY, LOST = b"d" * 16, b"l" * 16
TOPIC_ID = b"t" * 16


def broker(broker_id: int, rack: str, *listeners: str, fenced: bool = False) -> BrokerImage:
    endpoints = {name: Endpoint(name, f"host-{broker_id}", 9000 + len(name), 0) for name in listeners}
    return BrokerImage(broker_id, 1, bytes(16), endpoints, {}, rack=rack, fenced=fenced, log_dirs=(DIRECTORY,))


BROKERS = {
    1: broker(1, "a", "CLIENTS", "INTERNAL"),
    2: broker(2, "b", "CLIENTS", "INTERNAL"),
    3: broker(3, "c", "INTERNAL"),
    4: broker(4, "a", "CLIENTS", "INTERNAL", fenced=True),
}
PARTITIONS = {
    0: PartitionImage((1, 2), (1, 2), 1, 5, 9, (DIRECTORY, DIRECTORY)),
    1: PartitionImage((3, 1), (3, 1), 3, 6, 9, (DIRECTORY, DIRECTORY)),
    2: PartitionImage((4, 2), (2,), 2, 7, 9, (DIRECTORY, DIRECTORY)),
    3: PartitionImage((1, 2), (1, 2), 2, 8, 9, (LOST, DIRECTORY)),
    4: PartitionImage((9, 4), (4,), -1, 9, 9, (DIRECTORY, DIRECTORY), eligible_leader_replicas=(9,)),
}
TOPIC = TopicImage("t", TOPIC_ID, PARTITIONS)
IMAGE = MetadataImage(brokers=BROKERS, topics=TopicsImage({"t": TOPIC}, {TOPIC_ID: TOPIC}))


def node(*, leader_id: int = 2, image: MetadataImage = IMAGE) -> Broker:
    """Broker 1."""
    fixed: Any = FixedMetadata(image)
    fixed.leader = LeaderAndEpoch(leader_id, 3)
    made = make_broker(metadata=fixed)
    made.node_id = 1
    return made


def ask_metadata(asked: Broker, version: int, listener_name: str) -> Any:
    request = MetadataRequest(topics=None if version else [])
    context = RequestContext(listener_name=listener_name, api_version=version)
    response: Any = metadata.handle(asked, request, context)
    encoded = encode(response, version)
    body = bytearray(encode(request, version))
    for _ in range(2):  # what is encoded now, what was kept
        assert metadata.handle_quickly(asked, body, 0, len(body), context) == encoded
    return decode(type(response), version, encoded)


@pytest.mark.parametrize("version", range(14))
def test_brokers_are_those_that_the_client_can_reach(version: int) -> None:
    clients, internal = (ask_metadata(node(), version, name).brokers for name in ("CLIENTS", "INTERNAL"))
    racks = ("a", "b", "c") if version >= 1 else (None, None, None)
    assert [(one.node_id, one.host, one.port, one.rack) for one in clients] == [
        (1, "host-1", 9007, racks[0]),
        (2, "host-2", 9007, racks[1]),
    ]
    assert [(one.node_id, one.port, one.rack) for one in internal] == [
        (1, 9008, racks[0]),
        (2, 9008, racks[1]),
        (3, 9008, racks[2]),
    ]


@pytest.mark.parametrize("version", range(14))
def test_partitions_by_version_for_clients(version: int) -> None:
    missing = E.LISTENER_NOT_FOUND if version >= 6 else E.LEADER_NOT_AVAILABLE
    if version:
        expected = [
            (0, 1, [1, 2], [1, 2], []),
            (missing, -1, [3, 1], [3, 1], [3]),
            (0, 2, [4, 2], [2], [4]),
            (0, 2, [1, 2], [1, 2], [1]),
            (E.LEADER_NOT_AVAILABLE, -1, [9, 4], [4], [9, 4]),
        ]
    else:
        # Unreachable replicas are left out, and their absence is an error; one in a lost directory can be reached.
        expected = [
            (0, 1, [1, 2], [1, 2], []),
            (missing, -1, [1], [1], []),
            (E.REPLICA_NOT_AVAILABLE, 2, [2], [2], []),
            (0, 2, [1, 2], [1, 2], []),
            (E.LEADER_NOT_AVAILABLE, -1, [], [], []),
        ]
    if version < 5:
        expected = [(*rest, []) for *rest, _ in expected]  # type: ignore[misc]
    partitions = ask_metadata(node(), version, "CLIENTS").topics[0].partitions
    found = [
        (one.error_code, one.leader_id, one.replica_nodes, one.isr_nodes, one.offline_replicas) for one in partitions
    ]
    assert found == expected
    if version >= 7:
        assert [one.leader_epoch for one in partitions] == [5, 6, 7, 8, 9]


def test_leader_on_another_listener_is_there_for_whom_that_is_open() -> None:
    partitions = ask_metadata(node(), 12, "INTERNAL").topics[0].partitions
    assert [(one.error_code, one.leader_id) for one in partitions][:4] == [(0, 1), (0, 3), (0, 2), (0, 2)]


def test_what_was_encoded_for_one_listener_is_not_told_on_another_nor_after_a_broker_went() -> None:
    asked = node()
    assert ask_metadata(asked, 12, "CLIENTS").topics[0].partitions[0].leader_id == 1
    assert ask_metadata(asked, 12, "INTERNAL").topics[0].partitions[1].leader_id == 3
    assert ask_metadata(asked, 12, "CLIENTS").topics[0].partitions[1].leader_id == -1
    fenced = {**BROKERS, 2: BROKERS[2]._replace(fenced=True)}
    asked.metadata.image = IMAGE._replace(brokers=fenced)
    response = ask_metadata(asked, 12, "CLIENTS")
    assert [one.node_id for one in response.brokers] == [1]
    assert response.topics[0].partitions[0].offline_replicas == [2]


@pytest.mark.parametrize(
    ("leader_id", "listener_name", "expected"),
    [
        (2, "CLIENTS", 2),
        (3, "INTERNAL", 3),
        (3, "CLIENTS", 1),
        (4, "CLIENTS", 1),
        (100, "CLIENTS", 1),
        (-1, "OTHER", -1),
    ],
)
def test_controller_is_a_broker_that_can_be_reached_the_active_one_first(
    leader_id: int, listener_name: str, expected: int
) -> None:
    assert ask_metadata(node(leader_id=leader_id), 12, listener_name).controller_id == expected
    context = RequestContext(listener_name=listener_name, api_version=2)
    response = describe_cluster.handle(node(leader_id=leader_id), DescribeClusterRequest(), context)
    assert response.controller_id == expected


def test_broker_that_is_fenced_itself_names_another() -> None:
    image = IMAGE._replace(brokers={**BROKERS, 1: BROKERS[1]._replace(fenced=True)})
    assert ask_metadata(node(leader_id=-1, image=image), 12, "CLIENTS").controller_id == 2


def test_described_cluster_has_racks_and_fenced_brokers_on_request() -> None:
    context = RequestContext(listener_name="CLIENTS", api_version=2)
    some = describe_cluster.handle(node(), DescribeClusterRequest(), context)
    assert [(one.broker_id, one.rack, one.is_fenced) for one in some.brokers] == [(1, "a", False), (2, "b", False)]
    everybody = describe_cluster.handle(node(), DescribeClusterRequest(include_fenced_brokers=True), context)
    assert [(one.broker_id, one.is_fenced) for one in everybody.brokers] == [(1, False), (2, False), (4, True)]


def test_described_partitions_name_leaders_that_can_be_reached() -> None:
    context = RequestContext(listener_name="CLIENTS", api_version=0)
    request = DescribeTopicPartitionsRequest(topics=[], response_partition_limit=100)
    (topic,) = describe_topic_partitions.handle(node(), request, context).topics
    assert [(one.leader_id, one.offline_replicas) for one in topic.partitions] == [
        (1, []),
        (-1, [3]),
        (2, [4]),
        (2, [1]),
        (-1, [9, 4]),
    ]
    assert topic.partitions[4].eligible_leader_replicas == [9]


def test_hints_tell_where_leaders_are_on_the_listener_of_the_client() -> None:
    assert current_leader(IMAGE, "t", bytes(16), 1) == (3, 6)
    assert current_leader(IMAGE, None, TOPIC_ID, 4) == (-1, 9)
    assert current_leader(IMAGE, "t", bytes(16), 5) is None
    found = leader_endpoints(IMAGE, [3, 2, -1, 2, 9], "CLIENTS")
    assert [(one.node_id, one.host, one.port, one.rack) for one in found] == [(2, "host-2", 9007, "b")]
    assert [one.node_id for one in leader_endpoints(IMAGE, [3, 2], "INTERNAL")] == [2, 3]
