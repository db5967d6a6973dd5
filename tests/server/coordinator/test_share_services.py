"""Both coordinators of share groups over logs in memory: requests about many share partitions, and what needs both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import TopicPartition
from ottla.core.topics import OFFSETS_TOPIC, SHARE_STATE_TOPIC
from ottla.protocol.messages import (
    alter_share_group_offsets,
    delete_share_group_offsets,
    delete_share_group_state,
    describe_share_group_offsets,
    initialize_share_group_state,
    metadata_records,
    read_share_group_state,
    read_share_group_state_summary,
    write_share_group_state,
)
from ottla.protocol.messages.share_group_heartbeat import ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse
from ottla.server.coordinator.result import Pending
from ottla.server.coordinator.service import GroupCoordinator
from ottla.server.coordinator.settings import GroupSettings
from ottla.server.coordinator.share.service import ShareGroupService, arrival
from ottla.server.coordinator.share_state.service import ShareStateCoordinator
from ottla.server.coordinator.share_state.shard import ShareStateSettings, durable_state
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.image import EMPTY_IMAGE, MetadataImage
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.server.coordinator.fake_log import FakeLog

TOPIC_ID = bytes(range(16))
END_OFFSET = 12


class StateLog(FakeLog):
    """A partition of the state topic."""

    def delete_records_before(self, offset: int) -> None:
        assert self.start_offset <= offset <= self.high_watermark_offset
        self.start_offset = offset


async def end_offsets(partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int | ErrorCode]:
    return dict.fromkeys(partitions, END_OFFSET)


class World:
    """One broker with both coordinators; topics come and go with `put_topic`."""

    def __init__(self, env: SimulatedEnv, **settings: int) -> None:
        self.env = env
        self.image: MetadataImage = EMPTY_IMAGE
        self.settings = ShareStateSettings(partition_count=2, **settings)
        self.group_logs = [FakeLog()]
        self.state_logs = [StateLog(), StateLog()]
        self.creation_error: ErrorCode | None = None
        self.start()

    def start(self) -> None:
        self.groups = GroupCoordinator(
            GroupSettings(offsets_topic_partition_count=1),
            self.env,
            node_id=0,
            open_log=lambda index: self.group_logs[index],
            create_topic=self._no_topic,
        )
        self.state = ShareStateCoordinator(
            self.settings,
            self.env,
            node_id=0,
            open_log=lambda index: self.state_logs[index],
            create_topic=self._create_state_topic,
        )
        self.service = ShareGroupService(self.groups, lambda: self.state, end_offsets)
        for part in (self.groups, self.state):
            part.load(self.image)

    async def restart(self) -> None:
        self.groups.stop()
        self.state.stop()
        self.start()
        await self.groups.wait_until_loaded()
        await self.state.wait_until_loaded()

    def put_topic(self, name: str, topic_id: bytes, partitions: int) -> None:
        delta = MetadataDelta(self.image)
        delta.replay(metadata_records.TopicRecord(name=name, topic_id=topic_id))
        for index in range(partitions):
            delta.replay(
                metadata_records.PartitionRecord(
                    partition_id=index, topic_id=topic_id, replicas=[0], isr=[0], leader=0, leader_epoch=0
                )
            )
        self._commit(delta)

    def drop_topic(self, topic_id: bytes) -> None:
        delta = MetadataDelta(self.image)
        delta.replay(metadata_records.RemoveTopicRecord(topic_id=topic_id))
        self._commit(delta)

    def _commit(self, delta: MetadataDelta) -> None:
        self.image = delta.apply(self.image.offset + 1, 0, 0)
        for part in (self.groups, self.state):
            part.on_metadata_change(delta, self.image)

    async def _create_state_topic(self) -> None:
        await asyncio.sleep(0.01)
        if self.creation_error is not None:
            raise ApiError(self.creation_error)
        self.put_topic(SHARE_STATE_TOPIC, b"s" * 16, 2)

    async def _no_topic(self) -> None:
        raise AssertionError("the offsets topic is there")

    async def heartbeat(
        self, member_id: str, epoch: int = 0, topics: tuple[str, ...] | None = None
    ) -> ShareGroupHeartbeatResponse:
        request = ShareGroupHeartbeatRequest(
            group_id="g",
            member_id=member_id,
            member_epoch=epoch,
            subscribed_topic_names=None if topics is None else list(topics),
        )
        response = self.service.heartbeat(request, "c", "/127.0.0.1")
        return response if isinstance(response, ShareGroupHeartbeatResponse) else await response


def simulated(main: Callable[[World], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run the test in virtual time, in a world with the offsets topic and a topic `t` of two partitions."""

    async def start(env: SimulatedEnv) -> None:
        world = World(env)
        world.put_topic(OFFSETS_TOPIC, b"o" * 16, 1)
        world.put_topic("t", TOPIC_ID, 2)
        await main(world)
        world.groups.stop()
        world.state.stop()

    def run() -> None:
        simulate(start, seed=1)

    run.__name__ = main.__name__
    return run


