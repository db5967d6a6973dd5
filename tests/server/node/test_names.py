"""Names that clients choose lead nowhere else: to no file, and to no other directory."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopic,
)
from ottla.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from ottla.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from ottla.schema.config import BrokerConfig
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.simulation.wire_client import WireClient

ADDRESS = "127.0.0.1:9092"
TRICKS = (
    "../../etc/x",
    "/etc/x",
    "a/b",
    "..",
    ".",
    "a\\..\\b",
    "a\0b",
    "a\nb",
    "a\x1b[2Jb",
    "%2e%2e",
    "~",
    "a b",
    "x" * 250,
    "",
)


def files(env: SimulatedEnv) -> set[str]:
    """All there is on the disk, one level below its roots."""
    return {
        f"{root}/{name}"
        for root in ("/", "/data", "/etc")
        if env.disk.exists(root)
        for name in env.disk.list_directory(root)
    }


def run(life: Any) -> None:
    async def main(env: SimulatedEnv) -> None:
        node = Node(
            BrokerConfig.of(
                {"listeners": f"PLAINTEXT://{ADDRESS}", "log.dirs": "/data", "offsets.topic.num.partitions": 1}
            ),
            env,
        )
        try:
            await node.start()
            async with WireClient.connected(ADDRESS) as client:
                await life(env, client.ask)
        finally:
            await node.stop()

    simulate(main, seed=1)


@pytest.mark.parametrize("trick", TRICKS)
def test_no_name_of_a_topic_makes_a_file_elsewhere(trick: str) -> None:
    async def life(env: SimulatedEnv, ask: Any) -> None:
        before = files(env)
        wanted = CreatableTopic(name=trick, num_partitions=1, replication_factor=1)
        created: CreateTopicsResponse = await ask(CreateTopicsRequest(topics=[wanted]), 5, CreateTopicsResponse)
        assert created.topics[0].error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
        request = MetadataRequest(topics=[MetadataRequestTopic(name=trick)], allow_auto_topic_creation=True)
        told: MetadataResponse = await ask(request, 9, MetadataResponse)
        assert told.topics[0].error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
        assert files(env) == before

    run(life)


def test_groups_and_transactions_are_no_files_whatever_their_names() -> None:
    async def life(env: SimulatedEnv, ask: Any) -> None:
        wanted = CreatableTopic(name="t", num_partitions=1, replication_factor=1)
        await ask(CreateTopicsRequest(topics=[wanted]), 5, CreateTopicsResponse)
        await ask(FindCoordinatorRequest(coordinator_keys=["g"]), 4, FindCoordinatorResponse)
        before = None
        for trick in TRICKS[:-1]:
            topic = OffsetCommitRequestTopic(
                name="t", partitions=[OffsetCommitRequestPartition(partition_index=0, committed_offset=1)]
            )
            request = OffsetCommitRequest(group_id=trick, topics=[topic])
            told: OffsetCommitResponse = await ask(request, 8, OffsetCommitResponse)
            assert told.topics[0].partitions[0].error_code == ErrorCode.NONE
            before = before or files(env)
            assert files(env) == before

    run(life)


def test_a_replica_moves_to_no_directory_that_is_not_the_nodes() -> None:
    async def life(env: SimulatedEnv, ask: Any) -> None:
        wanted = CreatableTopic(name="t", num_partitions=1, replication_factor=1)
        await ask(CreateTopicsRequest(topics=[wanted]), 5, CreateTopicsResponse)
        before = files(env)
        for path in ("/etc", "/data/..", "/data/../etc", "../etc", "/data\0", ""):
            topic = AlterReplicaLogDirTopic(name="t", partitions=[0])
            request = AlterReplicaLogDirsRequest(dirs=[AlterReplicaLogDir(path=path, topics=[topic])])
            told: AlterReplicaLogDirsResponse = await ask(request, 2, AlterReplicaLogDirsResponse)
            assert told.results[0].partitions[0].error_code == ErrorCode.LOG_DIR_NOT_FOUND, path
            assert files(env) == before

    run(life)
