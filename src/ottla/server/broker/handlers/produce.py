"""Produce (key 0), versions 3-13: append record batches to partitions.

Version notes. 0-2 are advertised but refused (KIP-896, librdkafka). 5: log_start_offset in the answer. 8: record_errors
and error_message (KIP-467). 9: flexible. 10: current leader and node endpoints beside NOT_LEADER_OR_FOLLOWER (KIP-951).
11: a failed transaction check answers TRANSACTION_ABORTABLE instead of INVALID_TXN_STATE (KIP-890). 12: transactions
v2, where this broker adds the partition to the transaction. 13: topic ids (KIP-516).

acks=0 gets no answer; when something failed the connection is closed instead. A batch goes to the log as it is: only
its 61-byte header is looked at here and there; where its records have to be, that may be `laborious_produce`. The first
batch of a transaction in a partition asks the transaction coordinator (`transactional_produce`); those after it go the
way of all others.
"""

from __future__ import annotations

from collections.abc import Awaitable
from struct import Struct
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
from ottla.records.validation import AppendOrigin, LaboriousBatchError, NotOneBatchError
from ottla.server.broker.broker import CloseConnectionError, DelayedResponse
from ottla.server.broker.delayed_produce import DelayedBatch, DelayedProduce, Uncommitted, fail
from ottla.server.broker.leader_hints import current_leader, leader_endpoints
from ottla.server.broker.produce_shapes import FIRST_LOG_START_VERSION, ProduceShapes

if TYPE_CHECKING:
    from ottla.core.binary import Buffer
    from ottla.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.broker.laborious_produce import Unopened
    from ottla.server.broker.produce_shapes import Shape
    from ottla.server.broker.transaction_verification import Verdict
    from ottla.server.log.log import AppendResult, Log
    from ottla.server.log.verification import Verification
    from ottla.server.replication.partition import Partition
    from ottla.server.replication.replicas import HostedTopic

    Answer = ProduceResponse | DelayedResponse | Awaitable[ProduceResponse | None] | None

# The one client id that may write to internal topics (Kafka's own console tools use it).
ADMIN_CLIENT_ID = "__admin_client"

_PACK_TWO = Struct(">qq").pack
_PRODUCER = Struct(">qh").unpack_from
_PRODUCER_POSITION = 43
_PACK_THREE = Struct(">qqq").pack
_CLIENT = AppendOrigin.CLIENT
_ATTRIBUTES_LOW_BYTE = 22
_TRANSACTIONAL_BIT = 0x10
_FIRST_TOPIC_ID_VERSION = 13
_FIRST_LEADER_HINT_VERSION = 10
# What is refused before a batch meets the log, or for its size and checksum alone.
_UNRELATED_TO_RECORDS = frozenset(
    (
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.INVALID_TOPIC_EXCEPTION,
        ErrorCode.RECORD_LIST_TOO_LARGE,
        ErrorCode.INVALID_TXN_STATE,
        ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.TRANSACTION_ABORTABLE,
    )
)


class _NotVerifiedError(ApiError):
    """The transaction coordinator does not agree: the log has not seen the batch."""


_NOT_LOOKED_AT = (NotOneBatchError, _NotVerifiedError)


