"""Groups: both protocols through one call, older brokers, members to remove, and what is committed."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.admin import GroupState, GroupType, MemberToRemove
from ottla.client.admin.client import Admin
from ottla.client.admin.groups import assigned_partitions
from ottla.client.errors import KafkaError, UnsupportedVersionError
from ottla.client.model import OffsetAndMetadata, TopicPartition
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.codec import encode
from ottla.protocol.messages import consumer_group_describe as modern
from ottla.protocol.messages import describe_groups as classic
from ottla.protocol.messages import offset_fetch as fetching
from ottla.protocol.messages.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolAssignmentTopicPartition,
)
from ottla.protocol.messages.describe_share_group_offsets import (
    DescribeShareGroupOffsetsResponse,
    DescribeShareGroupOffsetsResponseGroup,
    DescribeShareGroupOffsetsResponsePartition,
    DescribeShareGroupOffsetsResponseTopic,
)
from ottla.protocol.messages.leave_group import LeaveGroupResponse, MemberResponse
from ottla.protocol.messages.list_groups import ListedGroup, ListGroupsResponse
from ottla.protocol.messages.offset_commit import (
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from ottla.protocol.messages.offset_delete import OffsetDeleteResponse
from tests.client.admin.scenes import play
from tests.client.network.fake_broker import FakeCluster

ORDERS = TopicPartition("orders", 0)
NOT_FOUND = ErrorCode.GROUP_ID_NOT_FOUND


def assignment_bytes(version: int = 1) -> bytes:
    topic = ConsumerProtocolAssignmentTopicPartition(topic="orders", partitions=[0, 2])
    body = encode(ConsumerProtocolAssignment(assigned_partitions=[topic]), min(version, 3))
    return version.to_bytes(2, "big") + body


def modern_answer(request: Any, known: dict[str, modern.DescribedGroup]) -> modern.ConsumerGroupDescribeResponse:
    missing = {"error_code": NOT_FOUND, "error_message": "no consumer group"}
    return modern.ConsumerGroupDescribeResponse(
        groups=[known.get(group) or modern.DescribedGroup(group_id=group, **missing) for group in request.group_ids]
    )


def classic_answer(request: Any, known: dict[str, classic.DescribedGroup]) -> classic.DescribeGroupsResponse:
    return classic.DescribeGroupsResponse(
        groups=[
            known.get(group) or classic.DescribedGroup(group_id=group, error_code=NOT_FOUND) for group in request.groups
        ]
    )


CLASSIC = classic.DescribedGroup(
    group_id="old",
    group_state="Stable",
    protocol_type="consumer",
    protocol_data="range",
    members=[
        classic.DescribedGroupMember(
            member_id="m1",
            group_instance_id="i1",
            client_id="c",
            client_host="/h",
            member_assignment=assignment_bytes(),
        )
    ],
)
MODERN = modern.DescribedGroup(
    group_id="new",
    group_state="Reconciling",
    group_epoch=5,
    assignment_epoch=4,
    assignor_name="uniform",
    members=[
        modern.Member(
            member_id="m2",
            member_epoch=3,
            client_id="c",
            client_host="/h",
            assignment=modern.Assignment(
                topic_partitions=[modern.TopicPartitions(topic_name="orders", partitions=[1])]
            ),
            member_type=1,
        )
    ],
)


def test_groups_of_both_protocols_are_described_by_one_call() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake[1].on(ApiKey.CONSUMER_GROUP_DESCRIBE, lambda request, call: modern_answer(request, {"new": MODERN}))
        fake[1].on(ApiKey.DESCRIBE_GROUPS, lambda request, call: classic_answer(request, {"old": CLASSIC}))
        groups = await admin.describe_consumer_groups(["old", "new"])
        old, new = groups["old"], groups["new"]
        assert (old.type, old.state, old.partition_assignor) == (GroupType.CLASSIC, GroupState.STABLE, "range")
        assert old.coordinator.id == 1
        assert old.coordinator.port == fake[1].port
        assert old.members[0].assignment == {ORDERS, TopicPartition("orders", 2)}
        assert (old.group_epoch, old.members[0].member_epoch) == (None, None)
        assert (new.type, new.state, new.group_epoch) == (GroupType.CONSUMER, GroupState.RECONCILING, 5)
        assert new.members[0].assignment == {TopicPartition("orders", 1)}
        assert new.members[0].target_assignment == frozenset()
        assert new.members[0].upgraded is True
        assert fake[1].received(ApiKey.DESCRIBE_GROUPS)[0].groups == ["old"], "only those that were not found"
        with pytest.raises(KafkaError, match="no consumer group") as raised:
            await admin.describe_consumer_groups("gone")
        assert raised.value.code is NOT_FOUND

    play(scene)


def test_brokers_without_the_consumer_protocol_describe_classic_groups() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.versions[ApiKey.CONSUMER_GROUP_DESCRIBE] = (0, -1)
        fake.versions[ApiKey.DESCRIBE_GROUPS] = (0, 2)
        fake[1].on(ApiKey.DESCRIBE_GROUPS, lambda request, call: classic_answer(request, {"old": CLASSIC}))
        assert (await admin.describe_consumer_groups("old"))["old"].members[0].group_instance_id is None
        with pytest.raises(KafkaError) as raised:
            await admin.describe_consumer_groups(["old", "gone"])
        assert raised.value.code is NOT_FOUND
        with pytest.raises(UnsupportedVersionError):
            await admin.describe_consumer_groups("old", include_authorized_operations=True)

    play(scene)


def test_a_group_of_another_kind_is_not_a_consumer_group() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        connect = classic.DescribedGroup(group_id="workers", group_state="Stable", protocol_type="connect")
        fake[1].on(ApiKey.CONSUMER_GROUP_DESCRIBE, lambda request, call: modern_answer(request, {}))
        fake[1].on(ApiKey.DESCRIBE_GROUPS, lambda request, call: classic_answer(request, {"workers": connect}))
        with pytest.raises(KafkaError, match=r"connect.*describe_classic_groups"):
            await admin.describe_consumer_groups("workers")
        described = await admin.describe_classic_groups("workers")
        assert described["workers"].protocol_type == "connect"

    play(scene)


@pytest.mark.parametrize("version", [0, 1, 3, 9])
def test_assignments_of_all_versions_are_read(version: int) -> None:
    assert assigned_partitions(assignment_bytes(version)) == {ORDERS, TopicPartition("orders", 2)}


def test_assignments_that_are_no_assignments() -> None:
    assert assigned_partitions(b"") == frozenset()
    with pytest.raises(KafkaError, match="cannot be read"):
        assigned_partitions(b"\0\1\0\0\0\5")


def test_groups_are_filtered_by_the_broker_and_by_protocol_type_here() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        groups = [
            ListedGroup(group_id="a", protocol_type="consumer", group_state="Stable", group_type="Consumer"),
            ListedGroup(group_id="b", protocol_type="connect", group_state="Empty", group_type="Classic"),
            ListedGroup(group_id="c", protocol_type="", group_state="Empty", group_type="Classic"),
            ListedGroup(group_id="d", protocol_type="share", group_state="Empty", group_type="Share"),
            ListedGroup(group_id="e", protocol_type="x", group_state="Dozing", group_type="Club"),
        ]
        fake[1].on(ApiKey.LIST_GROUPS, ListGroupsResponse(groups=groups))
        listed = await admin.list_groups(states=[GroupState.STABLE], types=[GroupType.CONSUMER])
        assert [one.group_id for one in listed] == ["a", "b", "c", "d", "e"]
        assert (listed[4].type, listed[4].state) == (GroupType.UNKNOWN, GroupState.UNKNOWN)
        (body,) = fake[1].received(ApiKey.LIST_GROUPS)
        assert (body.states_filter, body.types_filter) == (["Stable"], ["consumer"])
        assert [one.group_id for one in await admin.list_groups(protocol_types=["connect"])] == ["b"]
        consumers = await admin.list_consumer_groups()
        assert [(one.group_id, one.is_simple_consumer_group) for one in consumers] == [("a", False), ("c", True)]

    play(scene)


def test_older_brokers_have_classic_groups_only() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.versions[ApiKey.LIST_GROUPS] = (0, 3)
        fake[1].on(ApiKey.LIST_GROUPS, ListGroupsResponse(groups=[ListedGroup(group_id="a", protocol_type="consumer")]))
        listed = await admin.list_groups(types=[GroupType.CLASSIC, GroupType.CONSUMER])
        assert [(one.type, one.state) for one in listed] == [(None, None)]
        with pytest.raises(UnsupportedVersionError):
            await admin.list_groups(types=[GroupType.SHARE])
        with pytest.raises(UnsupportedVersionError):
            await admin.list_groups(states=[GroupState.EMPTY])

    play(scene)


def test_members_are_removed_by_instance_id_or_member_id() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        def left(request: Any, call: Any) -> LeaveGroupResponse:
            return LeaveGroupResponse(
                members=[
                    MemberResponse(
                        member_id=one.member_id,
                        group_instance_id=one.group_instance_id,
                        error_code=ErrorCode.UNKNOWN_MEMBER_ID if one.group_instance_id == "gone" else 0,
                    )
                    for one in request.members
                ]
            )

        fake[1].on(ApiKey.LEAVE_GROUP, left)
        fake[1].on(ApiKey.CONSUMER_GROUP_DESCRIBE, lambda request, call: modern_answer(request, {}))
        fake[1].on(ApiKey.DESCRIBE_GROUPS, lambda request, call: classic_answer(request, {"old": CLASSIC}))
        await admin.remove_members_from_consumer_group("old", reason="spring cleaning")
        (body,) = fake[1].received(ApiKey.LEAVE_GROUP)
        assert [(one.group_instance_id, one.reason) for one in body.members] == [("i1", "spring cleaning")]
        members = [MemberToRemove("gone"), MemberToRemove(member_id="m7")]
        with pytest.raises(KafkaError) as raised:
            await admin.remove_members_from_consumer_group("old", members)
        assert raised.value.code is ErrorCode.UNKNOWN_MEMBER_ID
        assert raised.value.results == {members[1]: None}

    play(scene)


def batched(request: Any, call: Any) -> fetching.OffsetFetchResponse:
    return fetching.OffsetFetchResponse(
        groups=[
            fetching.OffsetFetchResponseGroup(
                group_id=group.group_id,
                topics=[
                    fetching.OffsetFetchResponseTopics(
                        name="orders",
                        partitions=[
                            fetching.OffsetFetchResponsePartitions(
                                partition_index=0, committed_offset=5, committed_leader_epoch=-1, metadata=""
                            ),
                            fetching.OffsetFetchResponsePartitions(
                                partition_index=1,
                                committed_offset=-1,
                                metadata="",
                                error_code=ErrorCode.TOPIC_AUTHORIZATION_FAILED if group.group_id == "torn" else 0,
                            ),
                        ],
                    )
                ],
            )
            for group in request.groups
        ]
    )


def one_by_one(request: Any, call: Any) -> fetching.OffsetFetchResponse:
    partition = fetching.OffsetFetchResponsePartition(
        partition_index=0, committed_offset=5, committed_leader_epoch=2, metadata="m"
    )
    topics = [fetching.OffsetFetchResponseTopic(name="orders", partitions=[partition])]
    return fetching.OffsetFetchResponse(topics=topics)


def test_offsets_of_several_groups_come_in_one_request() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake[1].on(ApiKey.OFFSET_FETCH, batched)
        found = await admin.list_consumer_group_offsets({"a": None, "b": [ORDERS]}, require_stable=True)
        committed = {ORDERS: OffsetAndMetadata(5), TopicPartition("orders", 1): None}
        assert found == {"a": committed, "b": committed}
        (body,) = fake[1].received(ApiKey.OFFSET_FETCH)
        assert fake[1].requests[-1].version == 9, "topics by name"
        assert body.require_stable
        assert [group.topics and group.topics[0].name for group in body.groups] == [None, "orders"]

    play(scene)


def test_a_partition_that_cannot_be_read_fails_its_group_and_is_not_left_out() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake[1].on(ApiKey.OFFSET_FETCH, batched)
        with pytest.raises(KafkaError) as raised:
            await admin.list_consumer_group_offsets(["torn", "whole"])
        assert raised.value.code is ErrorCode.TOPIC_AUTHORIZATION_FAILED
        assert list(raised.value.results) == ["whole"]
        assert list(raised.value.errors["torn"].errors) == [TopicPartition("orders", 1)]
        assert raised.value.errors["torn"].results == {ORDERS: OffsetAndMetadata(5)}

    play(scene)


def test_older_brokers_are_asked_for_one_group_at_a_time() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.versions[ApiKey.OFFSET_FETCH] = (1, 6)
        fake.versions[ApiKey.FIND_COORDINATOR] = (0, 3)
        fake[1].on(ApiKey.OFFSET_FETCH, one_by_one)
        found = await admin.list_consumer_group_offsets(["a", "b"])
        assert found["b"] == {ORDERS: OffsetAndMetadata(5, "m", 2)}
        assert sorted(body.group_id for body in fake[1].received(ApiKey.OFFSET_FETCH)) == ["a", "b"]
        with pytest.raises(UnsupportedVersionError):
            await admin.list_consumer_group_offsets("a", require_stable=True)

    play(scene)


def committed(request: Any, *codes: ErrorCode) -> OffsetCommitResponse:
    partitions = [one.partition_index for topic in request.topics for one in topic.partitions]
    return OffsetCommitResponse(
        topics=[
            OffsetCommitResponseTopic(
                name="orders",
                partitions=[
                    OffsetCommitResponsePartition(partition_index=index, error_code=code)
                    for index, code in zip(partitions, codes, strict=True)
                ],
            )
        ]
    )


def test_offsets_are_altered_and_a_rebalance_is_waited_for() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        none, busy = ErrorCode.NONE, ErrorCode.REBALANCE_IN_PROGRESS
        refused = ErrorCode.OFFSET_METADATA_TOO_LARGE
        fake[1].script(
            ApiKey.OFFSET_COMMIT,
            lambda request, call: committed(request, none, busy),
            lambda request, call: committed(request, none, none),
            lambda request, call: committed(request, none, refused),
        )
        offsets = {ORDERS: 5, TopicPartition("orders", 1): OffsetAndMetadata(6, "x" * 5000, 3)}
        await admin.alter_consumer_group_offsets("g", offsets)
        body = fake[1].received(ApiKey.OFFSET_COMMIT)[-1]
        assert (body.generation_id_or_member_epoch, body.member_id) == (-1, "")
        assert [one.committed_leader_epoch for one in body.topics[0].partitions] == [-1, 3]
        with pytest.raises(KafkaError) as raised:
            await admin.alter_streams_group_offsets("g", offsets)
        assert raised.value.code is refused
        assert raised.value.results == {ORDERS: None}

    play(scene)


def test_a_group_that_fails_as_a_whole_is_named() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake[1].on(ApiKey.OFFSET_DELETE, OffsetDeleteResponse(error_code=ErrorCode.NON_EMPTY_GROUP))
        with pytest.raises(KafkaError, match=r"g: The group still has members\. Stop") as raised:
            await admin.delete_consumer_group_offsets("g", [ORDERS])
        assert list(raised.value.errors) == ["g"]

    play(scene)


def test_share_groups_tell_where_they_start_and_what_is_left() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        partitions = [
            DescribeShareGroupOffsetsResponsePartition(partition_index=0, start_offset=4, leader_epoch=1, lag=9),
            DescribeShareGroupOffsetsResponsePartition(partition_index=1, start_offset=-1, leader_epoch=-1),
        ]
        topic = DescribeShareGroupOffsetsResponseTopic(topic_name="orders", partitions=partitions)
        group = DescribeShareGroupOffsetsResponseGroup(group_id="s", topics=[topic])
        fake[1].on(ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS, DescribeShareGroupOffsetsResponse(groups=[group]))
        offsets = (await admin.list_share_group_offsets("s"))["s"]
        assert offsets[ORDERS] == (4, 1, 9)
        assert offsets[TopicPartition("orders", 1)] is None

    play(scene)
