"""Share groups: joining, epochs, initialization before assignment, sessions, offsets for administrators, restarts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.alter_share_group_offsets import (
    AlterShareGroupOffsetsRequest,
    AlterShareGroupOffsetsRequestPartition,
    AlterShareGroupOffsetsRequestTopic,
)
from ottla.protocol.messages.delete_share_group_offsets import (
    DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsRequestTopic,
)
from ottla.protocol.messages.share_group_heartbeat import ShareGroupHeartbeatRequest
from ottla.server.coordinator.group import GroupType
from ottla.server.coordinator.settings import GroupSettings
from ottla.server.coordinator.share import offsets, records
from ottla.server.coordinator.share.service import check_heartbeat
from tests.server.coordinator.share_driver import ASSIGNMENT_INTERVAL_MS, SESSION_MS, ShareDriver


def refused(code: ErrorCode) -> Any:
    return pytest.raises(ApiError, check=lambda error: error.code is code)


def consuming(partitions: int = 2, members: int = 1) -> ShareDriver:
    """A group `g` whose members a, b, … have what they subscribe to, topic `t`."""
    driver = ShareDriver()
    driver.put_topic("t", partitions)
    for number in range(members):
        driver.heartbeat("abcdef"[number], topics=("t",))
    driver.initialize()
    settle(driver)
    return driver


def settle(driver: ShareDriver) -> None:
    """Everybody's heartbeats until nothing changes, with a share coordinator that answers."""
    for _ in range(4):
        for group in list(driver.shard.groups.values()):
            if group.group_type is GroupType.SHARE:
                for member_id, member in list(driver.group(group.group_id).members.items()):
                    driver.heartbeat(member_id, member.member_epoch, group=group.group_id)
                    driver.initialize()
        driver.advance(ASSIGNMENT_INTERVAL_MS)


# -- membership


def test_partitions_are_assigned_once_they_are_initialized() -> None:
    driver = ShareDriver()
    driver.put_topic("t", 2)
    joined = driver.heartbeat("a", topics=("t",))
    assert (joined.member_epoch, joined.heartbeat_interval_ms) == (2, 5_000)
    assert joined.assignment is not None
    assert joined.assignment.topic_partitions == []
    [initialization] = driver.initializations
    assert [list(offsets.values()) for offsets in initialization.start_offsets.values()] == [[-1, -1]]
    assert initialization.state_epoch == 2
    still = driver.heartbeat("a", joined.member_epoch)
    assert (still.member_epoch, still.assignment) == (2, None)
    assert len(driver.initializations) == 1, "one at a time"
    driver.initialize()
    assigned = driver.heartbeat("a", joined.member_epoch)
    assert assigned.member_epoch == 3
    assert assigned.assignment is not None
    assert [list(topic.partitions) for topic in assigned.assignment.topic_partitions] == [[0, 1]]
    assert driver.heartbeat("a", 3).assignment is None
    driver.restart()


def test_records_are_those_that_kafka_writes() -> None:
    driver = ShareDriver()
    driver.put_topic("t", 1)
    written: list[int] = []
    driver.on_records = lambda found: written.extend(record.key_type for record in found)
    driver.heartbeat("a", topics=("t",))
    assert written == [
        records.MEMBER,
        records.GROUP,
        records.TARGET_MEMBER,
        records.TARGET,
        records.CURRENT_MEMBER,
        records.STATE_TOPICS,
    ]
    written.clear()
    driver.initialize()
    assert written == [records.STATE_TOPICS]
    written.clear()
    driver.heartbeat("a", 2)
    assert written == [records.GROUP, records.TARGET_MEMBER, records.TARGET, records.CURRENT_MEMBER]
    written.clear()
    driver.heartbeat("a", -1)
    assert written == [records.CURRENT_MEMBER, records.TARGET_MEMBER, records.MEMBER, records.GROUP]


def test_more_members_than_partitions_share_them() -> None:
    driver = consuming(partitions=2, members=4)
    assigned = [driver.assigned(member_id) for member_id in "abcd"]
    assert sorted(str(partitions) for partitions in assigned) == ["{'t': [0]}"] * 2 + ["{'t': [1]}"] * 2


def test_assignments_keep_their_distance_in_time() -> None:
    driver = consuming()
    driver.heartbeat("b", topics=("t",))
    driver.heartbeat("c", topics=("t",))
    epoch = driver.group().assignment_epoch
    assert driver.group().group_epoch > epoch
    driver.advance(ASSIGNMENT_INTERVAL_MS)
    driver.heartbeat("a", driver.group().members["a"].member_epoch)
    assert driver.group().assignment_epoch == driver.group().group_epoch


