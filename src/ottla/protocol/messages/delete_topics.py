"""DeleteTopics, API key 20."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, Struct, array, int16, int32, string, uuid


class DeleteTopicState(Struct):
    name: str | None = string("6+", nullable="6+", default=None, entity="topicName")
    topic_id: bytes = uuid("6+")


class DeleteTopicsRequest(Request, api_key=20, versions="1-6", flexible="4+", listeners=("broker", "controller")):
    """Deletes topics by name, or by id since v6 (KIP-516)."""

    topics: list[DeleteTopicState] = array(DeleteTopicState, "6+")
    topic_names: list[str] = array("string", "0-5", ignorable=True, entity="topicName")
    timeout_ms: int = int32("0+")


class DeletableTopicResult(Struct):
    name: str | None = string("0+", nullable="6+", key=True, entity="topicName")
    topic_id: bytes = uuid("6+", ignorable=True)
    error_code: int = int16("0+")
    error_message: str | None = string("5+", nullable="5+", default=None, ignorable=True)


class DeleteTopicsResponse(Response, api_key=20, versions="1-6", flexible="4+"):
    """Outcome of each topic."""

    throttle_time_ms: int = int32("1+", ignorable=True)
    responses: list[DeletableTopicResult] = array(DeletableTopicResult, "0+")
