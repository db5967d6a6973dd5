"""DescribeCluster (key 60), versions 0-2 (KIP-700): the cluster's id and its live nodes on this listener.

Version notes. 1: endpoint types (KIP-919): a broker answers for brokers (1), a controller for controllers (2), as far
as they are registered; the other one is MISMATCHED_ENDPOINT_TYPE, anything else UNSUPPORTED_ENDPOINT_TYPE. 2: fenced
brokers on request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)
from ottla.server.broker.metadata_answers import CLUSTER_OPERATIONS, NOT_ASKED, controller_id

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.metadata.image import MetadataImage

_BROKERS, _CONTROLLERS = 1, 2
_NAMES = {_BROKERS: "BROKER", _CONTROLLERS: "CONTROLLER"}
_FIRST_ENDPOINT_TYPES = 1


def handle(broker: Broker, request: DescribeClusterRequest, context: RequestContext) -> DescribeClusterResponse:
    """Describe the cluster as of the last commit."""
    expected = _CONTROLLERS if context.is_for_controller else _BROKERS
    if request.endpoint_type != expected:
        return _refused(request.endpoint_type, expected, context.api_version)
    if context.is_for_controller:
        nodes = _controllers(broker.image, context.listener_name)
        active = broker.metadata.leader.leader_id
    else:
        nodes = _brokers(broker.image, context.listener_name, with_fenced=request.include_fenced_brokers)
        active = controller_id(broker, context.listener_name)
    return DescribeClusterResponse(
        endpoint_type=expected,
        cluster_id=broker.cluster_id,
        controller_id=active if any(node.broker_id == active for node in nodes) else -1,
        brokers=nodes,
        cluster_authorized_operations=(
            CLUSTER_OPERATIONS if request.include_cluster_authorized_operations else NOT_ASKED
        ),
    )


def _refused(asked: int, expected: int, version: int) -> DescribeClusterResponse:
    if asked in _NAMES:
        code = ErrorCode.MISMATCHED_ENDPOINT_TYPE
        text = (
            f"The request was sent to an endpoint of type {_NAMES[expected]}, "
            f"but we wanted an endpoint of type {_NAMES[asked]}"
        )
    else:
        code, text = ErrorCode.UNSUPPORTED_ENDPOINT_TYPE, f"Unsupported endpoint type {asked}"
    if version < _FIRST_ENDPOINT_TYPES:
        code = ErrorCode.INVALID_REQUEST
    return DescribeClusterResponse(error_code=code, error_message=text)


def _brokers(image: MetadataImage, listener_name: str, *, with_fenced: bool) -> list[DescribeClusterBroker]:
    return [
        DescribeClusterBroker(
            broker_id=one.broker_id, host=endpoint.host, port=endpoint.port, rack=one.rack, is_fenced=one.fenced
        )
        for one in image.brokers.values()
        if (endpoint := one.endpoints.get(listener_name)) is not None and (with_fenced or not one.fenced)
    ]


def _controllers(image: MetadataImage, listener_name: str) -> list[DescribeClusterBroker]:
    return [
        DescribeClusterBroker(broker_id=one.controller_id, host=endpoint.host, port=endpoint.port)
        for one in image.controllers.values()
        if (endpoint := one.endpoints.get(listener_name)) is not None
    ]