def test_a_member_may_lose_one_answer_but_not_two() -> None:
    driver = consuming()
    epoch = driver.group().members["a"].member_epoch
    driver.put_topic("t", 3)
    settle(driver)
    later = driver.group().members["a"]
    assert later.member_epoch > epoch
    assert driver.code_of("a", later.previous_member_epoch) is ErrorCode.NONE
    assert driver.code_of("a", later.previous_member_epoch - 1) is ErrorCode.FENCED_MEMBER_EPOCH
    assert driver.code_of("a", later.member_epoch + 1) is ErrorCode.FENCED_MEMBER_EPOCH
    again = driver.heartbeat("a", topics=("t",))
    assert again.member_epoch == later.member_epoch, "it comes back to what it had"
    assert again.assignment is not None
    assert [list(topic.partitions) for topic in again.assignment.topic_partitions] == [[0, 1, 2]]


def test_strangers_are_refused() -> None:
    driver = consuming()
    assert driver.code_of("x", 5) is ErrorCode.UNKNOWN_MEMBER_ID
    assert driver.code_of("x", -1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert driver.code_of("a", 5, group="none") is ErrorCode.GROUP_ID_NOT_FOUND
    assert driver.code_of("a", -1, group="none") is ErrorCode.GROUP_ID_NOT_FOUND
    driver.join("", group="classic")
    assert driver.code_of("a", topics=("t",), group="classic") is ErrorCode.GROUP_ID_NOT_FOUND


def test_a_full_group_takes_nobody_more() -> None:
    driver = ShareDriver(settings=GroupSettings(share_max_size=1))
    driver.put_topic("t", 1)
    driver.heartbeat("a", topics=("t",))
    assert driver.code_of("b", topics=("t",)) is ErrorCode.GROUP_MAX_SIZE_REACHED
    assert driver.code_of("a", topics=("t",)) is ErrorCode.NONE


def test_who_is_silent_for_a_session_is_removed() -> None:
    driver = consuming(members=2)
    driver.advance(SESSION_MS - 10_000)
    driver.heartbeat("a", driver.group().members["a"].member_epoch)
    driver.advance(20_000)
    assert list(driver.group().members) == ["a"]
    settle(driver)
    assert driver.assigned("a") == {"t": [0, 1]}
    driver.advance(2 * SESSION_MS)
    assert driver.group().state_name == "Empty"


def test_a_removal_that_the_log_refused_is_tried_again() -> None:
    driver = consuming()
    driver.refuse_next = ErrorCode.NOT_ENOUGH_REPLICAS
    driver.advance(SESSION_MS - 500)
    assert list(driver.group().members) == ["a"]
    driver.advance(2_000)
    assert list(driver.group().members) == []


def test_sessions_begin_anew_after_a_restart() -> None:
    driver = consuming()
    driver.advance(SESSION_MS - 10_000)
    driver.restart()
    driver.advance(SESSION_MS - 10_000)
    assert list(driver.group().members) == ["a"]
    driver.advance(20_000)
    assert list(driver.group().members) == []


def test_describing_tells_members_and_epochs() -> None:
    driver = consuming()
    driver.heartbeat("a", driver.group().members["a"].member_epoch, rack="r1")
    described = driver.machine.describe("g")
    assert (described.group_state, described.assignor_name) == ("Stable", "simple")
    assert described.group_epoch == described.assignment_epoch == driver.group().group_epoch
    [member] = described.members
    assert (member.member_id, member.rack_id, member.client_host) == ("a", "r1", "/127.0.0.1")
    assert [(topic.topic_name, list(topic.partitions)) for topic in member.assignment.topic_partitions] == [
        ("t", [0, 1])
    ]
    with refused(ErrorCode.GROUP_ID_NOT_FOUND):
        driver.machine.describe("none")


@pytest.mark.parametrize(
    "values",
    [
        {"member_id": ""},
        {"member_id": "m" * 37},
        {"member_id": " "},
        {"group_id": " "},
        {"rack_id": ""},
        {"member_epoch": -2},
        {"member_epoch": 0, "subscribed_topic_names": []},
        {"member_epoch": 0, "subscribed_topic_names": None},
    ],
)
def test_what_no_client_says_is_refused(values: dict[str, Any]) -> None:
    request = ShareGroupHeartbeatRequest(
        **{"group_id": "g", "member_id": "m", "member_epoch": 0, "subscribed_topic_names": ["t"], **values}
    )
    with refused(ErrorCode.INVALID_REQUEST):
        check_heartbeat(request)


# -- topics and their share state


def test_topics_that_come_later_and_grow_are_consumed() -> None:
    driver = ShareDriver()
    driver.heartbeat("a", topics=("t",))
    assert driver.initializations == []
    driver.put_topic("t", 1)
    settle(driver)
    assert driver.assigned("a") == {"t": [0]}
    driver.put_topic("t", 3)
    driver.heartbeat("a", driver.group().members["a"].member_epoch)
    [initialization] = driver.initializations
    assert [list(starts) for starts in initialization.start_offsets.values()] == [[1, 2]]
    driver.initialize()
    settle(driver)
    assert driver.assigned("a") == {"t": [0, 1, 2]}


def test_a_deleted_topic_leaves_nothing() -> None:
    driver = consuming()
    driver.delete_topic("t")
    assert driver.group().state_topics.initialized == {}
    settle(driver)
    assert driver.assigned("a") == {}
    driver.restart()


def test_a_failed_initialization_is_tried_again_with_the_next_heartbeat() -> None:
    driver = ShareDriver()
    driver.put_topic("t", 1)
    driver.heartbeat("a", topics=("t",))
    written = len(driver.log)
    driver.initialize(succeeds=False)
    driver.heartbeat("a", 2)
    assert len(driver.initializations) == 1
    assert len(driver.log) == written, "it is written down already that this is under way"


def test_an_initialization_without_an_answer_is_tried_again_in_time_and_after_a_restart() -> None:
    driver = ShareDriver()
    driver.put_topic("t", 1)
    driver.heartbeat("a", topics=("t",))
    driver.advance(29_000)
    driver.heartbeat("a", 2)
    assert len(driver.initializations) == 1
    driver.advance(2_000)
    driver.heartbeat("a", 2)
    assert len(driver.initializations) == 2
    driver.restart()
    driver.heartbeat("a", 2)
    assert len(driver.initializations) == 1
    driver.initialize()
    settle(driver)
    assert driver.assigned("a") == {"t": [0]}


def test_a_topic_that_is_deleted_while_it_is_initialized_stays_away() -> None:
    driver = ShareDriver()
    driver.put_topic("t", 1)
    driver.heartbeat("a", topics=("t",))
    driver.delete_topic("t")
    driver.initialize()
    assert driver.group().state_topics.initialized == {}


# -- administration


def alter(driver: ShareDriver, *moves: tuple[str, int, int], group: str = "g") -> offsets.Alteration:
    topics: dict[str, list[AlterShareGroupOffsetsRequestPartition]] = {}
    for name, index, start_offset in moves:
        partition = AlterShareGroupOffsetsRequestPartition(partition_index=index, start_offset=start_offset)
        topics.setdefault(name, []).append(partition)
    request = AlterShareGroupOffsetsRequest(
        group_id=group,
        topics=[AlterShareGroupOffsetsRequestTopic(topic_name=name, partitions=ps) for name, ps in topics.items()],
    )
    alteration: offsets.Alteration
    alteration, _ = driver.apply(offsets.alter_offsets(driver.machine, request, driver.image))
    return alteration


def delete_offsets(driver: ShareDriver, *names: str, group: str = "g") -> offsets.OffsetDeletion:
    request = DeleteShareGroupOffsetsRequest(
        group_id=group, topics=[DeleteShareGroupOffsetsRequestTopic(topic_name=name) for name in names]
    )
    deletion: offsets.OffsetDeletion
    deletion, _ = driver.apply(offsets.begin_offset_deletion(driver.machine, request, driver.image))
    return deletion


def test_offsets_move_only_while_nobody_consumes() -> None:
    driver = consuming()
    with refused(ErrorCode.NON_EMPTY_GROUP):
        alter(driver, ("t", 0, 5))
    with refused(ErrorCode.NON_EMPTY_GROUP):
        delete_offsets(driver, "t")
    with refused(ErrorCode.NON_EMPTY_GROUP):
        offsets.begin_group_deletion(driver.machine, "g", driver.image)
    epoch = driver.group().group_epoch
    driver.heartbeat("a", -1)
    alteration = alter(driver, ("t", 1, 5), ("t", 7, 5), ("none", 0, 5))
    codes = [[partition.error_code for partition in topic.partitions] for topic in alteration.response.responses]
    assert codes == [[0, 3], [3]]
    assert alteration.initialization is not None
    assert list(alteration.initialization.start_offsets.values()) == [{1: 5}]
    assert alteration.initialization.state_epoch > epoch, "whoever still consumes is fenced"


def test_moving_offsets_makes_a_group() -> None:
    driver = ShareDriver()
    driver.put_topic("t", 2)
    alteration = alter(driver, ("t", 1, 5), group="new")
    assert alteration.initialization is not None
    driver.apply(driver.machine.initialized(alteration.initialization))
    assert driver.group("new").state_name == "Empty"
    driver.restart()
    driver.heartbeat("a", topics=("t",), group="new")
    [rest] = driver.initializations
    assert [list(starts) for starts in rest.start_offsets.values()] == [[0]], "the other one has its offset"


def test_deleted_offsets_begin_anew_for_who_subscribes_again() -> None:
    driver = consuming()
    driver.heartbeat("a", -1)
    deletion = delete_offsets(driver, "t", "none", "t")
    assert [topic.topic_name for topic in deletion.refused] == ["none"]
    [(topic_id, partitions)] = deletion.deletion.items()
    assert partitions == {0, 1}
    assert driver.group().state_topics.deleting == {topic_id: "t"}
    driver.restart()
    assert delete_offsets(driver, "t").deletion == deletion.deletion, "what did not finish is deleted again"
    driver.apply(offsets.offsets_deleted(driver.machine, "g", [topic_id]))
    assert delete_offsets(driver, "t").refused[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    driver.heartbeat("a", topics=("t",))
    driver.initialize()
    settle(driver)
    assert driver.assigned("a") == {"t": [0, 1]}


def test_deleting_a_group_takes_its_share_state_along() -> None:
    driver = consuming()
    driver.heartbeat("a", -1)
    deletion, _ = driver.apply(offsets.begin_group_deletion(driver.machine, "g", driver.image))
    assert list(deletion.values()) == [{0, 1}]
    again, _ = driver.apply(offsets.begin_group_deletion(driver.machine, "g", driver.image))
    assert again == deletion
    code, _ = driver.apply(driver.shard.delete_group("g"))
    assert code is ErrorCode.NONE
    assert driver.shard.groups == {}
    driver.restart()
    with refused(ErrorCode.GROUP_ID_NOT_FOUND):
        offsets.begin_group_deletion(driver.machine, "g", driver.image)


def test_a_share_group_is_no_consumer_group() -> None:
    driver = consuming()
    group = driver.group()
    for check in (
        lambda: group.check_commit("", None, -1, 9, transactional=False),
        group.check_offset_delete,
    ):
        with refused(ErrorCode.GROUP_ID_NOT_FOUND):
            check()
    group.check_fetch(None, -1)
    assert not group.may_expire()
    listed = list(driver.shard.list_groups(frozenset(), frozenset({"share"})))
    assert [(one.group_id, one.group_type, one.protocol_type, one.group_state) for one in listed] == [
        ("g", "share", "share", "Stable")
    ]
    joined = driver.join("m", group="g").response
    assert joined is not None
    assert joined.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL


# -- at random

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["join", "join", "beat", "beat", "leave", "initialize", "fail", "time", "grow", "drop", "delete", "restart"]
        ),
        st.integers(0, 3),
        st.integers(0, 2),
    ),
    max_size=40,
)


