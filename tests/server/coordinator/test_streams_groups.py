"""Streams groups: what a heartbeat answers, refuses and writes down (KIP-1071)."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import streams_group_heartbeat as messages
from ottla.protocol.messages.streams_group_heartbeat import StreamsGroupHeartbeatResponse
from ottla.server.coordinator.group_records import OFFSET_COMMIT, CommittedOffset, offset_commit
from ottla.server.coordinator.result import CoordinatorRecord, Result
from ottla.server.coordinator.settings import GroupSettings
from ottla.server.coordinator.streams import records as group_records
from ottla.server.coordinator.streams.member import MemberState
from ottla.server.coordinator.streams.tasks import TaskId
from ottla.server.coordinator.streams.topics import StatusCode
from tests.server.coordinator.streams_driver import (
    GROUP,
    Client,
    StreamsDriver,
    durable,
    join_request,
    settle,
    table,
    word_count,
)


def tasks(*names: str) -> frozenset[TaskId]:
    return frozenset(TaskId(name[0], int(name[1:])) for name in names)


def codes(response: StreamsGroupHeartbeatResponse) -> list[StatusCode]:
    return [StatusCode(each.status_code) for each in response.status or ()]


def ready(partitions: int = 2, **config: str) -> StreamsDriver:
    """All topics of the topologies of `streams_driver` are there."""
    driver = StreamsDriver(**config)
    for name in ("text", "repartition", "changelog"):
        driver.put_topic(name, partitions)
    return driver


# -- joining


def test_first_member_gets_everything() -> None:
    driver = ready()
    response = driver.join("a", word_count())
    assert response.error_code == ErrorCode.NONE
    assert (response.member_id, response.member_epoch, codes(response)) == ("a", 2, [])
    assert [(each.subtopology_id, each.partitions) for each in response.active_tasks or ()] == [
        ("0", [0, 1]),
        ("1", [0, 1]),
    ]
    assert (response.standby_tasks, response.warmup_tasks) == ([], [])
    assert (response.heartbeat_interval_ms, response.task_offset_interval_ms) == (5_000, 60_000)
    assert response.acceptable_recovery_lag == 10_000
    assert driver.group.state_name == "Stable"


def test_nothing_is_told_twice() -> None:
    driver = ready()
    driver.join("a", word_count())
    written = len(driver.log)
    response = driver.beat("a", 2)
    assert (response.error_code, response.active_tasks, response.member_epoch) == (ErrorCode.NONE, None, 2)
    assert len(driver.log) == written


def test_records_are_those_that_kafka_writes() -> None:
    driver = ready(1)
    records: list[CoordinatorRecord] = []
    driver.on_records = records.extend
    driver.join("a", table(), rack_id="r", user_endpoint=messages.Endpoint(host="h", port=9))
    assert [record.key_type for record in records] == [19, 23, 17, 21, 20, 22]
    by_type: dict[int, Any] = {record.key_type: record.value for record in records}
    member, group, target, current = (by_type[key_type] for key_type in (19, 17, 21, 22))
    assert (member.process_id, member.rack_id, member.rebalance_timeout_ms, member.topology_epoch) == (
        "p-a",
        "r",
        60_000,
        0,
    )
    assert (member.client_id, member.client_host, member.user_endpoint.port) == ("client", "/127.0.0.1", 9)
    assert (group.epoch, group.validated_topology_epoch) == (2, 0)
    assert [(each.key, each.value) for each in group.last_assignment_configs] == [("num.standby.replicas", "0")]
    assert [(each.subtopology_id, each.partitions) for each in target.active_tasks] == [("0", [0])]
    assert by_type[20].assignment_epoch == 2
    assert (current.member_epoch, current.previous_member_epoch, current.state) == (2, 0, MemberState.STABLE)
    assert [(each.partitions, each.assignment_epochs) for each in current.active_tasks] == [([0], [2])]


def test_first_assignment_waits_for_more_members() -> None:
    driver = ready(streams_initial_rebalance_delay_ms="3000")
    first, second = Client(driver, "a", table()), Client(driver, "b", table())
    assert codes(first.beat()) == [StatusCode.ASSIGNMENT_DELAYED]
    assert (first.epoch, first.active) == (1, frozenset())
    driver.advance(2_000)
    assert codes(second.beat()) == [StatusCode.ASSIGNMENT_DELAYED]
    driver.advance(1_000)
    assert driver.group.state_name == "Reconciling"
    first.beat()
    second.beat()
    assert (first.active, second.active) == (tasks("00"), tasks("01"))


def test_assignments_keep_a_distance() -> None:
    driver = ready(streams_assignment_interval_ms="1000")
    first, second = Client(driver, "a", table()), Client(driver, "b", table())
    first.beat()
    assert codes(second.beat()) == [StatusCode.ASSIGNMENT_DELAYED]
    assert driver.group.state_name == "Assigning"
    driver.advance(1_000)
    settle(first, second)
    assert (first.active, second.active) == (tasks("00"), tasks("01"))


def test_group_has_a_limit() -> None:
    driver = StreamsDriver(GroupSettings(streams_max_size=1))
    driver.put_topic("text", 1)
    driver.join("a", table())
    assert driver.join("b", table()).error_code == ErrorCode.GROUP_MAX_SIZE_REACHED
    assert driver.join("a", table()).error_code == ErrorCode.NONE


# -- topics


def test_missing_topics_are_told_and_named_to_the_service() -> None:
    driver = StreamsDriver()
    response = driver.join("a", word_count())
    assert codes(response) == [StatusCode.MISSING_SOURCE_TOPICS]
    assert driver.missing_topics == ()
    assert driver.group.state_name == "NotReady"
    driver.put_topic("text", 3)
    response = driver.beat("a", response.member_epoch)
    assert codes(response) == [StatusCode.MISSING_INTERNAL_TOPICS]
    assert [(topic.name, topic.partitions) for topic in driver.missing_topics] == [("changelog", 3), ("repartition", 3)]
    driver.create_missing_topics()
    response = driver.beat("a", response.member_epoch)
    assert codes(response) == []
    assert [each.partitions for each in response.active_tasks or ()] == [[0, 1, 2], [0, 1, 2]]


def test_deleted_source_topic_stops_everything_until_it_is_back() -> None:
    driver = ready()
    client = Client(driver, "a", word_count())
    settle(client)
    driver.delete_topic("text")
    settle(client)
    assert [code for code, _ in client.status] == [StatusCode.MISSING_SOURCE_TOPICS]
    assert (client.active, driver.group.state_name) == (frozenset(), "NotReady")
    driver.put_topic("text", 2)
    settle(client)
    assert (len(client.active), driver.group.state_name) == (4, "Stable")


def test_more_partitions_make_more_tasks() -> None:
    driver = StreamsDriver()
    driver.put_topic("text", 1)
    stateless = messages.Topology(
        epoch=0, subtopologies=[messages.Subtopology(subtopology_id="0", source_topics=["text"])]
    )
    client = Client(driver, "a", stateless)
    settle(client)
    assert client.active == tasks("00")
    driver.put_topic("text", 3)
    settle(client)
    assert client.active == tasks("00", "01", "02")


def test_topics_that_do_not_concern_the_group_change_nothing() -> None:
    driver = ready()
    client = Client(driver, "a", word_count())
    settle(client)
    epoch = driver.group.group_epoch
    driver.put_topic("other", 1)
    settle(client)
    assert driver.group.group_epoch == epoch


# -- topology


def test_older_topology_is_told_to_be_stale() -> None:
    driver = ready()
    driver.join("a", table(epoch=5))
    response = driver.join("b", table(epoch=4))
    assert StatusCode.STALE_TOPOLOGY in codes(response)
    assert driver.group.topology_epoch == 5


@pytest.mark.parametrize("epoch", [5, 6])
def test_other_topologies_are_refused(epoch: int) -> None:
    driver = ready()
    driver.join("a", table(epoch=5))
    response = driver.join("b", word_count(epoch=epoch))
    assert response.error_code == ErrorCode.INVALID_REQUEST
    assert response.error_message == "Topology updates are not supported yet."


def test_group_that_was_deleted_may_have_another_topology() -> None:
    driver = ready()
    driver.join("a", table(epoch=5))
    driver.leave("a")
    code, _ = driver.apply(driver.shard.delete_group(GROUP))
    assert code == ErrorCode.NONE
    assert driver.join("a", word_count(epoch=1)).error_code == ErrorCode.NONE


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"member_id": " "}, ErrorCode.INVALID_REQUEST, "MemberId can't be empty."),
        ({"group_id": ""}, ErrorCode.INVALID_REQUEST, "GroupId can't be empty."),
        ({"instance_id": ""}, ErrorCode.INVALID_REQUEST, "InstanceId can't be empty."),
        ({"rack_id": ""}, ErrorCode.INVALID_REQUEST, "RackId can't be empty."),
        (
            {"rebalance_timeout_ms": -1},
            ErrorCode.INVALID_REQUEST,
            "RebalanceTimeoutMs must be provided in first request.",
        ),
        ({"active_tasks": None}, ErrorCode.INVALID_REQUEST, "ActiveTasks must be empty when (re-)joining."),
        (
            {"standby_tasks": [messages.TaskIds(subtopology_id="0", partitions=[0])]},
            ErrorCode.INVALID_REQUEST,
            "StandbyTasks must be empty when (re-)joining.",
        ),
        ({"warmup_tasks": None}, ErrorCode.INVALID_REQUEST, "WarmupTasks must be empty when (re-)joining."),
        ({"topology": None}, ErrorCode.INVALID_REQUEST, "Topology must be non-null when (re-)joining."),
        (
            {"member_epoch": -3},
            ErrorCode.INVALID_REQUEST,
            "MemberEpoch is -3, but must be greater than or equal to -2.",
        ),
        ({"member_epoch": -2, "topology": None}, ErrorCode.INVALID_REQUEST, "InstanceId can't be null."),
        (
            {"member_epoch": 1, "topology": None, "active_tasks": None},
            ErrorCode.INVALID_REQUEST,
            "If one task-type is non-null, all must be non-null.",
        ),
        ({"member_epoch": 1}, ErrorCode.INVALID_REQUEST, "Topology can only be provided when (re-)joining."),
    ],
)
def test_malformed_requests(fields: dict[str, Any], code: ErrorCode, message: str) -> None:
    request = join_request("a", table())
    for name, value in fields.items():
        setattr(request, name, value)
    response = ready().heartbeat(request)
    assert (response.error_code, response.error_message) == (code, message)


def test_changelog_topics_have_no_partition_count_of_their_own() -> None:
    topology = table()
    topology.subtopologies[0].state_changelog_topics[0].partitions = 3
    response = ready().join("a", topology)
    assert response.error_code == ErrorCode.STREAMS_INVALID_TOPOLOGY


def test_patterns_of_topics_are_refused() -> None:
    topology = table()
    topology.subtopologies[0].source_topic_regex = ["te.*"]
    response = ready().join("a", topology)
    assert (response.error_code, response.error_message) == (
        ErrorCode.INVALID_REQUEST,
        "Regular expressions for source topics are not supported yet.",
    )


def test_topology_that_no_topics_could_satisfy_makes_no_group() -> None:
    driver = ready()
    topology = messages.Topology(epoch=0, subtopologies=[messages.Subtopology(subtopology_id="0")])
    assert driver.join("a", topology).error_code == ErrorCode.STREAMS_INVALID_TOPOLOGY
    assert driver.shard.groups == {}


@pytest.mark.parametrize(("subtopology_id", "partition"), [("7", 0), ("0", 2), ("0", -1)])
def test_tasks_must_be_of_the_topology(subtopology_id: str, partition: int) -> None:
    driver = ready()
    driver.join("a", table())
    owned = [messages.TaskIds(subtopology_id=subtopology_id, partitions=[partition])]
    response = driver.beat("a", 2, active_tasks=owned, standby_tasks=[], warmup_tasks=[])
    assert response.error_code == ErrorCode.INVALID_REQUEST


# -- members


def test_strangers_are_refused() -> None:
    driver = ready()
    assert driver.beat("a", 1).error_code == ErrorCode.GROUP_ID_NOT_FOUND
    assert driver.leave("a").error_code == ErrorCode.GROUP_ID_NOT_FOUND
    driver.join("a", table())
    assert driver.beat("b", 1).error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert driver.leave("b").error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_epochs_fence() -> None:
    driver = ready()
    client = Client(driver, "a", table())
    settle(client)
    assert driver.beat("a", client.epoch + 1).error_code == ErrorCode.FENCED_MEMBER_EPOCH
    assert driver.beat("a", client.epoch - 1).error_code == ErrorCode.FENCED_MEMBER_EPOCH


def test_lost_answer_is_told_again() -> None:
    driver = ready()
    first, second = Client(driver, "a", table()), Client(driver, "b", table())
    settle(first, second)
    before = first.epoch
    driver.leave("b")
    first.beat(loses_answer=True)
    assert first.epoch == before
    first.beat()
    assert (first.error, first.epoch, first.active) == (ErrorCode.NONE, before + 1, tasks("00", "01"))


def test_lost_request_to_give_up_is_told_again() -> None:
    driver = ready()
    first, second = Client(driver, "a", table()), Client(driver, "b", table())
    first.beat()
    second.beat()
    first.beat(loses_answer=True)
    assert first.active == tasks("00", "01")
    first.beat()
    assert first.active == tasks("00")
    settle(first, second)
    assert (first.active, second.active) == (tasks("00"), tasks("01"))


def test_tasks_move_one_after_the_other() -> None:
    driver = ready()
    first, second = Client(driver, "a", table()), Client(driver, "b", table())
    first.beat()
    assert first.active == tasks("00", "01")
    second.beat()
    assert (second.active, second.epoch) == (frozenset(), 3)
    assert first.epoch == 2
    response = first.beat()
    # Told to give up, it stays in its epoch until it says that it did.
    assert (first.active, first.epoch, response.member_epoch) == (tasks("00"), 2, 2)
    second.beat()
    assert second.active == frozenset()
    first.beat()
    assert first.epoch == 3
    second.beat()
    assert second.active == tasks("01")
    assert driver.group.state_name == "Stable"


def test_member_that_keeps_what_it_must_give_up_is_removed() -> None:
    driver = ready(streams_session_timeout_ms="600000")
    first, second = Client(driver, "a", table(), rebalance_timeout_ms=10_000), Client(driver, "b", table())
    first.beat()
    second.beat()
    driver.beat("a", first.epoch)
    driver.advance(9_999)
    assert "a" in driver.group.members
    driver.advance(1)
    assert "a" not in driver.group.members
    settle(second)
    assert second.active == tasks("00", "01")


def test_silent_member_is_removed_and_its_tasks_move() -> None:
    driver = ready(streams_session_timeout_ms="45000")
    first, second = Client(driver, "a", table()), Client(driver, "b", table())
    settle(first, second)
    for _ in range(3):
        driver.advance(15_000)
        second.beat()
    assert list(driver.group.members) == ["b"]
    second.beat()
    assert second.active == tasks("00", "01")


def test_member_is_looked_at_again_when_its_removal_cannot_be_written() -> None:
    driver = ready(streams_session_timeout_ms="45000")
    driver.join("a", table())
    driver.refuse_next = ErrorCode.NOT_ENOUGH_REPLICAS
    driver.advance(45_000)
    assert "a" in driver.group.members
    driver.advance(1_000)
    assert driver.group.members == {}


def test_leaving_frees_tasks_at_once() -> None:
    driver = ready()
    first, second = Client(driver, "a", table()), Client(driver, "b", table())
    settle(first, second)
    response = driver.leave("a")
    assert (response.member_id, response.member_epoch, response.status) == ("a", -1, [])
    second.beat()
    assert second.active == tasks("00", "01")
    driver.leave("b")
    assert driver.group.state_name == "Empty"


def test_member_that_joins_again_gets_its_tasks() -> None:
    driver = ready()
    client = Client(driver, "a", table())
    settle(client)
    response = driver.join("a", table())
    assert [each.partitions for each in response.active_tasks or ()] == [[0, 1]]
    assert response.member_epoch == client.epoch


# -- static members


def test_static_member_comes_back_to_its_tasks_without_a_rebalance() -> None:
    driver = ready()
    first = Client(driver, "a1", table(), instance_id="a", process_id="pa")
    second = Client(driver, "b1", table(), instance_id="b", process_id="pb")
    settle(first, second)
    epoch, kept = driver.group.group_epoch, first.active
    response = driver.beat("a1", -2, instance_id="a")
    assert (response.member_epoch, response.error_code) == (-2, ErrorCode.NONE)
    settle(second)
    again = Client(driver, "a2", table(), instance_id="a", process_id="pa")
    again.beat()
    assert (again.active, again.epoch, driver.group.group_epoch) == (kept, epoch, epoch)
    assert sorted(driver.group.members) == ["a2", "b1"]
    assert driver.beat("a1", epoch, instance_id="a").error_code == ErrorCode.FENCED_INSTANCE_ID
    assert driver.beat("a1", epoch).error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_static_member_that_comes_back_under_its_id_is_still_watched() -> None:
    driver = StreamsDriver()
    driver.put_topic("table", 2)
    client = Client(driver, "a1", table(), instance_id="a")
    client.beat()
    driver.beat("a1", -2, instance_id="a")
    assert driver.join("a1", table(), instance_id="a").error_code == ErrorCode.NONE
    driver.advance(45_000)
    assert not driver.group.members


def test_instance_id_of_a_live_member_is_taken() -> None:
    driver = ready()
    driver.join("a1", table(), instance_id="a")
    assert driver.join("a2", table(), instance_id="a").error_code == ErrorCode.UNRELEASED_INSTANCE_ID
    assert driver.beat("x", -1, instance_id="unknown").error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert driver.beat("a1", -1, instance_id="a").error_code == ErrorCode.NONE
    assert driver.join("a2", table(), instance_id="a").error_code == ErrorCode.NONE


def test_static_member_that_stays_away_is_removed() -> None:
    driver = ready(streams_session_timeout_ms="45000")
    driver.join("a1", table(), instance_id="a")
    driver.beat("a1", -2, instance_id="a")
    driver.advance(45_000)
    assert driver.group.members == {}


# -- standby tasks, settings


def test_standby_tasks_follow_the_setting() -> None:
    driver = ready()
    first, second = Client(driver, "a", table()), Client(driver, "b", table())
    settle(first, second)
    assert (first.standby, second.standby) == (frozenset(), frozenset())
    driver.set_config(streams_num_standby_replicas="1")
    settle(first, second)
    assert (first.standby, second.standby) == (second.active, first.active)
    driver.set_config(streams_num_standby_replicas="0")
    settle(first, second)
    assert (first.standby, second.standby) == (frozenset(), frozenset())


def test_copy_takes_over() -> None:
    driver = ready(3, streams_num_standby_replicas="1")
    clients = [Client(driver, name, table()) for name in "abc"]
    settle(*clients)
    gone, *others = clients
    heir = next(client for client in others if client.standby & gone.active)
    driver.leave(gone.member_id)
    settle(*others)
    assert gone.active <= heir.active


def test_missing_client_tags_are_told_from_version_1_on() -> None:
    driver = ready(streams_rack_aware_assignment_tags="zone,cluster")
    request = join_request("a", table(), client_tags=[messages.KeyValue(key="zone", value="1")])
    response = driver.heartbeat(request)
    assert codes(response) == [StatusCode.MISSING_CLIENT_TAGS]
    assert response.status is not None
    assert "[cluster]" in response.status[0].status_detail
    assert codes(driver.heartbeat(request, version=0)) == []
    assert driver.group.assignment_configs["rack.aware.assignment.tags"] == "zone,cluster"


# -- endpoints, shutdown


def test_endpoints_are_told_when_they_changed() -> None:
    driver = ready()
    first = Client(driver, "a", word_count(), user_endpoint=messages.Endpoint(host="h", port=1))
    second = Client(driver, "b", word_count(), user_endpoint=messages.Endpoint(host="h", port=2))
    settle(first, second)
    response = first.beat(endpoint_information_epoch=-1)
    told = {each.user_endpoint.port: each for each in response.partitions_by_user_endpoint or ()}
    assert {
        port: [(each.topic, each.partitions) for each in entry.active_partitions] for port, entry in told.items()
    } == {
        1: [("text", [0]), ("repartition", [0])],
        2: [("text", [1]), ("repartition", [1])],
    }
    again = first.beat(endpoint_information_epoch=response.endpoint_information_epoch)
    assert again.partitions_by_user_endpoint is None
    driver.leave("b")
    changed = first.beat(endpoint_information_epoch=response.endpoint_information_epoch)
    assert [each.user_endpoint.port for each in changed.partitions_by_user_endpoint or ()] == [1]


def test_shutdown_is_told_to_everybody_until_all_are_gone() -> None:
    driver = ready()
    first, second = Client(driver, "a", table()), Client(driver, "b", table())
    settle(first, second)
    assert codes(first.beat(shutdown_application=True)) == [StatusCode.SHUTDOWN_APPLICATION]
    assert codes(second.beat()) == [StatusCode.SHUTDOWN_APPLICATION]
    driver.leave("a")
    driver.leave("b")
    assert codes(driver.join("c", table())) == []


# -- restart, deletion, other kinds of groups


def test_restart_brings_everything_back() -> None:
    driver = ready(streams_num_standby_replicas="1", streams_session_timeout_ms="45000")
    first, second = Client(driver, "a", word_count()), Client(driver, "b", word_count(), instance_id="i")
    settle(first, second)
    before = durable(driver.group)
    driver.restart()
    assert durable(driver.group) == before
    settle(first, second)
    assert (first.error, second.error, durable(driver.group)) == (ErrorCode.NONE, ErrorCode.NONE, before)
    driver.restart()
    driver.advance(45_000)
    assert driver.group.members == {}


def test_only_empty_groups_are_deleted() -> None:
    driver = ready()
    driver.join("a", table())
    assert driver.apply(driver.shard.delete_group(GROUP))[0] == ErrorCode.NON_EMPTY_GROUP
    driver.leave("a")
    assert driver.apply(driver.shard.delete_group(GROUP))[0] == ErrorCode.NONE
    assert driver.shard.groups == {}
    driver.restart()
    assert driver.shard.groups == {}


def test_empty_classic_group_becomes_a_streams_group() -> None:
    driver = ready()
    commit(driver, "text", 0)
    assert driver.shard.groups[GROUP].protocol_type is None
    assert driver.join("a", table()).error_code == ErrorCode.NONE
    assert driver.group.state_name == "Stable"
    driver.restart()
    assert driver.group.state_name == "Stable"
    assert driver.shard.offsets.committed[GROUP]["text"][0].offset == 7


def test_classic_group_with_members_stays_one() -> None:
    driver = ready()
    driver.join_classic()
    assert driver.join("a", table()).error_code == ErrorCode.GROUP_ID_NOT_FOUND


def commit(driver: StreamsDriver, topic: str, partition: int) -> None:
    committed = CommittedOffset(7, -1, "", driver.now().wall_ms, None, bytes(16))
    driver.apply(Result(None, [offset_commit(GROUP, topic, partition, committed)]))


# -- offsets


def check(driver: StreamsDriver, member_id: str, epoch: int, *, version: int = 9, transactional: bool = False) -> Any:
    return driver.group.check_commit(member_id, None, epoch, version, transactional=transactional)


def refusal(driver: StreamsDriver, member_id: str, epoch: int, **options: Any) -> ErrorCode:
    with pytest.raises(ApiError) as error:
        check(driver, member_id, epoch, **options)
    return error.value.code


def test_members_commit_in_their_epoch() -> None:
    driver = ready()
    client = Client(driver, "a", table())
    settle(client)
    assert check(driver, "a", client.epoch) is None
    assert refusal(driver, "a", client.epoch + 1) is ErrorCode.STALE_MEMBER_EPOCH
    assert refusal(driver, "b", client.epoch) is ErrorCode.UNKNOWN_MEMBER_ID
    assert refusal(driver, "", -1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert refusal(driver, "a", client.epoch, version=8) is ErrorCode.UNSUPPORTED_VERSION
    assert check(driver, "", -1, transactional=True) is None
    driver.leave("a")
    assert check(driver, "", -1) is None


def test_members_that_did_not_hear_of_their_epoch_commit_what_they_had() -> None:
    driver = ready()
    first, second = Client(driver, "a", table()), Client(driver, "b", table())
    settle(first, second)
    driver.leave("b")
    first.beat(loses_answer=True)
    may_commit = check(driver, "a", first.epoch)
    may_commit("text", bytes(16), 0)
    for topic, partition in (("text", 1), ("unknown", 0)):
        with pytest.raises(ApiError) as error:
            may_commit(topic, bytes(16), partition)
        assert error.value.code is ErrorCode.STALE_MEMBER_EPOCH


def test_offsets_are_fetched_in_an_epoch_or_by_administrators() -> None:
    driver = ready()
    client = Client(driver, "a", table())
    settle(client)
    driver.group.check_fetch(None, -1)
    driver.group.check_fetch("a", client.epoch)
    for member_id, epoch, code in (
        ("a", client.epoch - 1, ErrorCode.STALE_MEMBER_EPOCH),
        ("b", client.epoch, ErrorCode.UNKNOWN_MEMBER_ID),
    ):
        with pytest.raises(ApiError) as error:
            driver.group.check_fetch(member_id, epoch)
        assert error.value.code is code


def test_offsets_expire_once_nobody_reads_the_topic() -> None:
    driver = StreamsDriver(GroupSettings(offsets_retention_ms=100_000), streams_session_timeout_ms="3600000")
    for name in ("text", "changelog"):
        driver.put_topic(name, 1)
    driver.join("a", table())
    commit(driver, "text", 0)
    commit(driver, "forgotten", 0)
    driver.advance(700_000)
    assert driver.shard.offsets.committed[GROUP].keys() == {"text"}
    driver.leave("a")
    driver.advance(700_000)
    assert driver.shard.groups == {}


def test_offsets_met_before_the_group_do_not_make_it_another_kind() -> None:
    driver = ready()
    driver.join("a", table())
    commit(driver, "text", 0)
    driver.log.sort(key=lambda record: record[0][:2] != OFFSET_COMMIT.to_bytes(2, "big"))
    driver.restart()
    assert driver.group.state_name == "Stable"


# -- describing


def test_description() -> None:
    driver = ready(streams_num_standby_replicas="1")
    first, second = Client(driver, "a", word_count(), rack_id="r"), Client(driver, "b", word_count())
    settle(first, second)
    described = driver.machine.describe(GROUP, with_topology_description=False)
    assert (described.group_state, described.group_epoch, described.assignment_epoch) == (
        "Stable",
        first.epoch,
        first.epoch,
    )
    assert described.topology is not None
    assert [
        (
            each.subtopology_id,
            each.source_topics,
            [(topic.name, topic.partitions) for topic in each.state_changelog_topics],
        )
        for each in described.topology.subtopologies or ()
    ] == [("0", ["text"], []), ("1", [], [("changelog", 2)])]
    assert [(member.member_id, member.rack_id, member.member_epoch) for member in described.members] == [
        ("a", "r", first.epoch),
        ("b", None, second.epoch),
    ]
    assert described.members[0].assignment == described.members[0].target_assignment
    assert described.assignor_name == "sticky"
    with pytest.raises(ApiError) as error:
        driver.machine.describe("unknown", with_topology_description=False)
    assert error.value.code is ErrorCode.GROUP_ID_NOT_FOUND


def test_member_record_of_an_unknown_state_fences_the_member() -> None:
    driver = ready()
    client = Client(driver, "a", table())
    settle(client)
    record = group_records.current_assignment(GROUP, driver.group.members["a"])
    record.value.state = 99
    driver.apply(Result(None, [record]))
    client.beat()
    assert (client.error, client.epoch) == (ErrorCode.FENCED_MEMBER_EPOCH, 0)
    client.beat()
    assert client.active == tasks("00", "01")


def test_classic_members_may_join_once_the_group_is_empty() -> None:
    driver = ready()
    driver.join("a", table())
    pending = driver.join_classic()
    assert pending.response is not None
    assert pending.response.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    driver.leave("a")
    pending = driver.join_classic()
    assert pending.response is None or pending.response.error_code == ErrorCode.NONE
    assert driver.shard.groups[GROUP].protocol_type == "consumer"
    driver.restart()
    assert GROUP not in driver.shard.groups or driver.shard.groups[GROUP].group_type.value == "classic"
