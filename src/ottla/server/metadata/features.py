"""Feature levels: what this program understands, what it serves, what a fresh cluster starts with (KIP-584, KIP-1022).

Finalized levels tell clients which protocols to use, so a feature is announced, and finalized in a fresh cluster, only
when the protocols behind it are served: a line of `FEATURES` with `initial=None` becomes one with a level by then.
`metadata.version` starts at 30 (4.3-IV0), the newest that Apache Kafka 4.3.1 can open. `kraft.version` is kept by the
metadata log itself, in control records, and is never a metadata record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ottla.server.metadata.image import METADATA_VERSION, MetadataImage

KRAFT_VERSION: Final = "kraft.version"
ELR_VERSION: Final = "eligible.leader.replicas.version"


class Feature(NamedTuple):
    """One feature with the levels that this program understands, both ends inclusive.

    `initial` is the level of a fresh cluster; 0 leaves it to the operator, None says that the feature is not served: a
    data directory of Apache Kafka may have it finalized, which is kept but not announced.
    """

    lowest: int
    highest: int
    initial: int | None


FEATURES: Final[Mapping[str, Feature]] = {
    METADATA_VERSION: Feature(7, 31, initial=30),
    KRAFT_VERSION: Feature(0, 1, initial=0),
    # Eligible leader replicas (KIP-966).
    ELR_VERSION: Feature(0, 1, initial=1),
    # Consumer groups of KIP-848.
    "group.version": Feature(0, 1, initial=1),
    # Share groups (KIP-932).
    "share.version": Feature(0, 1, initial=1),
    # Streams groups (KIP-1071).
    "streams.version": Feature(0, 1, initial=1),
    # Makes producers use transactions v2 (KIP-890).
    "transaction.version": Feature(0, 2, initial=2),
}

SUPPORTED_FEATURES: Final[Mapping[str, tuple[int, int]]] = {
    name: (feature.lowest, feature.highest) for name, feature in FEATURES.items() if feature.initial is not None
}
"""What ApiVersions and the registration of this node announce; lowest and highest level."""

BOOTSTRAP_FEATURES: Final[Mapping[str, int]] = {
    name: feature.initial for name, feature in FEATURES.items() if feature.initial
}
"""Levels of a cluster that starts with an empty data directory."""


def unknown_features(image: MetadataImage) -> list[str]:
    """Finalized features at levels this program does not understand, each as `name=level`: a reason not to start."""
    unknown = []
    for name, level in image.features.items():
        feature = FEATURES.get(name)
        if feature is None or not feature.lowest <= level <= feature.highest:
            unknown.append(f"{name}={level}")
    return unknown


def advertised_features(image: MetadataImage) -> dict[str, int]:
    """The finalized levels that ApiVersions may tell clients: those of features that are served."""
    return {name: level for name, level in image.features.items() if name in SUPPORTED_FEATURES}
