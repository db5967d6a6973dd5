"""The controller while the leadership of the metadata log comes and goes, and what it does unasked. In virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.allocate_producer_ids import AllocateProducerIdsRequest
from ottla.protocol.messages.alter_partition import AlterPartitionRequest
from ottla.protocol.messages.assign_replicas_to_dirs import AssignReplicasToDirsRequest
from ottla.protocol.messages.broker_heartbeat import BrokerHeartbeatRequest, BrokerHeartbeatResponse
from ottla.protocol.messages.controller_registration import ControllerRegistrationRequest
from ottla.protocol.messages.create_topics import CreateTopicsRequest
from ottla.protocol.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from ottla.schema.config import BrokerConfig
from ottla.server.controller.service import Controller
from ottla.server.metadata.cluster import ClusterMetadata
from ottla.server.raft.metadata_log import (
    CommittedBatch,
    LeaderAndEpoch,
    NotLeaderError,
    QuorumDescription,
    VoterState,
)
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.server.controller.worlds import NODE_ID, registration, registration_request, topic

E = ErrorCode
OTHER = 3000


class HeldLog:
    """A metadata log in memory; what is appended is committed at once, or when `commit` is called while `is_held`."""

    def __init__(self, metadata: ClusterMetadata, voters: Sequence[int] = (NODE_ID,)) -> None:
        self.metadata = metadata
        self.voters = voters
        self.batches: list[CommittedBatch] = []
        self.committed = 0
        self.end_offset = 0
        self.leader = LeaderAndEpoch(-1, 0)
        self.is_held = False
        self.kraft_version = 0

    def append(self, epoch: int, frames: Sequence[bytes], now_ms: int, prepared: Any = None) -> int:
        if self.leader != (NODE_ID, epoch):
            raise NotLeaderError
        self.end_offset += len(frames)
        self.batches.append(CommittedBatch(list(frames), self.end_offset - 1, epoch, now_ms, prepared))
        if not self.is_held:
            asyncio.get_running_loop().call_soon(self.commit)
        return self.end_offset - 1

    def commit(self) -> None:
        batches, self.committed = self.batches[self.committed :], len(self.batches)
        self.metadata.on_commit(batches)

    def elect(self, leader_id: int, epoch: int) -> None:
        """What is not committed is lost."""
        del self.batches[self.committed :]
        self.end_offset = self.batches[-1].last_offset + 1 if self.batches else 0
        self.leader = LeaderAndEpoch(leader_id, epoch)
        self.metadata.on_leader(self.leader)

    async def wait_committed(self, end_offset: int) -> None:
        await self.metadata.wait_for(end_offset - 1)

    def describe_quorum(self) -> QuorumDescription:
        states = tuple(VoterState(voter, bytes(16), self.end_offset, ()) for voter in self.voters)
        return QuorumDescription(*self.leader, self.end_offset, states)


class Quorum:
    """One controller of several, and the log it writes."""

    def __init__(self, env: SimulatedEnv, voters: Sequence[int] = (NODE_ID,), **settings: object) -> None:
        given = {name.replace("_", "."): value for name, value in settings.items()}
        config = BrokerConfig.of({"node.id": NODE_ID, **given})
        self.metadata = ClusterMetadata(config, env, node_id=NODE_ID)
        self.log = HeldLog(self.metadata, voters)
        log: Any = self.log
        self.controller = Controller(config, env, log, self.metadata, cluster_id="cluster")

    async def join(self, *broker_ids: int) -> None:
        for broker_id in broker_ids:
            await self.controller.register_broker(registration_request(registration(broker_id)))
            await self.heartbeat(broker_id)

    async def heartbeat(self, broker_id: int, **fields: Any) -> BrokerHeartbeatResponse:
        broker = self.metadata.image.brokers[broker_id]
        values = {"broker_epoch": broker.broker_epoch, "current_metadata_offset": self.metadata.offset} | fields
        return await self.controller.broker_heartbeat(BrokerHeartbeatRequest(broker_id=broker_id, **values))

    def unfenced(self) -> list[int]:
        return [one.broker_id for one in self.metadata.image.brokers.values() if not one.fenced]

    def leader(self, name: str = "t") -> int:
        partition = self.metadata.image.topics.partition(name, 0)
        assert partition is not None
        return partition.leader


def run(life: Callable[[Quorum], Awaitable[None]], voters: Sequence[int] = (NODE_ID,), **settings: object) -> None:
    async def main(env: SimulatedEnv) -> None:
        quorum = Quorum(env, voters, **settings)
        quorum.log.elect(NODE_ID, 1)
        await asyncio.sleep(0)
        await life(quorum)
        quorum.log.elect(OTHER, 1_000)

    simulate(main, seed=1)


def create(*assignments: list[int], name: str = "t") -> CreateTopicsRequest:
    return CreateTopicsRequest(topics=[topic(name, assignments=dict(enumerate(assignments)))])


def test_silent_brokers_are_fenced_when_their_session_is_over() -> None:
    async def life(quorum: Quorum) -> None:
        await quorum.join(1, 2, 3)
        await quorum.controller.create_topics(create([2, 1]))
        for _ in range(5):
            await asyncio.sleep(2)
            await quorum.heartbeat(1)
            await quorum.heartbeat(3)
        assert quorum.unfenced() == [1, 3], "as soon as its session was over, not in the next round"
        assert quorum.leader() == 1
        await asyncio.sleep(8.9)
        assert quorum.unfenced() == [1, 3]
        await asyncio.sleep(0.2)
        assert quorum.unfenced() == []
        await quorum.heartbeat(2)
        assert quorum.unfenced() == [2]

    run(life)


def test_a_process_that_stood_still_listens_before_it_fences() -> None:
    async def life(quorum: Quorum) -> None:
        await quorum.join(1, 2)
        loop = asyncio.get_running_loop()
        late_s = loop.time() + 9.001
        stale = quorum.controller._rounds
        assert stale is not None
        # The timer rings a minute late; heartbeats that waited in the sockets are read now.
        await asyncio.sleep(8)
        stale._fence(late_s - 60)
        assert quorum.unfenced() == [1, 2]
        await quorum.heartbeat(1)
        await quorum.heartbeat(2)
        await asyncio.sleep(2)
        assert quorum.unfenced() == [1, 2]
        await asyncio.sleep(8)
        assert quorum.unfenced() == []

    run(life)


def test_commands_under_way_and_later_ones_are_refused_when_leadership_moves() -> None:
    async def life(quorum: Quorum) -> None:
        await quorum.join(1)
        controller = quorum.controller
        quorum.log.is_held = True
        waiting = asyncio.ensure_future(controller.create_topics(create([1])))
        await asyncio.sleep(0)
        quorum.log.elect(OTHER, 2)
        assert not controller.is_active
        with pytest.raises(ApiError) as refused:
            await waiting
        assert refused.value.code == E.NOT_CONTROLLER
        later: list[Callable[[], Awaitable[Any]]] = [
            lambda: controller.create_topics(create([1])),
            lambda: controller.register_broker(registration_request(registration(2))),
            lambda: controller.broker_heartbeat(BrokerHeartbeatRequest()),
            lambda: controller.alter_partition(AlterPartitionRequest()),
            lambda: controller.allocate_producer_ids(AllocateProducerIdsRequest()),
            lambda: controller.assign_replicas_to_dirs(AssignReplicasToDirsRequest()),
            lambda: controller.register_controller(ControllerRegistrationRequest()),
        ]
        for command in later:
            with pytest.raises(ApiError) as refused:
                await command()
            assert refused.value.code == E.NOT_CONTROLLER
        # Back again, it starts from what is committed.
        quorum.log.is_held = False
        quorum.log.elect(NODE_ID, 3)
        assert "t" not in quorum.metadata.image.topics.by_name
        await controller.create_topics(create([1]))
        assert quorum.leader() == 1

    run(life)


def test_a_new_controller_gives_everybody_a_whole_session() -> None:
    async def life(quorum: Quorum) -> None:
        await quorum.join(1, 2)
        await asyncio.sleep(8)
        quorum.log.elect(OTHER, 2)
        await asyncio.sleep(60)
        assert quorum.unfenced() == [1, 2], "who does not lead fences nobody"
        quorum.log.elect(NODE_ID, 3)
        await asyncio.sleep(8.9)
        assert quorum.unfenced() == [1, 2]
        await asyncio.sleep(0.2)
        assert quorum.unfenced() == []

    run(life)


def test_leaderships_go_back_to_preferred_leaders() -> None:
    async def life(quorum: Quorum) -> None:
        await quorum.join(1, 2)
        await quorum.controller.create_topics(create([2, 1]))
        await quorum.heartbeat(2, want_fence=True)
        assert quorum.leader() == 1
        await quorum.heartbeat(2)
        partition = quorum.metadata.image.topics.partition("t", 0)
        assert partition is not None
        await quorum.controller.alter_partition(alter_request(quorum, [1, 2]))
        for _ in range(20):
            await asyncio.sleep(1)
            await quorum.heartbeat(1)
            await quorum.heartbeat(2)
        assert quorum.leader() == (1 if settings.get("auto_leader_rebalance_enable") == "false" else 2)

    settings: dict[str, object] = {"leader_imbalance_check_interval_seconds": 15}
    run(life, **settings)
    settings["auto_leader_rebalance_enable"] = "false"
    run(life, **settings)


def alter_request(quorum: Quorum, isr: list[int]) -> AlterPartitionRequest:
    from ottla.protocol.messages import alter_partition as messages

    image = quorum.metadata.image
    found = image.topics.by_name["t"]
    partition = found.partitions[0]
    asked = messages.AlterPartitionRequestPartitionData(
        partition_index=0,
        leader_epoch=partition.leader_epoch,
        partition_epoch=partition.partition_epoch,
        new_isr_with_epochs=[messages.BrokerState(broker_id=broker_id) for broker_id in isr],
    )
    return AlterPartitionRequest(
        broker_id=partition.leader,
        broker_epoch=image.brokers[partition.leader].broker_epoch,
        topics=[messages.AlterPartitionRequestTopicData(topic_id=found.topic_id, partitions=[asked])],
    )


def test_unclean_elections_come_round() -> None:
    from ottla.server.controller.configs import SET, Change

    async def life(quorum: Quorum) -> None:
        await quorum.join(1, 2)
        await quorum.controller.create_topics(create([2, 1]))
        await quorum.heartbeat(1, want_fence=True)
        await quorum.heartbeat(2, want_fence=True)
        await quorum.heartbeat(1)
        assert quorum.leader() == -1
        change = Change("unclean.leader.election.enable", SET, "true")
        await quorum.controller.alter_configs([((2, "t"), [change])])
        for _ in range(300):
            await asyncio.sleep(1.01)
            await quorum.heartbeat(1)
        assert quorum.leader() == 1

    run(life)


def test_blocks_of_producer_ids_are_given_out_once() -> None:
    async def life(quorum: Quorum) -> None:
        await quorum.join(1, 2)
        epochs = {one.broker_id: one.broker_epoch for one in quorum.metadata.image.brokers.values()}
        blocks = [
            await quorum.controller.allocate_producer_ids(
                AllocateProducerIdsRequest(broker_id=broker_id, broker_epoch=epochs[broker_id])
            )
            for broker_id in (1, 2, 1)
        ]
        assert [(one.producer_id_start, one.producer_id_len) for one in blocks] == [
            (0, 1000),
            (1000, 1000),
            (2000, 1000),
        ]
        with pytest.raises(ApiError) as refused:
            await quorum.controller.allocate_producer_ids(AllocateProducerIdsRequest(broker_id=1, broker_epoch=77))
        assert refused.value.code == E.STALE_BROKER_EPOCH

    run(life)


def test_a_level_needs_every_controller() -> None:
    from ottla.protocol.messages.controller_registration import Feature

    async def life(quorum: Quorum) -> None:
        await quorum.join(1)

        async def update() -> str:
            asked = FeatureUpdateKey(feature="share.version", max_version_level=0, upgrade_type=2)
            request = UpdateFeaturesRequest(feature_updates=[asked], validate_only=True)
            return (await quorum.controller.update_features(request, api_version=2)).error_message or ""

        async def register(controller_id: int, lowest: int) -> None:
            features = [Feature(name="share.version", min_supported_version=lowest, max_supported_version=1)]
            await quorum.controller.register_controller(
                ControllerRegistrationRequest(controller_id=controller_id, features=features)
            )

        assert "controller 2000 has not registered" in await update()
        await register(2000, 1)
        assert "Controller 2000 only supports versions 1-1." in await update()
        await register(2000, 0)
        assert await update() == ""

    run(life, voters=(NODE_ID, 2000))


def test_a_big_fencing_is_one_publication() -> None:
    async def life(quorum: Quorum) -> None:
        from ottla.server.controller import service

        heard: list[int] = []
        await quorum.join(1, 2)
        await quorum.controller.create_topics(create(*([[1, 2]] * 50)))
        quorum.metadata.subscribe(lambda delta, image: heard.append(len(delta.changed_topics)))
        before, service.MAX_BATCH_RECORDS = service.MAX_BATCH_RECORDS, 7  # type: ignore[misc]
        try:
            await quorum.heartbeat(1, want_fence=True)
        finally:
            service.MAX_BATCH_RECORDS = before  # type: ignore[misc]
        assert heard == [1]
        partitions = quorum.metadata.image.topics.by_name["t"].partitions.values()
        assert {one.leader for one in partitions} == {2}

    run(life)


def test_a_node_that_has_become_the_only_one_takes_over_what_it_can() -> None:
    async def life(quorum: Quorum) -> None:
        await quorum.join(NODE_ID, 2)
        await quorum.controller.create_topics(create([2, NODE_ID]))
        again = registration(NODE_ID, incarnation_id=bytes([77] * 16))
        assert await quorum.controller.register_own_broker(again) is None, "another broker is there"
        epoch = await quorum.controller.register_own_broker(again, is_sole=True)
        image = quorum.metadata.image
        assert quorum.unfenced() == [NODE_ID]
        assert image.brokers[NODE_ID].broker_epoch == epoch
        # Broker 2 took the lead while this one restarted, and was in sync last.
        assert quorum.leader() in (-1, NODE_ID)
        await asyncio.sleep(60)
        assert quorum.unfenced() == [NODE_ID], "nobody sends heartbeats for it"

    run(life)
