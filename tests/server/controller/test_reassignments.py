"""Elections on request, reassignments, brokers that are unregistered."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import metadata_records as records
from ottla.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from ottla.protocol.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from ottla.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopics,
)
from ottla.server.controller.reassignments import list_reassignments
from ottla.server.controller.result import Result
from ottla.server.metadata.image import PartitionImage
from tests.server.controller.worlds import World, registration, topic

E = ErrorCode
PREFERRED, UNCLEAN = 0, 1


class Cluster(World):
    """Brokers 1, 2 and 3; the topic t has one partition with the replicas and the state given."""

    def __init__(self, replicas: list[int], *, fenced: tuple[int, ...] = (), **state: Any) -> None:
        super().__init__(*(registration(number) for number in (1, 2, 3)))
        self.create(topic("t", assignments={0: replicas}))
        image = self.core.image
        self.topic_id = image.topics.by_name["t"].topic_id
        if state:
            self.do(Result([records.PartitionChangeRecord(partition_id=0, topic_id=self.topic_id, **state)], None))
        epochs = {number: broker.broker_epoch for number, broker in image.brokers.items()}
        self.do(Result([records.FenceBrokerRecord(id=number, epoch=epochs[number]) for number in fenced], None))

    @property
    def partition(self) -> PartitionImage:
        found = self.core.image.topics.partition("t", 0)
        assert found is not None
        return found

    def elect(self, election_type: int, name: str = "t", index: int = 0) -> ErrorCode:
        asked = [TopicPartitions(topic=name, partitions=[index])]
        request = ElectLeadersRequest(election_type=election_type, topic_partitions=asked)
        response = self.do(self.core.elect_leaders(request))
        (result,) = response.replica_election_results[0].partition_result
        return E(result.error_code)

    def reassign(self, target: list[int] | None, name: str = "t", **fields: Any) -> ErrorCode:
        asked = ReassignableTopic(name=name, partitions=[ReassignablePartition(partition_index=0, replicas=target)])
        request = AlterPartitionReassignmentsRequest(topics=[asked], **fields)
        response = self.do(self.core.alter_partition_reassignments(request))
        return E(response.responses[0].partitions[0].error_code)

    def moving(self, *names: str) -> list[tuple[str, list[int], list[int], list[int]]]:
        topics = [ListPartitionReassignmentsTopics(name=name, partition_indexes=[0, 9]) for name in names] or None
        response = list_reassignments(self.core.image, ListPartitionReassignmentsRequest(topics=topics))
        return [
            (one.name, part.replicas, part.adding_replicas, part.removing_replicas)
            for one in response.topics
            for part in one.partitions
        ]


@pytest.mark.parametrize(
    ("election_type", "state", "fenced", "code", "leader"),
    [
        (PREFERRED, {}, (), E.ELECTION_NOT_NEEDED, 1),
        (UNCLEAN, {}, (), E.ELECTION_NOT_NEEDED, 1),
        (PREFERRED, {"leader": 2}, (), E.NONE, 1),
        (PREFERRED, {"leader": 2}, (1,), E.PREFERRED_LEADER_NOT_AVAILABLE, 2),
        (PREFERRED, {"leader": 2, "isr": [2]}, (), E.PREFERRED_LEADER_NOT_AVAILABLE, 2),
        (PREFERRED, {"leader": -1, "isr": [2]}, (), E.NONE, 2),
        (UNCLEAN, {"leader": -1, "isr": [3]}, (3,), E.NONE, 1),
        (PREFERRED, {"leader": -1, "isr": [3]}, (3,), E.PREFERRED_LEADER_NOT_AVAILABLE, -1),
        (UNCLEAN, {"leader": -1, "isr": [3]}, (1, 2, 3), E.ELIGIBLE_LEADERS_NOT_AVAILABLE, -1),
    ],
)
def test_elections(
    election_type: int, state: dict[str, Any], fenced: tuple[int, ...], code: ErrorCode, leader: int
) -> None:
    cluster = Cluster([1, 2, 3], fenced=fenced, **state)
    epoch = cluster.partition.leader_epoch
    assert cluster.elect(election_type) == code
    assert cluster.partition.leader == leader
    assert (cluster.partition.leader_epoch > epoch) == (code == E.NONE)


def test_elections_for_all_tell_only_of_those_that_were_needed() -> None:
    cluster = Cluster([1, 2], leader=2)
    cluster.create(topic("u"))
    response = cluster.do(cluster.core.elect_leaders(ElectLeadersRequest(election_type=0, topic_partitions=None)))
    found = {one.topic: [part.error_code for part in one.partition_result] for one in response.replica_election_results}
    assert found == {"t": [0], "u": []}


def test_elections_that_cannot_be() -> None:
    cluster = Cluster([1])
    assert cluster.elect(PREFERRED, "nope") == E.UNKNOWN_TOPIC_OR_PARTITION
    assert cluster.elect(PREFERRED, "t", 7) == E.UNKNOWN_TOPIC_OR_PARTITION
    with pytest.raises(ApiError, match="Unknown election type 2"):
        cluster.elect(2)
    nothing = cluster.core.elect_leaders(ElectLeadersRequest(election_type=2, topic_partitions=[]))
    assert nothing.response.error_code == 0, "as Kafka has it"


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ([], E.INVALID_REPLICA_ASSIGNMENT),
        ([9], E.INVALID_REPLICA_ASSIGNMENT),
        ([1, 1], E.INVALID_REPLICA_ASSIGNMENT),
        (None, E.NO_REASSIGNMENT_IN_PROGRESS),
        ([1, 2], E.NONE),
    ],
)
def test_reassignments_that_change_nothing(target: list[int] | None, code: ErrorCode) -> None:
    cluster = Cluster([1, 2])
    before = cluster.partition
    assert cluster.reassign(target) == code
    assert cluster.partition == before
    assert cluster.reassign([1], "nope") == E.UNKNOWN_TOPIC_OR_PARTITION


def test_another_order_and_fewer_replicas_are_there_at_once() -> None:
    cluster = Cluster([1, 2, 3])
    assert cluster.reassign([2, 1, 3]) == E.NONE
    assert (cluster.partition.replicas, cluster.partition.leader) == ((2, 1, 3), 1)
    assert cluster.reassign([3, 2]) == E.NONE
    partition = cluster.partition
    assert (partition.replicas, set(partition.isr), partition.leader) == ((3, 2), {2, 3}, 3)
    assert len(partition.directories) == 2
    assert cluster.moving() == []


def test_new_replicas_are_waited_for_and_can_be_given_up() -> None:
    cluster = Cluster([1, 2])
    assert cluster.reassign([3, 1]) == E.NONE
    partition = cluster.partition
    assert (partition.replicas, partition.adding_replicas, partition.removing_replicas) == ((3, 1, 2), (3,), (2,))
    assert (partition.leader, len(partition.directories)) == (1, 3)
    assert cluster.moving() == cluster.moving("t", "nope") == [("t", [3, 1, 2], [3], [2])]
    assert cluster.reassign([3, 1]) == E.NONE, "asked again while it is under way"
    assert cluster.partition == partition
    assert cluster.reassign(None) == E.NONE
    assert (cluster.partition.replicas, cluster.partition.adding_replicas) == ((1, 2), ())
    assert cluster.moving() == []


def test_a_replica_in_sync_on_a_dead_broker_does_not_complete_anything() -> None:
    cluster = Cluster([1, 2], fenced=(2,))
    assert cluster.reassign([2]) == E.NONE
    assert cluster.moving() == [("t", [2, 1], [], [1])], "the only living replica stays until another one has it all"
    assert cluster.reassign([1]) == E.NONE
    assert (cluster.partition.replicas, cluster.partition.isr) == ((1,), (1,))


def test_the_replication_factor_can_be_insisted_on() -> None:
    cluster = Cluster([1, 2])
    assert cluster.reassign([1], allow_replication_factor_change=False) == E.INVALID_REPLICATION_FACTOR
    assert cluster.reassign([1, 3], allow_replication_factor_change=False) == E.NONE
    assert cluster.reassign([1, 2], allow_replication_factor_change=False) == E.NONE


def test_a_broker_that_is_unregistered_leaves_the_isrs() -> None:
    cluster = Cluster([2, 1], fenced=(2,))
    cluster.do(cluster.core.unregister_broker(2))
    assert 2 not in cluster.core.image.brokers
    partition = cluster.partition
    assert (partition.leader, partition.isr, partition.replicas) == (1, (1,), (2, 1))
    with pytest.raises(ApiError) as unknown:
        cluster.core.unregister_broker(2)
    assert unknown.value.code == E.BROKER_ID_NOT_REGISTERED
    with pytest.raises(ApiError) as running:
        cluster.core.unregister_broker(1)
    assert running.value.code == E.INVALID_REQUEST
