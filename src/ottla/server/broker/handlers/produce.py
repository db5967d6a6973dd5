"""Produce (key 0), versions 3-13: append record batches to partitions.

Version notes. 0-2 are advertised but refused (KIP-896, librdkafka). 5: log_start_offset in the answer. 8: record_errors
and error_message (KIP-467). 9: flexible. 10: current leader and node endpoints beside NOT_LEADER_OR_FOLLOWER (KIP-951).
11: a failed transaction check answers TRANSACTION_ABORTABLE instead of INVALID_TXN_STATE (KIP-890). 13: topic ids
(KIP-516).

acks=0 gets no answer; when something failed the connection is closed instead. A batch goes to the log as it is: only
its 61-byte header is looked at here and there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.produce import (
    BatchIndexAndErrorMessage,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceResponse,
)
from ottla.server.broker.broker import CloseConnectionError
from ottla.server.broker.leader_hints import current_leader, leader_endpoints
from ottla.server.log.log import AppendOrigin

if TYPE_CHECKING:
    from ottla.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
    from ottla.server.broker.broker import Broker, RequestContext

# The one client id that may write to internal topics (Kafka's own console tools use it).
ADMIN_CLIENT_ID = "__admin_client"

_ATTRIBUTES_LOW_BYTE = 22
_TRANSACTIONAL_BIT = 0x10
_FIRST_TOPIC_ID_VERSION = 13
_FIRST_LEADER_HINT_VERSION = 10
_FIRST_ABORTABLE_VERSION = 11


def handle(broker: Broker, request: ProduceRequest, context: RequestContext) -> ProduceResponse | None:
    """Append every batch and answer with its offset, or with why it was refused."""
    acks = request.acks
    refusal = None
    if not -1 <= acks <= 1:
        refusal = ApiError(ErrorCode.INVALID_REQUIRED_ACKS)
    elif _has_transactional_batch(request):
        refusal = _transactional_refusal(request, context.api_version)
    if refusal is not None:
        response = error_response(request, context, refusal.code, refusal.message)
        failed = True
    else:
        response, failed = _append_all(broker, request, context)
    if acks == 0:
        if failed:
            raise CloseConnectionError("a Produce request with acks=0 failed")
        return None
    return response


def _append_all(broker: Broker, request: ProduceRequest, context: RequestContext) -> tuple[ProduceResponse, bool]:
    version = context.api_version
    acks = request.acks
    replicas = broker.replicas
    now_ms = broker.env.clock.now_ms()
    failed = False
    topics = []
    for topic in request.topic_data:
        hosted = (
            replicas.by_name.get(topic.name)
            if version < _FIRST_TOPIC_ID_VERSION
            else replicas.by_id.get(topic.topic_id)
        )
        answers = []
        for data in topic.partition_data:
            index = data.index
            try:
                if hosted is None or (partition := hosted.partitions.get(index)) is None:
                    raise ApiError(_missing_partition(broker, topic, index, version))
                if hosted.internal and context.client_id != ADMIN_CLIENT_ID:
                    raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Clients cannot produce to {hosted.name}")
                if not data.records:
                    raise ApiError(ErrorCode.INVALID_RECORD, "Exactly one record batch per partition is required")
                result = partition.append(data.records, acks, now_ms, AppendOrigin.CLIENT, version)
                answers.append(
                    PartitionProduceResponse(
                        index=index,
                        base_offset=result.base_offset,
                        log_append_time_ms=result.log_append_time_ms,
                        log_start_offset=result.log_start_offset,
                    )
                )
            except ApiError as error:
                failed = True
                answers.append(_refused(index, error))
            except OSError as error:
                failed = True
                broker.replicas.disk_failed(error)
                answers.append(_refused(index, ApiError(ErrorCode.KAFKA_STORAGE_ERROR, str(error))))
        topics.append(TopicProduceResponse(name=topic.name, topic_id=topic.topic_id, partition_responses=answers))
    response = ProduceResponse(responses=topics)
    if failed and version >= _FIRST_LEADER_HINT_VERSION:
        _add_leader_hints(broker, response, context)
    return response, failed


def _has_transactional_batch(request: ProduceRequest) -> bool:
    for topic in request.topic_data:
        for data in topic.partition_data:
            records = data.records
            if records and len(records) > _ATTRIBUTES_LOW_BYTE and records[_ATTRIBUTES_LOW_BYTE] & _TRANSACTIONAL_BIT:
                return True
    return False


def _transactional_refusal(request: ProduceRequest, version: int) -> ApiError:
    """Why a transactional batch cannot be taken: no transaction is open, as no coordinator for them is served."""
    if request.transactional_id is None:
        return ApiError(ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    message = f"No transaction of {request.transactional_id} is open"
    if version >= _FIRST_ABORTABLE_VERSION:
        return ApiError(ErrorCode.TRANSACTION_ABORTABLE, message)
    return ApiError(ErrorCode.INVALID_TXN_STATE, message)


def _missing_partition(broker: Broker, topic: TopicProduceData, index: int, version: int) -> ErrorCode:
    image = broker.image
    name: str | None = topic.name
    if version >= _FIRST_TOPIC_ID_VERSION:
        name = image.topics.name_of(topic.topic_id)
        if name is None:
            return ErrorCode.UNKNOWN_TOPIC_ID
    return broker.replicas.missing_partition_error(name, index, image)


def _refused(index: int, error: ApiError) -> PartitionProduceResponse:
    return PartitionProduceResponse(
        index=index,
        error_code=error.code,
        base_offset=-1,
        log_append_time_ms=-1,
        log_start_offset=-1,
        record_errors=[
            BatchIndexAndErrorMessage(batch_index=batch_index, batch_index_error_message=message)
            for batch_index, message in getattr(error, "record_errors", ())
        ],
        error_message=error.message,
    )


def _add_leader_hints(broker: Broker, response: ProduceResponse, context: RequestContext) -> None:
    leaders: set[int] = set()
    for topic in response.responses:
        for answer in topic.partition_responses:
            if answer.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER:
                leader = current_leader(broker.image, topic.name, topic.topic_id, answer.index)
                if leader is not None:
                    answer.current_leader = LeaderIdAndEpoch(leader_id=leader[0], leader_epoch=leader[1])
                    leaders.add(leader[0])
    response.node_endpoints = [
        NodeEndpoint(**endpoint._asdict())
        for endpoint in leader_endpoints(broker.image, leaders, context.listener_name)
    ]


def error_response(
    request: ProduceRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> ProduceResponse:
    """The same refusal for every partition of the request."""

    def refused(data: PartitionProduceData) -> PartitionProduceResponse:
        return _refused(data.index, ApiError(code, message or ""))

    return ProduceResponse(
        responses=[
            TopicProduceResponse(
                name=topic.name,
                topic_id=topic.topic_id,
                partition_responses=[refused(data) for data in topic.partition_data],
            )
            for topic in request.topic_data
        ]
    )
