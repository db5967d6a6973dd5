"""Whether the protocol of a kind of group may be used here: the operator's setting and the cluster's feature say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker

_FEATURES = {"consumer": "group.version", "share": "share.version", "streams": "streams.version"}


def check_protocol(broker: Broker, protocol: str) -> None:
    """ApiError UNSUPPORTED_VERSION unless ``protocol`` ("streams") is in `group.coordinator.rebalance.protocols` and
    the feature ("streams.version") is finalized.
    """
    enabled = (each.lower() for each in broker.config["group.coordinator.rebalance.protocols"])
    if protocol not in enabled or not broker.image.features.get(_FEATURES[protocol]):
        raise ApiError(ErrorCode.UNSUPPORTED_VERSION)
