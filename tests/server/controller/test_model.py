"""Random lives of a cluster: whatever happens, in whatever order, no committed record is lost by a decision.

Each replica is modelled by how many records it has. A leader appends, and acknowledges what all of its ISR has, when
the ISR is as large as `min.insync.replicas`. Brokers crash (and may lose what they had not flushed), stop in order,
restart; replicas catch up and are taken back; partitions move. Unless an unclean election was allowed or asked for, or
nobody is left but a broker that lost its records, whoever leads has every acknowledged record.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import alter_partition as messages
from ottla.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from ottla.protocol.messages.elect_leaders import ElectLeadersRequest
from ottla.server.controller.result import Result
from ottla.server.metadata.image import NO_LEADER, PartitionImage
from tests.server.controller.test_brokers import ElrWorld
from tests.server.controller.worlds import World, registration, topic

BROKERS: Final = (1, 2, 3, 4)
SESSION_MS: Final = 9_001


class Life:
    """One cluster with two partitions, driven by `random`."""

    def __init__(self, random: Random, *, elr: bool, unclean: bool, min_isr: int) -> None:
        kind = ElrWorld if elr else World
        self.world = kind(*map(registration, BROKERS), min_insync_replicas=min_isr)
        self.decide = self.world.do
        self.world.do = self.decided  # type: ignore[method-assign]
        self.random = random
        self.elr, self.unclean, self.min_isr = elr, unclean, min_isr
        configs: dict[str, str | None] = {"unclean.leader.election.enable": str(unclean).lower()}
        self.ends: dict[tuple[int, int], int] = {}
        """Records by partition and broker."""
        self.acknowledged = {0: 0, 1: 0}
        self.tainted: set[int] = set()
        """Partitions that have lost records by rights."""
        self.alive = set(BROKERS)
        self.lives = dict.fromkeys(BROKERS, 0)
        self.left_epochs: dict[int, int] = {}
        self.clean = dict.fromkeys(BROKERS, False)
        self.world.create(topic("t", assignments={0: [1, 2, 3], 1: [2, 3, 4]}, configs=configs))

    # What happens

    def step(self) -> None:
        happenings = {
            self.append: 6,
            self.propose: 6,
            self.heartbeats: 5,
            self.crash: 2,
            self.stop: 1,
            self.restart: 4,
            self.time: 2,
            self.move: 1,
            self.elect: 1,
        }
        self.random.choices(list(happenings), list(happenings.values()))[0]()

    def decided(self, result: Result) -> Any:
        """Each decision is looked at by itself."""
        before = [self.partition(index) for index in (0, 1)] if self.world.core.image.topics.by_name else []
        response = self.decide(result)
        for index, old in enumerate(before):
            self.check(index, old, self.partition(index))
        return response

    def append(self) -> None:
        """The leader takes records, and acknowledges what its ISR has."""
        index = self.random.randrange(2)
        partition = self.partition(index)
        leader = partition.leader
        if leader not in self.alive:
            return
        self.ends[index, leader] = self.end(index, leader) + 1
        # Followers in sync fetch sooner or later; nothing is acknowledged before.
        for replica in partition.isr:
            if replica in self.alive and self.random.random() < 0.9:
                self.ends[index, replica] = self.end(index, leader)
        self.acknowledge(index)

    def propose(self) -> None:
        """The leader tells who is in sync as it sees it."""
        index = self.random.randrange(2)
        partition = self.partition(index)
        leader, brokers = partition.leader, self.world.core.image.brokers
        if leader not in self.alive:
            return
        isr = [leader]
        for replica in partition.replicas:
            if replica == leader or replica not in self.alive:
                continue
            if replica not in partition.isr and self.random.random() < 0.7:
                self.ends[index, replica] = self.end(index, leader)
            if self.end(index, replica) == self.end(index, leader):
                isr.append(replica)
        asked = messages.AlterPartitionRequestPartitionData(
            partition_index=index,
            leader_epoch=partition.leader_epoch,
            partition_epoch=partition.partition_epoch,
            new_isr_with_epochs=[
                messages.BrokerState(broker_id=one, broker_epoch=brokers[one].broker_epoch) for one in isr
            ],
        )
        topic_id = self.world.core.image.topics.by_name["t"].topic_id
        request = messages.AlterPartitionRequest(
            broker_id=leader,
            broker_epoch=brokers[leader].broker_epoch,
            topics=[messages.AlterPartitionRequestTopicData(topic_id=topic_id, partitions=[asked])],
        )
        self.world.do(self.world.core.alter_partition(request, api_version=3))
        self.acknowledge(index)

    def heartbeats(self) -> None:
        for broker_id in self.alive:
            self.world.heartbeat(broker_id)

    def crash(self) -> None:
        """A process ends, perhaps with its power: records that were not flushed may be gone."""
        if not self.alive:
            return
        broker_id = self.random.choice(sorted(self.alive))
        self.alive.discard(broker_id)
        self.clean[broker_id] = False
        if self.elr and self.random.random() < 0.4:
            for index in (0, 1):
                self.ends[index, broker_id] = self.random.randint(0, self.end(index, broker_id))

    def stop(self) -> None:
        if len(self.alive) < 2:
            return
        broker_id = self.random.choice(sorted(self.alive))
        for _ in range(3):
            answer = self.world.heartbeat(broker_id, want_shut_down=True)
            if answer.should_shut_down:
                self.clean[broker_id] = True
                self.left_epochs[broker_id] = self.world.core.image.brokers[broker_id].broker_epoch
                break
            for other in sorted(self.alive - {broker_id}):
                self.world.heartbeat(other)
        self.alive.discard(broker_id)  # it does not wait for ever

    def restart(self) -> None:
        gone = sorted(set(BROKERS) - self.alive)
        if not gone:
            return
        broker_id = self.random.choice(gone)
        self.lives[broker_id] += 1
        previous = self.left_epochs.get(broker_id, -1) if self.clean[broker_id] else -1
        broker = registration(broker_id, incarnation_id=self.random.randbytes(16), previous_broker_epoch=previous)
        try:
            self.world.register_fenced(broker)
        except ApiError as error:
            if error.code != ErrorCode.DUPLICATE_BROKER_REGISTRATION:
                raise
            return  # its session is not over yet
        self.alive.add(broker_id)
        self.clean[broker_id] = False
        self.world.heartbeat(broker_id)

    def time(self) -> None:
        """Who is alive is heard of; who is not is fenced after a while."""
        self.world.now_ms += self.random.choice([1_000, 5_000, SESSION_MS])
        if self.random.random() < 0.8:
            self.heartbeats()
        while self.world.do(self.world.core.fence_expired(self.world.now_ms)) is not None:
            pass

    def move(self) -> None:
        index = self.random.randrange(2)
        target = None
        if self.random.random() < 0.8:
            target = self.random.sample(BROKERS, self.random.choice([2, 3]))
        asked = ReassignableTopic(name="t", partitions=[ReassignablePartition(partition_index=index, replicas=target)])
        request = AlterPartitionReassignmentsRequest(topics=[asked])
        self.world.do(self.world.core.alter_partition_reassignments(request))

    def elect(self) -> None:
        core = self.world.core
        commands = [
            lambda: core.elect_leaders(ElectLeadersRequest(election_type=0, topic_partitions=None)),
            core.balance_leaders,
            core.elect_uncleanly,
        ]
        self.world.do(self.random.choice(commands)())

    # What must hold

    def check(self, index: int, before: PartitionImage, after: PartitionImage) -> None:
        assert after.leader_epoch >= before.leader_epoch
        assert after.partition_epoch >= before.partition_epoch
        if after != before:
            assert after.partition_epoch > before.partition_epoch
        if after.leader != before.leader:
            assert after.leader_epoch > before.leader_epoch
        image = self.world.core.image
        if after.leader != NO_LEADER:
            assert image.brokers[after.leader].is_active, "who leads is there"
        for replica in after.isr:
            assert image.brokers[replica].is_active or after.isr == (replica,), "in sync is who is there"
        trusted = {*before.isr, *before.eligible_leader_replicas}
        if after.leader not in (before.leader, NO_LEADER, *trusted):
            if after.leader_recovery_state:
                assert self.unclean or (self.elr and before.last_known_elr == (after.leader,))
                self.tainted.add(index)
            else:
                assert set(after.isr) - set(before.isr), "only who has everything leads"
        leader = after.leader
        if leader not in self.alive:
            return  # it serves nobody, and is not followed
        if index in self.tainted:
            self.tainted.discard(index)
            self.acknowledged[index] = min(self.acknowledged[index], self.end(index, leader))
        assert self.end(index, leader) >= self.acknowledged[index], "an acknowledged record is lost"
        if leader != before.leader:
            for replica in after.replicas:  # followers truncate to what the new leader has
                self.ends[index, replica] = min(self.end(index, replica), self.end(index, leader))

    def acknowledge(self, index: int) -> None:
        partition = self.partition(index)
        minimum = min(self.min_isr, len(partition.replicas))
        if len(partition.isr) >= minimum:
            have = min(self.end(index, replica) for replica in partition.isr)
            self.acknowledged[index] = max(self.acknowledged[index], have)

    def partition(self, index: int) -> PartitionImage:
        return self.world.partition("t", index)

    def end(self, index: int, broker_id: int) -> int:
        return self.ends.get((index, broker_id), 0)


@pytest.mark.parametrize(
    ("elr", "unclean", "min_isr"),
    [(True, False, 2), (True, False, 1), (True, True, 2), (False, False, 2), (False, True, 1)],
)
@pytest.mark.parametrize("seed", range(8))
def test_lives(seed: int, elr: bool, unclean: bool, min_isr: int) -> None:
    life = Life(Random(seed), elr=elr, unclean=unclean, min_isr=min_isr)
    for _ in range(150):
        life.step()
    # When all are well again, everything is led, and led by the preferred replicas.
    life.world.now_ms += SESSION_MS
    for broker_id in BROKERS:
        if broker_id not in life.alive:
            life.world.register_fenced(registration(broker_id, incarnation_id=Random(broker_id).randbytes(16)))
        life.world.heartbeat(broker_id)
    if unclean:
        life.world.do(life.world.core.elect_uncleanly())
        assert not life.world.core.state.index.has_leaderless