def initialization(
    *partitions: int, start_offset: int = 0
) -> initialize_share_group_state.InitializeShareGroupStateRequest:
    messages = initialize_share_group_state
    data = [messages.PartitionData(partition=index, state_epoch=1, start_offset=start_offset) for index in partitions]
    return messages.InitializeShareGroupStateRequest(
        group_id="g", topics=[messages.InitializeStateData(topic_id=TOPIC_ID, partitions=data)]
    )


def codes(response: Any) -> list[int]:
    return [result.error_code for topic in response.results for result in topic.partitions]


def assigned(response: ShareGroupHeartbeatResponse) -> list[list[int]]:
    assert response.assignment is not None
    return [list(topic.partitions) for topic in response.assignment.topic_partitions]


# -- the share coordinator


@simulated
async def test_without_its_topic_nobody_is_the_share_coordinator(world: World) -> None:
    assert codes(world.state.initialize(initialization(0, 1))) == [ErrorCode.NOT_COORDINATOR] * 2
    await world.state.ensure_topic()
    assert codes(world.state.initialize(initialization(0, 1, 7))) == [0, 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]


@simulated
async def test_a_response_waits_until_all_its_share_partitions_are_committed(world: World) -> None:
    await world.state.ensure_topic()
    for log in world.state_logs:
        log.commits = False
    response = world.state.initialize(initialization(0, 1))
    assert isinstance(response, Pending)
    world.state_logs[0].commit()
    await asyncio.sleep(0.01)
    assert response.response is None
    world.state_logs[1].commit()
    await asyncio.sleep(0.01)
    assert response.response is not None
    assert codes(response.response) == [0, 0]


@simulated
async def test_what_is_not_committed_in_time_is_refused(world: World) -> None:
    await world.state.ensure_topic()
    world.state_logs[0].commits = False
    response = world.state.initialize(initialization(0, 1))
    response = await arrival(response)
    assert sorted(codes(response)) == [0, ErrorCode.COORDINATOR_NOT_AVAILABLE]


@simulated
async def test_requests_about_nothing_have_nothing_in_their_answer(world: World) -> None:
    await world.state.ensure_topic()
    request = initialization()
    assert world.state.initialize(request).results == []  # type: ignore[union-attr]
    request = initialization(0)
    request.group_id = ""
    assert world.state.initialize(request).results == []  # type: ignore[union-attr]
    messages = read_share_group_state
    assert world.state.read(messages.ReadShareGroupStateRequest(group_id="g", topics=[])).results == []  # type: ignore[union-attr]


@simulated
async def test_old_records_are_cut_off_and_not_missed(world: World) -> None:
    world.settings = ShareStateSettings(partition_count=2, updates_per_snapshot=3)
    await world.restart()
    await world.state.ensure_topic()
    await arrival(world.state.initialize(initialization(0, 1)))
    messages = write_share_group_state
    for offset in range(20):
        for index in (0, 1):
            data = messages.PartitionData(
                partition=index,
                state_epoch=1,
                leader_epoch=0,
                start_offset=offset,
                delivery_complete_count=1,
                state_batches=[
                    messages.StateBatch(first_offset=offset, last_offset=offset, delivery_state=2, delivery_count=1)
                ],
            )
            topic = messages.WriteStateData(topic_id=TOPIC_ID, partitions=[data])
            written = world.state.write(messages.WriteShareGroupStateRequest(group_id="g", topics=[topic]))
            assert codes(written) == [0]

    def states() -> list[Any]:
        return [durable_state(partition.shard) for partition in world.state._runtime.active_partitions()]

    await asyncio.sleep(world.settings.prune_interval_ms / 1000 + 1)
    before = states()
    # Share partitions may share a partition of the topic; where there is one, its old records are gone.
    assert all(log.start_offset > 0 for log in world.state_logs if log.end_offset)
    await world.restart()
    assert states() == before


