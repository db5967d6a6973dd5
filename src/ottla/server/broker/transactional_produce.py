"""Produce requests with a transactional id: their batches are verified first, then appended as all others.

A client that keeps to one partition meets this for the first batch of a transaction only; the rest takes the short cut
of `produce_shapes`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from struct import Struct
from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.records.batch import HEADER_SIZE
from ottla.server.broker.broker import DelayedResponse
from ottla.server.broker.transaction_verification import ClientProtocol, FirstBatch, Verdict, verify

if TYPE_CHECKING:
    from ottla.protocol.messages.produce import ProduceRequest, ProduceResponse
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.coordinator.transactions.shard import Producer

    Answer = ProduceResponse | DelayedResponse | Awaitable[ProduceResponse | None] | None
    #: `handlers.produce.append_all`
    Append = Callable[[Broker, ProduceRequest, RequestContext, Verdict], Answer]

_ATTRIBUTES_LOW_BYTE = 22
_TRANSACTIONAL_BIT = 0x10
_PRODUCER_POSITION = 43
_PRODUCER_AND_SEQUENCE = Struct(">qhi").unpack_from
_FIRST_TOPIC_ID_VERSION = 13
_FIRST_ABORTABLE_VERSION = 11
_FIRST_V2_VERSION = 12
#: Old producers do not know what to make of these in a Produce response; NOT_ENOUGH_REPLICAS has them try again
#: without asking for metadata first.
_NOT_VERIFIED_YET = frozenset(
    (
        ErrorCode.NETWORK_EXCEPTION,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
    )
)


def handle_transactional(broker: Broker, request: ProduceRequest, context: RequestContext, append: Append) -> Answer:
    """Have `append` append what may be appended.

    Raises ApiError INVALID_PRODUCER_ID_MAPPING when transactional batches are of several producers.
    """
    version = context.api_version
    batches: list[FirstBatch] = []
    producers: set[Producer] = set()
    replicas = broker.replicas
    for topic in request.topic_data:
        by_name = version < _FIRST_TOPIC_ID_VERSION
        hosted = replicas.by_name.get(topic.name) if by_name else replicas.by_id.get(topic.topic_id)
        for data in topic.partition_data:
            records = data.records
            if records is None or len(records) < HEADER_SIZE or not records[_ATTRIBUTES_LOW_BYTE] & _TRANSACTIONAL_BIT:
                continue
            producer_id, producer_epoch, base_sequence = _PRODUCER_AND_SEQUENCE(records, _PRODUCER_POSITION)
            if producer_id < 0:
                continue
            producers.add((producer_id, producer_epoch))
            partition = None if hosted is None else hosted.partitions.get(data.index)
            if partition is not None and not partition.is_internal:
                batches.append(FirstBatch(partition, base_sequence))
    if len(producers) > 1:
        raise ApiError(
            ErrorCode.INVALID_PRODUCER_ID_MAPPING, "Transactional records contained more than one producer ID"
        )
    if not batches:
        return append(broker, request, context, Verdict({}, {}))
    assert request.transactional_id is not None
    client = ClientProtocol.of(version, first_abortable=_FIRST_ABORTABLE_VERSION, first_v2=_FIRST_V2_VERSION)
    verdict = verify(broker, request.transactional_id, producers.pop(), batches, client)
    if isinstance(verdict, Verdict):
        return append(broker, request, context, _translated(verdict, client))
    return _append_when_verified(broker, request, context, append, verdict, client)


async def _append_when_verified(
    broker: Broker,
    request: ProduceRequest,
    context: RequestContext,
    append: Append,
    verdict: Awaitable[Verdict],
    client: ClientProtocol,
) -> ProduceResponse | None:
    outcome = append(broker, request, context, _translated(await verdict, client))
    if isinstance(outcome, DelayedResponse):
        return await outcome.outcome()  # type: ignore[no-any-return]
    return await outcome if isinstance(outcome, Awaitable) else outcome


def _translated(verdict: Verdict, client: ClientProtocol) -> Verdict:
    """The errors as producers know them."""
    for partition, code in verdict.errors.items():
        if code in _NOT_VERIFIED_YET or (code is ErrorCode.CONCURRENT_TRANSACTIONS and client is not ClientProtocol.V2):
            verdict.errors[partition] = ErrorCode.NOT_ENOUGH_REPLICAS
    return verdict
