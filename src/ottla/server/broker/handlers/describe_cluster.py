"""DescribeCluster (key 60), versions 0-2 (KIP-700): the cluster's id and its live brokers on this listener.

Version notes. 1: endpoint types (KIP-919); a broker answers for brokers (1), controllers (2) are asked on their own
listener: MISMATCHED_ENDPOINT_TYPE, anything else is UNSUPPORTED_ENDPOINT_TYPE. 2: fenced brokers on request.
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

_BROKERS, _CONTROLLERS = 1, 2


def handle(broker: Broker, request: DescribeClusterRequest, context: RequestContext) -> DescribeClusterResponse:
    """Describe the cluster as of the last commit."""
    if request.endpoint_type == _CONTROLLERS:
        text = "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
        return DescribeClusterResponse(error_code=ErrorCode.MISMATCHED_ENDPOINT_TYPE, error_message=text)
    if request.endpoint_type != _BROKERS:
        text = f"Unsupported endpoint type {request.endpoint_type}"
        return DescribeClusterResponse(error_code=ErrorCode.UNSUPPORTED_ENDPOINT_TYPE, error_message=text)
    image = broker.image
    brokers = []
    for one in image.brokers.values():
        endpoint = one.endpoints.get(context.listener_name)
        if endpoint is not None and (not one.fenced or request.include_fenced_brokers):
            brokers.append(
                DescribeClusterBroker(
                    broker_id=one.broker_id,
                    host=endpoint.host,
                    port=endpoint.port,
                    rack=one.rack,
                    is_fenced=one.fenced,
                )
            )
    return DescribeClusterResponse(
        endpoint_type=_BROKERS,
        cluster_id=broker.cluster_id,
        controller_id=controller_id(image, broker.node_id),
        brokers=brokers,
        cluster_authorized_operations=(
            CLUSTER_OPERATIONS if request.include_cluster_authorized_operations else NOT_ASKED
        ),
    )