# -- share groups


@simulated
async def test_a_member_has_its_partitions_with_the_first_answer(world: World) -> None:
    joined = await world.heartbeat("a", topics=("t",))
    assert assigned(joined) == [[0, 1]]
    assert (await world.heartbeat("a", joined.member_epoch)).assignment is None
    await world.restart()
    again = await world.heartbeat("a", topics=("t",))
    assert (again.member_epoch, assigned(again)) == (joined.member_epoch, [[0, 1]])


@simulated
async def test_a_member_joins_although_nothing_can_be_initialized(world: World) -> None:
    world.creation_error = ErrorCode.INVALID_REPLICATION_FACTOR
    joined = await world.heartbeat("a", topics=("t",))
    assert (joined.error_code, assigned(joined)) == (0, [])
    world.creation_error = None
    later = await world.heartbeat("a", joined.member_epoch)
    assert assigned(later) == [[0, 1]]


@simulated
async def test_an_append_that_is_refused_refuses_the_heartbeat(world: World) -> None:
    world.group_logs[0].refusal = ErrorCode.NOT_ENOUGH_REPLICAS
    joined = await world.heartbeat("a", topics=("t",))
    assert joined.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE


def offsets_request(
    *partitions: int | None, topic: str = "t"
) -> describe_share_group_offsets.DescribeShareGroupOffsetsRequestGroup:
    messages = describe_share_group_offsets
    topics = None
    if None not in partitions:
        topics = [messages.DescribeShareGroupOffsetsRequestTopic(topic_name=topic, partitions=list(partitions))]
    return messages.DescribeShareGroupOffsetsRequestGroup(group_id="g", topics=topics)


async def described(world: World, *partitions: int | None, topic: str = "t") -> list[tuple[int, int, int]]:
    group = await world.service.describe_offsets(offsets_request(*partitions, topic=topic))
    return [
        (partition.partition_index, partition.start_offset, partition.lag)
        for found in group.topics
        for partition in found.partitions
    ]


async def alter(world: World, *moves: tuple[int, int]) -> list[int]:
    messages = alter_share_group_offsets
    topic = messages.AlterShareGroupOffsetsRequestTopic(
        topic_name="t",
        partitions=[
            messages.AlterShareGroupOffsetsRequestPartition(partition_index=index, start_offset=start_offset)
            for index, start_offset in moves
        ],
    )
    response = await world.service.alter_offsets(messages.AlterShareGroupOffsetsRequest(group_id="g", topics=[topic]))
    return [partition.error_code for found in response.responses for partition in found.partitions]


