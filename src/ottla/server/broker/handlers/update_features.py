"""UpdateFeatures (key 57), versions 0-2 (KIP-584): the cluster's finalized feature levels go up or down.

All features of a request change, or none. Version notes. 0: `allow_downgrade` where later versions have a type. 1:
types 1 upgrade, 2 safe downgrade, 3 unsafe downgrade (which nothing supports yet, as in Kafka), and validate only. 2:
no result per feature any more. Refusals: INVALID_UPDATE_VERSION, with the reason in the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.protocol.messages.update_features import UpdateFeaturesRequest, UpdateFeaturesResponse
    from ottla.server.broker.broker import Broker, RequestContext


async def handle(broker: Broker, request: UpdateFeaturesRequest, context: RequestContext) -> UpdateFeaturesResponse:
    """Have the controller decide."""
    return await broker.controller.update_features(request, api_version=context.api_version)
