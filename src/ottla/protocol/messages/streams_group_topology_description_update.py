"""StreamsGroupTopologyDescriptionUpdate, API key 93."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, Struct, array, int8, int16, int32, string, struct


class TopologyDescriptionNode(Struct, versions="0+"):
    name: str = string("0+")
    node_type: int = int8("0+")
    source_topics: list[str] = array("string", "0+", entity="topicName")
    sink_topic: str | None = string("0+", nullable="0+", default=None, entity="topicName")
    stores: list[str] = array("string", "0+")
    successors: list[str] = array("string", "0+")


class TopologyDescriptionSubtopology(Struct, versions="0+"):
    subtopology_id: str = string("0+")
    nodes: list[TopologyDescriptionNode] = array(TopologyDescriptionNode, "0+")


class TopologyDescriptionGlobalStore(Struct, versions="0+"):
    source: TopologyDescriptionNode = struct(TopologyDescriptionNode, "0+")
    processor: TopologyDescriptionNode = struct(TopologyDescriptionNode, "0+")


class TopologyDescription(Struct, versions="0+"):
    subtopologies: list[TopologyDescriptionSubtopology] = array(TopologyDescriptionSubtopology, "0+")
    global_stores: list[TopologyDescriptionGlobalStore] = array(TopologyDescriptionGlobalStore, "0+")


class StreamsGroupTopologyDescriptionUpdateRequest(
    Request, api_key=93, versions="0", flexible="0+", listeners=("broker",)
):
    """Stores a readable description of a streams group's topology at the coordinator (Kafka 4.4)."""

    group_id: str = string("0+", entity="groupId")
    member_id: str = string("0+")
    topology_epoch: int = int32("0+")
    topology_description: TopologyDescription = struct(TopologyDescription, "0+")


class StreamsGroupTopologyDescriptionUpdateResponse(Response, api_key=93, versions="0", flexible="0+"):
    """Outcome of StreamsGroupTopologyDescriptionUpdateRequest."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+", default=None)
