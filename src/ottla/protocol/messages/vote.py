"""Vote, API key 52."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, Struct, array, boolean, int16, int32, int64, string, uint16, uuid


class VoteRequestPartitionData(Struct):
    partition_index: int = int32("0+")
    replica_epoch: int = int32("0+")
    replica_id: int = int32("0+", entity="brokerId")
    replica_directory_id: bytes = uuid("1+", ignorable=True)
    voter_directory_id: bytes = uuid("1+", ignorable=True)
    last_offset_epoch: int = int32("0+")
    last_offset: int = int64("0+")
    pre_vote: bool = boolean("2+")


class VoteRequestTopicData(Struct):
    topic_name: str = string("0+", entity="topicName")
    partitions: list[VoteRequestPartitionData] = array(VoteRequestPartitionData, "0+")


class VoteRequest(Request, api_key=52, versions="0-2", flexible="0+", listeners=("controller",)):
    """A candidate of the metadata quorum asks for votes (KIP-595); pre-votes since v2 (KIP-996)."""

    cluster_id: str | None = string("0+", nullable="0+", default=None)
    voter_id: int = int32("1+", default=-1, ignorable=True, entity="brokerId")
    topics: list[VoteRequestTopicData] = array(VoteRequestTopicData, "0+")


class VoteResponsePartitionData(Struct):
    partition_index: int = int32("0+")
    error_code: int = int16("0+")
    leader_id: int = int32("0+", entity="brokerId")
    leader_epoch: int = int32("0+")
    vote_granted: bool = boolean("0+")


class VoteResponseTopicData(Struct):
    topic_name: str = string("0+", entity="topicName")
    partitions: list[VoteResponsePartitionData] = array(VoteResponsePartitionData, "0+")


class NodeEndpoint(Struct):
    node_id: int = int32("1+", key=True, entity="brokerId")
    host: str = string("1+")
    port: int = uint16("1+")


class VoteResponse(Response, api_key=52, versions="0-2", flexible="0+"):
    """The vote, and the leader and epoch that the voter knows."""

    error_code: int = int16("0+")
    topics: list[VoteResponseTopicData] = array(VoteResponseTopicData, "0+")
    node_endpoints: list[NodeEndpoint] = array(NodeEndpoint, "1+", tag=0, tagged="1+")