@settings(max_examples=120, derandomize=True, deadline=None)
@given(_STEPS)
def test_whatever_happened_in_the_end_everybody_has_what_was_initialized(steps: list[tuple[str, int, int]]) -> None:
    driver = ShareDriver()
    driver.put_topic("t0", 2)
    epoch = 0
    for action, number, topic in steps:
        member_id = f"m{number}"
        group = driver.shard.groups.get("g")
        member = None if group is None else driver.group().members.get(member_id)
        if action == "join":
            driver.heartbeat(member_id, topics=(f"t{topic}", "t0"))
        elif action == "beat" and member is not None:
            driver.heartbeat(member_id, member.member_epoch)
        elif action == "leave" and member is not None:
            driver.heartbeat(member_id, -1)
        elif action in ("initialize", "fail"):
            driver.initialize(succeeds=action == "initialize")
        elif action == "time":
            driver.advance((500, 2_000, 31_000, 60_000)[number])
        elif action == "grow":
            driver.put_topic(f"t{topic}", number + 1)
        elif action == "drop":
            driver.delete_topic(f"t{topic}")
        elif action == "delete" and group is not None and not driver.group().members:
            driver.apply(offsets.begin_group_deletion(driver.machine, "g", driver.image))
            driver.apply(driver.shard.delete_group("g"))
            epoch = 0
        elif action == "restart":
            driver.restart()
        if "g" in driver.shard.groups:
            assert driver.group().group_epoch >= epoch
            epoch = driver.group().group_epoch
    settle(driver)
    driver.advance(31_000)
    settle(driver)
    if "g" not in driver.shard.groups:
        return
    group = driver.group()
    consumed: set[tuple[str, int]] = set()
    for member_id, member in group.members.items():
        assigned = driver.assigned(member_id)
        assert assigned.keys() <= member.subscribed_topic_names
        consumed |= {(name, index) for name, partitions in assigned.items() for index in partitions}
    assert consumed == {
        (name, index)
        for name, topic in driver.image.topics.by_name.items()
        if name in group.subscriptions
        for index in topic.partitions
    }
    driver.restart()