def handle_quickly(
    broker: Broker, buffer: bytearray, offset: int, end: int, context: RequestContext
) -> bytes | ProduceResponse | DelayedResponse | Awaitable[ProduceResponse] | None:
    """One batch for one partition, announced by bytes that were seen before; see `produce_shapes`."""
    shapes = context.produce_shapes
    version = context.api_version
    if shapes is None or shapes.version != version:
        shapes = context.produce_shapes = ProduceShapes(version)
    found = shapes.find(buffer, offset, end)
    if found is None:
        shapes.note(buffer, offset, end)
        return None
    shape, records = found
    partition = shape.partition
    if partition.leader_id != broker.node_id:
        # Perhaps the topic was made again under its name: the handler knows, and teaches what has taken its place.
        shapes.note(buffer, offset, end)
        return None
    if records[_ATTRIBUTES_LOW_BYTE] & _TRANSACTIONAL_BIT and not (
        shape.is_transactional and _continues_transaction(partition, records)
    ):
        shapes.forget_noted()
        return None
    try:
        result = partition.append(records, shape.acks, broker.env.clock.now_ms(), _CLIENT, version)
    except ApiError as error:
        return _one_answer(shape, _refused(shape.partition_index, error, partition))
    except LaboriousBatchError:
        shapes.forget_noted()
        return None
    if version >= FIRST_LOG_START_VERSION:
        numbers = _PACK_THREE(result.base_offset, result.log_append_time_ms, result.log_start_offset)
    else:
        numbers = _PACK_TWO(result.base_offset, result.log_append_time_ms)
    encoded = shape.response_start + numbers + shape.response_end
    if result.flush_pending or (shape.acks == -1 and not partition.commits_alone):
        return _answer_committed(broker, shape, result, encoded)
    return encoded


def _answer_committed(
    broker: Broker, shape: Shape, result: AppendResult, encoded: bytes
) -> bytes | ProduceResponse | DelayedResponse | Awaitable[ProduceResponse]:
    """The answer to a batch that has to be flushed, or to come to other brokers, first."""
    partition = shape.partition
    if result.flush_pending or not partition.is_leader:
        answer = _accepted(shape.partition_index, result)
        waits = _Waits(broker, shape.timeout_ms)
        waits.add(answer, partition, result, shape.acks)
        return waits.respond(_one_answer(shape, answer))
    if partition.log.high_watermark > result.last_offset:
        return encoded

    def refuse(code: ErrorCode) -> ProduceResponse:
        answer = _accepted(shape.partition_index, result)
        fail(answer, code)
        return _one_answer(shape, answer)

    return DelayedBatch(partition, result.last_offset + 1, encoded, refuse, shape.timeout_ms)


def _continues_transaction(partition: Partition, records: Buffer) -> bool:
    """Whether a batch, of which at least the header is there, goes into a transaction that is open already."""
    return partition.log.producers_state.is_in_transaction(*_PRODUCER(records, _PRODUCER_POSITION))


def _one_answer(shape: Shape, answer: PartitionProduceResponse) -> ProduceResponse:
    topic = TopicProduceResponse(name=shape.topic, topic_id=shape.topic_id, partition_responses=[answer])
    return ProduceResponse(responses=[topic])


def _accepted(index: int, result: AppendResult) -> PartitionProduceResponse:
    return PartitionProduceResponse(
        index=index,
        base_offset=result.base_offset,
        log_append_time_ms=result.log_append_time_ms,
        log_start_offset=result.log_start_offset,
    )


def handle(broker: Broker, request: ProduceRequest, context: RequestContext) -> Answer:
    """Append every batch and answer with its offset, or with why it was refused."""
    if not -1 <= request.acks <= 1:
        return error_response(request, context, ErrorCode.INVALID_REQUIRED_ACKS, None)
    if request.transactional_id is not None:
        from ottla.server.broker.transactional_produce import handle_transactional

        return handle_transactional(broker, request, context, append_all)
    return append_all(broker, request, context)


