"""ShareGroupDescribe, API key 77."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, Struct, array, boolean, int16, int32, string, struct, uuid


class ShareGroupDescribeRequest(Request, api_key=77, versions="1", flexible="0+", listeners=("broker",)):
    """Asks for state and members of share groups (KIP-932)."""

    group_ids: list[str] = array("string", "0+", entity="groupId")
    include_authorized_operations: bool = boolean("0+")


class TopicPartitions(Struct, versions="0+"):
    topic_id: bytes = uuid("0+")
    topic_name: str = string("0+", entity="topicName")
    partitions: list[int] = array("int32", "0+")


class Assignment(Struct, versions="0+"):
    topic_partitions: list[TopicPartitions] = array(TopicPartitions, "0+")


class Member(Struct):
    member_id: str = string("0+")
    rack_id: str | None = string("0+", nullable="0+", default=None)
    member_epoch: int = int32("0+")
    client_id: str = string("0+")
    client_host: str = string("0+")
    subscribed_topic_names: list[str] = array("string", "0+", entity="topicName")
    assignment: Assignment = struct(Assignment, "0+")


class DescribedGroup(Struct):
    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+", default=None)
    group_id: str = string("0+", entity="groupId")
    group_state: str = string("0+")
    group_epoch: int = int32("0+")
    assignment_epoch: int = int32("0+")
    assignor_name: str = string("0+")
    members: list[Member] = array(Member, "0+")
    authorized_operations: int = int32("0+", default=-2147483648)


class ShareGroupDescribeResponse(Response, api_key=77, versions="1", flexible="0+"):
    """Epochs, assignor, members and their assignments of each group."""

    throttle_time_ms: int = int32("0+")
    groups: list[DescribedGroup] = array(DescribedGroup, "0+")
