"""Settings for share consumers of Kafka's tools."""

from __future__ import annotations

from collections.abc import Mapping

from ottla.cli.kafka.common import known_settings


def share_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """What our share consumer is told: without what it does not know, and what the tool itself decides."""
    known = known_settings(settings, "consumer")
    for name in ("key.deserializer", "value.deserializer"):
        known.pop(name, None)
    return known
