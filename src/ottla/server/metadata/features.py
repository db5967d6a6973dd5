"""Feature levels: what this program understands, and what a fresh cluster starts with (KIP-584, KIP-1022).

Finalized levels tell clients which protocols to use, so a fresh cluster finalizes nothing that is not served:
`transaction.version` 2 would make producers use transactions v2, `group.version` 1 announces KIP-848 groups,
`share.version` and `streams.version` their groups, `eligible.leader.replicas.version` is of no use with one replica.
Only `metadata.version` is set, to 30 (4.3-IV0), the newest that Apache Kafka 4.3.1 can open.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ottla.server.metadata.image import METADATA_VERSION, MetadataImage

SUPPORTED_FEATURES: Final[Mapping[str, tuple[int, int]]] = {
    METADATA_VERSION: (7, 31),
    "kraft.version": (0, 1),
}
"""What ApiVersions and the registration of this node announce; lowest and highest level."""

BOOTSTRAP_FEATURES: Final[Mapping[str, int]] = {METADATA_VERSION: 30}
"""Levels of a cluster that starts with an empty data directory."""

_OPENED_FEATURES: Final[Mapping[str, int]] = {
    "group.version": 1,
    "transaction.version": 2,
    "share.version": 1,
    "streams.version": 1,
    "eligible.leader.replicas.version": 1,
}
"""Levels that a data directory of Apache Kafka may have finalized: their records are understood and kept, though the
protocols behind them may not be served yet and so are not announced."""


def unknown_features(image: MetadataImage) -> list[str]:
    """Finalized features at levels this program does not understand, each as `name=level`: a reason not to start."""
    unknown = []
    for name, level in image.features.items():
        lowest, highest = SUPPORTED_FEATURES.get(name, (0, _OPENED_FEATURES.get(name, -1)))
        if not lowest <= level <= highest:
            unknown.append(f"{name}={level}")
    return unknown


def advertised_features(image: MetadataImage) -> dict[str, int]:
    """The finalized levels that ApiVersions may tell clients: those of features that are served."""
    return {name: level for name, level in image.features.items() if name in SUPPORTED_FEATURES}
