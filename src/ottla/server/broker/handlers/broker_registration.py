"""BrokerRegistration (key 62), versions 0-4: a broker joins the cluster under a new epoch, or amends its entry there.

On controller listeners only (KIP-631). Version notes. 1: brokers of ZooKeeper clusters (refused). 2: log directories
(KIP-858). 3: the epoch that the broker left in order, without which no shutdown counts as clean (KIP-966). 4: features
whose lowest level is 0. Refusals: DUPLICATE_BROKER_REGISTRATION, INCONSISTENT_CLUSTER_ID, INVALID_REGISTRATION,
BROKER_ID_NOT_REGISTERED, UNSUPPORTED_VERSION, NOT_CONTROLLER.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.broker_registration import BrokerRegistrationRequest, BrokerRegistrationResponse

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext


async def handle(
    broker: Broker, request: BrokerRegistrationRequest, context: RequestContext
) -> BrokerRegistrationResponse:
    """Have the controller register it."""
    return await broker.controller.register_broker(request, api_version=context.api_version)