def append_all(
    broker: Broker, request: ProduceRequest, context: RequestContext, verdict: Verdict | None = None
) -> Answer:
    """Append, partition by partition; `verdict` is what the transaction coordinator says of transactional batches."""
    acks = request.acks
    now_ms = broker.env.clock.now_ms()
    failed = False
    waits: _Waits | None = None
    unopened: list[Unopened] = []
    topics = []
    for topic in request.topic_data:
        hosted = _hosted(broker, topic, context.api_version)
        answers: list[PartitionProduceResponse] = []
        for data in topic.partition_data:
            partition = None
            try:
                partition = hosted.partitions.get(data.index) if hosted is not None else None
                if partition is None:
                    raise ApiError(_missing_partition(broker, topic, data.index, context.api_version))
                records = data.records
                verification = None
                if (
                    not records
                    or partition.is_internal
                    or len(records) <= _ATTRIBUTES_LOW_BYTE
                    or records[_ATTRIBUTES_LOW_BYTE] & _TRANSACTIONAL_BIT
                ):
                    verification = _check_unusual(partition, records, context, verdict)
                # Records are a view into the connection's own receive buffer, so they may be patched in place.
                result = partition.append(
                    records,  # type: ignore[arg-type]
                    acks,
                    now_ms,
                    _CLIENT,
                    context.api_version,
                    verification,
                )
                answer = _accepted(data.index, result)
                if result.flush_pending or (acks == -1 and not partition.commits_alone):
                    waits = waits or _Waits(broker, request.timeout_ms)
                    waits.add(answer, partition, result, acks)
            except ApiError as error:
                failed = True
                answer = _refused(data.index, error, partition)
            except LaboriousBatchError:
                from ottla.server.broker.laborious_produce import Unopened

                assert partition is not None
                assert data.records is not None
                answer = PartitionProduceResponse(index=data.index, base_offset=-1)
                unopened.append(Unopened(answers, len(answers), partition, data.records, verification))
            answers.append(answer)
        topics.append(TopicProduceResponse(name=topic.name, topic_id=topic.topic_id, partition_responses=answers))
    if unopened:
        return _append_opened(broker, request, context, topics, unopened, waits, failed)
    return _answer(broker, request, context, topics, waits, failed)


async def _append_opened(
    broker: Broker,
    request: ProduceRequest,
    context: RequestContext,
    topics: list[TopicProduceResponse],
    unopened: list[Unopened],
    waits: _Waits | None,
    failed: bool,
) -> ProduceResponse | None:
    """Append the batches whose records have to be looked at in worker threads; all others are in their logs."""
    from ottla.server.broker.laborious_produce import append_opened

    acks = request.acks
    async for batch, outcome in append_opened(broker, unopened, acks, context.api_version):
        index = batch.answers[batch.at].index
        if isinstance(outcome, ApiError):
            failed = True
            batch.answers[batch.at] = _refused(index, outcome, batch.partition)
            continue
        answer = batch.answers[batch.at] = _accepted(index, outcome)
        if outcome.flush_pending or (acks == -1 and not batch.partition.commits_alone):
            waits = waits or _Waits(broker, request.timeout_ms)
            waits.add(answer, batch.partition, outcome, acks)
    answered = _answer(broker, request, context, topics, waits, failed)
    if isinstance(answered, DelayedResponse):
        return await answered.outcome()  # type: ignore[no-any-return]
    return await answered if isinstance(answered, Awaitable) else answered


def _answer(
    broker: Broker,
    request: ProduceRequest,
    context: RequestContext,
    topics: list[TopicProduceResponse],
    waits: _Waits | None,
    failed: bool,
) -> Answer:
    if request.acks == 0:
        if failed:
            raise CloseConnectionError("a Produce request with acks=0 failed")
        return None
    response = ProduceResponse(responses=topics)
    if failed and context.api_version >= _FIRST_LEADER_HINT_VERSION:
        _add_leader_hints(broker, response, context)
    if not failed and context.produce_shapes is not None:
        context.produce_shapes.teach(request, broker.replicas)
    return response if waits is None else waits.respond(response)


def _hosted(broker: Broker, topic: TopicProduceData, version: int) -> HostedTopic | None:
    if version < _FIRST_TOPIC_ID_VERSION:
        return broker.replicas.by_name.get(topic.name)
    return broker.replicas.by_id.get(topic.topic_id)


