"""The handlers of the group and offset APIs, in every version, over memory logs and virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.join_group import JoinGroupRequestProtocol
from ottla.protocol.messages.leave_group import MemberIdentity
from ottla.protocol.messages.offset_commit import OffsetCommitRequestPartition, OffsetCommitRequestTopic
from ottla.protocol.messages.offset_delete import OffsetDeleteRequestPartition, OffsetDeleteRequestTopic
from ottla.protocol.messages.offset_fetch import (
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from ottla.protocol.messages.sync_group import SyncGroupRequestAssignment
from ottla.server.broker.api_table import APIS
from ottla.server.broker.broker import DelayedResponse
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.server.broker.handlers.group_world import NODE_ID, GroupWorld, arrive, topic_id
from tests.server.coordinator.driver import subscription

NONE = ErrorCode.NONE


def versions(name: str) -> list[int]:
    api = next(api for api in APIS.values() if api.name == name)
    return list(range(api.min_version, api.max_version + 1))


PROTOCOL = {"protocol_type": "consumer", "protocol_name": "range"}


def run(main: Callable[[SimulatedEnv], Coroutine[Any, Any, None]]) -> None:
    simulate(main, seed=3)


async def join(world: GroupWorld, version: int = 9, client: str = "c", **fields: Any) -> Any:
    """Join as clients do: with the id that the first answer gave."""
    fields = {
        "group_id": "g",
        "session_timeout_ms": 10_000,
        "rebalance_timeout_ms": 20_000 if version else -1,
        "protocol_type": "consumer",
        "protocols": [JoinGroupRequestProtocol(name="range", metadata=subscription("t"))],
        **fields,
    }
    response = await world.wait("JoinGroup", version, client, **fields)
    if response.error_code == ErrorCode.MEMBER_ID_REQUIRED:
        response = await world.wait("JoinGroup", version, client, **{**fields, "member_id": response.member_id})
    return response


async def stable(world: GroupWorld, client: str = "c") -> Any:
    """A group of one in generation 1; its join response."""
    joined = await join(world, client=client)
    await world.wait(
        "SyncGroup",
        5,
        **PROTOCOL,
        group_id="g",
        generation_id=joined.generation_id,
        member_id=joined.member_id,
        assignments=[SyncGroupRequestAssignment(member_id=joined.member_id, assignment=b"A")],
    )
    return joined


def commit_topic(name: str, *offsets: int, by_id: bool = False) -> OffsetCommitRequestTopic:
    return OffsetCommitRequestTopic(
        name="" if by_id else name,
        topic_id=topic_id(name) if by_id else ZERO_UUID,
        partitions=[
            OffsetCommitRequestPartition(partition_index=index, committed_offset=offset, committed_metadata="note")
            for index, offset in enumerate(offsets)
        ],
    )


def codes(topics: list[Any]) -> list[list[ErrorCode]]:
    return [[ErrorCode(partition.error_code) for partition in topic.partitions] for topic in topics]


# -- FindCoordinator


@pytest.mark.parametrize("version", versions("FindCoordinator"))
def test_find_coordinator_creates_the_topic_once_and_answers(version: int) -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env)
        fields: dict[str, Any] = {"coordinator_keys": ["g", "h"]} if version >= 4 else {"key": "g"}
        first, second = await asyncio.gather(
            world.wait("FindCoordinator", version, **fields), world.wait("FindCoordinator", version, **fields)
        )
        assert world.created == 1
        assert first == second
        found = first.coordinators if version >= 4 else [first]
        assert [(item.node_id, item.host, item.port, item.error_code) for item in found] == [
            (NODE_ID, "broker.test", 9092, NONE)
        ] * len(found)
        if version >= 4:
            assert [item.key for item in found] == ["g", "h"]
        assert world.call("FindCoordinator", version, **fields) == first, "at once from now on"

    run(main)


def test_find_coordinator_while_there_is_none() -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env)
        world.creation_error = ErrorCode.INVALID_REPLICATION_FACTOR
        for _ in range(2):
            response = await world.wait("FindCoordinator", 3, key="g")
            assert response.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
            assert (response.node_id, response.host, response.port) == (-1, "", -1)
        assert world.created == 2
        world.creation_error = None
        world.create_topic("__consumer_offsets", 4, leader=2)
        response = await world.wait("FindCoordinator", 3, key="g")
        assert response.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE

    run(main)


@pytest.mark.parametrize(("version", "key_type"), [(1, 9), (4, 2), (4, 9)])
def test_find_coordinator_of_what_is_not_served(version: int, key_type: int) -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env)
        if version >= 4:
            response = world.call("FindCoordinator", version, key_type=key_type, coordinator_keys=["x"])
            found = response.coordinators[0]
        else:
            found = world.call("FindCoordinator", version, key_type=key_type, key="x")
        assert found.error_code == ErrorCode.INVALID_REQUEST
        assert found.error_message
        assert world.created == 0

    run(main)


# -- membership


@pytest.mark.parametrize("version", versions("JoinGroup"))
def test_a_member_lives_in_every_version(version: int) -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env).with_offsets_topic()
        joined = await join(world, version)
        assert joined.error_code == NONE
        assert (joined.generation_id, joined.protocol_name, joined.leader) == (1, "range", joined.member_id)
        assert joined.protocol_type == ("consumer" if version >= 7 else None)
        assert [bytes(member.metadata) for member in joined.members] == [subscription("t")]
        sync_version = min(version, 5)
        common: dict[str, Any] = {"group_id": "g", "generation_id": 1, "member_id": joined.member_id}
        synced = await world.wait(
            "SyncGroup",
            sync_version,
            **common,
            protocol_type="consumer" if sync_version >= 5 else None,
            protocol_name="range" if sync_version >= 5 else None,
            assignments=[SyncGroupRequestAssignment(member_id=joined.member_id, assignment=b"A")],
        )
        assert (synced.error_code, bytes(synced.assignment)) == (NONE, b"A")
        refused = await world.wait("JoinGroup", version, group_id="", session_timeout_ms=10_000)
        assert (refused.error_code, refused.protocol_name) == (
            ErrorCode.INVALID_GROUP_ID,
            None if version >= 7 else "",
        )
        if sync_version >= 5:
            unnamed = world.call("SyncGroup", sync_version, **common, protocol_type="consumer")
            assert unnamed.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        assert synced.protocol_name == ("range" if sync_version >= 5 else None)
        assert world.call("Heartbeat", min(version, 4), **common).error_code == NONE
        leave_version = min(version, 5)
        if leave_version >= 3:
            left = world.call(
                "LeaveGroup", leave_version, group_id="g", members=[MemberIdentity(member_id=joined.member_id)]
            )
            assert [member.error_code for member in left.members] == [NONE]
            again = world.call(
                "LeaveGroup", leave_version, group_id="g", members=[MemberIdentity(member_id=joined.member_id)]
            )
            assert again.error_code == NONE
            assert [member.error_code for member in again.members] == [ErrorCode.UNKNOWN_MEMBER_ID]
        else:
            left = world.call("LeaveGroup", leave_version, group_id="g", member_id=joined.member_id)
            assert left.error_code == NONE
            again = world.call("LeaveGroup", leave_version, group_id="g", member_id=joined.member_id)
            assert again.error_code == ErrorCode.UNKNOWN_MEMBER_ID
        assert world.call("Heartbeat", min(version, 4), **common).error_code == ErrorCode.UNKNOWN_MEMBER_ID

    run(main)


def test_version_0_uses_the_session_timeout_as_rebalance_timeout() -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env).with_offsets_topic()
        await join(world, 0)
        shard = world.groups.partition_of("g").shard
        assert [member.rebalance_timeout_ms for member in shard.classic.groups["g"].members.values()] == [10_000]

    run(main)


@pytest.mark.parametrize("version", versions("JoinGroup"))
def test_refused_joins(version: int) -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env).with_offsets_topic()
        for fields, code in (
            ({"group_id": ""}, ErrorCode.INVALID_GROUP_ID),
            ({"session_timeout_ms": 5_999}, ErrorCode.INVALID_SESSION_TIMEOUT),
            ({"session_timeout_ms": 1_800_001}, ErrorCode.INVALID_SESSION_TIMEOUT),
            ({"protocols": []}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
            ({"member_id": "nobody"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ):
            response = await join(world, version, **fields)
            assert (response.error_code, response.generation_id, response.members) == (code, -1, [])

    run(main)


def test_not_the_coordinator_and_still_loading() -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env)
        identity: dict[str, Any] = {"group_id": "g", "generation_id": 1, "member_id": "m"}

        async def check(code: ErrorCode, heartbeat: ErrorCode) -> None:
            assert (await join(world)).error_code == code
            assert (await world.wait("SyncGroup", 5, **identity, **PROTOCOL)).error_code == code
            assert world.call("Heartbeat", 4, **identity).error_code == heartbeat
            assert world.call("LeaveGroup", 5, group_id="g", members=[MemberIdentity()]).error_code == code
            assert world.call("LeaveGroup", 2, group_id="g", member_id="m").error_code == code
            committed = world.call("OffsetCommit", 9, group_id="g", topics=[commit_topic("t", 1)])
            assert codes(committed.topics) == [[code]]
            fetched = world.call("OffsetFetch", 9, groups=[OffsetFetchRequestGroup(group_id="g", topics=None)])
            assert fetched.groups[0].error_code == code
            assert world.call("OffsetDelete", 0, group_id="g").error_code == code
            assert world.call("DeleteGroups", 3, groups_names=["g"]).results[0].error_code == code
            assert world.call("DescribeGroups", 6, groups=["g"]).groups[0].error_code == code

        world.create_topic("t")
        await check(ErrorCode.NOT_COORDINATOR, ErrorCode.NOT_COORDINATOR)
        assert world.call("ListGroups", 5).groups == []
        world.with_offsets_topic()
        world.call("OffsetCommit", 9, group_id="g", topics=[commit_topic("t", 1)])
        world.groups.stop()
        world.groups = world._new_groups()
        world.groups.load(world.image)
        await check(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, NONE)
        assert world.call("ListGroups", 5).error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        await world.groups.wait_until_loaded()
        assert world.call("ListGroups", 5).error_code == NONE

    run(main)


def test_empty_group_ids() -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env).with_offsets_topic()
        world.create_topic("t")
        identity: dict[str, Any] = {"group_id": "", "generation_id": 1, "member_id": "m"}
        assert (await world.wait("SyncGroup", 5, **identity, **PROTOCOL)).error_code == ErrorCode.INVALID_GROUP_ID
        assert world.call("Heartbeat", 4, **identity).error_code == ErrorCode.INVALID_GROUP_ID
        left = world.call("LeaveGroup", 5, group_id="", members=[MemberIdentity()])
        assert left.error_code == ErrorCode.INVALID_GROUP_ID
        assert world.call("OffsetDelete", 0, group_id="").error_code == ErrorCode.INVALID_GROUP_ID
        # Offsets of the group with the empty name are an old habit that Kafka keeps.
        committed = world.call("OffsetCommit", 9, group_id="", topics=[commit_topic("t", 1)])
        assert codes(committed.topics) == [[NONE]]

    run(main)


def test_two_members_over_delayed_commits_and_a_restart() -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env, initial_rebalance_delay_ms=3_000).with_offsets_topic()
        first, second = await asyncio.gather(join(world, client="a"), join(world, client="b"))
        leader, follower = (first, second) if first.members else (second, first)
        assert [len(leader.members), len(follower.members)] == [2, 0]
        log = world.logs[world.groups.partition_for("g")]
        log.commits = False
        waiting = world.send("SyncGroup", 5, group_id="g", generation_id=1, member_id=follower.member_id, **PROTOCOL)
        handing_in = world.send(
            "SyncGroup",
            5,
            **PROTOCOL,
            group_id="g",
            generation_id=1,
            member_id=leader.member_id,
            assignments=[
                SyncGroupRequestAssignment(member_id=member.member_id, assignment=member.member_id.encode())
                for member in leader.members
            ],
        )
        await asyncio.sleep(1)
        assert isinstance(waiting, DelayedResponse)
        assert isinstance(handing_in, DelayedResponse)
        assert not waiting.done
        assert not handing_in.done
        log.commits = True
        log.commit()
        assert bytes((await arrive(waiting, 5)).assignment) == follower.member_id.encode()
        assert bytes((await arrive(handing_in, 5)).assignment) == leader.member_id.encode()
        before = world.call("DescribeGroups", 6, groups=["g"])
        await world.restart()
        assert world.call("DescribeGroups", 6, groups=["g"]) == before
        for member in (leader, follower):
            beat = world.call("Heartbeat", 4, group_id="g", generation_id=1, member_id=member.member_id)
            assert beat.error_code == NONE
        await asyncio.sleep(10.1)
        beat = world.call("Heartbeat", 4, group_id="g", generation_id=1, member_id=leader.member_id)
        assert beat.error_code == ErrorCode.UNKNOWN_MEMBER_ID, "sessions run on in the new coordinator"

    run(main)


def test_parked_joins_are_refused_when_the_coordinator_goes() -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env, initial_rebalance_delay_ms=3_000).with_offsets_topic()
        joining = asyncio.ensure_future(join(world, 3))
        await asyncio.sleep(0.1)
        world.groups.stop()
        assert (await joining).error_code == ErrorCode.NOT_COORDINATOR

    run(main)


# -- describing, listing, deleting


@pytest.mark.parametrize("version", versions("DescribeGroups"))
def test_describe_groups(version: int) -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env).with_offsets_topic()
        joined = await stable(world)
        include = {"include_authorized_operations": True} if version >= 3 else {}
        found, absent = world.call("DescribeGroups", version, groups=["g", "absent"], **include).groups
        assert (found.error_code, found.group_state, found.protocol_type, found.protocol_data) == (
            NONE,
            "Stable",
            "consumer",
            "range",
        )
        member = found.members[0]
        assert (member.member_id, member.client_id, member.client_host) == (joined.member_id, "c", "/127.0.0.1")
        assert (bytes(member.member_metadata), bytes(member.member_assignment)) == (subscription("t"), b"A")
        assert found.authorized_operations == (0b110101001000 if version >= 3 else -(2**31))
        assert absent.group_state == "Dead"
        if version >= 6:
            assert absent.error_code == ErrorCode.GROUP_ID_NOT_FOUND
            assert absent.error_message == "Group absent not found."
        else:
            assert absent.error_code == NONE

    run(main)


@pytest.mark.parametrize("version", versions("ListGroups"))
def test_list_groups(version: int) -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env).with_offsets_topic()
        world.create_topic("t")
        await stable(world)
        for index in range(6):
            world.call("OffsetCommit", 9, group_id=f"simple-{index}", topics=[commit_topic("t", 1)])
        listed = {group.group_id: group for group in world.call("ListGroups", version).groups}
        assert len(listed) == 7
        assert listed["g"].protocol_type == "consumer"
        assert listed["simple-0"].protocol_type == ""
        if version >= 4:
            assert listed["g"].group_state == "Stable"
            filtered = world.call("ListGroups", version, states_filter=["stable"]).groups
            assert [group.group_id for group in filtered] == ["g"]
        if version >= 5:
            assert listed["g"].group_type == "classic"
            assert world.call("ListGroups", version, types_filter=["consumer"]).groups == []
            assert len(world.call("ListGroups", version, types_filter=["CLASSIC"]).groups) == 7

    run(main)


@pytest.mark.parametrize("version", versions("DeleteGroups"))
def test_delete_groups(version: int) -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env).with_offsets_topic()
        world.create_topic("t")
        await stable(world)
        world.call("OffsetCommit", 9, group_id="simple", topics=[commit_topic("t", 1)])
        results = world.call("DeleteGroups", version, groups_names=["g", "simple", "absent", "simple"]).results
        assert {result.group_id: ErrorCode(result.error_code) for result in results} == {
            "g": ErrorCode.NON_EMPTY_GROUP,
            "simple": NONE,
            "absent": ErrorCode.GROUP_ID_NOT_FOUND,
        }
        assert (results[0].error_message is None) == (version < 3)
        assert results[1].error_message is None
        await world.restart()
        assert [group.group_id for group in world.call("ListGroups", 5).groups] == ["g"]

    run(main)


def test_several_deletions_wait_for_their_commits() -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env).with_offsets_topic()
        world.create_topic("t")
        for name in ("x", "y"):
            world.call("OffsetCommit", 9, group_id=name, topics=[commit_topic("t", 1)])
        for log in world.logs.values():
            log.commits = False
        outcome = world.send("DeleteGroups", 2, groups_names=["x", "y", "absent"])
        await asyncio.sleep(0.1)
        assert not outcome.done
        for log in world.logs.values():
            log.commit()
        response = await arrive(outcome, 2)
        assert [result.error_code for result in response.results] == [NONE, NONE, ErrorCode.GROUP_ID_NOT_FOUND]

    run(main)


# -- offsets


@pytest.mark.parametrize("version", versions("OffsetCommit"))
def test_offset_commit(version: int) -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env).with_offsets_topic()
        world.create_topic("t")
        by_id = version >= 10
        topics = [commit_topic("t", 5, 6, 7, by_id=by_id), commit_topic("absent", 1, by_id=by_id)]
        response = world.call("OffsetCommit", version, group_id="g", topics=topics)
        unknown = ErrorCode.UNKNOWN_TOPIC_ID if by_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert codes(response.topics) == [[NONE, NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION], [unknown]]
        assert [topic.topic_id if by_id else topic.name for topic in response.topics] == [
            topic_id("t") if by_id else "t",
            topic_id("absent") if by_id else "absent",
        ]
        only_absent = world.call("OffsetCommit", version, group_id="g", topics=topics[1:])
        assert codes(only_absent.topics) == [[unknown]]
        plain = world.call("OffsetCommit", version, group_id="g", topics=[commit_topic("t", 8, by_id=by_id)])
        assert codes(plain.topics) == [[NONE]]
        await world.restart()
        fetched = world.call("OffsetFetch", 7, group_id="g", topics=None)
        assert [(item.partition_index, item.committed_offset) for item in fetched.topics[0].partitions] == [
            (0, 8),
            (1, 6),
        ]

    run(main)


@pytest.mark.parametrize("version", versions("OffsetCommit"))
def test_offset_commit_of_a_member(version: int) -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env).with_offsets_topic()
        world.create_topic("t")
        joined = await stable(world)
        fields: dict[str, Any] = {"group_id": "g", "topics": [commit_topic("t", 5, by_id=version >= 10)]}
        for generation, member_id, code in (
            (1, joined.member_id, NONE),
            (2, joined.member_id, ErrorCode.ILLEGAL_GENERATION),
            (1, "nobody", ErrorCode.UNKNOWN_MEMBER_ID),
            (-1, "", ErrorCode.UNKNOWN_MEMBER_ID),
        ):
            response = world.call(
                "OffsetCommit",
                version,
                generation_id_or_member_epoch=generation,
                member_id=member_id,
                **fields,
            )
            assert codes(response.topics) == [[code]]
        absent = world.call(
            "OffsetCommit",
            version,
            **{**fields, "group_id": "absent"},
            generation_id_or_member_epoch=3,
            member_id="m",
        )
        expected = ErrorCode.GROUP_ID_NOT_FOUND if version >= 9 else ErrorCode.ILLEGAL_GENERATION
        assert codes(absent.topics) == [[expected]]

    run(main)


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.INVALID_COMMIT_OFFSET_SIZE),
    ],
)
def test_offset_commit_that_cannot_be_stored(refusal: ErrorCode, code: ErrorCode) -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env).with_offsets_topic()
        world.create_topic("t")
        world.logs[world.groups.partition_for("g")].refusal = refusal
        response = world.call("OffsetCommit", 9, group_id="g", topics=[commit_topic("t", 5)])
        assert codes(response.topics) == [[code]]

    run(main)


def test_offset_commit_and_fetch_wait_for_replicas() -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env).with_offsets_topic()
        world.create_topic("t")
        log = world.logs[world.groups.partition_for("g")]
        log.commits = False
        commit = world.send("OffsetCommit", 9, group_id="g", topics=[commit_topic("t", 5), commit_topic("x", 1)])
        fetch = world.send("OffsetFetch", 9, groups=[OffsetFetchRequestGroup(group_id="g", topics=None)])
        assert isinstance(commit, DelayedResponse)
        assert isinstance(fetch, DelayedResponse)
        log.commit()
        committed = await arrive(commit, 9)
        assert codes(committed.topics) == [[NONE], [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]]
        assert (await arrive(fetch, 9)).groups[0].topics[0].partitions[0].committed_offset == 5

    run(main)


@pytest.mark.parametrize("version", versions("OffsetFetch"))
def test_offset_fetch(version: int) -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env).with_offsets_topic()
        world.create_topic("t")
        world.create_topic("u")
        topic = commit_topic("t", 5)
        topic.partitions[0].committed_leader_epoch = 3
        world.call("OffsetCommit", 9, group_id="g", topics=[topic, commit_topic("u", 7)])
        if version < 8:
            wanted = [OffsetFetchRequestTopic(name="t", partition_indexes=[0, 1])]
            found = world.call("OffsetFetch", version, group_id="g", topics=wanted).topics
        else:
            by_id = version >= 10
            ask = OffsetFetchRequestTopics(
                name="" if by_id else "t", topic_id=topic_id("t") if by_id else ZERO_UUID, partition_indexes=[0, 1]
            )
            ids = OffsetFetchRequestTopics(name="", topic_id=topic_id("absent"), partition_indexes=[0])
            groups = [
                OffsetFetchRequestGroup(group_id="g", topics=[ids, ask] if by_id else [ask]),
                OffsetFetchRequestGroup(group_id="absent", topics=[ask]),
                OffsetFetchRequestGroup(group_id="g", topics=None),
            ]
            response = world.call("OffsetFetch", version, groups=groups)
            assert [group.group_id for group in response.groups] == ["g", "absent", "g"]
            assert [group.error_code for group in response.groups] == [NONE] * 3
            assert [item.committed_offset for item in response.groups[1].topics[0].partitions] == [-1, -1]
            names = [item.topic_id if by_id else item.name for item in response.groups[2].topics]
            assert names == ([topic_id("t"), topic_id("u")] if by_id else ["t", "u"])
            found = response.groups[0].topics
            if by_id:
                assert codes(found[:1]) == [[ErrorCode.UNKNOWN_TOPIC_ID]]
                found = found[1:]
        stored, absent = found[0].partitions
        assert (stored.committed_offset, stored.metadata, stored.error_code) == (5, "note", NONE)
        assert stored.committed_leader_epoch == (3 if version >= 5 else -1)
        assert (absent.committed_offset, absent.metadata, absent.error_code) == (-1, "", NONE)

    run(main)


def test_offset_fetch_of_all_topics_and_errors_in_old_versions() -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env).with_offsets_topic()
        world.create_topic("t")
        world.call("OffsetCommit", 9, group_id="g", topics=[commit_topic("t", 5)])
        for version in range(2, 8):
            everything = world.call("OffsetFetch", version, group_id="g", topics=None)
            assert [topic.name for topic in everything.topics] == ["t"]
        world.groups.stop()
        wanted = [OffsetFetchRequestTopic(name="t", partition_indexes=[0])]
        oldest = world.call("OffsetFetch", 1, group_id="g", topics=wanted)
        assert codes(oldest.topics) == [[ErrorCode.NOT_COORDINATOR]]
        later = world.call("OffsetFetch", 2, group_id="g", topics=wanted)
        assert (later.error_code, later.topics) == (ErrorCode.NOT_COORDINATOR, [])

    run(main)


def test_offsets_of_a_topic_go_with_it() -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env).with_offsets_topic()
        world.create_topic("t")
        world.create_topic("u")
        groups = [f"g{index}" for index in range(8)]
        for group in groups:
            world.call("OffsetCommit", 10, group_id=group, topics=[commit_topic(name, 5, by_id=True) for name in "tu"])
        world.delete_topic("t")
        await world.restart()
        for group in groups:
            found = world.call("OffsetFetch", 7, group_id=group, topics=None)
            assert [topic.name for topic in found.topics] == ["u"]

    run(main)


def test_a_topic_deleted_while_its_offsets_are_being_loaded() -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env).with_offsets_topic()
        world.create_topic("t")
        world.call("OffsetCommit", 9, group_id="g", topics=[commit_topic("t", 5)])
        world.groups.stop()
        world.groups = world._new_groups()
        world.groups.load(world.image)
        world.delete_topic("t")
        await world.groups.wait_until_loaded()
        assert world.call("OffsetFetch", 7, group_id="g", topics=None).topics == []

    run(main)


def test_offset_delete() -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env).with_offsets_topic()
        world.create_topic("t")
        world.create_topic("u")
        joined = await stable(world)
        world.call(
            "OffsetCommit",
            9,
            group_id="g",
            generation_id_or_member_epoch=1,
            member_id=joined.member_id,
            topics=[commit_topic("t", 1), commit_topic("u", 2)],
        )
        topics = [
            OffsetDeleteRequestTopic(
                name=name, partitions=[OffsetDeleteRequestPartition(partition_index=index) for index in (0, 5)]
            )
            for name in ("t", "u", "absent")
        ]
        response = world.call("OffsetDelete", 0, group_id="g", topics=topics)
        unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert codes(response.topics) == [
            [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, unknown],
            [NONE, unknown],
            [unknown, unknown],
        ]
        found = world.call("OffsetFetch", 7, group_id="g", topics=None)
        assert [topic.name for topic in found.topics] == ["t"]
        absent = world.call("OffsetDelete", 0, group_id="absent", topics=topics)
        assert (absent.error_code, absent.topics) == (ErrorCode.GROUP_ID_NOT_FOUND, [])

    run(main)


def test_the_offsets_topic_deleted_and_made_again_starts_empty() -> None:
    async def main(env: SimulatedEnv) -> None:
        world = GroupWorld(env).with_offsets_topic()
        world.create_topic("t")
        world.call("OffsetCommit", 9, group_id="g", topics=[commit_topic("t", 5)])
        world.delete_topic("__consumer_offsets")
        fetched = world.call("OffsetFetch", 7, group_id="g", topics=None)
        assert fetched.error_code == ErrorCode.NOT_COORDINATOR
        world.logs.clear()
        response = await world.wait("FindCoordinator", 4, coordinator_keys=["g"])
        assert response.coordinators[0].error_code == NONE
        assert world.call("OffsetFetch", 7, group_id="g", topics=None).topics == []

    run(main)
