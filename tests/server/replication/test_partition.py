"""The leader's view of a partition: what commits, what is refused, who is told."""

from __future__ import annotations

import asyncio

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.records.validation import AppendOrigin
from ottla.server.metadata.image import BrokerImage, MetadataImage
from ottla.server.replication.partition import Partition
from tests.server.broker.data_world import NOW_MS, World, batch, world
from tests.server.broker.support import run


class Told:
    """A waiter that counts."""

    def __init__(self) -> None:
        self.times = 0

    def partition_changed(self, partition: Partition) -> None:
        self.times += 1


def append(partition: Partition, acks: int = -1) -> int:
    return partition.append(batch(b"a"), acks, NOW_MS, AppendOrigin.CLIENT).base_offset


def in_world(test: object) -> None:
    async def main() -> None:
        async with world() as broker:
            test(broker)  # type: ignore[operator]

    run(main())


def test_a_leader_alone_commits_at_once_and_tells_those_who_wait() -> None:
    def check(broker: World) -> None:
        broker.create_topic()
        partition = broker.partition()
        told = Told()
        partition.add_waiter(told)
        assert append(partition) == 0
        assert (partition.log.high_watermark, told.times) == (1, 1)
        partition.remove_waiter(told)
        partition.remove_waiter(told)
        append(partition)
        assert told.times == 1

    in_world(check)


def test_the_slowest_in_sync_follower_holds_the_high_watermark_back() -> None:
    def check(broker: World) -> None:
        broker.create_topic(replicas=[1, 2, 3])
        partition = broker.partition()
        told = Told()
        partition.add_waiter(told)
        for _ in range(3):
            append(partition)
        assert partition.log.high_watermark == 0
        partition.follower_fetched(2, 3)
        assert partition.log.high_watermark == 0
        before = told.times
        partition.follower_fetched(3, 1)
        assert (partition.log.high_watermark, told.times) == (1, before + 1)
        partition.follower_fetched(3, 1)
        assert told.times == before + 1, "nothing moved"
        partition.update_leadership(1, partition.leader_epoch, (1, 2, 3), (1, 2))
        assert partition.log.high_watermark == 3, "who left the ISR holds nobody back"
        partition.follower_fetched(2, 1)
        assert partition.log.high_watermark == 3, "never back"

    in_world(check)


def test_who_leads_again_after_another_did_knows_nothing_of_its_followers() -> None:
    def check(broker: World) -> None:
        broker.create_topic(replicas=[1, 2, 3])
        partition = broker.partition()
        for _ in range(3):
            append(partition)
        partition.follower_fetched(3, 3)
        # Broker 2 led in between, to which 3 has cut its log; broker 1 hears of all that at once.
        partition.update_leadership(1, partition.leader_epoch + 2, (1, 2, 3), (1, 3))
        assert partition.log.high_watermark == 0
        partition.follower_fetched(3, 2)
        assert partition.log.high_watermark == 2
        # Nobody can have led in between.
        partition.update_leadership(1, partition.leader_epoch + 1, (1, 2, 3), (1, 3))
        append(partition)
        partition.follower_fetched(3, 4)
        assert partition.log.high_watermark == 4

    in_world(check)


def test_a_proposal_stands_when_metadata_tells_what_the_controller_had_answered() -> None:
    def check(broker: World) -> None:
        broker.create_topic(replicas=[1, 2, 3])
        partition = broker.partition()
        partition.update_leadership(1, 0, (1, 2, 3), (1,), 7)
        followers = partition.followers
        assert followers is not None
        followers.progress[2].broker_epoch = followers.progress[3].broker_epoch = -1
        first = followers.propose_expansion(2, -1, 0, 7, lambda *_: True)
        assert first is not None
        partition.isr_decided(first, (1, 2), 0, 8)
        second = followers.propose_expansion(3, -1, 0, 8, lambda *_: True)
        assert second is not None
        partition.update_leadership(1, 0, (1, 2, 3), (1, 2), 8)
        assert followers.pending is second, "the controller may accept it: it must be heeded"
        append(partition)
        partition.follower_fetched(2, 1)
        assert partition.log.high_watermark == 0
        partition.update_leadership(1, 0, (1, 2, 3), (1, 2), 9)
        assert followers.pending is None, "it was overtaken, and will be refused"

    in_world(check)


def test_what_an_earlier_run_of_a_follower_has_asked_for_says_nothing_of_the_present_one() -> None:
    def check(broker: World) -> None:
        broker.create_topic(replicas=[1, 2])
        partition = broker.partition()
        append(partition)
        two = BrokerImage(2, 50, bytes(16), {}, {})
        partition._cluster.image = MetadataImage(brokers={2: two})
        with pytest.raises(ApiError) as refused:
            partition.follower_fetched(2, 1, broker_epoch=49)
        assert refused.value.code == ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert partition.log.high_watermark == 0
        partition.follower_fetched(2, 1, broker_epoch=50)
        assert partition.log.high_watermark == 1

    in_world(check)


def test_nothing_commits_below_min_insync_replicas() -> None:
    def check(broker: World) -> None:
        broker.create_topic(replicas=[1, 2, 3], settings={"min.insync.replicas": "2"})
        partition = broker.partition()
        partition.update_leadership(1, 0, (1, 2, 3), (1,))
        with pytest.raises(ApiError) as refused:
            append(partition)
        assert refused.value.code == ErrorCode.NOT_ENOUGH_REPLICAS
        append(partition, acks=1)
        assert partition.log.high_watermark == 0
        partition.update_min_isr(1)
        assert partition.log.high_watermark == 1
        append(partition)
        assert partition.log.high_watermark == 2

    in_world(check)


def test_who_does_not_lead_takes_nothing_and_knows_no_epoch() -> None:
    def check(broker: World) -> None:
        broker.create_topic(replicas=[1, 2], leader=2, leader_epoch=5)
        partition = broker.partition()
        assert not partition.is_leader
        for refused_call in (lambda: append(partition), lambda: partition.delete_records_before(0)):
            with pytest.raises(ApiError) as refused:
                refused_call()
            assert refused.value.code == ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert partition.check_leader_epoch(5) == ErrorCode.NOT_LEADER_OR_FOLLOWER
        broker.elect("topic", leader=1)
        assert partition.leader_epoch == 6
        assert [partition.check_leader_epoch(epoch) for epoch in (-1, 5, 6, 7)] == [
            ErrorCode.NONE,
            ErrorCode.FENCED_LEADER_EPOCH,
            ErrorCode.NONE,
            ErrorCode.UNKNOWN_LEADER_EPOCH,
        ]
        append(partition, acks=1)

    in_world(check)


@pytest.mark.parametrize("messages", [1, 3])
def test_what_waits_for_a_promised_flush_is_not_committed_yet(messages: int) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(settings={"flush.messages": str(messages)})
            partition = broker.partition()
            log = partition.log
            for expected in range(1, messages):
                append(partition)
                assert log.high_watermark == expected  # nothing is promised of these
            for _ in range(4):
                append(partition)
                assert log.high_watermark == messages - 1
            await broker.broker.log_directories.flush(log)
            assert log.high_watermark >= messages
            for _ in range(100):
                await asyncio.sleep(0.01)
                if log.high_watermark == log.log_end_offset:
                    break
            assert log.high_watermark == log.log_end_offset
            assert log.log_end_offset - log.recovery_point < messages

    run(main())