def _check_unusual(
    partition: Partition, records: Buffer | None, context: RequestContext, verdict: Verdict | None
) -> Verification | None:
    """Refuse what may not be appended: nothing at all, an internal topic, part of a transaction that is not open.

    Gives what the log wants to see with the first batch of a transaction.
    """
    if not records or len(records) <= _ATTRIBUTES_LOW_BYTE:
        raise NotOneBatchError(ErrorCode.INVALID_RECORD, "Exactly one record batch per partition is required")
    if partition.is_internal and context.client_id != ADMIN_CLIENT_ID:
        raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Clients cannot produce to {partition.topic}")
    if not records[_ATTRIBUTES_LOW_BYTE] & _TRANSACTIONAL_BIT:
        return None
    if verdict is None:
        raise ApiError(ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    if (code := verdict.errors.get(partition)) is not None:
        raise _NotVerifiedError(code)
    return verdict.verifications.get(partition)


class _Waits:
    """What a request's answers have to wait for: the device, where flush.messages promises it; the other replicas."""

    __slots__ = ("_broker", "_timeout_ms", "_uncommitted", "_unflushed")

    def __init__(self, broker: Broker, timeout_ms: int) -> None:
        self._broker = broker
        self._timeout_ms = timeout_ms
        self._unflushed: list[tuple[PartitionProduceResponse, Log]] = []
        self._uncommitted: list[Uncommitted] = []

    def add(self, answer: PartitionProduceResponse, partition: Partition, result: AppendResult, acks: int) -> None:
        """An appended batch and its answer."""
        if result.flush_pending:
            self._unflushed.append((answer, partition.log))
        if acks == -1 and partition.log.high_watermark <= result.last_offset:
            self._uncommitted.append(Uncommitted(answer, partition, result.last_offset + 1))

    def respond(self, response: ProduceResponse) -> ProduceResponse | DelayedResponse | Awaitable[ProduceResponse]:
        """The response when all of it is as good as it says."""
        if self._unflushed:
            return self._respond_flushed(response)
        uncommitted = self._not_committed()
        return DelayedProduce(response, uncommitted, self._timeout_ms) if uncommitted else response

    def _not_committed(self) -> list[Uncommitted]:
        """What still has to wait: with the append, or meanwhile, others may have been committed, or given up."""
        waiting = []
        for batch in self._uncommitted:
            partition = batch.partition
            if not partition.is_leader:
                batch.answer.error_code = ErrorCode.NOT_LEADER_OR_FOLLOWER
            elif partition.log.high_watermark < batch.end_offset:
                waiting.append(batch)
        return waiting

    async def _respond_flushed(self, response: ProduceResponse) -> ProduceResponse:
        for answer, log in self._unflushed:
            try:
                await self._broker.log_directories.flush(log)
            except ApiError as error:
                answer.error_code = error.code
                answer.error_message = error.message
                answer.base_offset = -1
        if uncommitted := self._not_committed():
            await DelayedProduce(response, uncommitted, self._timeout_ms).outcome()
        return response


def _missing_partition(broker: Broker, topic: TopicProduceData, index: int, version: int) -> ErrorCode:
    image = broker.image
    name = topic.name if version < _FIRST_TOPIC_ID_VERSION else image.topics.name_of(topic.topic_id)
    if name is None:
        return ErrorCode.UNKNOWN_TOPIC_ID
    return broker.replicas.missing_partition_error(name, index, image)


def _refused(index: int, error: ApiError, partition: Partition | None = None) -> PartitionProduceResponse:
    """Refusals for what the records say come with the start of the log, others without, as in Kafka."""
    start = -1
    if partition is not None and error.code not in _UNRELATED_TO_RECORDS and not isinstance(error, _NOT_LOOKED_AT):
        start = partition.log.log_start_offset
    return PartitionProduceResponse(
        index=index,
        error_code=error.code,
        base_offset=-1,
        log_append_time_ms=-1,
        log_start_offset=start,
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
    request: ProduceRequest | None, context: RequestContext, code: ErrorCode, message: str | None
) -> ProduceResponse | None:
    """The same refusal for every partition of the request; None where only closing the connection tells."""
    if request is None or request.acks == 0:
        return None

    def refused(data: PartitionProduceData) -> PartitionProduceResponse:
        return _refused(data.index, ApiError(code, message))

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