@simulated
async def test_offsets_are_told_with_their_lag(world: World) -> None:
    assert await described(world, None) == []
    assert await described(world, 0, topic="none") == [(0, -1, -1)]
    joined = await world.heartbeat("a", topics=("t",))
    assert await described(world, None) == [(0, -1, -1), (1, -1, -1)]
    await world.heartbeat("a", -1)
    assert joined.error_code == 0
    assert await alter(world, (1, 5), (9, 5)) == [0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
    assert await described(world, 0, 1) == [(0, -1, -1), (1, 5, END_OFFSET - 5)]


@simulated
async def test_a_move_that_the_share_coordinator_refuses_is_told(world: World) -> None:
    await alter(world, (0, 1), (1, 1))
    for log in world.state_logs:
        log.refusal = ErrorCode.KAFKA_STORAGE_ERROR
    assert await alter(world, (0, 7)) == [ErrorCode.NOT_COORDINATOR]
    assert await described(world, 0) == [(0, 1, END_OFFSET - 1)]


@simulated
async def test_deleted_offsets_and_groups_are_gone_at_both_coordinators(world: World) -> None:
    await alter(world, (0, 5), (1, 5))
    messages = delete_share_group_offsets
    request = messages.DeleteShareGroupOffsetsRequest(
        group_id="g", topics=[messages.DeleteShareGroupOffsetsRequestTopic(topic_name="t")]
    )
    response = await world.service.delete_offsets(request)
    assert [(topic.topic_name, topic.topic_id, topic.error_code) for topic in response.responses] == [
        ("t", TOPIC_ID, 0)
    ]
    assert await described(world, 0) == [(0, -1, -1)]
    assert [partition.shard.states for partition in world.state._runtime.active_partitions()] == [{}, {}]
    await alter(world, (0, 5))
    assert (await world.service.delete_group("g")).error_code == 0
    assert [partition.shard.states for partition in world.state._runtime.active_partitions()] == [{}, {}]
    assert (await world.service.delete_group("g")).error_code == ErrorCode.GROUP_ID_NOT_FOUND
    await world.restart()
    assert world.groups.list_groups([], []).groups == []


@simulated
async def test_a_move_that_was_cut_short_is_not_undone_by_who_joins(world: World) -> None:
    """The share coordinator wrote it down, the group did not."""
    await world.state.ensure_topic()
    assert codes(world.state.initialize(initialization(0, start_offset=5))) == [0]
    joined = await world.heartbeat("a", topics=("t",))
    assert assigned(joined) == [[0, 1]]
    assert [start for _, start, _ in await described(world, 0, 1)] == [5, -1]


@simulated
async def test_a_group_whose_share_state_cannot_be_deleted_stays(world: World) -> None:
    await alter(world, (0, 5), (1, 5))
    for log in world.state_logs:
        log.refusal = ErrorCode.NOT_ENOUGH_REPLICAS
    assert (await world.service.delete_group("g")).error_code != 0
    assert [group.group_id for group in world.groups.list_groups([], []).groups] == ["g"]
    for log in world.state_logs:
        log.refusal = None
    await world.restart()
    assert (await world.service.delete_group("g")).error_code == 0
    assert [partition.shard.states for partition in world.state._runtime.active_partitions()] == [{}, {}]


@simulated
async def test_a_deleted_topic_is_forgotten_by_both(world: World) -> None:
    await world.heartbeat("a", topics=("t",))
    world.drop_topic(TOPIC_ID)
    assert [partition.shard.states for partition in world.state._runtime.active_partitions()] == [{}, {}]
    assert await described(world, None) == []


@simulated
async def test_refusals_of_whole_requests_are_raised(world: World) -> None:
    messages = alter_share_group_offsets
    with pytest.raises(ApiError, match="INVALID_GROUP_ID"):
        await world.service.alter_offsets(messages.AlterShareGroupOffsetsRequest(group_id="", topics=[]))
    await world.heartbeat("a", topics=("t",))
    with pytest.raises(ApiError, match="NON_EMPTY_GROUP"):
        await alter(world, (0, 5))
    assert world.service.describe("").error_code == ErrorCode.INVALID_GROUP_ID  # type: ignore[union-attr]
    assert world.service.describe("none").error_code == ErrorCode.GROUP_ID_NOT_FOUND  # type: ignore[union-attr]


@simulated
async def test_deleting_what_never_was_succeeds(world: World) -> None:
    await world.state.ensure_topic()
    messages = delete_share_group_state
    topic = messages.DeleteStateData(topic_id=TOPIC_ID, partitions=[messages.PartitionData(partition=0)])
    assert codes(world.state.delete(messages.DeleteShareGroupStateRequest(group_id="g", topics=[topic]))) == [0]
    summing = read_share_group_state_summary
    wanted = summing.ReadStateSummaryData(
        topic_id=TOPIC_ID, partitions=[summing.PartitionData(partition=0, leader_epoch=-1)]
    )
    summary = world.state.read_summary(summing.ReadShareGroupStateSummaryRequest(group_id="g", topics=[wanted]))
    assert codes(summary) == [0]
