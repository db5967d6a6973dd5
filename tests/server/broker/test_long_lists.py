"""Requests with very long lists: twice as long takes twice as long, not four times.

What a client may choose as the key of a dict costs no more either: texts are hashed with a secret.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from ottla.protocol.messages import (
    alter_partition_reassignments,
    create_acls,
    create_partitions,
    create_topics,
    delete_acls,
    delete_groups,
    delete_records,
    delete_topics,
    describe_configs,
    describe_groups,
    describe_log_dirs,
    describe_producers,
    describe_topic_partitions,
    describe_user_scram_credentials,
    elect_leaders,
    fetch,
    find_coordinator,
    incremental_alter_configs,
    list_offsets,
    metadata,
    offset_commit,
    offset_fetch,
    offset_for_leader_epoch,
    produce,
)
from ottla.schema.config import BrokerConfig
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.simulation.wire_client import WireClient

ADDRESS = "127.0.0.1:9092"
SETTINGS: dict[str, object] = {
    "listeners": f"PLAINTEXT://{ADDRESS}",
    "log.dirs": "/data",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
    "offsets.topic.num.partitions": 1,
}
SHORT, LONG = 400, 3200
MOST = 4.0
"""Times the ratio of the lengths: a square would be eight times."""

Case = tuple[str, Any, int, type[Any]]


def cases(n: int) -> Iterator[Case]:
    """Name, request, version, response."""
    names = [f"t{index}" for index in range(n)]
    yield (
        "Metadata same",
        metadata.MetadataRequest(
            topics=[metadata.MetadataRequestTopic(name="t") for _ in range(n)], allow_auto_topic_creation=False
        ),
        9,
        metadata.MetadataResponse,
    )
    yield (
        "Metadata unknown",
        metadata.MetadataRequest(
            topics=[metadata.MetadataRequestTopic(name=x) for x in names], allow_auto_topic_creation=False
        ),
        9,
        metadata.MetadataResponse,
    )
    yield (
        "DescribeConfigs same",
        describe_configs.DescribeConfigsRequest(
            resources=[
                describe_configs.DescribeConfigsResource(resource_type=2, resource_name="no", configuration_keys=None)
                for _ in range(n)
            ]
        ),
        4,
        describe_configs.DescribeConfigsResponse,
    )
    yield (
        "DescribeConfigs keys",
        describe_configs.DescribeConfigsRequest(
            resources=[
                describe_configs.DescribeConfigsResource(resource_type=2, resource_name="t", configuration_keys=names)
            ]
        ),
        4,
        describe_configs.DescribeConfigsResponse,
    )
    yield (
        "DeleteTopics same",
        delete_topics.DeleteTopicsRequest(topic_names=["no"] * n, timeout_ms=1000),
        5,
        delete_topics.DeleteTopicsResponse,
    )
    yield (
        "DeleteTopics unknown",
        delete_topics.DeleteTopicsRequest(topic_names=names, timeout_ms=1000),
        5,
        delete_topics.DeleteTopicsResponse,
    )
    yield (
        "CreateTopics same",
        create_topics.CreateTopicsRequest(
            topics=[create_topics.CreatableTopic(name="t", num_partitions=1, replication_factor=1)] * n,
            timeout_ms=1000,
            validate_only=True,
        ),
        7,
        create_topics.CreateTopicsResponse,
    )
    yield (
        "CreateAcls bad",
        create_acls.CreateAclsRequest(
            creations=[
                create_acls.AclCreation(
                    resource_type=2,
                    resource_name="x",
                    resource_pattern_type=3,
                    principal="bad",
                    host="*",
                    operation=3,
                    permission_type=3,
                )
            ]
            * n
        ),
        3,
        create_acls.CreateAclsResponse,
    )
    yield (
        "ListOffsets same",
        list_offsets.ListOffsetsRequest(
            replica_id=-1,
            topics=[
                list_offsets.ListOffsetsTopic(
                    name="t", partitions=[list_offsets.ListOffsetsPartition(partition_index=0, timestamp=-1)] * n
                )
            ],
        ),
        6,
        list_offsets.ListOffsetsResponse,
    )
    yield (
        "Fetch many partitions",
        fetch.FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=1000,
            topics=[
                fetch.FetchTopic(
                    topic="t",
                    partitions=[
                        fetch.FetchPartition(partition=i, fetch_offset=0, partition_max_bytes=10) for i in range(n)
                    ],
                )
            ],
        ),
        12,
        fetch.FetchResponse,
    )
    yield (
        "Fetch same topics",
        fetch.FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=1000,
            topics=[
                fetch.FetchTopic(
                    topic="t", partitions=[fetch.FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=10)]
                )
                for i in range(n)
            ],
        ),
        12,
        fetch.FetchResponse,
    )
    yield (
        "Produce many partitions",
        produce.ProduceRequest(
            acks=1,
            timeout_ms=100,
            topic_data=[
                produce.TopicProduceData(
                    name="t",
                    partition_data=[produce.PartitionProduceData(index=i, records=b"x" * 70) for i in range(n)],
                )
            ],
        ),
        9,
        produce.ProduceResponse,
    )
    yield (
        "OffsetCommit many",
        offset_commit.OffsetCommitRequest(
            group_id="g",
            generation_id_or_member_epoch=-1,
            member_id="",
            topics=[
                offset_commit.OffsetCommitRequestTopic(
                    name="t",
                    partitions=[
                        offset_commit.OffsetCommitRequestPartition(
                            partition_index=i + 1, committed_offset=1, committed_metadata=""
                        )
                        for i in range(n)
                    ],
                )
            ],
        ),
        8,
        offset_commit.OffsetCommitResponse,
    )
    yield (
        "OffsetFetch groups",
        offset_fetch.OffsetFetchRequest(
            groups=[
                offset_fetch.OffsetFetchRequestGroup(
                    group_id="g", topics=[offset_fetch.OffsetFetchRequestTopics(name="t", partition_indexes=[0])]
                )
                for i in range(n)
            ]
        ),
        8,
        offset_fetch.OffsetFetchResponse,
    )
    yield (
        "DescribeGroups same",
        describe_groups.DescribeGroupsRequest(groups=["g"] * n),
        5,
        describe_groups.DescribeGroupsResponse,
    )
    yield (
        "DeleteGroups same",
        delete_groups.DeleteGroupsRequest(groups_names=["nog"] * n),
        2,
        delete_groups.DeleteGroupsResponse,
    )
    yield (
        "FindCoordinator",
        find_coordinator.FindCoordinatorRequest(key_type=0, coordinator_keys=names),
        6,
        find_coordinator.FindCoordinatorResponse,
    )
    yield (
        "DescribeTopicPartitions",
        describe_topic_partitions.DescribeTopicPartitionsRequest(
            topics=[describe_topic_partitions.TopicRequest(name=x) for x in names], response_partition_limit=100
        ),
        0,
        describe_topic_partitions.DescribeTopicPartitionsResponse,
    )
    yield (
        "DeleteAcls",
        delete_acls.DeleteAclsRequest(
            filters=[
                delete_acls.DeleteAclsFilter(
                    resource_type_filter=2,
                    resource_name_filter="x",
                    pattern_type_filter=3,
                    principal_filter=None,
                    host_filter=None,
                    operation=3,
                    permission_type=3,
                )
            ]
            * n
        ),
        3,
        delete_acls.DeleteAclsResponse,
    )
    yield (
        "IncrementalAlterConfigs same",
        incremental_alter_configs.IncrementalAlterConfigsRequest(
            resources=[incremental_alter_configs.AlterConfigsResource(resource_type=2, resource_name="no", configs=[])]
            * n,
            validate_only=True,
        ),
        1,
        incremental_alter_configs.IncrementalAlterConfigsResponse,
    )
    yield (
        "IncrementalAlterConfigs keys",
        incremental_alter_configs.IncrementalAlterConfigsRequest(
            resources=[
                incremental_alter_configs.AlterConfigsResource(
                    resource_type=2,
                    resource_name="t",
                    configs=[
                        incremental_alter_configs.AlterableConfig(name=x, config_operation=0, value="1") for x in names
                    ],
                )
            ],
            validate_only=True,
        ),
        1,
        incremental_alter_configs.IncrementalAlterConfigsResponse,
    )
    yield (
        "CreatePartitions same",
        create_partitions.CreatePartitionsRequest(
            topics=[create_partitions.CreatePartitionsTopic(name="t", count=1, assignments=None)] * n,
            timeout_ms=1000,
            validate_only=True,
        ),
        3,
        create_partitions.CreatePartitionsResponse,
    )
    yield (
        "DeleteRecords",
        delete_records.DeleteRecordsRequest(
            topics=[
                delete_records.DeleteRecordsTopic(
                    name="t",
                    partitions=[
                        delete_records.DeleteRecordsPartition(partition_index=i + 1, offset=0) for i in range(n)
                    ],
                )
            ],
            timeout_ms=100,
        ),
        2,
        delete_records.DeleteRecordsResponse,
    )
    yield (
        "Reassign",
        alter_partition_reassignments.AlterPartitionReassignmentsRequest(
            timeout_ms=100,
            topics=[
                alter_partition_reassignments.ReassignableTopic(
                    name="t",
                    partitions=[
                        alter_partition_reassignments.ReassignablePartition(partition_index=i + 1, replicas=[1])
                        for i in range(n)
                    ],
                )
            ],
        ),
        0,
        alter_partition_reassignments.AlterPartitionReassignmentsResponse,
    )
    yield (
        "ElectLeaders",
        elect_leaders.ElectLeadersRequest(
            election_type=0,
            timeout_ms=100,
            topic_partitions=[elect_leaders.TopicPartitions(topic="t", partitions=list(range(1, n)))],
        ),
        2,
        elect_leaders.ElectLeadersResponse,
    )
    yield (
        "OffsetForLeaderEpoch",
        offset_for_leader_epoch.OffsetForLeaderEpochRequest(
            replica_id=-1,
            topics=[
                offset_for_leader_epoch.OffsetForLeaderTopic(
                    topic="t",
                    partitions=[
                        offset_for_leader_epoch.OffsetForLeaderPartition(
                            partition=0, current_leader_epoch=-1, leader_epoch=0
                        )
                    ]
                    * n,
                )
            ],
        ),
        4,
        offset_for_leader_epoch.OffsetForLeaderEpochResponse,
    )
    yield (
        "DescribeProducers",
        describe_producers.DescribeProducersRequest(
            topics=[describe_producers.TopicRequest(name="t", partition_indexes=[0] * n)]
        ),
        0,
        describe_producers.DescribeProducersResponse,
    )
    yield (
        "ScramDescribe",
        describe_user_scram_credentials.DescribeUserScramCredentialsRequest(
            users=[describe_user_scram_credentials.UserName(name="u")] * n
        ),
        0,
        describe_user_scram_credentials.DescribeUserScramCredentialsResponse,
    )
    yield (
        "DescribeLogDirs",
        describe_log_dirs.DescribeLogDirsRequest(
            topics=[describe_log_dirs.DescribableLogDirTopic(topic="t", partitions=list(range(n)))]
        ),
        4,
        describe_log_dirs.DescribeLogDirsResponse,
    )


def test_long_lists_take_no_square() -> None:
    """In time of the processor; the best of three, since others may use it."""
    spent: dict[tuple[str, int], float] = {}

    async def main(env: SimulatedEnv) -> None:
        node = Node(BrokerConfig.of(SETTINGS), env)
        await node.start()
        async with WireClient.connected(ADDRESS) as client:
            topic = create_topics.CreatableTopic(name="t", num_partitions=1, replication_factor=1)
            request = create_topics.CreateTopicsRequest(topics=[topic], timeout_ms=1000)
            await client.ask(request, 7, create_topics.CreateTopicsResponse)
            for length in (SHORT, LONG) * 3:
                for name, request, version, response in cases(length):
                    started = time.process_time()
                    await client.ask(request, version, response)
                    took = time.process_time() - started
                    spent[name, length] = min(took, spent.get((name, length), took))
        await node.stop()

    simulate(main, seed=1)
    ratio = LONG / SHORT
    slow = {
        name: took / (spent[name, SHORT] + 0.002)
        for (name, length), took in spent.items()
        if length == LONG and took > MOST * ratio * (spent[name, SHORT] + 0.002)
    }
    assert slow == {}


def test_texts_are_hashed_with_a_secret() -> None:
    """So nobody can choose names that all fall into one place of a dict."""
    assert sys.hash_info.algorithm.startswith("siphash")
    command = [sys.executable, "-I", "-c", "print(hash('orders'), hash(b'orders'))"]  # -I: without PYTHONHASHSEED
    found = {subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert len(found) == 2


def test_numbers_that_collide_are_told_apart_soon() -> None:
    """Numbers are their own hash, but a dict looks at all of their bits: sixty-four of them in a dozen steps."""

    class Counted(int):
        compared = 0

        def __eq__(self, other: object) -> bool:
            Counted.compared += 1
            return int.__eq__(self, other) is True

        __hash__ = int.__hash__

    table = {Counted(number << 32): None for number in range(20_000)}
    assert len(table) == 20_000
    assert Counted.compared < 20_000
