"""Kafka's features and their levels: which release has which, and what a level needs (KIP-584, KIP-1022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

METADATA_VERSION = "metadata.version"
KRAFT_VERSION = "kraft.version"

_RELEASES = {
    "3.3": (3,),
    "3.4": (0,),
    "3.5": (0, 1, 2),
    "3.6": (0, 1, 2),
    "3.7": (0, 1, 2, 3, 4),
    "3.8": (0,),
    "3.9": (0,),
    "4.0": (0, 1, 2, 3),
    "4.1": (0, 1),
    "4.2": (0, 1),
    "4.3": (0,),
    "4.4": (0,),
}
LOWEST_LEVEL = 7
LATEST_PRODUCTION = 30
"""4.3-IV0, the newest that Kafka 4.3.1 calls stable."""
SCRAM_LEVEL = 11
"""3.5-IV2, the first level that keeps SCRAM credentials."""

METADATA_VERSIONS: Mapping[int, str] = dict(
    enumerate((f"{release}-IV{number}" for release, numbers in _RELEASES.items() for number in numbers), LOWEST_LEVEL)
)
"""Kafka's names of the levels of metadata.version."""
LATEST_LEVEL = max(METADATA_VERSIONS)


class FeatureLevel(NamedTuple):
    """One level of a feature: from which level of metadata.version on it is the default, and what it needs."""

    default_from: int
    dependencies: Mapping[str, int] = {}


FEATURES: Mapping[str, tuple[FeatureLevel, ...]] = {
    KRAFT_VERSION: (FeatureLevel(7), FeatureLevel(21)),
    "transaction.version": (FeatureLevel(7), FeatureLevel(24), FeatureLevel(24)),
    "group.version": (FeatureLevel(7), FeatureLevel(22)),
    "eligible.leader.replicas.version": (FeatureLevel(7), FeatureLevel(26, {METADATA_VERSION: 23})),
    "share.version": (FeatureLevel(7), FeatureLevel(28)),
    "streams.version": (FeatureLevel(7), FeatureLevel(29)),
}
"""The levels of each feature but metadata.version, from 0 on, in Kafka's own order."""


def default_level(feature: str, metadata_version: int) -> int:
    """The level that a cluster gets which begins with this metadata.version."""
    levels = [number for number, level in enumerate(FEATURES[feature]) if level.default_from <= metadata_version]
    return max(levels)


def metadata_version_of(text: str, *, unstable: bool) -> int:
    """The level of a release (`4.3`, `4.3.1`) or of a name like `4.0-IV2`. Raises `ValueError` with Kafka's message."""
    key = ".".join(text.split(".")[:2])
    names = {name: level for level, name in METADATA_VERSIONS.items()}
    releases = {name.partition("-")[0]: level for name, level in names.items() if level <= LATEST_PRODUCTION}
    level = {**names, **releases}.get(key)
    highest = LATEST_LEVEL if unstable else LATEST_PRODUCTION
    if level is None or level > highest:
        known = ", ".join(name for number, name in METADATA_VERSIONS.items() if number <= highest)
        raise ValueError(f"Unknown metadata.version '{text}'. Supported metadata.version are: {known}")
    return level
