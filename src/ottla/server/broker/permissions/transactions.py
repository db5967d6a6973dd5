"""Transactions and records: who may write what under which name."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.topics import INTERNAL_TOPICS
from ottla.server.broker.authorization import (
    AclOperation,
    ResourceType,
    allowed_names,
    allows,
    allows_any,
    allows_cluster,
    require_cluster,
)
from ottla.server.broker.broker import CloseConnectionError
from ottla.server.broker.permissions.checks import DENIED, refusals, then, with_field, with_more
from ottla.server.broker.permissions.topics import topic_of_id
from ottla.server.broker.produce_shapes import ProduceShapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from ottla.protocol.messages.produce import ProduceRequest, TopicProduceData
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.broker.dispatch import Handle, Route

_ATTRIBUTES_LOW_BYTE: Final = 22
_TRANSACTIONAL_BIT: Final = 0x10
_FIRST_BATCHED_VERSION: Final = 4
_NOT_FOR_ID: Final = DENIED[ResourceType.TRANSACTIONAL_ID]


def produce(route: Route, handle: Handle, broker: Broker, request: ProduceRequest, context: RequestContext) -> Any:
    """WRITE on each topic, and on the transactional id where records are part of a transaction."""
    shapes = context.produce_shapes
    if _has_transactional_records(request):
        transactional_id = request.transactional_id
        if transactional_id is None or not allows(
            broker, context, AclOperation.WRITE, ResourceType.TRANSACTIONAL_ID, transactional_id
        ):
            raise ApiError(_NOT_FOR_ID)
    elif request.transactional_id is not None and shapes is not None:
        # Nobody has asked whether this client may use the id: what begins like this goes no shorter way.
        shapes.forget_noted()
    decided: dict[tuple[ResourceType, str] | None, bool] = {None: True}
    kept: list[TopicProduceData] = []
    denied: list[TopicProduceData] = []
    for topic in request.topic_data:
        resource = topic_of_id(broker, topic)
        if resource not in decided:
            assert resource is not None
            decided[resource] = allows(broker, context, AclOperation.WRITE, *resource)
        (kept if decided[resource] else denied).append(topic)
    if not denied:
        return handle(broker, request, context)
    if shapes is not None:
        shapes.forget_noted()  # the request as it came is not the one that is handled
    response = handle(broker, with_field(request, "topic_data", kept), context) if kept else route.response_class()
    if request.acks == 0:
        raise CloseConnectionError("a Produce request with acks=0 was not authorized")
    refused = with_field(request, "topic_data", denied)
    answers = refusals(route, refused, context, ErrorCode.TOPIC_AUTHORIZATION_FAILED, "responses")
    return then(response, partial(with_more, "responses", answers))


def produce_quickly(
    quick: Callable[[Broker, bytearray, int, int, RequestContext], Any],
    broker: Broker,
    buffer: bytearray,
    offset: int,
    end: int,
    context: RequestContext,
) -> Any:
    """The short cut, for what was allowed since permissions last changed."""
    shapes = context.produce_shapes
    assert broker.authorizer is not None
    version = broker.authorizer.version
    # The audit log is told again in each of its intervals.
    interval = broker.audit.intervals if broker.audit is not None else 0
    if shapes is None or version is None or shapes.permitted != (version, context.session, interval):
        shapes = context.produce_shapes = ProduceShapes(context.api_version)
        shapes.permitted = version, context.session, interval
    return quick(broker, buffer, offset, end, context)


def _has_transactional_records(request: ProduceRequest) -> bool:
    for topic in request.topic_data:
        for data in topic.partition_data:
            records = data.records
            if (
                records is not None
                and len(records) > _ATTRIBUTES_LOW_BYTE
                and records[_ATTRIBUTES_LOW_BYTE] & _TRANSACTIONAL_BIT
            ):
                return True
    return False


def init_producer_id(route: Route, handle: Handle, broker: Broker, request: Any, context: RequestContext) -> Any:
    """WRITE on the transactional id, with TWO_PHASE_COMMIT for that; without one WRITE on any topic, or
    IDEMPOTENT_WRITE on the cluster."""
    name = request.transactional_id
    if name is None:
        if not allows_cluster(broker, context, AclOperation.IDEMPOTENT_WRITE, audited=False) and not allows_any(
            broker, context, AclOperation.WRITE, ResourceType.TOPIC
        ):
            allows_cluster(broker, context, AclOperation.IDEMPOTENT_WRITE)  # now it is told
            raise ApiError(ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    elif not allows(broker, context, AclOperation.WRITE, ResourceType.TRANSACTIONAL_ID, name) or (
        request.enable_2pc
        and not allows(broker, context, AclOperation.TWO_PHASE_COMMIT, ResourceType.TRANSACTIONAL_ID, name)
    ):
        raise ApiError(_NOT_FOR_ID)
    return handle(broker, request, context)


def add_partitions(route: Route, handle: Handle, broker: Broker, request: Any, context: RequestContext) -> Any:
    """From clients WRITE on the transactional id and on each topic, of which none is internal; from brokers (version 4
    and above) CLUSTER_ACTION on the cluster. One refused partition refuses the rest."""
    if context.api_version >= _FIRST_BATCHED_VERSION:
        require_cluster(broker, context, AclOperation.CLUSTER_ACTION)
        return handle(broker, request, context)
    name = request.v3_and_below_transactional_id
    if not allows(broker, context, AclOperation.WRITE, ResourceType.TRANSACTIONAL_ID, name):
        raise ApiError(_NOT_FOR_ID)
    topics = request.v3_and_below_topics
    wanted = [topic.name for topic in topics if topic.name not in INTERNAL_TOPICS]
    allowed = allowed_names(broker, context, AclOperation.WRITE, ResourceType.TOPIC, wanted)
    denied = [topic for topic in topics if topic.name not in allowed]
    if not denied:
        return handle(broker, request, context)
    response: Any = route.error_response(request, context, ErrorCode.OPERATION_NOT_ATTEMPTED, None)
    known = broker.image.topics
    for topic in response.results_by_topic_v3_and_below:
        for partition in topic.results_by_partition:
            if topic.name not in allowed:
                partition.partition_error_code = ErrorCode.TOPIC_AUTHORIZATION_FAILED
            elif known.partition(topic.name, partition.partition_index) is None:
                partition.partition_error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    return response


def listed_transactions(broker: Broker, context: RequestContext, request: Any, response: Any) -> Any:
    """ListTransactions: those that the client may describe."""
    ids = [state.transactional_id for state in response.transaction_states]
    visible = allowed_names(broker, context, AclOperation.DESCRIBE, ResourceType.TRANSACTIONAL_ID, ids, audited=False)
    response.transaction_states = [state for state in response.transaction_states if state.transactional_id in visible]
    return response


def described_transactions(broker: Broker, context: RequestContext, request: Any, response: Any) -> Any:
    """DescribeTransactions: their topics that the client may describe."""
    names = [topic.topic for state in response.transaction_states for topic in state.topics]
    visible = allowed_names(broker, context, AclOperation.DESCRIBE, ResourceType.TOPIC, names, audited=False)
    for state in response.transaction_states:
        state.topics = [topic for topic in state.topics if topic.topic in visible]
    return response
