"""FindCoordinator (key 10), versions 0-6: which broker coordinates a group.

Version notes.  0: groups only.  1: key type, throttle time, error message.  3: flexible.  4: several keys (KIP-699).
5: as 4, the client knows TRANSACTION_ABORTABLE.  6: share groups (KIP-932).

The internal topic is created when the first coordinator is looked for.  The key of a share partition is
`group:topicId:partition`.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.find_coordinator import Coordinator, FindCoordinatorResponse

if TYPE_CHECKING:
    from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest
    from ottla.server.broker.broker import Broker, RequestContext

logger = logging.getLogger(__name__)

GROUP = 0
TRANSACTION = 1
SHARE = 2
_FIRST_VERSION_WITH_SHARE = 6
_FIRST_VERSION_WITH_KEYS = 4


def handle(
    broker: Broker, request: FindCoordinatorRequest, context: RequestContext
) -> FindCoordinatorResponse | Coroutine[Any, Any, FindCoordinatorResponse]:
    """Answered at once but for the first time."""
    version, listener_name = context.api_version, context.listener_name
    coordinator = _coordinator(broker, request.key_type, version)
    if (
        coordinator is not None
        and coordinator.topic not in broker.image.topics.by_name
        and _asks_for_a_key(coordinator, request, version)
    ):
        return _create_and_answer(broker, coordinator, request, version, listener_name)
    return _answer(broker, request, version, listener_name)


def error_response(
    request: FindCoordinatorRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> FindCoordinatorResponse:
    """The same refusal for every key."""
    text = message or code.message
    if context.api_version >= _FIRST_VERSION_WITH_KEYS:
        return FindCoordinatorResponse(coordinators=[_refused(key, code, text) for key in request.coordinator_keys])
    return FindCoordinatorResponse(error_code=code, error_message=text, node_id=-1, host="", port=-1)


async def _create_and_answer(
    broker: Broker, coordinator: Any, request: FindCoordinatorRequest, version: int, listener_name: str
) -> FindCoordinatorResponse:
    try:
        await coordinator.ensure_topic()
    except ApiError as error:
        # The client asks again; the reason stands in the log, since nobody sees it in the answer.
        logger.error("%s cannot be created: %s (%s)", coordinator.topic, error.code.name, error.message)
    return _answer(broker, request, version, listener_name)


def _answer(
    broker: Broker, request: FindCoordinatorRequest, version: int, listener_name: str
) -> FindCoordinatorResponse:
    if version >= _FIRST_VERSION_WITH_KEYS:
        return FindCoordinatorResponse(
            coordinators=[
                _find(broker, key, request.key_type, version, listener_name) for key in request.coordinator_keys
            ]
        )
    found = _find(broker, request.key, request.key_type, version, listener_name)
    return FindCoordinatorResponse(
        error_code=found.error_code,
        error_message=found.error_message,
        node_id=found.node_id,
        host=found.host,
        port=found.port,
    )


def _coordinator(broker: Broker, key_type: int, version: int) -> Any | None:
    """The coordinator of keys of that type (a `TopicCoordinator`), None where there is none."""
    if key_type == GROUP:
        return broker.groups
    if key_type == TRANSACTION:
        return broker.transactions
    if key_type == SHARE and version >= _FIRST_VERSION_WITH_SHARE:
        return broker.share_state
    return None


def _asks_for_a_key(coordinator: Any, request: FindCoordinatorRequest, version: int) -> bool:
    """Whether it is worth creating the topic."""
    for key in request.coordinator_keys if version >= _FIRST_VERSION_WITH_KEYS else [request.key]:
        try:
            coordinator.partition_for(key)
        except ApiError:
            continue
        return True
    return False


def _find(broker: Broker, key: str, key_type: int, version: int, listener_name: str) -> Coordinator:
    coordinator = _coordinator(broker, key_type, version)
    if coordinator is None:
        return _refused(key, ErrorCode.INVALID_REQUEST, f"There is no coordinator for keys of type {key_type}.")
    image = broker.image
    try:
        partition = image.topics.partition(coordinator.topic, coordinator.partition_for(key))
    except ApiError as error:
        return _refused(key, error.code, error.message or error.code.message)
    leader = None if partition is None else image.brokers.get(partition.leader)
    endpoint = None if leader is None or leader.fenced else leader.endpoints.get(listener_name)
    if leader is None or endpoint is None:
        return _refused(key, ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.COORDINATOR_NOT_AVAILABLE.message)
    return Coordinator(key=key, node_id=leader.broker_id, host=endpoint.host, port=endpoint.port, error_message=None)


def _refused(key: str, code: ErrorCode, message: str) -> Coordinator:
    return Coordinator(key=key, node_id=-1, host="", port=-1, error_code=code, error_message=message)
